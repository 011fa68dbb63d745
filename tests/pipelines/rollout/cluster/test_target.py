import pytest
from kubernetes import client, config

from pipelines.rollout.cluster import target
from pipelines.rollout.cluster.errors import ClusterError
from pipelines.rollout.cluster.inference_service import STATE
from pipelines.rollout.cluster.target import connect
from pipelines.rollout.target import Conflict, ServedModel, Unavailable

MODEL = ServedModel("pvc://models/bbbb", "b" * 64)


def patches(kubernetes):
    return sum(request.startswith("PATCH") for request in kubernetes.requests)


def test_state_share_and_model_are_one_patch(kubernetes, cluster):
    seen = cluster.observe()
    written = cluster.write(seen, state='{"phase": "rolling"}', percent=0, model=MODEL)
    assert patches(kubernetes) == 1
    assert (written.state, written.percent) == ('{"phase": "rolling"}', 0)
    assert written.storage_uri == "pvc://models/bbbb"
    assert not written.settled
    assert written.version != seen.version
    assert written.fingerprint == cluster.observe().fingerprint
    assert kubernetes.queries[kubernetes.requests.index(f"PATCH {path(kubernetes)}")] == (
        "fieldManager=sensevoice-rollout&fieldValidation=Strict"
    )


def path(kubernetes):
    return kubernetes.requests[0].split()[1]


def test_a_share_that_ends_is_removed(kubernetes, cluster, settle):
    cluster.write(cluster.observe(), state="0", percent=0)
    assert kubernetes.document["spec"]["predictor"]["canaryTrafficPercent"] == 0
    cluster.write(settle(), state="1", percent=None)
    assert "canaryTrafficPercent" not in kubernetes.document["spec"]["predictor"]


def test_an_image_is_set_and_removed(kubernetes, cluster, settle):
    image = ServedModel("pvc://models/bbbb", "b" * 64, "predictor:2")
    assert (
        cluster.write(cluster.observe(), state="0", percent=0, model=image).image == "predictor:2"
    )
    assert cluster.write(settle(), state="1", percent=0, model=MODEL).image is None
    assert "image" not in kubernetes.document["spec"]["predictor"]["model"]


def test_what_people_wrote_stays(kubernetes, cluster, settle):
    def own(document):
        document["spec"]["predictor"]["annotations"] = {"autoscaling.knative.dev/target": "4"}
        document["metadata"]["annotations"]["team"] = "voice"

    kubernetes.edit(own)
    cluster.write(settle(), state="0", percent=0, model=MODEL)
    document = kubernetes.document
    assert document["spec"]["predictor"]["annotations"]["autoscaling.knative.dev/target"] == "4"
    assert document["metadata"]["annotations"]["team"] == "voice"
    assert document["spec"]["predictor"]["maxReplicas"] == 2


# Conflicts


def test_a_service_that_changed_since_is_not_written(kubernetes, cluster):
    seen = cluster.observe()
    kubernetes.edit(lambda document: document["spec"]["predictor"].update(minReplicas=2))
    with pytest.raises(Conflict, match="voice/sensevoice changed since it was observed"):
        cluster.write(seen, state="0", percent=0)
    assert patches(kubernetes) == 0


def test_a_change_between_the_look_and_the_patch_is_a_conflict(kubernetes, cluster):
    """Found by the API server, which compares the version in the patch."""
    seen = cluster.observe()
    answer = kubernetes.answer

    def edit_first(handler):
        if handler.command == "PATCH":
            kubernetes.edit(lambda document: document["metadata"]["annotations"].update(a="b"))
        answer(handler)

    kubernetes.answer = edit_first
    with pytest.raises(Conflict, match=r"409 .*the object has been modified"):
        cluster.write(seen, state="0", percent=0)
    assert STATE not in kubernetes.document["metadata"]["annotations"]


# Faults


@pytest.mark.parametrize("status", [408, 410, 500, 502, 504])
@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_a_status_that_may_be_better_later(kubernetes, cluster, fault, method, status):
    seen = cluster.observe()
    kubernetes.faults.append(fault(method, status))
    with pytest.raises(Unavailable, match=f"{status} .*injected"):
        cluster.write(seen, state="0", percent=0)
    assert cluster.write(seen, state="0", percent=0).state == "0"


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_says_when_to_come_back_is_waited_for(
    kubernetes, cluster, fault, status, monkeypatch
):
    monkeypatch.setattr(target.RETRY, "backoff_factor", 0)
    seen = cluster.observe()
    kubernetes.faults += [fault("PATCH", status, headers={"Retry-After": "0"}) for _ in range(2)]
    assert cluster.write(seen, state="0", percent=0).state == "0"
    assert patches(kubernetes) == 3


def test_one_that_never_lets_us_in_is_unavailable(kubernetes, cluster, fault, monkeypatch):
    monkeypatch.setattr(target.RETRY, "backoff_factor", 0)
    kubernetes.faults += [fault("GET", 429, headers={"Retry-After": "0"}) for _ in range(9)]
    with pytest.raises(Unavailable, match="429"):
        connect("voice", "sensevoice", client.Configuration(host=kubernetes.url)).observe()
    assert len(kubernetes.requests) == 5


def test_one_that_sends_us_away_for_hours_does_not_hold_us():
    assert target.RETRY.parse_retry_after("86400") == 10


def test_without_a_time_to_come_back_nothing_is_repeated(kubernetes, cluster, fault):
    seen = cluster.observe()
    kubernetes.faults.append(fault("PATCH", 429))
    with pytest.raises(Unavailable):
        cluster.write(seen, state="0", percent=0)
    assert patches(kubernetes) == 1


