"""A rollout's entry in ``spec.canary``: an overlay on the stable predictor, with its own Deployment."""

import hashlib
import math
from collections.abc import Collection
from typing import Any

from pipelines.rollout.cluster.errors import ClusterError
from pipelines.rollout.cluster.inference_service import REPLACES, Document, fingerprint, full_name
from pipelines.rollout.target import ServedModel

DEPLOYMENT = "-predictor"
"""End of a Deployment's and of its Service's name, which are a revision's name in Standard mode."""

MAX_LABEL = 63
"""Characters of a label's value, the API's limit."""


def deployment(document: Document, name: str) -> str:
    """Of a ``predictor.name``; empty: of the predictor that never had one."""
    service = document["metadata"]["name"]
    return f"{service}-{name}{DEPLOYMENT}" if name else f"{service}{DEPLOYMENT}"


def pod_label(deployment: str) -> str:
    """What KServe sets as the label ``app`` of a Deployment's pods."""
    return f"isvc.{deployment}"


def is_ours(name: str) -> bool:
    """A rollout gave that ``predictor.name``."""
    return len(name) == 9 and name[0] == "v" and all(c in "0123456789abcdef" for c in name[1:])


def split(spec: Document) -> tuple[Document | None, list[Document]]:
    """→ the rollout's entry, all others'."""
    entries = spec.get("canary") or []
    ours = next((each for each in entries if is_ours(each["predictor"]["name"])), None)
    return ours, [each for each in entries if each is not ours]


def new_entry(document: Document, percent: int, model: ServedModel) -> Document:
    """A candidate. Without an image it has the stable predictor's, which an overlay cannot take away.

    Raises:
        ClusterError: others' entries are in its way, or its Deployment's name would be too long.
    """
    stable = document["spec"]["predictor"]
    if others := split(document["spec"])[1]:
        names = ", ".join(each["predictor"]["name"] for each in others)
        raise ClusterError(
            f"{full_name(document)} has canaries that are not a rollout's ({names}), which share its "
            "users: take them out of spec.canary, and try again"
        )
    own = {
        "modelFormat": stable["model"]["modelFormat"],
        "name": stable["model"].get("name", ""),
        "storageUri": model.storage_uri,
    }
    return {
        "trafficPercent": percent,
        "predictor": {
            "name": new_name(document, model),
            "minReplicas": _replicas(stable, percent),
            "annotations": {REPLACES: _replaced(document)},
            "model": {**own, "image": model.image} if model.image else own,
        },
    }


def with_share(document: Document, entry: Document, percent: int) -> Document:
    """Its pods follow, unless someone else set their number."""
    stable, own = document["spec"]["predictor"], entry["predictor"]
    if own.get("minReplicas") == _replicas(stable, entry["trafficPercent"]):
        own = {**own, "minReplicas": _replicas(stable, percent)}
    return {"trafficPercent": percent, "predictor": own}


def promoted(entry: Document) -> Document:
    """What makes ``spec.predictor`` of it, so that its pods go on."""
    return {key: value for key, value in entry["predictor"].items() if key != "minReplicas"}


def new_name(document: Document, model: ServedModel) -> str:
    """A candidate's ``predictor.name``: ``v`` and eight hex digits of its model's digest, or of that one's
    digest where the name is in use or still in the status.

    Raises:
        ClusterError: the label of its pods would be too long.
    """
    spec, status = document["spec"], document.get("status", {})
    taken = {each["predictor"]["name"] for each in spec.get("canary") or []}
    taken |= {each["name"] for each in status.get("canaryStatuses") or []}
    taken.add(spec["predictor"].get("name", ""))
    name = _free(model.digest, taken)
    full = deployment(document, name)
    over = len(pod_label(full)) - MAX_LABEL
    if over > 0:
        raise ClusterError(
            f"{full_name(document)}: {full}, the name of its canary's Deployment, is too long for the "
            f"pods' label app ({MAX_LABEL} characters): the InferenceService's needs {over} less"
        )
    return name


def overlaid(below: Document, above: Document) -> Document:
    """As KServe overlays a canary on the stable predictor: values that are not empty win, key by key."""
    merged = dict(below)
    for key, value in above.items():
        if isinstance(value, dict):
            merged[key] = overlaid(merged.get(key) or {}, value)
        elif value not in (None, "", []):
            merged[key] = value
    return merged


def fingerprint_of(document: Document) -> str:
    """Of the specification as it is once the candidate is promoted, but for its name."""
    spec = document["spec"]
    entry, others = split(spec)
    written: dict[str, Any] = {**spec, "canary": others}
    predictor = spec["predictor"]
    if entry:
        own = entry["predictor"]
        if own.get("minReplicas") == _replicas(predictor, entry["trafficPercent"]):
            own = promoted(entry)
        predictor = overlaid(predictor, own)
        replaced = _replaced(document)
        if (own.get("annotations") or {}).get(REPLACES) != replaced:
            written["replaced"] = replaced
    return fingerprint({**written, "predictor": {**predictor, "name": ""}})


def _free(digest: str, taken: Collection[str]) -> str:
    name = f"v{digest[:8]}"
    return name if name not in taken else _free(hashlib.sha256(digest.encode()).hexdigest(), taken)


def _replicas(stable: Document, percent: int) -> int:
    """A canary's pods: its share of the stable predictor's, as KServe derives them, but never none."""
    least: int = stable.get("minReplicas", 1)
    return max(1, math.ceil(least * percent / 100))


def _replaced(document: Document) -> str:
    """What of the stable predictor an overlay hides, for people to read: an edit of it shows."""
    stable = document["spec"]["predictor"]
    served = [stable["model"].get(key) or "" for key in ("storageUri", "image")]
    return " ".join([deployment(document, stable.get("name", "")), *served]).strip()
