"""What an InferenceService's document has in both deployment modes: annotations, conditions, a digest."""

import hashlib
import json
from typing import Any, Protocol

from pipelines.rollout.cluster.errors import ClusterError
from pipelines.rollout.target import Observed, ServedModel

Document = dict[str, Any]

MODE = "serving.kserve.io/deploymentMode"
STATE = "rollout.sensevoice/state"
REPLACES = "rollout.sensevoice/replaces"
"""Annotations: KServe's, then ours. KServe copies the InferenceService's, such as ``STATE``, to the pods'
template, where any change replaces the pods. Those of ``spec.predictor.annotations`` take precedence, so
``STATE_MASK`` there keeps the rollout's state out of the template."""

STATE_MASK = "see the InferenceService"
STANDARD_MODES = ("Standard", "RawDeployment")
"""The mode's name, and its deprecated alias."""


class Mode(Protocol):
    """How a rollout is seen and moved in one deployment mode; the modules ``knative`` and ``standard``."""

    def read(self, document: Document) -> Observed:
        """What a rollout sees in an InferenceService.

        Raises:
            ClusterError: it cannot be rolled out; says what it lacks.
        """

    def change(
        self,
        document: Document,
        seen: Observed,
        *,
        state: str,
        percent: int | None,
        model: ServedModel | None,
    ) -> Document:
        """The JSON merge patch (RFC 7386) of one decision, valid for the seen version alone.

        Args:
            document: the seen version.
            state, percent, model: see :meth:`pipelines.rollout.target.Target.write`.

        Raises:
            ClusterError: the mode cannot express it.
        """


def full_name(document: Document) -> str:
    metadata = document["metadata"]
    return f"InferenceService {metadata['namespace']}/{metadata['name']}"


def is_standard(document: Document) -> bool:
    annotations = document["metadata"].get("annotations") or {}
    mode = annotations.get(MODE) or document.get("status", {}).get("deploymentMode")
    return mode in STANDARD_MODES


def check_model(document: Document) -> None:
    """Raises: ClusterError: it has no ``spec.predictor.model``."""
    if "model" not in document["spec"]["predictor"]:
        raise ClusterError(
            f"{full_name(document)} has no spec.predictor.model, whose storageUri a rollout changes"
        )


def state_of(document: Document) -> str | None:
    """What a rollout last wrote down; None where none did."""
    annotations: dict[str, str] = document["metadata"].get("annotations") or {}
    return annotations.get(STATE)


def condition(document: Document, kind: str) -> Document:
    """Empty where the status has none of that kind."""
    conditions = document.get("status", {}).get("conditions", [])
    return next((c for c in conditions if c["type"] == kind), {})


def fingerprint(spec: Document) -> str:
    """Digest of a specification, sha256 in hex.

    Empty values do not count: the controllers, written in Go, add and drop them (``name: ''``,
    ``resources: {}``) whenever they write the object.
    """
    written = _without_empty(spec)
    text = json.dumps(written, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _without_empty(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item not in (None, "", {}, [])}
    return [_without_empty(item) for item in value] if isinstance(value, list) else value
