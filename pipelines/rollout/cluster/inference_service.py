"""An InferenceService in Knative mode: what its document tells of a rollout, and the patch that moves it.

The controllers' answers are those of KServe v0.20 with Knative 1.21. Three things in them mislead:

* KServe counts a generation as observed before Knative has acted on it, so the newest revision may still
  be the one before. Each change of the pods' template therefore carries the name of the revision that it
  replaces; the status is stale as long as that one is the newest.
* While the newest revision is not ready, the tag ``latest`` and the canary's share belong to the old one.
* KServe copies the InferenceService's annotations to the pods' template, where any change makes a new
  revision. Those of ``spec.predictor.annotations`` take precedence, so a constant there keeps the
  rollout's state out of the template.
"""

import hashlib
import json
from typing import Any

from pipelines.rollout.cluster.errors import ClusterError
from pipelines.rollout.target import Observed, Revision, ServedModel

Document = dict[str, Any]

MODE = "serving.kserve.io/deploymentMode"
TAG_ROUTING = "serving.kserve.io/enable-tag-routing"
STATE = "rollout.sensevoice/state"
REPLACES = "rollout.sensevoice/replaces"
"""Annotations: KServe's two, then ours, of the InferenceService and of the pods' template."""

STATE_MASK = "see the InferenceService"
"""Value of ``STATE`` in ``spec.predictor.annotations``."""

STANDARD_MODES = ("Standard", "RawDeployment")
FAILURES = ("PredictorConfigurationReady", "PredictorReady")
"""Conditions that tell why a revision will not become ready, the most telling first."""

UNSCHEDULED = ("nodes are available", "no nodes available to schedule pods")
"""What Kubernetes' scheduler says of a pod without a node. Knative counts its revision as failed at once,
and as ready after all once the cluster's autoscaler has brought a node, as it does for a GPU."""


def read(document: Document) -> Observed:
    """What a rollout sees in an InferenceService.

    A canary's share counts as settled once the former revision has the tag ``prev``: a service whose only
    revision ever was made with ``canaryTrafficPercent`` never settles.

    Raises:
        ClusterError: it cannot be rolled out: Standard mode, no tag routing, or no ``predictor.model``.
    """
    _check(document)
    metadata, predictor = document["metadata"], document["spec"]["predictor"]
    percent = predictor.get("canaryTrafficPercent")
    stable, candidate = _revisions(document)
    return Observed(
        version=metadata["resourceVersion"],
        fingerprint=_fingerprint(document["spec"]),
        settled=_settled(document, percent, candidate),
        storage_uri=predictor["model"].get("storageUri", ""),
        image=predictor["model"].get("image") or None,
        percent=percent,
        stable=stable,
        candidate=candidate,
        state=(metadata.get("annotations") or {}).get(STATE),
    )


def change(
    seen: Observed,
    template: dict[str, str],
    *,
    state: str,
    percent: int | None,
    model: ServedModel | None,
) -> Document:
    """The JSON merge patch (RFC 7386) of one decision, valid for the seen version alone.

    Args:
        template: ``spec.predictor.annotations`` of the seen version.
    """
    predictor: Document = {"canaryTrafficPercent": percent}
    annotations = {STATE: STATE_MASK}
    if model:
        predictor["model"] = {"storageUri": model.storage_uri, "image": model.image}
    newest = seen.candidate or seen.stable
    # A model that was there before gets a new revision too: at a share below 100 % of the revision that
    # serves, KServe moves the users back to the one before it.
    if newest and (model or template.get(STATE) != STATE_MASK):
        annotations[REPLACES] = newest.name
    predictor["annotations"] = annotations
    return {
        "metadata": {"resourceVersion": seen.version, "annotations": {STATE: state}},
        "spec": {"predictor": predictor},
    }


