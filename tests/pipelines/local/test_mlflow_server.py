"""An MLflow server that starts, keeps what it was told, and ends."""

import httpx
import pytest
from mlflow import MlflowClient

from pipelines.local import mlflow_server as module
from pipelines.local.mlflow_server import ServerFailed, mlflow_server


def test_what_one_server_was_told_the_next_one_knows(tmp_path):
    with mlflow_server(tmp_path) as uri:
        run = MlflowClient(uri).create_run("0")
        (tmp_path / "note.txt").write_text("kept")
        MlflowClient(uri).log_artifact(run.info.run_id, str(tmp_path / "note.txt"))
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{uri}/health")
    with mlflow_server(tmp_path) as uri:
        (artifact,) = MlflowClient(uri).list_artifacts(run.info.run_id)
        assert artifact.path == "note.txt"


def test_one_that_ends_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(
        module, "command", lambda folder, port: ["sh", "-c", "echo no database; exit 3"]
    )
    with pytest.raises(ServerFailed, match="no database"), mlflow_server(tmp_path):
        pass
