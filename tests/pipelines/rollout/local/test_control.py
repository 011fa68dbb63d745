"""The control API over HTTP: decisions, conflicts, and what it refuses."""

import json
from collections.abc import AsyncIterator

import httpx
import pytest

from pipelines.rollout.local.control import EVENTS, control
from pipelines.rollout.local.meter import Meter

TOKEN = "of the test"  # noqa: S105  # and of nothing else
MODEL = {"storage_uri": "/models/new", "digest": "new"}
CHANGE = {"version": "0", "state": "s", "percent": 5}


@pytest.fixture
def meter() -> Meter:
    return Meter()


@pytest.fixture
async def api(service, meter, directory, listen) -> AsyncIterator[httpx.AsyncClient]:
    url = await listen(control(service, meter, directory, TOKEN))
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as client:
        yield client


async def test_a_decision_is_written_and_seen(api) -> None:
    written = await api.patch("/service", json={**CHANGE, "model": MODEL})
    assert written.status_code == 200
    assert (written.json()["version"], written.json()["settled"]) == ("1", False)
    seen = (await api.get("/service")).json()
    assert {"version", "percent", "state", "storage_uri", "image", "candidate"} <= set(seen)
    assert (seen["percent"], seen["state"]) == (5, "s")
    assert (seen["storage_uri"], seen["image"]) == ("/models/new", None)
    assert seen["candidate"]["name"] == "sensevoice-00001"


async def test_a_decision_on_a_former_version_is_a_conflict(api) -> None:
    await api.patch("/service", json=CHANGE)
    refused = await api.patch("/service", json={**CHANGE, "percent": 50})
    assert refused.status_code == 409
    assert refused.json() == {"error": "version 0 is gone; the service has 1"}
    assert (await api.get("/service")).json()["percent"] == 5


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"replicas": 2}, "replicas: Extra inputs are not permitted"),
        ({"percent": 101}, "percent: Input should be less than or equal to 100"),
        ({"percent": "half"}, "percent: Input should be a valid integer"),
        ({"version": None}, "version: Input should be a valid string"),
        ({"model": {"storage_uri": "/x"}}, "model.digest: Field required"),
        (
            {"model": {**MODEL, "storage_uri": "x"}},
            "model.storage_uri: Value error, must be an abs",
        ),
        ({"model": {**MODEL, "image": "python"}}, "model.image: Value error, must be an absolute"),
        ({"model": {**MODEL, "port": 1}}, "model.port: Extra inputs are not permitted"),
    ],
)
async def test_what_is_unknown_or_out_of_range_is_refused_by_name(api, change, error) -> None:
    refused = await api.patch("/service", json={**CHANGE, **change})
    assert refused.status_code == 422
    assert refused.json()["error"].startswith(error)
    assert (await api.get("/service")).json()["version"] == "0"


async def test_a_share_must_be_named(api) -> None:
    """Its absence would promote the newest revision."""
    refused = await api.patch("/service", json={"version": "0", "state": "s"})
    assert refused.json() == {"error": "percent: Field required"}


async def test_traffic_is_measured_by_revision(api, meter) -> None:
    meter.add("a", 0.5, is_error=False)
    meter.add("a", 0.7, is_error=True)
    found = await api.get("/traffic", params={"revision": "a", "seconds": 60})
    assert found.json() == {"requests": 2, "errors": 1, "p95_s": 0.7, "p99_s": 0.7, "stale": False}
    refused = await api.get("/traffic", params={"revision": "a", "seconds": 0})
    assert (refused.status_code, refused.json()["error"][:8]) == (422, "seconds:")


async def test_events_are_appended(api, directory) -> None:
    told = [
        {"reason": "RolloutStarted", "message": "version 1 电"},
        {"reason": "RolloutRejected", "message": "worse", "warning": True},
    ]
    for event in told:
        assert (await api.post("/events", json=event)).status_code == 201
    lines = [json.loads(line) for line in (directory / EVENTS).read_text().splitlines()]
    assert [(line["type"], line["reason"], line["message"]) for line in lines] == [
        ("Normal", "RolloutStarted", "version 1 电"),
        ("Warning", "RolloutRejected", "worse"),
    ]
    assert all(line["time"].endswith("+00:00") for line in lines)
    refused = await api.post("/events", json={"reason": "two words", "message": ""})
    assert refused.json()["error"].startswith("reason: String should match pattern")


async def test_an_unknown_path_is_told_alike(api) -> None:
    refused = await api.get("/services")
    assert (refused.status_code, refused.json()) == (404, {"error": "Not Found"})


@pytest.mark.parametrize("given", ["", "Bearer another", TOKEN, "Bearer é"])
async def test_without_the_token_nothing_is_told_or_done(api, given) -> None:
    headers = {"authorization": given.encode()}
    for method, path in (("GET", "/service"), ("PATCH", "/service"), ("POST", "/events")):
        refused = await api.request(method, path, headers=headers, json=CHANGE)
        assert refused.status_code == 401
        assert "token" in refused.json()["error"]
