import json

import pytest
from kubernetes.client import ApiException
from urllib3.exceptions import MaxRetryError, NewConnectionError, ProtocolError, ReadTimeoutError

from pipelines.rollout.cluster.errors import ClusterError, translated
from pipelines.rollout.target import Conflict, Unavailable

CALL = ("patch", "serving.kserve.io", "inferenceservices", "voice/sensevoice")
TOLD = r"patch inferenceservices\.serving\.kserve\.io voice/sensevoice: "


def refused(status, body=None, reason="Reason"):
    error = ApiException(status=status, reason=reason)
    error.body = json.dumps({"kind": "Status", "message": "says why"}) if body is None else body
    return error


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (409, Conflict),
        (408, Unavailable),
        (0, Unavailable),
        (401, Unavailable),
        (410, Unavailable),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
        (504, Unavailable),
        (400, ClusterError),
        (403, ClusterError),
        (404, ClusterError),
        (422, ClusterError),
    ],
)
def test_each_status_is_what_a_rollout_does_about_it(status, kind):
    with pytest.raises(kind, match=rf"{TOLD}{status} Reason: says why"), translated(*CALL):
        raise refused(status)


def test_what_rbac_forbids_is_named():
    with (
        pytest.raises(ClusterError) as error,
        translated("create", "events.k8s.io", "events", "v/s"),
    ):
        raise refused(403)
    assert "allow verb create on events in apiGroup events.k8s.io" in str(error.value)


@pytest.mark.parametrize("body", ["", "<html>", "[]", "null", '"text"', "{}", b"bytes"])
def test_an_answer_that_is_no_status_is_told_as_it_is(body):
    with pytest.raises(Unavailable, match="502 Bad Gateway: "), translated(*CALL):
        raise refused(502, body, "Bad Gateway")


def test_a_long_answer_is_cut():
    with pytest.raises(ClusterError) as error, translated(*CALL):
        raise refused(400, "x" * 10_000)
    assert len(str(error.value)) < 700


@pytest.mark.parametrize(
    "error",
    [
        MaxRetryError(None, "/apis", NewConnectionError(None, "refused")),
        ReadTimeoutError(None, "/apis", "timed out"),
        ProtocolError("Connection aborted"),
    ],
)
def test_no_answer_may_be_better_later(error):
    with pytest.raises(Unavailable, match=f"{TOLD}no answer"), translated(*CALL):
        raise error


def test_what_is_no_answer_of_the_api_passes():
    with pytest.raises(KeyError), translated(*CALL):
        raise KeyError("a fault of ours")


def test_a_conflict_of_what_is_only_read_may_pass():
    with pytest.raises(Unavailable), translated("get", *CALL[1:]):
        raise refused(409)
