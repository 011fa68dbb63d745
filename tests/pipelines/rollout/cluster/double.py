"""A Kubernetes API over a real socket, with the KServe and Knative controllers' answers behind it."""

import copy
import functools
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import jsonschema

from tests.pipelines.rollout.cluster.standard import StandardControllers
from tests.pipelines.rollout.loopback import listening

Document = dict[str, Any]
NAMESPACE, NAME = "voice", "sensevoice"
PATH = f"/apis/serving.kserve.io/v1beta1/namespaces/{NAMESPACE}/inferenceservices/{NAME}"
EVENTS = f"/apis/events.k8s.io/v1/namespaces/{NAMESPACE}/events"


def closed(schema: Any) -> Any:
    """The schema with unknown fields failing, as the API server's strict validation has it."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(value) for key, value in schema.items()}
    fields = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    if fields and not schema.get("x-kubernetes-preserve-unknown-fields"):
        result.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        result.pop("type", None)
    return result


def merged(target: Any, patch: Any) -> Any:
    """JSON merge patch, RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def without_empty(value: Any) -> Any:
    """As Go's ``omitempty`` leaves it."""
    if not isinstance(value, dict):
        return value
    kept = {key: without_empty(item) for key, item in value.items()}
    return {key: item for key, item in kept.items() if item not in (None, "", {}, [])}


@dataclass
class Fault:
    """One answer instead of the real one.

    Attributes:
        method: of the request it befalls, the next such.
        status: None closes the connection without an answer.
        applied: the request is carried out all the same.
        skip: how many such requests pass first.
        body: sent instead of a Kubernetes ``Status``.
        silent: seconds until the connection is closed, or the answer comes.
    """

    method: str
    status: int | None
    message: str = "injected"
    headers: dict[str, str] = field(default_factory=dict)
    applied: bool = False
    skip: int = 0
    body: bytes | None = None
    silent: float = 0.0


