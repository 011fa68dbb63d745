"""Lines about requests that no client waits for any more, and about what a client names itself."""

import pytest

from predictor.server.access_log import AccessLog
from predictor.server.observer import CANCELLED, OK, RequestRecord


@pytest.mark.parametrize(
    ("reason", "event_outcome", "told"),
    [
        (CANCELLED, "unknown", "499 cancelled in"),
        ("overloaded", "failure", "499 rejected in"),
        ("internal", "failure", "499 internal in"),
        (OK, "success", "499 ok in"),
    ],
)
def test_outcomes(caplog, reason, event_outcome, told):
    caplog.set_level("INFO", "kserve.access")
    record = RequestRecord(
        "rest_v2", method="POST", path="/v2/models/m/infer", status=499, reason=reason, seconds=0.25
    )
    AccessLog().on_end(record)
    (line,) = caplog.records
    assert line.ecs["event.outcome"] == event_outcome
    assert line.ecs["event.duration"] == 250_000_000
    assert told in line.getMessage()


def test_what_a_client_names_is_cut_short(caplog):
    caplog.set_level("INFO", "kserve.access")
    AccessLog().on_end(
        RequestRecord("rest_v1", model="m" * 5000, id="i" * 5000, path="/" * 5000, method="POST")
    )
    (line,) = caplog.records
    assert len(line.getMessage()) < 600
    assert all(len(str(value)) <= 200 for value in line.ecs.values())


def test_no_path_forges_a_line(caplog):
    caplog.set_level("INFO", "kserve.access")
    path = "/v2/models/a\n2026-11-24 forged\x1b[31m/infer"
    AccessLog().on_end(RequestRecord("rest_v2", model=path, path=path, method="POST"))
    (line,) = caplog.records
    assert line.getMessage().isprintable()
    assert line.ecs["url.path"] == r"/v2/models/a\n2026-11-24 forged\x1b[31m/infer"


@pytest.mark.parametrize("given", ["", "nonsense", "00-XYZ", f"00-{'G' * 32}-{'0' * 16}-01"])
def test_a_wrong_traceparent_is_no_trace(caplog, given):
    caplog.set_level("INFO", "kserve.access")
    AccessLog().on_end(RequestRecord("grpc_v2", headers={"traceparent": given}, status="OK"))
    (line,) = caplog.records
    assert "trace.id" not in line.ecs
