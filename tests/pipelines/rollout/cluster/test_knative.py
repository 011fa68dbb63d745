import copy
import json

import pytest

from pipelines.rollout.cluster.errors import ClusterError
from pipelines.rollout.cluster.inference_service import REPLACES, STATE, STATE_MASK
from pipelines.rollout.cluster.knative import TAG_ROUTING, change, read
from pipelines.rollout.target import Revision, ServedModel

FIRST, AT_ONCE, ZERO, TEN, FIFTY, BACK, AGAIN, PROMOTED, BROKEN, RESTORED = range(10)
"""Steps of the recorded canary."""

MODEL = ServedModel("pvc://models/bbbb", "b" * 64)


def revision(number, percent, tag):
    url = f"http://{tag}-sensevoice-predictor.voice.svc.cluster.local"
    return Revision(f"sensevoice-predictor-0000{number}", ready=True, percent=percent, url=url)


@pytest.fixture
def step(recorded):
    """A copy of one recorded InferenceService."""

    def at(number):
        document = copy.deepcopy(recorded[number])
        document["metadata"] |= {"namespace": "voice", "name": "sensevoice"}
        return document

    return at


def changed(document, *, replaces, **predictor):
    """The document with a change that KServe has counted as observed, and Knative has not acted on."""
    document["metadata"]["generation"] += 1
    document["status"]["observedGeneration"] = document["metadata"]["generation"]
    document["spec"]["predictor"] |= {"annotations": {REPLACES: replaces}, **predictor}
    return document


def tags(document):
    return document["status"]["components"]["predictor"]["traffic"]


# What real controllers answered


@pytest.mark.parametrize(
    ("number", "percent", "stable", "candidate"),
    [
        (FIRST, None, revision(1, 100, "latest"), None),
        (ZERO, 0, revision(1, 100, "prev"), revision(2, 0, "latest")),
        (TEN, 10, revision(1, 90, "prev"), revision(2, 10, "latest")),
        (FIFTY, 50, revision(1, 50, "prev"), revision(2, 50, "latest")),
        (BACK, 0, revision(1, 100, "prev"), revision(2, 0, "latest")),
        (AGAIN, 50, revision(1, 50, "prev"), revision(2, 50, "latest")),
        (PROMOTED, None, revision(2, 100, "latest"), None),
        (RESTORED, None, revision(5, 100, "latest"), None),
    ],
)
def test_each_recorded_step_is_read_as_what_it_is(step, number, percent, stable, candidate):
    document = step(number)
    seen = read(document)
    assert seen.settled
    assert (seen.percent, seen.stable, seen.candidate) == (percent, stable, candidate)
    assert seen.version == document["metadata"]["resourceVersion"]
    assert seen.storage_uri == document["spec"]["predictor"]["model"]["storageUri"]
    assert (seen.image, seen.state) == (None, None)


def test_right_after_a_patch_the_status_is_the_former_one(step):
    seen = read(step(AT_ONCE))
    assert not seen.settled
    assert (seen.stable, seen.candidate) == (revision(1, 100, "latest"), None)


# First trap: the observed generation does not tell what Knative has acted on


def test_an_observed_promotion_is_not_settled_while_the_newest_revision_is_the_replaced_one(step):
    """Without the annotation it would pass for a service that serves the new model to all."""
    document = changed(step(PROMOTED), replaces="sensevoice-predictor-00002")
    assert not read(document).settled
    document["spec"]["predictor"]["annotations"] = {REPLACES: "sensevoice-predictor-00001"}
    assert read(document).settled


def test_nor_is_a_next_candidate_at_the_share_that_the_former_had(step):
    document = changed(step(BACK), replaces="sensevoice-predictor-00002")
    assert not read(document).settled


def test_generations_of_the_knative_service_are_not_compared_with_the_services_own(step):
    """They part for good once somebody labels the InferenceService (kserve/kserve#6081)."""
    document = step(TEN)
    document["status"]["observedGeneration"] += 3
    assert read(document).settled


@pytest.mark.parametrize(
    ("number", "share"), [(ZERO, 10), (TEN, 0), (FIFTY, None), (BACK, 50), (PROMOTED, 50)]
)
def test_nor_is_a_share_that_the_route_does_not_have_yet(step, number, share):
    document = step(number)
    document["spec"]["predictor"].pop("canaryTrafficPercent", None)
    if share is not None:
        document["spec"]["predictor"]["canaryTrafficPercent"] = share
    assert not read(document).settled


# Second trap: while the newest revision is not ready, its tag and share belong to the old one


