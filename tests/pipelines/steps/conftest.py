"""A registry of one's own, and models that are registered in it."""

import pytest

from pipelines.evaluation.results import Evaluation
from pipelines.local.mlflow_server import mlflow_server
from pipelines.steps.fetch import fetch
from pipelines.steps.prepare import prepare
from pipelines.steps.register import register
from pipelines.steps.report import report


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def registry_uri(tmp_path_factory):
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as uri:
        yield uri


@pytest.fixture(scope="session")
def report_folder(evaluation: Evaluation, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    table = tmp_path_factory.mktemp("table") / "table.jsonl"
    table.write_text("")
    report(evaluation, folder, table=table, about={}, data_name="embedded")
    return folder


@pytest.fixture(scope="module")
def registered(registry_uri, cache, report_folder, evaluation):
    """The embedded model as version 1, registered by the run ``run-1``: how it was called."""
    fetched = fetch("embedded", cache)
    prepared = prepare(fetched, cache)

    def again(**changes):
        how = {
            "report": report_folder,
            "tracking_uri": registry_uri,
            "image": "",
            "data_name": "embedded",
            "data_digest": evaluation.data,
            "pipeline_run": "run-1",
        }
        return register(prepared.directory, fetched, **{**how, **changes})

    assert again() == "1"
    return again, prepared