class Controllers:
    """KServe and Knative over one InferenceService: each ``step`` is one reconciliation of either.

    The order of what they show is the recorded one: nothing at first; then, here always, the generation as
    observed while Knative's part is still the former one; then a new revision that is not ready, with
    ``latest`` at the old one; then the revision ready, and the traffic moved.
    """

    def __init__(self, broken: set[str], url: Callable[[str], str]) -> None:
        self.broken = broken
        self.url = url
        self.template = ""
        self.generations: list[Document] = []
        self.models: dict[str, str] = {}
        self.starting = False

    def step(self, document: Document) -> bool:
        """Change the document's status; False when there is nothing left to do."""
        status = document.setdefault("status", {"deploymentMode": "Knative"})
        predictor = status.setdefault("components", {}).setdefault("predictor", {})
        before = copy.deepcopy(status)
        status["observedGeneration"] = self._observed(document)
        if status != before:
            return True
        if (template := self._template(document)) != self.template:
            self.template, self.starting = template, True
            created = f"{NAME}-predictor-{len(self.models) + 1:05d}"
            self.models[created] = document["spec"]["predictor"]["model"].get("storageUri", "")
            predictor["latestCreatedRevision"] = created
            self._conditions(status, "Unknown", "Deploying", "")
            return True
        if self.starting:
            self.starting = False
            if self.models[predictor["latestCreatedRevision"]] in self.broken:
                text = f'Revision "{predictor["latestCreatedRevision"]}" failed with message: no nodes.'
                self._conditions(status, "False", "RevisionFailed", text)
            else:
                predictor["latestReadyRevision"] = predictor["latestCreatedRevision"]
                self._conditions(status, "True", "", "")
        self._route(document, predictor)
        return bool(status != before)

    def _observed(self, document: Document) -> int:
        """Of the Knative Service: it counts changes of the template, by a label too, and of the share."""
        share = document["spec"]["predictor"].get("canaryTrafficPercent")
        made = {"share": share, "template": self._template(document)}
        if not self.generations or self.generations[-1] != made:
            self.generations.append(made)
        return len(self.generations)

    def _template(self, document: Document) -> str:
        """What a Knative revision is made of; KServe unites the annotations, the predictor's win."""
        spec = dict(document["spec"]["predictor"])
        spec.pop("canaryTrafficPercent", None)
        own = spec.pop("annotations", {})
        annotations = {**document["metadata"].get("annotations", {}), **own}
        labels = document["metadata"].get("labels", {})
        text = json.dumps([annotations, labels, without_empty(spec)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def _conditions(self, status: Document, value: str, reason: str, message: str) -> None:
        told = {"status": value, "reason": reason, "message": message}
        kinds = ("PredictorConfigurationReady", "PredictorReady", "Ready")
        status["conditions"] = [{"type": kind, **told} for kind in kinds]
        routed = status["components"]["predictor"].get("latestReadyRevision")
        told = {"status": "True"} if routed else {"status": "False", "reason": "RevisionMissing"}
        status["conditions"].append({"type": "PredictorRouteReady", **told})

    def _route(self, document: Document, predictor: Document) -> None:
        """The shares that KServe asks of Knative, and what it then holds for rolled out."""
        ready, created = (predictor.get(f"latest{kind}Revision") for kind in ("Ready", "Created"))
        if ready is None:
            return
        percent = document["spec"]["predictor"].get("canaryTrafficPercent")
        rolled, former = (
            predictor.get(key) for key in ("latestRolledoutRevision", "previousRolledoutRevision")
        )
        share = 100 if percent is None or rolled is None else percent
        predictor["traffic"] = [self._entry(True, share, ready, "latest")]
        if share < 100:
            predictor["traffic"].append(self._entry(False, 100 - share, rolled, "prev"))
        if rolled != ready and share == 100:
            predictor["latestRolledoutRevision"] = ready
            if rolled:
                predictor["previousRolledoutRevision"] = rolled
        if rolled == ready == created and share < 100 and former:
            # Split over one revision: a release with all the traffic is taken back.
            predictor["latestRolledoutRevision"] = former

    def _entry(self, latest: bool, percent: int, revision: str, tag: str) -> Document:
        return {
            "latestRevision": latest,
            "percent": percent,
            "revisionName": revision,
            "tag": tag,
            "url": self.url(tag),
        }


class KubernetesDouble:
    """One InferenceService and its Events, behind ``url``.

    Attributes:
        faults: taken by the requests they name, in their order.
        disturb: called with the method and the body of each request; a fault befalls it.
        requests: ``METHOD path`` of all that came.
        webhook: called with an InferenceService to be written; a sentence refuses it.
        paused: the controllers do nothing; otherwise they make one step before each answer to a GET.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.faults: list[Fault] = []
        self.disturb: Callable[[str, Any], Fault | None] = lambda method, body: None
        self.requests: list[str] = []
        self.queries: list[str] = []
        self.events: dict[str, Document] = {}
        self.webhook: Callable[[Document], str | None] = lambda document: None
        self.paused = False
        self.broken: set[str] = set()
        self.tag_url: Callable[[str], str] = lambda tag: f"http://{tag}-{NAME}-predictor.example"
        self.controllers: Controllers | StandardControllers = Controllers(
            self.broken, lambda tag: self.tag_url(tag)
        )
        self.version = 800
        self.validator = _validator()
        self.document: Document = {}
        # Looked up with each request: tests put another in its place.
        self.server = listening(lambda handler: self.answer(handler), 0.05)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def create(self, storage_uri: str, annotations: Document | None = None) -> None:
        """A service that serves its first revision."""
        base = {
            "serving.kserve.io/deploymentMode": "Knative",
            "serving.kserve.io/enable-tag-routing": "true",
        }
        model = {"modelFormat": {"name": "sensevoice"}, "storageUri": storage_uri}
        self.document = {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {
                "namespace": NAMESPACE,
                "name": NAME,
                "uid": "0b9d3a1e",
                "generation": 1,
                "annotations": base if annotations is None else annotations,
            },
            "spec": {"predictor": {"minReplicas": 1, "maxReplicas": 2, "model": model}},
        }
        _default(self.document)
        self._touch()
        while self.controllers.step(self.document):
            self._touch()

    def edit(self, change: Callable[[Document], None]) -> None:
        """Someone else's edit."""
        with self.lock:
            spec = copy.deepcopy(self.document["spec"])
            change(self.document)
            self.document["metadata"]["generation"] += spec != self.document["spec"]
            self._touch()

    def _touch(self) -> None:
        self.version += 1
        self.document["metadata"]["resourceVersion"] = str(self.version)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        size = int(handler.headers.get("Content-Length") or 0)
        body = json.loads(handler.rfile.read(size)) if size else None
        method, (path, _, query) = handler.command, handler.path.partition("?")
        with self.lock:
            self.requests.append(f"{method} {path}")
            self.queries.append(query)
            fault = self._fault(method) or self.disturb(method, body)
            if fault is None or fault.applied:
                status, answer = self._carry_out(method, path, handler.headers, body)
            if fault:
                status, answer = fault.status, _status(fault.status, fault.message)
        if fault and fault.silent:
            time.sleep(fault.silent)
        if status is None:
            handler.close_connection = True
            return
        payload = json.dumps(answer).encode()
        if fault and fault.body is not None:
            payload = fault.body
        handler.send_response(status)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(payload))}
        for key, value in {**headers, **(fault.headers if fault else {})}.items():
            handler.send_header(key, value)
        handler.end_headers()
        handler.wfile.write(payload)

    def _fault(self, method: str) -> Fault | None:
        fault = next((f for f in self.faults if f.method == method), None)
        if fault and fault.skip:
            fault.skip -= 1
            return None
        if fault:
            self.faults.remove(fault)
        return fault

    def _carry_out(self, method: str, path: str, headers: Any, body: Any) -> tuple[int, Document]:
        if (method, path) == ("GET", PATH):
            if not self.paused and self.controllers.step(self.document):
                self._touch()
            return 200, copy.deepcopy(self.document)
        if (method, path) == ("PATCH", PATH):
            if headers["Content-Type"] != "application/merge-patch+json":
                return 415, _status(415, f"unsupported media type {headers['Content-Type']}")
            return self._patch(body)
        if (method, path) == ("POST", EVENTS):
            name = body["metadata"]["name"]
            if name in self.events:
                return 409, _status(409, f'events "{name}" already exists')
            self.events[name] = body
            return 201, body
        return 404, _status(404, f"{path} not found")

    def _patch(self, patch: Document) -> tuple[int, Document]:
        wanted = patch.get("metadata", {}).get("resourceVersion")
        if wanted not in (None, self.document["metadata"]["resourceVersion"]):
            text = "the object has been modified; please apply your changes to the latest version"
            return 409, _status(409, text)
        new = merged(self.document, patch)
        _default(new)
        if self.validator and (error := jsonschema.exceptions.best_match(self.errors(new))):
            return 422, _status(422, f"{error.json_path}: {error.message}")
        if refusal := self.webhook(new):
            return 400, _status(400, f'admission webhook "kserve" denied the request: {refusal}')
        if new != self.document:
            new["metadata"]["generation"] += new["spec"] != self.document["spec"]
            self.document = new
            self._touch()
        return 200, copy.deepcopy(self.document)

    def errors(self, document: Document) -> Iterator[jsonschema.ValidationError]:
        assert self.validator is not None
        errors: Iterator[jsonschema.ValidationError] = self.validator.iter_errors(document)
        return errors


def _default(document: Document) -> None:
    """What KServe's mutating webhook adds."""
    model = document["spec"]["predictor"]["model"]
    for key, value in {"name": "", "protocolVersion": "v2", "resources": {}}.items():
        model.setdefault(key, value)
    for entry in document["spec"].get("canary", []):
        entry["predictor"]["model"].setdefault("resources", {})


def _status(code: int | None, message: str) -> Document:
    return {"kind": "Status", "apiVersion": "v1", "code": code, "message": message}


@functools.cache
def _validator() -> Any:
    folder = os.environ.get("CRD_SCHEMAS")
    if not folder:
        return None
    file = Path(folder) / "serving.kserve.io" / "inferenceservice_v1beta1.json"
    schema = closed(json.loads(file.read_text()))
    schema["properties"]["metadata"].pop("additionalProperties", None)
    return jsonschema.Draft202012Validator(schema)
