"""A model hub on the loopback that speaks ModelScope's and Hugging Face's API to their own SDKs."""

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

REPOSITORY = "someone/model"
COMMIT = "a" * 40
PIECE = 64 * 1024


@dataclass
class LoopbackHub:
    """One repository with a branch, and what is wrong with the hub.

    Attributes:
        files: content by name.
        commit: what the branches ``master`` and ``main`` mean.
        served: what is sent instead of a file's content.
        errors: how often a kind of request (``listing`` or a file's name) is still answered with
            ``error_status``.
        halfway: called with a file's name once half of it is sent.
        cuts: how often a file's connection is still closed halfway.
        stalled: set once the file that ``stalls`` names is sent halfway; the rest waits for ``go_on``.
        asked: every request: kind, and the first byte of a file's range.
    """

    files: dict[str, bytes]
    commit: str = COMMIT
    served: dict[str, bytes] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)
    cuts: Counter[str] = field(default_factory=Counter)
    stalls: str = ""
    stalled: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[str, int]] = field(default_factory=list)
    url: str = ""
    error_status: int = 500
    halfway: Callable[[str], None] = lambda name: None

    def asked_for(self, kind: str) -> list[int]:
        """First bytes of the requests of one kind."""
        return [start for asked, start in self.asked if asked == kind]


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *arguments: object) -> None:
        """Clients that are killed break connections; that is no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: LoopbackHub

    def log_message(self, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        path = unquote(url.path)
        if path == f"/api/v1/models/{REPOSITORY}/repo/files" and query["Recursive"] == "True":
            self.listing(query["Revision"], self.modelscope_listing)
        elif path == f"/api/v1/models/{REPOSITORY}/repo":
            self.file(query["Revision"], query["FilePath"])
        elif path.startswith(f"/api/models/{REPOSITORY}/revision/"):
            self.listing(path.rsplit("/", 1)[1], self.hugging_face_listing)
        elif path.startswith(f"/{REPOSITORY}/resolve/"):
            revision, _, name = path.removeprefix(f"/{REPOSITORY}/resolve/").partition("/")
            self.file(revision, name)
        else:
            self.refuse(404)

    def listing(self, revision: str, render: Callable[[], object]) -> None:
        self.hub.asked.append(("listing", 0))
        if self.fails("listing") or not self.knows(revision):
            return
        body = json.dumps(render()).encode()
        self.answer(200, body, {"Content-Type": "application/json"})

    def file(self, revision: str, name: str) -> None:
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        if self.command == "GET":
            self.hub.asked.append((name, start))
            if self.fails(name):
                return
        if not self.knows(revision):
            return
        whole = self.hub.files[name]
        body = self.hub.served.get(name, whole)
        digest = hashlib.sha256(whole).hexdigest() if large(name) else git_sha1(whole)
        headers = {"ETag": f'"{digest}"', "X-Repo-Commit": self.hub.commit}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        self.answer(206 if start else 200, body[start:], headers, name)

    def modelscope_listing(self) -> object:
        folder = {"Path": "example", "Type": "tree", "Size": 0, "Sha256": "", "CommittedDate": 1}
        files = [
            {
                "Path": name,
                "Type": "blob",
                "Size": len(content),
                "Sha256": hashlib.sha256(content).hexdigest(),
                "CommittedDate": number + 1,
                "Revision": self.hub.commit if number == len(self.hub.files) - 1 else "b" * 40,
            }
            for number, (name, content) in enumerate(self.hub.files.items())
        ]
        return {"Code": 200, "Success": True, "Data": {"Files": [folder, *files]}}

    def hugging_face_listing(self) -> object:
        siblings = [
            {
                "rfilename": name,
                "size": len(content),
                "blobId": git_sha1(content),
                **({"lfs": lfs(content)} if large(name) else {}),
            }
            for name, content in self.hub.files.items()
        ]
        return {"id": REPOSITORY, "sha": self.hub.commit, "siblings": siblings}

    def knows(self, revision: str) -> bool:
        if revision in ("master", "main", self.hub.commit):
            return True
        self.refuse(404, {"X-Error-Code": "RevisionNotFound"})
        return False

    def fails(self, kind: str) -> bool:
        if self.hub.errors[kind] <= 0:
            return False
        self.hub.errors[kind] -= 1
        self.refuse(self.hub.error_status)
        return True

    def refuse(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.answer(status, b'{"Message": "no"}', headers or {})

    def answer(
        self, status: int, body: bytes, headers: dict[str, str], name: str | None = None
    ) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        half = len(body) // 2
        if name and self.hub.cuts[name] > 0:
            self.hub.cuts[name] -= 1
            self.wfile.write(body[:half])
            self.close_connection = True
            return
        try:
            if name and name == self.hub.stalls:
                self.wfile.write(body[:half])
                self.hub.stalled.set()
                self.hub.go_on.wait(60)
                body = body[half:]
            elif name:
                self.wfile.write(body[:half])
                self.hub.halfway(name)
                body = body[half:]
            self.wfile.write(body)
        except OSError:
            # The client has gone.
            self.close_connection = True


def large(name: str) -> bool:
    return name.endswith((".pt", ".model"))


def lfs(content: bytes) -> dict[str, object]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 1}


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@contextmanager
def loopback_hub(source: Path, patch: pytest.MonkeyPatch, home: Path) -> Iterator[LoopbackHub]:
    """The hub of a model, to which both SDKs are pointed, with short pauses.

    Args:
        source: the model's directory, as a hub has it.
        home: folder for the SDKs' own files.
    """
    files = {path.name: path.read_bytes() for path in sorted(source.iterdir())}
    card = b"---\nlicense: other\nlicense_name: model-license\n---\n# Model\n"
    files |= {"configuration.json": b"{}", "README.md": card, "example.mp3": b"not needed"}
    hub = LoopbackHub(files)
    server = Server(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    patch.setenv("NO_PROXY", "127.0.0.1")
    patch.setenv("MODELSCOPE_ENDPOINT", hub.url)
    patch.setenv("MODELSCOPE_HOME", str(home / "modelscope-home"))
    patch.setenv("MODELSCOPE_DOWNLOAD_MAX_RETRIES", "2")
    patch.setenv("MODELSCOPE_DOWNLOAD_RETRY_MAX_DELAY_SECONDS", "1")
    patch.setenv("HF_ENDPOINT", hub.url)
    patch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    # The SDKs read their variables when they are imported, which another test may have done.
    patch.setattr("modelscope_hub._download.DOWNLOAD_RETRY_TIMES", 2)
    patch.setattr("modelscope_hub._download.DOWNLOAD_RETRY_MAX_DELAY_SECONDS", 0.01)
    patch.setattr("modelscope_hub._download.DOWNLOAD_INTEGRITY_RETRY_BACKOFF", 0.01)
    patch.setattr("modelscope_hub._legacy_api.REPO_TREE_PAGE_RETRY_MAX_DELAY_SECONDS", 0.01)
    patch.setattr("pipelines.fetching.huggingface.PAUSE_SECONDS", 0.01)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield hub
    finally:
        hub.go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()
