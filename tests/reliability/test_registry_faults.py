"""A real MLflow server behind a proxy that fails, while the aliases move."""

import itertools
import os
import sqlite3
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from mlflow import MlflowClient

from pipelines.local.mlflow_server import mlflow_server
from pipelines.rollout.target import Unavailable
from pipelines.tracking.registry import ModelRegistry

PROMISE = (
    "Whatever MLflow does while it is told of a rollout's end, telling it again sets all aliases right; "
    "until then there is an error"
)

FAULTS = {
    "429": (429, False),
    "500": (500, False),
    "503": (503, False),
    "502, carried out": (502, True),
    "no answer": (None, False),
    "lost answer": (None, True),
}
"""Status instead of the answer, and whether MLflow carried out the request; None: none comes."""


class Proxy:
    """Attributes: fault: called with a request's number from 1; what befalls it, of ``FAULTS``' values."""

    def __init__(self, upstream: str) -> None:
        self.fault: Callable[[int], tuple[int | None, bool] | None] = lambda number: None
        self.numbers = itertools.count(1)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: Any) -> None: ...

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fault = outer.fault(next(outer.numbers))
                status, content = 500, b"{}"
                if fault is None or fault[1]:
                    kept = {"Content-Type": self.headers.get("Content-Type", "application/json")}
                    answer = httpx.request(
                        self.command, upstream + self.path, content=body, headers=kept
                    )
                    status, content = answer.status_code, answer.content
                if fault:
                    status, content = fault[0], b"{}"
                if status is None:
                    return
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815  # the class's own names

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    if os.environ.get("STRESS") != "1":
        pytest.skip("starts an MLflow server; make test has tests/pipelines/tracking for it")
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(scope="module")
def upstream(folder):
    with mlflow_server(folder) as uri:
        yield uri


@pytest.fixture
def proxy(upstream, monkeypatch):
    """MLflow's client tries each request once: the rollout is what is patient here."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    made = Proxy(upstream)
    yield made
    made.server.shutdown()
    made.server.server_close()


def two_versions(upstream, name):
    """Version 1 serves, version 2 is the challenger."""
    client = MlflowClient(upstream, upstream)
    client.create_registered_model(name)
    for number in (1, 2):
        tags = {"digest": f"{number:064x}", "storage_uri": f"pvc://models/{number}"}
        client.create_model_version(name, tags["storage_uri"], tags=tags, await_creation_for=0)
    client.set_registered_model_alias(name, "champion", "1")
    client.set_registered_model_alias(name, "challenger", "2")
    return lambda: dict(client.get_registered_model(name).aliases)


@pytest.mark.promise(PROMISE)
@pytest.mark.parametrize("kind", FAULTS)
def test_aliases_are_right_after_a_fault_at_any_request(kind, upstream, proxy, tried):
    for at in itertools.count(1):
        name = f"promoted-{kind}-{at}".replace(",", "").replace(" ", "-")
        aliases = two_versions(upstream, name)
        registry = ModelRegistry(proxy.url, name)
        proxy.numbers = itertools.count(1)
        proxy.fault = lambda number, at=at: FAULTS[kind] if number == at else None
        try:
            registry.promoted("2")
        except Unavailable:
            tried["faults of MLflow"] += 1
            registry.promoted("2")
            assert aliases() == {"champion": "2", "previous": "1"}
        else:
            assert next(proxy.numbers) <= at  # No request met the fault.
            assert aliases() == {"champion": "2", "previous": "1"}
            return


@pytest.mark.promise(PROMISE)
def test_a_database_that_is_locked_may_be_free_later(folder, upstream, proxy, tried):
    aliases = two_versions(upstream, "locked")
    registry = ModelRegistry(proxy.url, "locked")
    holder = sqlite3.connect(folder / "mlflow.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(Unavailable):
            registry.promoted("2")
    finally:
        holder.execute("ROLLBACK")
        holder.close()
    registry.promoted("2")
    assert aliases() == {"champion": "2", "previous": "1"}
    tried["faults of MLflow"] += 1