@pytest.mark.parametrize("applied", [True, False])
def test_a_patch_whose_answer_is_lost_is_not_repeated(kubernetes, cluster, fault, applied):
    seen = cluster.observe()
    kubernetes.faults.append(fault("PATCH", None, applied=applied))
    with pytest.raises(Unavailable, match="no answer"):
        cluster.write(seen, state="0", percent=0)
    assert patches(kubernetes) == 1
    assert (cluster.observe().state == "0") is applied


def test_nobody_at_the_address(new_port, monkeypatch):
    monkeypatch.setattr(target.RETRY, "backoff_factor", 0)
    nobody = connect("voice", "s", client.Configuration(host=f"http://127.0.0.1:{new_port()}"))
    with pytest.raises(Unavailable, match=r"get inferenceservices.* voice/s: no answer"):
        nobody.observe()


# Refusals


@pytest.mark.parametrize(("method", "verb"), [("GET", "get"), ("PATCH", "patch")])
def test_what_rbac_must_allow_is_named(kubernetes, cluster, fault, method, verb):
    seen = cluster.observe()
    kubernetes.faults.append(fault(method, 403, 'User "rollout" cannot do this'))
    with pytest.raises(ClusterError) as error:
        cluster.write(seen, state="0", percent=0)
    assert 'User "rollout" cannot do this' in str(error.value)
    assert (
        f"a Role must allow verb {verb} on inferenceservices in apiGroup serving.kserve.io"
        in str(error.value)
    )


def test_a_webhook_that_refuses_is_quoted(kubernetes, cluster):
    kubernetes.webhook = lambda document: "minReplicas must not be greater than maxReplicas"
    with pytest.raises(ClusterError, match="denied the request: minReplicas must not be greater"):
        cluster.write(cluster.observe(), state="0", percent=0)
    assert STATE not in kubernetes.document["metadata"]["annotations"]


def test_a_value_that_the_schema_forbids_is_named(kubernetes, cluster):
    if kubernetes.validator is None:
        pytest.skip("CRD_SCHEMAS names no folder with the schemas of KServe's resources")
    with pytest.raises(ClusterError, match=r"422 .*canaryTrafficPercent.*'five' is not of type"):
        cluster.write(cluster.observe(), state="0", percent="five")


def test_a_service_that_is_not_there_is_named(kubernetes):
    other = connect("voice", "nobody", client.Configuration(host=kubernetes.url))
    with pytest.raises(ClusterError, match=r"voice/nobody: 404 .*nobody not found"):
        other.observe()


def test_a_service_that_cannot_be_rolled_out_is_refused(kubernetes, cluster):
    def plain(document):
        del document["metadata"]["annotations"]["serving.kserve.io/enable-tag-routing"]

    kubernetes.edit(plain)
    with pytest.raises(ClusterError, match="enable-tag-routing"):
        cluster.observe()


# Connecting


def test_without_a_cluster_it_says_so(monkeypatch, tmp_path):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(config.kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(ClusterError, match=r"no cluster: not in a pod .*, and no kubeconfig"):
        connect("voice", "sensevoice")


def test_a_kubeconfig_is_found(kubernetes, monkeypatch, tmp_path):
    file = tmp_path / "config"
    file.write_text(
        f"""
apiVersion: v1
kind: Config
current-context: here
clusters: [{{name: here, cluster: {{server: "{kubernetes.url}"}}}}]
users: [{{name: me, user: {{token: secret}}}}]
contexts: [{{name: here, context: {{cluster: here, user: me}}}}]
"""
    )
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(config.kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(file))
    assert connect("voice", "sensevoice").observe().storage_uri == "pvc://models/aaaa"


@pytest.mark.parametrize("method", ["GET", "PATCH"])
@pytest.mark.parametrize("body", [b"<html>log in</html>", b'{"metadata": {"na', b"[]", b"{}"])
def test_something_else_than_the_api_may_be_gone_later(kubernetes, cluster, fault, method, body):
    seen = cluster.observe()
    kubernetes.faults.append(fault(method, 200, body=body))
    with pytest.raises(Unavailable, match="voice/sensevoice: something else"):
        cluster.write(seen, state="{}", percent=0)


def test_a_token_that_was_replaced_is_read_again(kubernetes, cluster, fault):
    kubernetes.faults.append(fault("GET", 401, "Unauthorized"))
    with pytest.raises(Unavailable, match=r"401.*still valid"):
        cluster.observe()
    assert cluster.observe()


def test_credentials_that_are_gone_may_be_there_later(kubernetes, tmp_path):
    """The hook by which the client reads a pod's token anew, while the file is being replaced."""
    configuration = client.Configuration(host=kubernetes.url)
    configuration.api_key = {"authorization": "bearer old"}
    configuration.refresh_api_key_hook = lambda _: (tmp_path / "token").read_text()
    there = connect("voice", "sensevoice", configuration)
    with pytest.raises(Unavailable, match="token"):
        there.observe()
    (tmp_path / "token").write_text("new")
    assert there.observe()


def test_a_server_without_tls_may_have_it_later(kubernetes, monkeypatch):
    monkeypatch.setattr(target, "RETRY", target.RETRY.new(backoff_factor=0))
    url = kubernetes.url.replace("http://", "https://")
    there = connect("voice", "sensevoice", client.Configuration(host=url))
    with pytest.raises(Unavailable, match="no answer"):
        there.observe()
