import json
import os
import subprocess
import sys

SHOW = """
import pipelines.tracking, json
from mlflow import environment_variables as mlflow
print(json.dumps([
    mlflow.MLFLOW_HTTP_REQUEST_MAX_RETRIES.get(),
    mlflow.MLFLOW_HTTP_REQUEST_TIMEOUT.get(),
    mlflow.MLFLOW_DISABLE_TELEMETRY.get(),
]))
"""


def settings(**variables: str) -> list[object]:
    mine = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    done = subprocess.run(
        [sys.executable, "-c", SHOW], env={**mine, **variables}, check=True, capture_output=True
    )
    return json.loads(done.stdout)


def test_mlflow_is_bounded_and_keeps_to_itself():
    assert settings() == [4, 30, True]


def test_what_the_environment_says_stays():
    assert settings(MLFLOW_HTTP_REQUEST_TIMEOUT="5") == [4, 5, True]
