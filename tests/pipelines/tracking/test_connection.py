import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from pipelines.rollout.target import Unavailable
from pipelines.tracking.connection import RegistryError, public
from pipelines.tracking.registry import ModelRegistry
from pipelines.tracking.version import Version

VERSION = Version("1", "0" * 64, "pvc://claim/folder", None, "embedded", "", "")

CALLS: dict[str, Callable[[ModelRegistry, Path], object]] = {
    "find": lambda registry, folder: registry.find("1"),
    "find an alias": lambda registry, folder: registry.find("@champion"),
    "of_run": lambda registry, folder: registry.of_run("run-1"),
    "download": lambda registry, folder: registry.download(VERSION, folder),
    "promoted": lambda registry, folder: registry.promoted("1"),
    "rejected": lambda registry, folder: registry.rejected("1", "too slow"),
}


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """As an operator may set it."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")


@pytest.fixture
def nowhere(new_port) -> str:
    """The URI of a server that is gone."""
    return f"http://127.0.0.1:{new_port()}"


@contextmanager
def answering(status: int) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<html>no such luck</html>"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Quietly."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("call", CALLS)
def test_a_server_that_is_gone_is_unavailable(call, nowhere, tmp_path):
    with pytest.raises(Unavailable, match=f"MLflow at {nowhere} does not answer"):
        CALLS[call](ModelRegistry(nowhere), tmp_path)


def test_a_release_for_a_server_that_is_gone_can_be_registered_later(
    nowhere, registry, make_release, small_model, monkeypatch
):
    release = make_release(small_model)
    with pytest.raises(Unavailable, match=nowhere):
        ModelRegistry(nowhere, registry.name).register(release)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    assert registry.register(release).version == "1"


def test_a_server_that_never_answers_is_unavailable():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Unavailable, match=f"MLflow at {uri} does not answer.*timed? ?out"):
            ModelRegistry(uri).find("1")


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_server_in_trouble_is_unavailable(status):
    with answering(status) as uri, pytest.raises(Unavailable, match=f"MLflow at {uri}"):
        ModelRegistry(uri).find("@champion")


@pytest.mark.parametrize("call", ["find", "download"])
def test_a_server_that_is_not_mlflow_is_an_error(call, tmp_path):
    with answering(404) as uri, pytest.raises(RegistryError, match=f"MLflow at {uri}: .*404"):
        CALLS[call](ModelRegistry(uri), tmp_path)


def test_credentials_in_a_uri_are_not_told(new_port):
    port = new_port()
    uri = f"http://someone:s3cret@127.0.0.1:{port}/base/"
    assert public(uri) == f"http://127.0.0.1:{port}/base/"
    with pytest.raises(Unavailable, match=f"http://127.0.0.1:{port}/base/") as caught:
        ModelRegistry(uri).promoted("1")
    assert "s3cret" not in str(caught.value)


ADMIN = ("admin", "a long enough password")

AUTH = """[mlflow]
default_permission = READ
database_uri = sqlite:///basic_auth.db
auth_cache_ttl_seconds = 600
"""
"""Hashing the password for every file of a model would take most of these tests' time."""


@pytest.fixture(scope="module")
def guarded(start_mlflow, new_port, tmp_path_factory) -> Iterator[str]:
    """A server that asks for a password."""
    pytest.importorskip("flask_wtf", reason="the server's basic-auth app needs mlflow[auth]")
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "auth.ini").write_text(AUTH)
    variables = {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN[0],
        "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN[1],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "of these tests",
    }
    for server in start_mlflow(folder, new_port(), "--app-name=basic-auth", variables=variables):
        yield server.uri


def test_the_right_password_opens(guarded, make_release, small_model, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", ADMIN[0])
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", ADMIN[1])
    registry = ModelRegistry(guarded)
    version = registry.register(make_release(small_model))
    registry.promoted(version.version)
    assert registry.find("@champion") == version
    assert (registry.download(version, tmp_path) / "model-manifest.json").is_file()


@pytest.mark.parametrize("password", ["wrong", None])
@pytest.mark.parametrize("call", CALLS)
def test_no_other_password_does(call, password, guarded, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    if password:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", ADMIN[0])
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    with pytest.raises(RegistryError, match=f"{guarded} refuses: .*MLFLOW_TRACKING_PASSWORD"):
        CALLS[call](ModelRegistry(guarded), tmp_path)
