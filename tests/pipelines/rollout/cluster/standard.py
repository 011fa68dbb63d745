"""KServe's controller in Standard mode over one InferenceService."""

import copy
import json
import math
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]
SCALING = ("minReplicas", "maxReplicas", "scaleTarget", "scaleMetric", "autoScaling", "name")
"""Fields of a predictor that are not in the pods' template."""


@dataclass
class Deployment:
    """
    Attributes:
        template: what its pods are to be made of.
        uri: of the model in it.
        serving: of the model that its pods serve; None: none is available.
        starts: times that all its pods were made anew.
        generation: changes of its specification.
    """

    template: str = ""
    uri: str = ""
    serving: str | None = None
    starts: int = 0
    generation: int = 0
    replicas: int = -1

    def apply(self, template: str, uri: str, replicas: int) -> None:
        changed = template != self.template
        self.generation += changed or replicas != self.replicas
        self.starts += changed
        self.template, self.uri, self.replicas = template, uri, replicas

    def run(self, broken: set[str]) -> None:
        """Old pods serve until new ones can."""
        if not self.replicas:
            self.serving = None
        elif self.uri not in broken:
            self.serving = self.uri


class StandardControllers:
    """Each ``step`` is one reconciliation, the first after a change a look at nothing new.

    Attributes:
        deployments: by name; each has a Service of that name.
        moves: the controller sets weights of the HTTPRoute, as v0.20 does not.
        tells: the status says why a model is not loaded.
        port: in ``status.address.url``, as for headless Services.
        weights: the HTTPRoute's, by Service.
    """

    def __init__(self, broken: set[str]) -> None:
        self.broken = broken
        self.deployments: dict[str, Deployment] = {}
        self.moves = True
        self.tells = True
        self.port = 0
        self.weights: dict[str, int] = {}
        self._seen = ""

    def step(self, document: Document) -> bool:
        """Change the document's status; False when there is nothing left to do."""
        made = json.dumps([document["spec"], document["metadata"]["annotations"]], sort_keys=True)
        if made != self._seen:
            self._seen = made
            return True
        before = copy.deepcopy([document.get("status"), self.weights, self.deployments])
        for deployment in self.deployments.values():
            deployment.run(self.broken)
        self._reconcile(document)
        return [document["status"], self.weights, self.deployments] != before

    @property
    def users(self) -> dict[str, int]:
        """Storage URI → percent of the users, of Services with pods."""
        shares: dict[str, int] = {}
        for name, weight in self.weights.items():
            model = self.deployments[name].serving if name in self.deployments else None
            shares[model or ""] = shares.get(model or "", 0) + weight
        return {uri: share for uri, share in shares.items() if share}

    def _reconcile(self, document: Document) -> None:
        spec, status = document["spec"], document.setdefault("status", {})
        status["deploymentMode"] = "Standard"
        stable, wanted = spec["predictor"], {}
        for entry in spec.get("canary", []):
            wanted[
                self._apply(document, overlaid(stable, entry["predictor"]), replicas(spec, entry))
            ] = entry
        own = self._apply(document, stable, stable["minReplicas"])
        self.deployments = {k: v for k, v in self.deployments.items() if k in {own, *wanted}}
        if wanted:
            status["canaryStatuses"] = [self._canary(name, entry) for name, entry in wanted.items()]
        else:
            status.pop("canaryStatuses", None)
        self._propagate(status, self.deployments[own])
        address = f"http://{document['metadata']['name']}-predictor.voice.svc.cluster.local"
        if self.deployments[own].serving:
            status["address"] = {"url": f"{address}:{self.port}" if self.port else address}
            self._route(own, status.get("canaryStatuses", []), list(wanted))

    def _apply(self, document: Document, predictor: Document, replicas: int) -> str:
        """→ the Deployment's name."""
        service, name = document["metadata"]["name"], predictor.get("name")
        full = f"{service}-{name}-predictor" if name else f"{service}-predictor"
        made = {k: v for k, v in predictor.items() if k not in SCALING}
        made["annotations"] = {
            **document["metadata"].get("annotations", {}),
            **made.get("annotations", {}),
        }
        found = self.deployments.setdefault(full, Deployment())
        found.apply(json.dumps(made, sort_keys=True), predictor["model"]["storageUri"], replicas)
        return full

    def _canary(self, name: str, entry: Document) -> Document:
        found = self.deployments[name]
        told = {
            "name": entry["predictor"]["name"],
            "ready": found.serving is not None,
            "trafficPercent": entry["trafficPercent"],
        }
        if self.tells and found.uri in self.broken and not found.serving:
            told["modelStatus"] = failed()
        return told

    def _propagate(self, status: Document, stable: Deployment) -> None:
        status["observedGeneration"] = stable.generation
        told = {"status": "False", "reason": "MinimumReplicasUnavailable", "message": "no pods"}
        if stable.serving:
            told = {"status": "True"}
            status["modelStatus"] = {
                "transitionStatus": "UpToDate",
                "states": {"activeModelState": "Loaded", "targetModelState": "Loaded"},
            }
        else:
            told_why = self.tells and stable.uri in self.broken
            why = failed() if told_why else {"transitionStatus": "InProgress"}
            status.setdefault("modelStatus", {}).update(why)
        status["conditions"] = [
            {"type": kind, **told} for kind in ("IngressReady", "PredictorReady", "Ready")
        ]

    def _route(self, stable: str, canaries: list[Document], names: list[str]) -> None:
        """Canaries that are not ready get nothing; without the stable one, nothing is changed."""
        self.weights = {}
        if self.moves:
            for name, told in zip(names, canaries, strict=True):
                self.weights[name] = told["trafficPercent"] if told["ready"] else 0
        self.weights[stable] = 100 - sum(self.weights.values())


def failed() -> Document:
    info = {"reason": "ModelLoadFailed", "message": "no such file", "exitCode": 1}
    return {"transitionStatus": "BlockedByFailedLoad", "lastFailureInfo": info}


def replicas(spec: Document, entry: Document) -> int:
    """A canary's: its own, or its share of the stable predictor's."""
    share = math.ceil(spec["predictor"]["minReplicas"] * entry["trafficPercent"] / 100)
    found: int = entry["predictor"].get("minReplicas", share)
    return found


def overlaid(stable: Any, own: Any) -> Any:
    """Values that are not empty win."""
    if not isinstance(own, dict):
        return own or stable
    below = stable or {}
    return {key: overlaid(below.get(key), own.get(key)) for key in {*below, *own}}


def refusal(document: Document) -> str | None:
    """What KServe's validating webhook says of ``spec.canary``."""
    entries = document["spec"].get("canary", [])
    names = [entry["predictor"].get("name") for entry in entries]
    if len({*names, document["spec"]["predictor"].get("name")}) != len(names) + 1:
        return "canary predictor names must be given and unique"
    if sum(entry["trafficPercent"] for entry in entries) > 100:
        return "canary traffic percents sum to more than 100"
    scaling = {"maxReplicas", "scaleTarget", "scaleMetric", "autoScaling"}
    if any(scaling & entry["predictor"].keys() for entry in entries):
        return "canaries do not scale"
    return None
