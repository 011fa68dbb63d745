"""Revisions that answer over HTTP as the predictor does."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler

from tests.pipelines.rollout.loopback import listening

TAGS = {"language": "en", "emotion": "NEUTRAL", "event": "Speech"}


@dataclass
class Model:
    """How revisions that serve a model answer.

    Attributes:
        digest: header ``x-model-digest``.
        hear: what is said → text.
        tag: what is said → tags.
        tells_revision: header ``x-revision`` is sent.
        seconds: until it answers audio.
        status: of answers to audio.
        dead: connections are closed without an answer.
        body: sent instead of a transcript.
    """

    digest: str
    hear: Callable[[str], str] = lambda said: said
    tag: Callable[[str], dict[str, str]] = lambda said: TAGS
    tells_revision: bool = True
    seconds: float = 0.0
    status: int = 200
    dead: bool = False
    body: bytes | None = None


class RevisionServer:
    """Every revision, each under ``<url>/<route>`` or as host ``<route>.<namespace>.svc.cluster.local``:
    the v2 protocol as the predictor speaks it.

    Attributes:
        models: by storage URI.
        route: the first segment of a path, or of a Service's host → name and storage URI of the revision
            behind it.
        asked: revision and what was asked of it: ``identity``, or the clip's text.
    """

    def __init__(self) -> None:
        self.models: dict[str, Model] = {}
        self.route: Callable[[str], tuple[str, str] | None] = lambda route: None
        self.asked: list[tuple[str, str]] = []
        self._server = listening(self.answer, 0.02)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        host, path = handler.headers["Host"], handler.path.split("/")[1:]
        route = host.partition(".")[0] if ".svc." in host else path.pop(0)
        found = self.route(route)
        if found is None:
            return _send(handler, 404, b"no such revision", {})
        name, uri = found
        model = self.models[uri]
        infer = path == ["v2", "models", "sensevoice", "infer"] and handler.command == "POST"
        said = _said(handler, body) if infer else "identity"
        self.asked.append((name, said))
        if model.dead:
            handler.close_connection = True
            return None
        headers = {"x-model-digest": model.digest}
        if model.tells_revision:
            headers["x-revision"] = name
        if not infer:
            return _send(handler, 200, json.dumps({"name": "sensevoice"}).encode(), headers)
        if model.seconds:
            time.sleep(model.seconds)
        tags = {kind: {"label": tag, "confidence": 1.0} for kind, tag in model.tag(said).items()}
        transcript = json.dumps({"text": model.hear(said), **tags, "duration": 1.0})
        row = {"name": "transcript", "shape": [1], "datatype": "BYTES", "data": [transcript]}
        text = json.dumps({"model_name": "sensevoice", "outputs": [row]}).encode()
        return _send(handler, model.status, text if model.body is None else model.body, headers)

    def heard(self, revision: str) -> list[str]:
        """The clips that a revision was asked."""
        return [said for name, said in self.asked if name == revision and said != "identity"]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _said(handler: BaseHTTPRequestHandler, body: bytes) -> str:
    """The audio of a request in the binary tensor extension: here, the text itself."""
    size = int(handler.headers["Inference-Header-Content-Length"])
    head = json.loads(body[:size])
    (tensor,) = head["inputs"]
    audio = body[size:]
    assert tensor["name"] == "audio"
    assert tensor["datatype"] == "UINT8"
    assert tensor["shape"] == [len(audio)] == [tensor["parameters"]["binary_data_size"]]
    assert [each["name"] for each in head["outputs"]] == ["transcript"]
    assert head["parameters"] == {"use_itn": False}
    return audio.decode()


def _send(
    handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]
) -> None:
    handler.send_response(status)
    for key, value in {**headers, "Content-Length": str(len(body))}.items():
        handler.send_header(key, value)
    handler.end_headers()
    handler.wfile.write(body)
