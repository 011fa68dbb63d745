"""The last word of a release, whatever became of it."""

from collections.abc import Mapping
from typing import Any

from pipelines.rollout.target import Unavailable
from pipelines.steps.rollout import abandon, markdown
from pipelines.tracking.registry import ModelRegistry

SUCCEEDED = "SUCCEEDED"
"""State of a pipeline run, as Kubeflow names it."""


def conclude(
    state: str,
    error: str,
    *,
    service: str,
    prometheus: str,
    plan: Mapping[str, Any],
    tracking_uri: str,
    pipeline_run: str,
) -> str:
    """Finish a rollout that the run left half done: rolled back, or promoted where that was decided.

    Args:
        state, error: of the run, as Kubeflow names them.
        service, prometheus, plan: see :func:`pipelines.steps.rollout.roll_out`.
        pipeline_run: the run's id, by which its version is found.

    Returns:
        Markdown: how the run ended, its version, and what was left to do.

    Raises:
        See :func:`pipelines.steps.rollout.roll_out`.
    """
    registry = ModelRegistry(tracking_uri)
    try:
        version = registry.of_run(pipeline_run)
    except Unavailable:
        # Whose version the service was left with is not known. Users come first: whatever a dead process
        # left half judged is taken back; that MLflow has to be told of it is then an error of its own.
        if state != SUCCEEDED:
            abandon(None, service, prometheus=prometheus, plan=plan, tracking_uri=tracking_uri)
        raise
    parts = [f"# Release {state.lower()}"]
    if state != SUCCEEDED and error:
        parts.append(error)
    if version is None:
        return "\n\n".join([*parts, "No version was registered.", ""])
    parts.append(f"Version {version.version}: {registry.url(version)}")
    if state != SUCCEEDED:
        left = abandon(
            version.version, service, prometheus=prometheus, plan=plan, tracking_uri=tracking_uri
        )
        parts.append(markdown(left) if left else "No rollout was left half done.")
    return "\n\n".join([*parts, ""])
