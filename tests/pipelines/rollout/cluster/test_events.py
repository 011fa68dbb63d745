import logging
from datetime import datetime

import pytest

from pipelines.rollout.cluster.events import MAX_NOTE, event

METADATA = {"namespace": "voice", "name": "sensevoice", "uid": "0b9d3a1e", "generation": 7}


def test_an_event_is_what_the_api_and_kubectl_need():
    made = event(METADATA, "RolloutStarted", "version 7", warning=False)
    assert made["apiVersion"] == "events.k8s.io/v1"
    assert made["metadata"]["namespace"] == made["regarding"]["namespace"] == "voice"
    assert made["metadata"]["name"].startswith("sensevoice.")
    assert len(made["metadata"]["name"]) <= 253
    assert made["regarding"]["uid"] == "0b9d3a1e"
    assert (made["type"], made["reason"], made["note"]) == ("Normal", "RolloutStarted", "version 7")
    assert made["reportingController"]
    assert made["reportingInstance"]
    assert made["action"]
    # MicroTime: exactly six digits of a second.
    assert datetime.strptime(made["eventTime"], "%Y-%m-%dT%H:%M:%S.%fZ").microsecond is not None
    assert len(made["eventTime"]) == len("2026-11-24T12:00:00.000000Z")
    assert event(METADATA, "RolloutRejected", "x", warning=True)["type"] == "Warning"


def test_told_again_after_a_crash_it_is_the_same_event():
    first, again = (event(METADATA, "RolloutStarted", "version 7", warning=False) for _ in "12")
    assert first["metadata"] == again["metadata"]


@pytest.mark.parametrize(
    ("metadata", "reason", "message"),
    [
        ({"generation": 8}, "RolloutStarted", "version 7"),
        ({"uid": "another"}, "RolloutStarted", "version 7"),
        ({}, "RolloutResumed", "version 7"),
        ({}, "RolloutStarted", "version 8"),
        ({}, "RolloutStartedversion", " 7"),
    ],
)
def test_in_a_later_rollout_or_about_another_thing_it_is_another(metadata, reason, message):
    first = event(METADATA, "RolloutStarted", "version 7", warning=False)
    other = event({**METADATA, **metadata}, reason, message, warning=False)
    assert first["metadata"]["name"] != other["metadata"]["name"]


@pytest.mark.parametrize("letter", ["x", "é", "灯", "😀"])
def test_a_long_note_is_cut_to_the_apis_limit_in_bytes(letter):
    note = event(METADATA, "A", letter * 2000, warning=False)["note"]
    assert MAX_NOTE - 4 < len(note.encode()) <= MAX_NOTE
    assert set(note) == {letter}


def test_long_messages_that_differ_at_their_end_are_two_events():
    one, other = (event(METADATA, "A", "x" * 2000 + end, warning=False) for end in "ab")
    assert one["metadata"]["name"] != other["metadata"]["name"]


def test_decisions_are_seen_on_the_service(kubernetes, cluster):
    cluster.record("RolloutStarted", "version 7")
    cluster.record("RolloutRejected", "too slow", warning=True)
    told = [(e["type"], e["reason"], e["note"]) for e in kubernetes.events.values()]
    assert told == [
        ("Normal", "RolloutStarted", "version 7"),
        ("Warning", "RolloutRejected", "too slow"),
    ]
    assert {e["regarding"]["uid"] for e in kubernetes.events.values()} == {"0b9d3a1e"}


def test_the_same_decision_is_seen_once_and_again_in_the_next_rollout(kubernetes, cluster, caplog):
    with caplog.at_level(logging.WARNING):
        cluster.record("RolloutStarted", "version 7")
        cluster.record("RolloutStarted", "version 7")
    assert (len(kubernetes.events), caplog.records) == (1, [])
    kubernetes.edit(lambda document: document["spec"]["predictor"].update(minReplicas=2))
    cluster.record("RolloutStarted", "version 7")
    assert len(kubernetes.events) == 2


@pytest.mark.parametrize("status", [403, 422, 500, None])
def test_an_event_that_cannot_be_written_is_logged_and_stops_nothing(
    kubernetes, cluster, fault, caplog, status
):
    kubernetes.faults.append(fault("POST", status, "events.events.k8s.io is forbidden"))
    cluster.record("RolloutStarted", "version 7")
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "event RolloutStarted on voice/sensevoice was not written" in record.message
    if status == 403:
        assert "a Role must allow verb create on events in apiGroup events.k8s.io" in record.message
    cluster.record("RolloutStarted", "version 7")
    assert len(kubernetes.events) == 1


def test_a_service_that_is_gone_stops_nothing_either(kubernetes, cluster, fault, caplog):
    kubernetes.faults.append(fault("GET", 404, "not found"))
    cluster.record("RolloutStarted", "version 7")
    assert "404" in caplog.text
