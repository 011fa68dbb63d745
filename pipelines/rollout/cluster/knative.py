"""An InferenceService in Knative mode: what its document tells of a rollout, and the patch that moves it.

The controllers' answers are those of KServe v0.20 with Knative 1.21. Three things in them mislead:

* ``status.observedGeneration`` counts the Knative Service's generations, not the InferenceService's
  (kserve/kserve#6081), so it does not tell what was acted on. Each change of the pods' template therefore
  carries the name of the revision that it replaces; the status is stale as long as that one is the newest.
* While the newest revision is not ready, the tag ``latest`` and the canary's share belong to the old one.
* Any change of the pods' template makes a new revision, and the InferenceService's annotations are copied
  there: see ``STATE``.
"""

from pipelines.rollout.cluster.errors import ClusterError
from pipelines.rollout.cluster.inference_service import (
    REPLACES,
    STATE,
    STATE_MASK,
    Document,
    check_model,
    condition,
    fingerprint,
    full_name,
    state_of,
)
from pipelines.rollout.target import Observed, Revision, ServedModel

TAG_ROUTING = "serving.kserve.io/enable-tag-routing"
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
        ClusterError: it cannot be rolled out: no tag routing, or no ``predictor.model``.
    """
    _check(document)
    predictor = document["spec"]["predictor"]
    percent = predictor.get("canaryTrafficPercent")
    stable, candidate = _revisions(document)
    return Observed(
        version=document["metadata"]["resourceVersion"],
        fingerprint=_fingerprint(document["spec"]),
        settled=_settled(document, percent, candidate),
        storage_uri=predictor["model"].get("storageUri", ""),
        image=predictor["model"].get("image") or None,
        percent=percent,
        stable=stable,
        candidate=candidate,
        state=state_of(document),
    )


def change(
    document: Document,
    seen: Observed,
    *,
    state: str,
    percent: int | None,
    model: ServedModel | None,
) -> Document:
    """The patch of one decision: model, share and state. See :class:`.inference_service.Mode`."""
    template = document["spec"]["predictor"].get("annotations") or {}
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
    annotations = document["metadata"].get("annotations") or {}
    if annotations.get(TAG_ROUTING) != "true":
        raise ClusterError(
            f'{full_name(document)} lacks the annotation {TAG_ROUTING}: "true": without it a candidate has '
            "no URL of its own and cannot be judged before users reach it"
        )
    check_model(document)


def _fingerprint(spec: Document) -> str:
    """Of all but the canary's share."""
    predictor = {k: v for k, v in spec["predictor"].items() if k != "canaryTrafficPercent"}
    return fingerprint({**spec, "predictor": predictor})


def _predictor_status(document: Document) -> Document:
    status: Document = document.get("status", {}).get("components", {}).get("predictor", {})
    return status


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
        told = condition(document, kind)
        if told.get("status") == "False":
            return f"{told.get('reason', kind)}: {told.get('message', '')}"
    return ""


def _settled(document: Document, percent: int | None, candidate: Revision | None) -> bool:
    predictor, status = document["spec"]["predictor"], _predictor_status(document)
    created = status.get("latestCreatedRevision")
    if created is None or created == (predictor.get("annotations") or {}).get(REPLACES):
        return False
    if candidate and not candidate.ready and not candidate.failure and percent != 0:
        return False
    if candidate and candidate.failure and not status.get("latestReadyRevision"):
        return True  # The first revision ever has failed: there is nothing to route to.
    if condition(document, "PredictorRouteReady").get("status") != "True":
        return False
    share = 100 if percent is None else percent
    latest, former = _tagged(document, "latest"), _tagged(document, "prev")
    # Knative leaves out a share of nothing in some answers.
    return (latest.get("percent") or 0, former.get("percent") or 0) == (share, 100 - share)