def test_a_candidate_that_is_not_ready_has_neither_tag_nor_share(step):
    document = step(BROKEN)
    assert [tag["revisionName"] for tag in tags(document)] == ["sensevoice-predictor-00002"] * 2
    seen = read(document)
    assert (seen.stable.name, seen.stable.percent) == ("sensevoice-predictor-00002", 100)
    candidate = seen.candidate
    assert (candidate.name, candidate.ready) == ("sensevoice-predictor-00004", False)
    assert (candidate.percent, candidate.url) == (0, None)


def because(document, message):
    for condition in document["status"]["conditions"]:
        if condition.get("reason") == "RevisionFailed":
            condition["message"] = f'Revision "r" failed with message: {message}.'
    return document


@pytest.mark.parametrize(
    "message",
    [
        "no nodes available to schedule pods",
        "0/3 nodes are available: 3 Insufficient nvidia.com/gpu",
    ],
)
def test_one_without_a_node_may_still_get_it_from_the_autoscaler(step, message):
    seen = read(because(step(BROKEN), message))
    assert not seen.settled
    assert seen.candidate.failure == ""
    assert message in seen.candidate.waiting


def test_one_whose_container_ends_has_failed(step):
    seen = read(because(step(BROKEN), "Container failed with: cannot load the model"))
    assert seen.settled
    assert seen.candidate.failure.startswith("RevisionFailed: ")
    assert "cannot load the model" in seen.candidate.failure
    assert seen.candidate.waiting == ""


def starting(document):
    for condition in document["status"]["conditions"]:
        if condition["status"] == "False" and condition.get("reason") == "RevisionFailed":
            condition |= {"status": "Unknown", "reason": "Deploying", "message": ""}
    return document


def test_one_that_is_starting_is_not_settled_at_a_share(step):
    seen = read(starting(step(BROKEN)))
    assert not seen.settled
    assert (seen.candidate.ready, seen.candidate.failure) == (False, "")


def test_one_that_is_starting_at_no_share_keeps_nobody_waiting(step):
    document = starting(step(BROKEN))
    document["spec"]["predictor"]["canaryTrafficPercent"] = 0
    for tag, percent in zip(tags(document), (0, 100), strict=True):
        tag["percent"] = percent
    seen = read(document)
    assert seen.settled
    assert not seen.candidate.ready
    assert seen.stable.percent == 100


def test_a_model_that_cannot_be_loaded_tells_why(step):
    document = step(BROKEN)
    info = {
        "modelRevisionName": "sensevoice-predictor-00004",
        "reason": "ModelLoadFailed",
        "message": "sha256 of model.safetensors differs",
    }
    document["status"]["modelStatus"] = {
        "transitionStatus": "BlockedByFailedLoad",
        "lastFailureInfo": info,
    }
    reason = "ModelLoadFailed: sha256 of model.safetensors differs"
    assert read(document).candidate.failure == reason
    info["modelRevisionName"] = "sensevoice-predictor-00003"
    assert read(because(document, "exit code 1")).candidate.failure.startswith("RevisionFailed")


def test_the_first_revision_ever_that_fails_is_settled_and_serves_nobody(step):
    document = because(step(BROKEN), "exit code 1")
    predictor = document["status"]["components"]["predictor"]
    for key in ("latestReadyRevision", "latestRolledoutRevision", "traffic"):
        del predictor[key]
    del document["spec"]["predictor"]["canaryTrafficPercent"]
    for condition in document["status"]["conditions"]:
        if condition["type"] == "PredictorRouteReady":
            condition |= {"status": "False", "reason": "RevisionMissing"}
    seen = read(document)
    assert seen.settled
    assert seen.stable is None
    assert "exit code 1" in seen.candidate.failure
    assert not read(starting(document)).settled


# What else is not settled


@pytest.mark.parametrize("number", [FIRST, TEN])
def test_a_route_that_is_not_ready_is_not_settled(step, number):
    document = step(number)
    for condition in document["status"]["conditions"]:
        if condition["type"] == "PredictorRouteReady":
            condition["status"] = "Unknown"
    assert not read(document).settled


def test_tags_that_are_not_there_yet_are_waited_for(step):
    """Tag routing was switched on just now."""
    document = step(FIRST)
    del tags(document)[0]["tag"], tags(document)[0]["url"]
    assert not read(document).settled


@pytest.mark.parametrize("status", [None, {}, {"observedGeneration": 1}])
def test_a_service_that_no_controller_has_seen_is_not_settled(step, status):
    document = step(FIRST)
    document.pop("status")
    if status is not None:
        document["status"] = status
    seen = read(document)
    assert (seen.settled, seen.stable, seen.candidate) == (False, None, None)


