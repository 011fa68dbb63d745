"""Move the users to a registered version, or back to the one before."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.rollout import rollout as core
from pipelines.rollout.ending import terminable
from pipelines.rollout.plan import make_plan
from pipelines.rollout.replay import read_clips
from pipelines.rollout.rollout import Outcome
from pipelines.rollout.state import Candidate
from pipelines.rollout.target import Target, TrafficMeter
from pipelines.tracking.registry import ModelRegistry

LOCAL = "local://"

_KSERVE = re.compile(r"kserve://([a-z0-9-]+)/([a-z0-9-]+)")

TOKEN = "PROMETHEUS_TOKEN"  # noqa: S105  # the variable's name
"""Environment variable with a bearer token, for a Prometheus that asks for one."""


class InvalidService(ValueError):
    """Says which forms there are."""


class NoSuchVersion(LookupError):
    """The registry does not have what is to be rolled out; says where it was looked for."""


def connect(service: str, prometheus: str) -> tuple[Target, TrafficMeter]:
    """What is rolled out on, and what counts its users' requests.

    Args:
        service: ``kserve://namespace/name``, an InferenceService of the cluster that this runs in or that
            the kubeconfig names; or ``local:///directory``, a local service (``pipelines.rollout.local``),
            which counts its requests itself.
        prometheus: URL of the Prometheus server that scrapes the cluster's predictors.

    Raises:
        InvalidService: neither form.
        ClusterError, Unavailable: the cluster or the local service cannot be reached.
    """
    if named := _KSERVE.fullmatch(service):
        # The Kubernetes client takes a second to import.
        from pipelines.rollout.cluster.prometheus import PrometheusMeter
        from pipelines.rollout.cluster.target import connect as connect_cluster

        meter = PrometheusMeter(prometheus, named[1], token=os.environ.get(TOKEN))
        return connect_cluster(*named.groups()), meter
    if service.startswith(LOCAL):
        from pipelines.rollout.local.target import connect as connect_local

        target = connect_local(Path(service.removeprefix(LOCAL)))
        return target, target
    raise InvalidService(
        f"service {service!r} is neither kserve://namespace/name nor {LOCAL}/directory"
    )


def roll_out(
    version: str,
    service: str,
    *,
    prometheus: str,
    plan: Mapping[str, Any],
    tracking_uri: str,
    manifest: Path,
    decisions: Path,
) -> Outcome:
    """Step by step, each with its bounds; see :func:`pipelines.rollout.rollout.roll_out`.

    Args:
        version: of the registry.
        service, prometheus: see :func:`connect`.
        plan: changes to the plan.
        manifest: of the data set whose clips are replayed.
        decisions: JSON lines are appended here, a decision each.

    Raises:
        NoSuchVersion, InvalidPlan, InvalidService: before anything is touched.
        See also :func:`pipelines.rollout.rollout.roll_out`.

    SIGTERM ends it as an error does: the candidate has no user, and ``SystemExit`` is raised.
    """
    made = make_plan(plan)
    registry = ModelRegistry(tracking_uri)
    candidate = _candidate(registry, version, tracking_uri)
    target, meter = connect(service, prometheus)
    clips = read_clips(manifest, made.replay.clips)
    with terminable():
        return core.roll_out(target, meter, registry, candidate, made, clips, report=decisions)


def former(tracking_uri: str) -> str:
    """The version that served before the champion.

    Asked for once, before a rollback begins: its last write swaps the aliases, and a second try that asked
    again would go forward.

    Raises:
        NoSuchVersion: nothing served before.
    """
    return _candidate(ModelRegistry(tracking_uri), "@previous", tracking_uri).version


def roll_back(
    version: str, service: str, *, prometheus: str, plan: Mapping[str, Any], tracking_uri: str
) -> Outcome:
    """All users to a version that served before, in one step.

    Raises:
        NoSuchVersion, InvalidPlan, InvalidService: before anything is touched.
        See also :func:`pipelines.rollout.rollout.rollback`.
    """
    made = make_plan(plan)
    registry = ModelRegistry(tracking_uri)
    candidate = _candidate(registry, version, tracking_uri)
    target, meter = connect(service, prometheus)
    with terminable():
        return core.rollback(target, meter, registry, candidate, made)


def abandon(
    version: str | None,
    service: str,
    *,
    prometheus: str,
    plan: Mapping[str, Any],
    tracking_uri: str,
) -> Outcome | None:
    """End a rollout that its process left; None where there is none of this version, or of any.

    Raises:
        InvalidPlan, InvalidService: before anything is touched.
        See also :func:`pipelines.rollout.rollout.abandon`.
    """
    made = make_plan(plan)
    target, meter = connect(service, prometheus)
    with terminable():
        return core.abandon(target, meter, ModelRegistry(tracking_uri), version, made)


def _candidate(registry: ModelRegistry, selector: str, tracking_uri: str) -> Candidate:
    found = registry.find(selector)
    if found is None:
        raise NoSuchVersion(f"the registry at {tracking_uri} has no version {selector}")
    return Candidate(
        version=found.version,
        storage_uri=found.storage_uri,
        digest=found.digest,
        image=found.image,
    )


def markdown(outcome: Outcome) -> str:
    """The outcome and a table of its decisions."""
    rows = [
        f"| {line['time']} | {line['reason']} | {_cell(line['message'])} |"
        for line in outcome.lines
    ]
    return "\n".join(
        [
            f"# Version {outcome.version}: {outcome.outcome}",
            "",
            outcome.reason,
            "",
            "| Time | Decision | Why |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")
