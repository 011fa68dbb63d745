"""An InferenceService in Standard mode: what its document tells of a rollout, and the patch that moves it.

The stable revision is the Deployment of ``spec.predictor``, the candidate that of our entry in
``spec.canary``. It is promoted by its name and model in ``spec.predictor`` and no entry any more: the same
pods go on. Four things in KServe's answers mislead:

* ``status.observedGeneration`` counts the Deployment's generations (kserve/kserve#6081). That KServe has
  acted is told by ``status.canaryStatuses``, which repeats the entries' names and shares; each candidate
  has a name of its own, so that they never speak of one before it.
* The share there is the one that was asked for. KServe v0.20 starts canaries and moves no user.
* A canary's pods are derived from its share, none at 0 %, so each entry names its ``minReplicas``.
* Annotations of the InferenceService are copied to the pods: see ``STATE``. The first write to a service
  without the mask replaces the stable pods, once, as any change of the service does.
"""

from urllib.parse import urlsplit

from pipelines.rollout.cluster import canary
from pipelines.rollout.cluster.errors import ClusterError
from pipelines.rollout.cluster.inference_service import (
    STATE,
    STATE_MASK,
    Document,
    check_model,
    condition,
    full_name,
    state_of,
)
from pipelines.rollout.state import read_state
from pipelines.rollout.target import Observed, Revision, ServedModel

CAVEAT = (
    "in Standard mode KServe moves users to a canary by weights of an HTTPRoute alone "
    "(kserve/kserve#5912, not in v0.20), and only while the stable predictor is ready: see that the "
    "controller has them and that users come through its gateway"
)

FAILED = ("BlockedByFailedLoad", "InvalidSpec")
"""Values of ``transitionStatus``."""


def read(document: Document) -> Observed:
    """What a rollout sees in an InferenceService. Others' entries in ``spec.canary`` are a part of the
    specification like any other.

    Raises:
        ClusterError: it has no ``predictor.model``.
    """
    check_model(document)
    spec = document["spec"]
    entry, _ = canary.split(spec)
    newest = canary.overlaid(spec["predictor"], entry["predictor"] if entry else {})
    stable, candidate = _revisions(document, entry)
    return Observed(
        version=document["metadata"]["resourceVersion"],
        fingerprint=canary.fingerprint_of(document),
        settled=_settled(document),
        storage_uri=newest["model"].get("storageUri", ""),
        image=newest["model"].get("image") or None,
        percent=entry["trafficPercent"] if entry else None,
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
    """The patch of one decision; see :class:`.inference_service.Mode`.

    A rejected candidate loses its entry, and so its pods; until then its share of 0 % keeps them.

    Raises:
        ClusterError: see :func:`.canary.new_entry`; or there is no canary whose share could be set.
    """
    entry, others = canary.split(document["spec"])
    predictor: Document = {"annotations": {STATE: STATE_MASK}}
    if percent is None:
        if model:
            predictor["name"] = canary.new_name(document, model)
            predictor["model"] = {"storageUri": model.storage_uri, "image": model.image}
        elif entry:
            predictor = canary.overlaid(predictor, canary.promoted(entry))
        entry = None
    elif model:
        entry = canary.new_entry(document, percent, model)
    elif entry is None:
        raise ClusterError(
            f"{full_name(document)} has no canary whose share could be set to {percent} %: run the "
            "rollout again"
        )
    elif _rejected(document, state):
        entry = None
    elif percent != entry["trafficPercent"]:
        entry = canary.with_share(document, entry, percent)
    return {
        "metadata": {"resourceVersion": seen.version, "annotations": {STATE: state}},
        # A merge patch replaces the whole list.
        "spec": {"predictor": predictor, "canary": [*others, *([entry] if entry else [])] or None},
    }


def _rejected(document: Document, state: str) -> bool:
    written = read_state(full_name(document), state)
    return written is not None and written.phase == "rejected"


def _status(document: Document) -> Document:
    status: Document = document.get("status", {})
    return status


def _statuses(document: Document) -> list[Document]:
    return _status(document).get("canaryStatuses") or []


def _settled(document: Document) -> bool:
    asked = [
        (each["predictor"]["name"], each["trafficPercent"])
        for each in document["spec"].get("canary") or []
    ]
    told = [(each["name"], each["trafficPercent"]) for each in _statuses(document)]
    if sorted(asked) != sorted(told):
        return False
    if _serves(document) or canary.is_ours(document["spec"]["predictor"].get("name", "")):
        return True
    # The first model ever may still be starting, unless it is told that it cannot.
    return bool(_failure(_status(document).get("modelStatus")))


def _is_ready(document: Document) -> bool:
    return condition(document, "PredictorReady").get("status") == "True"


def _serves(document: Document) -> bool:
    """The stable predictor does or did."""
    model = _status(document).get("modelStatus") or {}
    loaded = (model.get("states") or {}).get("activeModelState") == "Loaded"
    return loaded or _is_ready(document)


def _revisions(
    document: Document, entry: Document | None
) -> tuple[Revision | None, Revision | None]:
    """→ stable, candidate."""
    name = canary.deployment(document, document["spec"]["predictor"].get("name", ""))
    percent = 100 - sum(each["trafficPercent"] for each in _statuses(document))
    ready, url = _is_ready(document), _url(document, name)
    # Not a failure: the status may speak of the pods before, so only time makes it final.
    waiting = "" if ready else _why_not(document)
    candidate = _candidate(document, entry) if entry else None
    if _serves(document):
        return Revision(name, ready, percent, url, waiting=waiting), candidate
    return None, candidate or Revision(name, ready, percent=0, url=url, waiting=waiting)


def _candidate(document: Document, entry: Document) -> Revision:
    own = entry["predictor"]["name"]
    name = canary.deployment(document, own)
    told = next((each for each in _statuses(document) if each["name"] == own), None)
    if told is None:
        return Revision(name, ready=False, percent=0, url=None)
    failure = "" if told["ready"] else _failure(told.get("modelStatus"))
    url, percent = _url(document, name), told["trafficPercent"]
    return Revision(name, told["ready"], percent, url, failure=failure, caveat=CAVEAT)


def _failure(model: Document | None) -> str:
    """Why a model is not served, as KServe tells it; empty while it may be."""
    if not model or model.get("transitionStatus") not in FAILED:
        return ""
    info = model.get("lastFailureInfo") or {}
    return f"{info.get('reason', 'ModelLoadFailed')}: {info.get('message', '')}"


def _why_not(document: Document) -> str:
    told = condition(document, "PredictorReady")
    reason = f"{told.get('reason', 'PredictorReady')}: {told.get('message', '')}"
    return _failure(_status(document).get("modelStatus")) or reason


def _url(document: Document, service: str) -> str:
    """KServe's Services lead from port 80 to the container's. Headless ones (``serviceClusterIPNone``) have
    the pods' own addresses and ports; KServe tells the port in ``status.address.url`` then."""
    address = _status(document).get("address") or {}
    port = urlsplit(address.get("url", "")).port
    host = f"{service}.{document['metadata']['namespace']}.svc.cluster.local"
    return f"http://{host}:{port}" if port else f"http://{host}"
