import pytest

from pipelines.rollout.cluster import canary
from pipelines.rollout.cluster.errors import ClusterError
from pipelines.rollout.cluster.inference_service import REPLACES
from pipelines.rollout.target import ServedModel

MODEL = ServedModel("pvc://models/bbbb", "0a1b2c3d" + "b" * 56)


@pytest.fixture
def document():
    """An InferenceService that serves its first model."""
    model = {"modelFormat": {"name": "sensevoice"}, "name": "", "storageUri": "pvc://models/aaaa"}
    return {
        "metadata": {"namespace": "voice", "name": "sensevoice"},
        "spec": {"predictor": {"minReplicas": 4, "maxReplicas": 8, "model": model}},
    }


def with_entry(document, percent=5, model=MODEL):
    document["spec"]["canary"] = [canary.new_entry(document, percent, model)]
    return document


def test_an_entry_says_no_more_than_what_differs(document):
    assert canary.new_entry(document, 0, MODEL) == {
        "trafficPercent": 0,
        "predictor": {
            "name": "v0a1b2c3d",
            "minReplicas": 1,
            "annotations": {REPLACES: "sensevoice-predictor pvc://models/aaaa"},
            "model": {
                "modelFormat": {"name": "sensevoice"},
                "name": "",
                "storageUri": "pvc://models/bbbb",
            },
        },
    }


def test_an_image_is_named_where_the_candidate_has_one(document):
    model = ServedModel(MODEL.storage_uri, MODEL.digest, "predictor:2")
    assert canary.new_entry(document, 0, model)["predictor"]["model"]["image"] == "predictor:2"


@pytest.mark.parametrize(
    ("least", "percent", "pods"),
    [(4, 0, 1), (4, 5, 1), (4, 50, 2), (4, 51, 3), (1, 99, 1), (0, 50, 1), (None, 50, 1)],
)
def test_its_pods_are_its_share_and_at_least_one(document, least, percent, pods):
    """KServe would give none to a share of 0 %, and nothing could be replayed."""
    document["spec"]["predictor"]["minReplicas"] = least
    if least is None:
        del document["spec"]["predictor"]["minReplicas"]
    entry = canary.new_entry(document, 0, MODEL)
    assert canary.with_share(document, entry, percent)["predictor"]["minReplicas"] == pods


def test_pods_that_someone_asked_for_stay(document):
    entry = canary.new_entry(document, 5, MODEL)
    entry["predictor"]["minReplicas"] = 3
    assert canary.with_share(document, entry, 0)["predictor"]["minReplicas"] == 3


def test_a_name_that_is_in_use_or_still_in_the_status_is_not_taken_again(document):
    names = [canary.new_name(document, MODEL)]
    document["spec"]["predictor"]["name"] = names[-1]
    names.append(canary.new_name(document, MODEL))
    with_entry(document)
    names.append(canary.new_name(document, MODEL))
    document["status"] = {"canaryStatuses": [{"name": names[-1]}]}
    names.append(canary.new_name(document, MODEL))
    assert names[0] == "v0a1b2c3d"
    assert len(set(names)) == 4
    assert all(map(canary.is_ours, names))


def test_a_service_with_too_long_a_name_is_refused_before_its_pods_are(document):
    document["metadata"]["name"] = "s" * 38
    assert len(f"isvc.{'s' * 38}-{canary.new_name(document, MODEL)}-predictor") == 63
    document["metadata"]["name"] = "s" * 40
    with pytest.raises(ClusterError, match=r"label app \(63 characters\): .* needs 2 less"):
        canary.new_entry(document, 0, MODEL)


@pytest.mark.parametrize("name", ["v2", "experiment", "v0a1b2c3", "v0a1b2c3d4", "v0a1b2c3g", ""])
def test_names_that_no_rollout_gave(name):
    assert not canary.is_ours(name)


# The fingerprint


def test_neither_share_nor_promotion_changes_the_fingerprint(document):
    prints = {canary.fingerprint_of(with_entry(document))}
    for percent in (0, 50, 5):
        (entry,) = document["spec"]["canary"]
        document["spec"]["canary"] = [canary.with_share(document, entry, percent)]
        prints.add(canary.fingerprint_of(document))
    (entry,) = document["spec"].pop("canary")
    stable = document["spec"]["predictor"]
    document["spec"]["predictor"] = canary.overlaid(stable, canary.promoted(entry))
    assert document["spec"]["predictor"]["minReplicas"] == 4
    prints.add(canary.fingerprint_of(document))
    assert len(prints) == 1


def own(document):
    return document["spec"]["canary"][0]["predictor"]


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: d["spec"]["predictor"].update(minReplicas=5),
        lambda d: d["spec"]["predictor"].update(name="v2"),
        lambda d: d["spec"]["predictor"]["model"].update(storageUri="pvc://models/cccc"),
        lambda d: d["spec"]["predictor"]["model"].update(image="theirs"),
        lambda d: d["spec"]["predictor"]["model"].update(runtime="theirs"),
        lambda d: d["spec"].update(transformer={"minReplicas": 1}),
        lambda d: d["spec"]["canary"].append({"trafficPercent": 0, "predictor": {"name": "v2"}}),
        lambda d: own(d).update(minReplicas=3),
        lambda d: own(d).update(nodeSelector={"gpu": "yes"}),
        lambda d: own(d)["model"].update(storageUri="pvc://models/cccc"),
        lambda d: own(d).pop("annotations"),
    ],
)
def test_all_else_changes_it(document, edit):
    before = canary.fingerprint_of(with_entry(document))
    edit(document)
    assert canary.fingerprint_of(document) != before


def test_empty_values_come_and_go_without_changing_it(document):
    before = canary.fingerprint_of(with_entry(document))
    own(document)["model"]["resources"] = {}
    document["spec"]["predictor"]["tolerations"] = []
    del document["spec"]["predictor"]["model"]["name"]
    assert canary.fingerprint_of(document) == before
