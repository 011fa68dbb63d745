"""The model registry: versions of the model, their files and measurements in MLflow.

Nothing else in the project imports mlflow, which reads a part of its environment while it is imported. So
the defaults are here, before anything of it; what the environment says already stays.
"""

import os

DEFAULTS = {
    # MLflow's own let a server that is away keep a rollout waiting for four minutes, and one that never
    # answers for a quarter of an hour. These are half a minute (0 + 4 + 8 + 16 s) and three.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "4",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    # It would tell its makers of every model that is logged.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # A pod's log is no terminal.
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Environment variables of MLflow."""

for _name, _value in DEFAULTS.items():
    os.environ.setdefault(_name, _value)
