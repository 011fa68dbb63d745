"""A release as a run of an MLflow experiment: parameters, metrics, report, and the model with its files.

A run that was begun and not finished is found again and finished, so that a step that is tried again leaves
neither a second run nor a second copy of the weights.
"""

import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Metric, Param, Run
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from pipelines.tracking import flavour
from pipelines.tracking.connection import transfer
from pipelines.tracking.version import Release
from predictor.engine.checkpoint import read_manifest, verify
from predictor.engine.errors import InvalidModel

REPORT = "report"
"""Folder of the evaluation's report among a run's artifacts."""


def record(client: MlflowClient, experiment: str, release: Release) -> LoggedModel:
    """The model that a finished run of the experiment logged.

    Args:
        experiment: its name; it is made where it does not exist.

    Raises:
        InvalidModel: the directory is no prepared model, is damaged, or another than the release's.
        MlflowException: MLflow refuses, or does not answer.
    """
    # MLflow would log what is there, be it nothing.
    _verify(release)
    run = _run(client, _experiment_id(client, experiment), release)
    try:
        model = _model(client, experiment, run, release)
        _log(client, run, model, release)
    except Exception:
        with suppress(MlflowException):
            client.set_terminated(run.info.run_id, "FAILED")
        raise
    client.set_terminated(run.info.run_id)
    return model


def tagged(tags: Mapping[str, str]) -> str:
    """MLflow's search expression for what has all of the tags."""
    return " and ".join(f"tags.{name} = '{value}'" for name, value in tags.items())


def _verify(release: Release) -> None:
    manifest = read_manifest(release.directory)
    if manifest.digest != release.digest:
        raise InvalidModel(
            f"{release.directory}: digest is {manifest.digest}, the release says {release.digest}"
        )
    verify(release.directory, manifest, manifest.files)


def _experiment_id(client: MlflowClient, name: str) -> str:
    experiment = client.get_experiment_by_name(name)
    return experiment.experiment_id if experiment else client.create_experiment(name)


def _run(client: MlflowClient, experiment_id: str, release: Release) -> Run:
    tags = {name: release.tags[name] for name in ("pipeline_run", "digest")}
    begun = client.search_runs([experiment_id], tagged(tags), max_results=1)
    if begun:
        return begun[0]
    return client.create_run(experiment_id, tags=tags, run_name=release.digest[:12])


def _model(client: MlflowClient, name: str, run: Run, release: Release) -> LoggedModel:
    """With all of its files."""
    experiment_id, run_id = run.info.experiment_id, run.info.run_id
    begun = client.search_logged_models([experiment_id], f"source_run_id = '{run_id}'")
    if begun:
        model = begun[0]
    else:
        model = client.create_logged_model(experiment_id, name, run_id, params=release.tags)
    outputs = run.outputs.model_outputs if run.outputs else []
    if model.model_id not in {output.model_id for output in outputs}:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    if model.status == LoggedModelStatus.READY:
        return model
    described = Model(
        artifact_path=model.artifact_location,
        run_id=run_id,
        model_uuid=model.model_id,
        model_id=model.model_id,
    )
    with tempfile.TemporaryDirectory() as scratch, transfer():
        folder = Path(scratch) / "flavour"
        flavour.write(described, folder, release.directory)
        client.log_model_artifacts(model.model_id, str(folder))
        client.log_model_artifacts(model.model_id, str(release.directory), flavour.WEIGHTS)
    return client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)


def _log(client: MlflowClient, run: Run, model: LoggedModel, release: Release) -> None:
    # A model's metric can be logged once in a moment, and the run's moment is that of all tries.
    metrics = [
        Metric(name, value, run.info.start_time, step=0, model_id=model.model_id)
        for name, value in release.metrics.items()
        if name not in run.data.metrics
    ]
    params = [Param(name, value) for name, value in release.tags.items()]
    client.log_batch(run.info.run_id, metrics=metrics, params=params)
    with transfer():
        client.log_artifacts(run.info.run_id, str(release.report), REPORT)