def test_a_share_of_nothing_may_be_left_out(step):
    document = step(ZERO)
    del tags(document)[0]["percent"]
    seen = read(document)
    assert (seen.settled, seen.candidate.percent) == (True, 0)


def test_someones_share_of_100_is_a_promotion(step):
    """KServe holds the revision for rolled out, and has no tag for the one before."""
    document = step(PROMOTED)
    document["spec"]["predictor"]["canaryTrafficPercent"] = 100
    seen = read(document)
    assert (seen.settled, seen.percent) == (True, 100)
    assert (seen.stable, seen.candidate) == (revision(2, 100, "latest"), None)


# The fingerprint


def test_the_share_is_not_in_the_fingerprint_and_all_else_is(step):
    prints = {read(step(number)).fingerprint for number in (ZERO, TEN, FIFTY, BACK, PROMOTED)}
    assert len(prints) == 1
    for field, value in {
        "minReplicas": 0,
        "annotations": {"a": "b"},
        "model": {"storageUri": "pvc://elsewhere"},
        "containerConcurrency": 4,
        "nodeSelector": {"gpu": "yes"},
    }.items():
        document = step(ZERO)
        document["spec"]["predictor"][field] = value
        assert read(document).fingerprint not in prints
    document = step(ZERO)
    document["spec"]["transformer"] = {"minReplicas": 1}
    assert read(document).fingerprint not in prints


def test_empty_values_come_and_go_without_changing_it(step):
    document = step(ZERO)
    before = read(document).fingerprint
    model = document["spec"]["predictor"]["model"]
    assert (model["name"], model["resources"]) == ("", {})
    del model["name"], model["resources"]
    document["spec"]["predictor"]["tolerations"] = []
    document["spec"]["predictor"]["logger"] = {"metadataHeaders": None}
    assert read(document).fingerprint == before


def test_zero_and_false_are_values(step):
    document = step(ZERO)
    document["spec"]["predictor"]["automountServiceAccountToken"] = False
    assert read(document).fingerprint != read(step(ZERO)).fingerprint


# What cannot be rolled out


@pytest.mark.parametrize("value", [None, "false"])
def test_without_tag_routing_it_is_refused(step, value):
    document = step(FIRST)
    del document["metadata"]["annotations"][TAG_ROUTING]
    if value:
        document["metadata"]["annotations"][TAG_ROUTING] = value
    with pytest.raises(ClusterError, match=f'lacks the annotation {TAG_ROUTING}: "true"'):
        read(document)
    document["metadata"]["annotations"] = None
    with pytest.raises(ClusterError, match="lacks the annotation"):
        read(document)


def test_a_predictor_without_a_model_is_refused(step):
    document = step(FIRST)
    document["spec"]["predictor"] = {"containers": [{"name": "kserve-container"}]}
    with pytest.raises(ClusterError, match=r"no spec\.predictor\.model"):
        read(document)


# The patch


def test_a_first_write_has_state_share_model_and_the_name_of_what_it_replaces(step):
    document = step(FIRST)
    assert change(document, read(document), state="{}", percent=0, model=MODEL) == {
        "metadata": {"resourceVersion": "811", "annotations": {STATE: "{}"}},
        "spec": {
            "predictor": {
                "canaryTrafficPercent": 0,
                "model": {"storageUri": "pvc://models/bbbb", "image": None},
                "annotations": {
                    STATE: STATE_MASK,
                    REPLACES: "sensevoice-predictor-00001",
                },
            }
        },
    }


def test_a_write_of_the_share_touches_no_pod(step):
    document = step(TEN)
    document["spec"]["predictor"]["annotations"] = {STATE: STATE_MASK}
    assert change(document, read(document), state="{}", percent=None, model=None) == {
        "metadata": {"resourceVersion": "1048", "annotations": {STATE: "{}"}},
        "spec": {"predictor": {"canaryTrafficPercent": None, "annotations": {STATE: STATE_MASK}}},
    }


@pytest.mark.parametrize(("number", "replaced"), [(PROMOTED, 2), (BACK, 2), (BROKEN, 4)])
def test_the_newest_revision_is_the_replaced_one(step, number, replaced):
    document = step(number)
    patch = change(document, read(document), state="{}", percent=0, model=MODEL)
    name = patch["spec"]["predictor"]["annotations"][REPLACES]
    assert name == f"sensevoice-predictor-0000{replaced}"