def _check(document: Document) -> None:
    metadata = document["metadata"]
    name = f"InferenceService {metadata['namespace']}/{metadata['name']}"
    annotations = metadata.get("annotations") or {}
    mode = annotations.get(MODE) or document.get("status", {}).get("deploymentMode")
    if mode in STANDARD_MODES:
        raise ClusterError(
            f"{name} has deployment mode {mode}, where KServe v0.20 starts the canaries of spec.canary "
            "and sends them no user: no share can be moved and measured. Use the annotation "
            f"{MODE}: Knative, or change spec.predictor.model.storageUri of the whole service at once"
        )
    if annotations.get(TAG_ROUTING) != "true":
        raise ClusterError(
            f'{name} lacks the annotation {TAG_ROUTING}: "true": without it a candidate has no URL of '
            "its own and cannot be judged before users reach it"
        )
    if "model" not in document["spec"]["predictor"]:
        raise ClusterError(
            f"{name} has no spec.predictor.model, whose storageUri a rollout changes"
        )


def _fingerprint(spec: Document) -> str:
    """Digest of the specification without the canary's share, sha256 in hex.

    Empty values do not count: the controllers, written in Go, add and drop them (``name: ''``,
    ``resources: {}``) whenever they write the object.
    """
    predictor = {k: v for k, v in spec["predictor"].items() if k != "canaryTrafficPercent"}
    written = _without_empty({**spec, "predictor": predictor})
    text = json.dumps(written, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _without_empty(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item not in (None, "", {}, [])}
    return [_without_empty(item) for item in value] if isinstance(value, list) else value


def _predictor_status(document: Document) -> Document:
    status: Document = document.get("status", {}).get("components", {}).get("predictor", {})
    return status


def _condition(document: Document, kind: str) -> Document:
    conditions = document.get("status", {}).get("conditions", [])
    return next((c for c in conditions if c["type"] == kind), {})


def _tagged(document: Document, tag: str) -> Document:
    traffic = _predictor_status(document).get("traffic", [])
    return next((target for target in traffic if target.get("tag") == tag), {})


def _revisions(document: Document) -> tuple[Revision | None, Revision | None]:
    """→ stable, candidate."""
    status = _predictor_status(document)
    created = status.get("latestCreatedRevision")
    latest, former = _tagged(document, "latest"), _tagged(document, "prev")
    stable = _revision(document, former or latest)
    if created is None or (stable and stable.name == created):
        return stable, None
    if latest.get("revisionName") == created:
        return stable, _revision(document, latest)
    reason = _failure(document, created)
    cause = "waiting" if any(text in reason for text in UNSCHEDULED) else "failure"
    return stable, Revision(created, ready=False, percent=0, url=None, **{cause: reason})


def _revision(document: Document, target: Document) -> Revision | None:
    """The revision behind a tag, with its share under every tag."""
    name = target.get("revisionName")
    if name is None:
        return None
    traffic = _predictor_status(document)["traffic"]
    share = sum(t.get("percent") or 0 for t in traffic if t.get("revisionName") == name)
    return Revision(name, ready=True, percent=share, url=target.get("url"))


def _failure(document: Document, created: str) -> str:
    """Why the newest revision is not ready, as the controllers tell it; empty while it starts."""
    model = document["status"].get("modelStatus", {})
    info = model.get("lastFailureInfo", {})
    blocked = model.get("transitionStatus") == "BlockedByFailedLoad"
    if blocked and info.get("modelRevisionName") == created:
        return f"{info.get('reason', '')}: {info.get('message', '')}"
    for kind in FAILURES:
        condition = _condition(document, kind)
        if condition.get("status") == "False":
            return f"{condition.get('reason', kind)}: {condition.get('message', '')}"
    return ""


def _settled(document: Document, percent: int | None, candidate: Revision | None) -> bool:
    metadata, predictor = document["metadata"], document["spec"]["predictor"]
    status = _predictor_status(document)
    created = status.get("latestCreatedRevision")
    if document.get("status", {}).get("observedGeneration") != metadata["generation"]:
        return False
    if created is None or created == (predictor.get("annotations") or {}).get(REPLACES):
        return False
    if candidate and not candidate.ready and not candidate.failure and percent != 0:
        return False
    if candidate and candidate.failure and not status.get("latestReadyRevision"):
        return True  # The first revision ever has failed: there is nothing to route to.
    if _condition(document, "PredictorRouteReady").get("status") != "True":
        return False
    share = 100 if percent is None else percent
    latest, former = _tagged(document, "latest"), _tagged(document, "prev")
    # Knative leaves out a share of nothing in some answers.
    return (latest.get("percent") or 0, former.get("percent") or 0) == (share, 100 - share)
