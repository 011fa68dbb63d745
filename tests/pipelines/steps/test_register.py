"""A version that says where it came from and where it is served from."""

import json

from mlflow import MlflowClient

from pipelines.steps.report import METRICS
from pipelines.tracking.registry import ModelRegistry


def test_a_version_has_digest_source_metrics_and_report(registered, registry_uri, report_folder):
    _, prepared = registered
    version = ModelRegistry(registry_uri).find("@challenger")
    assert version is not None
    assert (version.version, version.digest) == ("1", prepared.digest)
    assert version.storage_uri == str(prepared.directory)
    assert (version.source, version.image) == ("embedded", None)
    run = MlflowClient(registry_uri).get_run(version.run_id)
    assert run.data.metrics == json.loads((report_folder / METRICS).read_text())
    artifacts = MlflowClient(registry_uri).list_artifacts(version.run_id, "report")
    assert {one.path for one in artifacts} >= {"report/report.html", "report/table.jsonl"}


def test_a_step_that_is_run_again_finds_its_version(registered):
    again, _ = registered
    assert again() == "1"


def test_an_image_is_kept_with_the_version(registered, registry_uri):
    again, _ = registered
    number = again(image="registry.example/sensevoice:1", pipeline_run="run-with-image")
    version = ModelRegistry(registry_uri).find(number)
    assert version is not None
    assert version.image == "registry.example/sensevoice:1"
