"""Decisions as Kubernetes Events on the InferenceService, seen by ``kubectl describe``."""

import hashlib
from datetime import UTC, datetime
from typing import Any

GROUP = "events.k8s.io"
COMPONENT = "sensevoice-rollout"
"""The reporting controller, and the field manager of the rollout's patches."""

MAX_NOTE = 1024
"""Bytes, the API's limit."""


def event(metadata: dict[str, Any], reason: str, message: str, *, warning: bool) -> dict[str, Any]:
    """An Event (events.k8s.io/v1) about an InferenceService.

    Its name is a digest of what it tells and of the object's generation: told again after a crash it is
    the same event, told in a later rollout it is another one.
    """
    namespace, name, uid = (metadata[key] for key in ("namespace", "name", "uid"))
    told = "\0".join((uid, str(metadata["generation"]), reason, message))
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "Event",
        "metadata": {
            "namespace": namespace,
            "name": f"{name}.{hashlib.sha256(told.encode()).hexdigest()[:16]}",
        },
        "eventTime": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "type": "Warning" if warning else "Normal",
        "reason": reason,
        "action": "Rollout",
        "note": message.encode()[:MAX_NOTE].decode(errors="ignore"),
        "reportingController": COMPONENT,
        "reportingInstance": COMPONENT,
        "regarding": {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "namespace": namespace,
            "name": name,
            "uid": uid,
        },
    }