def test_a_model_that_is_in_the_specification_gets_a_new_revision_too(step):
    document = step(PROMOTED)
    same = ServedModel(document["spec"]["predictor"]["model"]["storageUri"], "b" * 64)
    document["spec"]["predictor"]["annotations"] = {
        STATE: STATE_MASK,
        REPLACES: "sensevoice-predictor-00001",
    }
    patch = change(document, read(document), state="{}", percent=0, model=same)
    annotations = patch["spec"]["predictor"]["annotations"]
    assert annotations[REPLACES] == "sensevoice-predictor-00002"


def test_an_image_is_set_and_one_that_nobody_named_is_removed(step):
    document = step(FIRST)
    for image in ("predictor:2", None):
        model = ServedModel("pvc://models/bbbb", "b" * 64, image)
        patch = change(document, read(document), state="{}", percent=0, model=model)
        assert patch["spec"]["predictor"]["model"]["image"] == image


def test_a_state_without_its_mask_gets_it_and_the_revision_that_makes_is_waited_for(step):
    document = step(FIRST)
    document["spec"]["predictor"]["annotations"] = {"team": "voice"}
    patch = change(document, read(document), state="{}", percent=None, model=None)
    assert patch["spec"]["predictor"]["annotations"] == {
        STATE: STATE_MASK,
        REPLACES: "sensevoice-predictor-00001",
    }


# Third trap: annotations of the InferenceService are copied to the pods' template


def test_the_state_makes_no_revision_and_would_make_one_without_its_mask(
    kubernetes, cluster, settle
):
    cluster.write(settle(), state="0", percent=0, model=MODEL)
    settle()
    assert len(kubernetes.controllers.models) == 2
    for number in range(5):
        cluster.write(settle(), state=str(number), percent=0)
    settle()
    assert len(kubernetes.controllers.models) == 2

    def unmask(document):
        del document["spec"]["predictor"]["annotations"][STATE]

    kubernetes.edit(unmask)
    for _ in range(10):
        cluster.observe()
    assert len(kubernetes.controllers.models) == 3


def test_shares_up_and_down_and_all_the_users(kubernetes, cluster, settle):
    cluster.write(settle(), state="0", percent=0, model=MODEL)
    for percent in (0, 5, 50, 0, 50):
        cluster.write(settle(), state=str(percent), percent=percent)
        seen = settle()
        assert (seen.stable.percent, seen.candidate.percent) == (100 - percent, percent)
    cluster.write(seen, state="all", percent=None)
    seen = settle()
    assert (seen.stable.name, seen.stable.percent) == ("sensevoice-predictor-00002", 100)
    assert (seen.candidate, seen.state) == (None, "all")


def test_a_release_with_all_users_can_be_taken_back(kubernetes, cluster, settle):
    cluster.write(settle(), state="0", percent=0, model=MODEL)
    cluster.write(settle(), state="all", percent=None)
    settle()
    cluster.write(settle(), state="back", percent=0)
    # What KServe shows first is the same revision under both tags.
    seen = settle()
    assert seen.stable.name == "sensevoice-predictor-00001"
    assert (seen.stable.percent, seen.candidate.percent) == (100, 0)


@pytest.mark.parametrize("again", ["pvc://models/aaaa", "pvc://models/bbbb"])
def test_a_next_rollout_keeps_the_users_where_they_are(kubernetes, cluster, settle, again):
    """With a former release that KServe remembers, and a model that is in the specification or is not."""
    cluster.write(settle(), state="0", percent=0, model=MODEL)
    cluster.write(settle(), state="all", percent=None)
    seen = settle()
    cluster.write(seen, state="next", percent=0, model=ServedModel(again, "c" * 64))
    for _ in range(10):
        tags = kubernetes.document["status"]["components"]["predictor"]["traffic"]
        shares = [(each["revisionName"], each["percent"]) for each in tags]
        assert ("sensevoice-predictor-00001", 100) not in shares
        cluster.observe()
    seen = settle()
    assert (seen.stable.name, seen.stable.percent) == ("sensevoice-predictor-00002", 100)
    assert seen.candidate.name == "sensevoice-predictor-00003"


def test_the_schema_of_the_resource_allows_the_patch(kubernetes, step):
    if kubernetes.validator is None:
        pytest.skip("CRD_SCHEMAS names no folder with the schemas of KServe's resources")
    document, state = step(FIRST), json.dumps({"a": "灯"})
    patch = change(document, read(document), state=state, percent=0, model=MODEL)
    status, _ = kubernetes._patch(
        {**patch, "metadata": {"annotations": patch["metadata"]["annotations"]}}
    )
    assert status == 200
    patch["spec"]["predictor"]["canaryPercent"] = 5
    status, answer = kubernetes._patch({"spec": patch["spec"]})
    assert status == 422
    assert "canaryPercent" in answer["message"]
