import copy
import dataclasses

import pytest

from pipelines.rollout.cluster.errors import ClusterError
from pipelines.rollout.cluster.inference_service import MODE, REPLACES, STATE, STATE_MASK
from pipelines.rollout.cluster.standard import CAVEAT, change, read
from pipelines.rollout.state import Candidate, RolloutState
from pipelines.rollout.target import Revision, ServedModel

MODEL = ServedModel("pvc://models/bbbb", "0a1b2c3d" + "b" * 56)
NAME = "v0a1b2c3d"


def revision(name, percent, **fields):
    url = f"http://{name}.voice.svc.cluster.local"
    return Revision(name, ready=True, percent=percent, url=url, **fields)


STABLE = revision("sensevoice-predictor", 100)
CANDIDATE = revision(f"sensevoice-{NAME}-predictor", 0, caveat=CAVEAT)


@pytest.fixture
def document(kubernetes, standard):
    """The service's, as its controller left it."""
    return copy.deepcopy(kubernetes.document)


@pytest.fixture
def begun(kubernetes, cluster, settle, standard):
    """The same with a candidate at 0 %, ready."""

    def at(percent=0):
        cluster.write(settle(), state=written(), percent=percent, model=MODEL)
        settle()
        return copy.deepcopy(kubernetes.document)

    return at


def written(phase="rolling"):
    one = Candidate(version="B", storage_uri=MODEL.storage_uri, digest=MODEL.digest)
    fields = {"rollout": "r", "owner": "o", "heartbeat": 0.0, "lease": 1.0, "percent": 0}
    return RolloutState(candidate=one, phase=phase, **fields).model_dump_json()


def patched(document, **changes):
    arguments = {"state": written(), "percent": 0, "model": None, **changes}
    return change(document, read(document), **arguments)


# Reading


def test_a_service_without_a_canary(document):
    seen = read(document)
    assert seen.settled
    assert (seen.stable, seen.candidate, seen.percent) == (STABLE, None, None)
    assert (seen.storage_uri, seen.image, seen.state) == ("pvc://models/aaaa", None, None)
    assert seen.version == document["metadata"]["resourceVersion"]


def test_one_with_a_candidate(begun):
    seen = read(begun(5))
    assert seen.settled
    assert seen.percent == 5
    assert seen.stable == dataclasses.replace(STABLE, percent=95)
    assert seen.candidate == dataclasses.replace(CANDIDATE, percent=5)
    assert (seen.storage_uri, seen.image) == ("pvc://models/bbbb", None)


def test_headless_services_have_the_pods_port(begun):
    document = begun()
    document["status"]["address"]["url"] += ":8080"
    seen = read(document)
    assert seen.stable.url == "http://sensevoice-predictor.voice.svc.cluster.local:8080"
    assert seen.candidate.url == f"http://sensevoice-{NAME}-predictor.voice.svc.cluster.local:8080"


def test_the_deployments_generation_is_not_compared_with_the_services_own(begun):
    document = begun()
    document["status"]["observedGeneration"] += 3
    assert read(document).settled


@pytest.mark.parametrize("told", [[], [("v2", 5)], [(NAME, 0)], [(NAME, 5), ("v2", 0)]])
def test_a_canary_that_the_status_does_not_repeat_is_not_settled(begun, told):
    document = begun(5)
    document["status"]["canaryStatuses"] = [
        {"name": name, "ready": True, "trafficPercent": percent} for name, percent in told
    ]
    assert not read(document).settled


def test_a_promotion_is_not_settled_before_the_canary_has_left_the_status(begun):
    document = begun()
    (entry,) = document["spec"].pop("canary")
    document["spec"]["predictor"]["name"] = entry["predictor"]["name"]
    assert not read(document).settled
    del document["status"]["canaryStatuses"]
    seen = read(document)
    assert (seen.settled, seen.stable.name) == (True, f"sensevoice-{NAME}-predictor")


def test_one_that_is_starting_keeps_nobody_waiting(begun):
    document = begun()
    document["status"]["canaryStatuses"][0]["ready"] = False
    seen = read(document)
    assert seen.settled
    assert (seen.candidate.ready, seen.candidate.failure) == (False, "")


def test_one_whose_model_cannot_be_loaded_tells_why(begun):
    document = begun()
    info = {"reason": "ModelLoadFailed", "message": "sha256 of model.safetensors differs"}
    status = {"transitionStatus": "BlockedByFailedLoad", "lastFailureInfo": info}
    document["status"]["canaryStatuses"][0] |= {"ready": False, "modelStatus": status}
    reason = "ModelLoadFailed: sha256 of model.safetensors differs"
    assert read(document).candidate.failure == reason
    document["status"]["canaryStatuses"][0]["ready"] = True
    assert read(document).candidate.failure == ""


