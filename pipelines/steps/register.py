"""Make a model a version of the registry."""

import json
from pathlib import Path

from pipelines.steps.fetch import Fetched
from pipelines.steps.prepare import storage_uri
from pipelines.steps.report import METRICS
from pipelines.tracking.registry import ModelRegistry
from pipelines.tracking.version import Release
from predictor.engine.checkpoint import read_manifest


def register(
    model: Path,
    fetched: Fetched,
    *,
    report: Path,
    tracking_uri: str,
    image: str,
    data_name: str,
    data_digest: str,
    pipeline_run: str,
) -> str:
    """A version with the alias ``challenger``; registered again by the same run, it is the same version.

    Args:
        model: prepared directory.
        fetched: where it came from.
        report: folder that :func:`pipelines.steps.report.report` wrote.
        image: of the predictor that is to serve it; empty for the service's own.
        pipeline_run: the run's id.

    Returns:
        The version.

    Raises:
        RegistryError, Unavailable: MLflow refuses, or does not answer.
    """
    release = Release(
        directory=model,
        digest=read_manifest(model).digest,
        storage_uri=storage_uri(model),
        image=image or None,
        source=fetched.source,
        revision=fetched.revision,
        pipeline_run=pipeline_run,
        data_name=data_name,
        data_digest=data_digest,
        metrics=json.loads((report / METRICS).read_text(encoding="utf-8")),
        report=report,
    )
    return ModelRegistry(tracking_uri).register(release).version
