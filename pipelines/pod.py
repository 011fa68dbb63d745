"""What the pods of the steps have: image, user, model cache, addresses, secrets, GPUs, patience.

Locally nothing of it is used: a step is then a process of this environment.
"""

import os
from collections.abc import Callable
from functools import wraps
from importlib.metadata import version
from typing import Any

from kfp import dsl, kubernetes
from kfp.dsl import PipelineTask

from pipelines.steps.fetch import MOUNT_ROOT

IMAGE = os.environ.get(
    "SENSEVOICE_PIPELINES_IMAGE", f"sensevoice-pipelines:{version('sensevoice-kserve')}"
)
"""This repository with its extras ``pipelines`` and ``reference``. Set the variable when compiling for a
cluster: its registry, and better a digest than a tag."""

USER = 65532
"""The image's user and group. The Pod Security Standard ``restricted`` wants a pod to say that it is not
root; capabilities and the rest kfp takes away by itself."""

CACHE_CLAIM = "model-cache"
"""The PersistentVolumeClaim that steps and predictors share."""

CACHE = str(MOUNT_ROOT / CACHE_CLAIM)

SERVICE = "kserve://sensevoice/sensevoice"
MLFLOW = "http://mlflow.mlflow:5000"
PROMETHEUS = "http://prometheus-operated.monitoring:9090"
"""Where this project's manifests put them: what the pipelines' parameters say by default."""

GPU = "nvidia.com/gpu"

MLFLOW_SECRET = "mlflow-credentials"  # noqa: S105  # names
HUB_SECRET = "model-hub-credentials"  # noqa: S105
PROMETHEUS_SECRET = "prometheus-credentials"  # noqa: S105
"""Secrets in the namespace of the runs. None of them needs to be there."""


def step(function: Callable[..., Any]) -> Callable[..., PipelineTask]:
    """A component that runs in our image, as its user."""
    component = dsl.component(base_image=IMAGE, install_kfp_package=False)(function)

    @wraps(function)
    def task(**inputs: Any) -> PipelineTask:
        return kubernetes.set_security_context(
            component(**inputs), run_as_user=USER, run_as_group=USER, run_as_non_root=True
        )

    return task


def with_cache(task: PipelineTask) -> PipelineTask:
    """The cache volume at ``CACHE``."""
    return kubernetes.mount_pvc(task, pvc_name=CACHE_CLAIM, mount_path=CACHE)


def with_registry(task: PipelineTask) -> PipelineTask:
    """MLflow's user name and password; tried again while it is away."""
    variables = {"username": "MLFLOW_TRACKING_USERNAME", "password": "MLFLOW_TRACKING_PASSWORD"}
    kubernetes.use_secret_as_env(task, MLFLOW_SECRET, variables, optional=True)
    return patient(task)


def with_hub(task: PipelineTask) -> PipelineTask:
    """Tokens of ModelScope and Hugging Face."""
    variables = {"modelscope-token": "MODELSCOPE_API_TOKEN", "huggingface-token": "HF_TOKEN"}
    return kubernetes.use_secret_as_env(task, HUB_SECRET, variables, optional=True)


def with_prometheus(task: PipelineTask) -> PipelineTask:
    """The bearer token for Prometheus."""
    return kubernetes.use_secret_as_env(
        task, PROMETHEUS_SECRET, {"token": "PROMETHEUS_TOKEN"}, optional=True
    )


def with_gpus(task: PipelineTask, gpus: int) -> PipelineTask:
    """
    Args:
        gpus: how many, or a parameter with it; 0 runs on any node.
    """
    task.set_accelerator_type(GPU).set_accelerator_limit(gpus)
    return kubernetes.add_toleration(task, key=GPU, operator="Exists", effect="NoSchedule")


def patient(task: PipelineTask) -> PipelineTask:
    """Tried again after 30 s, 60 s and 120 s: for steps that are safe to repeat."""
    return task.set_retry(num_retries=3, backoff_duration="30s", backoff_factor=2.0)