def test_a_stable_revision_that_fails_now_still_is_what_served(document):
    for condition in document["status"]["conditions"]:
        condition |= {"status": "False", "reason": "MinimumReplicasUnavailable", "message": "none"}
    seen = read(document)
    assert seen.settled
    assert (seen.stable.ready, seen.stable.percent) == (False, 100)
    assert seen.stable.waiting == "MinimumReplicasUnavailable: none"


@pytest.mark.parametrize("status", [None, {}, {"observedGeneration": 1}])
def test_a_service_that_no_controller_has_seen_is_not_settled(document, status):
    document.pop("status")
    if status is not None:
        document["status"] = status
    seen = read(document)
    assert (seen.settled, seen.stable) == (False, None)


def test_a_share_is_never_in_the_fingerprint(kubernetes, cluster, settle, begun):
    prints = {read(begun()).fingerprint}
    for percent in (5, 50, 0, None):
        prints.add(cluster.write(settle(), state=written(), percent=percent).fingerprint)
    prints.add(settle().fingerprint)
    assert len(prints) == 1


def test_a_predictor_without_a_model_is_refused(document):
    document["spec"]["predictor"] = {"containers": [{"name": "kserve-container"}]}
    with pytest.raises(ClusterError, match=r"no spec\.predictor\.model"):
        read(document)


# The patch


def test_a_candidate_is_one_patch(document):
    patch = patched(document, model=MODEL)
    version = document["metadata"]["resourceVersion"]
    assert patch["metadata"] == {"resourceVersion": version, "annotations": {STATE: written()}}
    assert patch["spec"]["predictor"] == {"annotations": {STATE: STATE_MASK}}
    (entry,) = patch["spec"]["canary"]
    assert (entry["trafficPercent"], entry["predictor"]["name"]) == (0, NAME)


def test_a_promotion_makes_the_canary_the_predictor(begun):
    spec = patched(begun(50), percent=None)["spec"]
    replaces = "sensevoice-predictor pvc://models/aaaa"
    assert spec["canary"] is None
    assert spec["predictor"]["name"] == NAME
    assert spec["predictor"]["annotations"] == {STATE: STATE_MASK, REPLACES: replaces}
    assert spec["predictor"]["model"]["storageUri"] == "pvc://models/bbbb"
    assert "minReplicas" not in spec["predictor"]


def test_where_nothing_serves_the_predictor_itself_is_changed(document):
    patch = patched(document, percent=None, model=MODEL)
    assert patch["spec"] == {
        "canary": None,
        "predictor": {
            "name": NAME,
            "annotations": {STATE: STATE_MASK},
            "model": {"storageUri": "pvc://models/bbbb", "image": None},
        },
    }


def test_a_rollback_keeps_the_pods_until_it_is_verified(begun):
    document = begun(50)
    (entry,) = patched(document, state=written("rolling_back"))["spec"]["canary"]
    assert (entry["trafficPercent"], entry["predictor"]["minReplicas"]) == (0, 1)
    assert patched(document, state=written("rejected"))["spec"]["canary"] is None


def test_a_write_of_the_state_alone_leaves_the_entry_as_it_is(begun):
    document = begun(5)
    document["spec"]["canary"][0]["predictor"]["minReplicas"] = 7
    assert patched(document, percent=5)["spec"]["canary"] == document["spec"]["canary"]


def test_canaries_of_others_stay(begun):
    document = begun(5)
    other = {"trafficPercent": 1, "predictor": {"name": "v2", "model": {}}}
    document["spec"]["canary"].insert(0, other)
    kept = [
        patched(document, percent=0)["spec"]["canary"],
        patched(document, percent=None)["spec"]["canary"],
        patched(document, state=written("rejected"))["spec"]["canary"],
    ]
    assert [each[0] for each in kept] == [other] * 3
    assert [len(each) for each in kept] == [2, 1, 1]


def test_a_share_without_a_canary_is_refused(document):
    with pytest.raises(ClusterError, match="no canary whose share could be set to 5 %"):
        patched(document, percent=5)


# Through the target


@pytest.mark.parametrize("mode", ["Standard", "RawDeployment"])
@pytest.mark.parametrize("where", ["annotation", "status"])
def test_the_mode_is_the_annotations_or_else_the_status(kubernetes, cluster, standard, mode, where):
    def rename(document):
        annotations = document["metadata"]["annotations"]
        document["status"]["deploymentMode"] = mode if where == "status" else "Knative"
        annotations.pop(MODE)
        if where == "annotation":
            annotations[MODE] = mode

    kubernetes.paused = True
    kubernetes.edit(rename)
    assert cluster.observe().stable == STABLE


def test_the_webhook_and_the_schema_allow_every_patch(kubernetes, cluster, settle, begun):
    if kubernetes.validator is None:
        pytest.skip("CRD_SCHEMAS names no folder with the schemas of KServe's resources")
    begun()
    cluster.write(settle(), state=written(), percent=50)
    cluster.write(settle(), state=written("promoted"), percent=None)
    assert list(kubernetes.errors(kubernetes.document)) == []
    assert settle().stable.name == f"sensevoice-{NAME}-predictor"
