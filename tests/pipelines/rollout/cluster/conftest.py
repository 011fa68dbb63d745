"""The Kubernetes API's double, and the real client pointed at it."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from kubernetes import client

from pipelines.rollout.cluster.inference_service import MODE
from pipelines.rollout.cluster.target import ClusterTarget, connect
from pipelines.rollout.target import Observed
from tests.pipelines.rollout.cluster.double import (
    NAME,
    NAMESPACE,
    Document,
    Fault,
    KubernetesDouble,
)
from tests.pipelines.rollout.cluster.standard import StandardControllers, refusal


@pytest.fixture
def kubernetes() -> Iterator[KubernetesDouble]:
    """An API with the InferenceService voice/sensevoice, which serves the model ``pvc://models/aaaa``."""
    double = KubernetesDouble()
    double.create("pvc://models/aaaa")
    yield double
    double.server.shutdown()
    double.server.server_close()


@pytest.fixture
def standard(kubernetes: KubernetesDouble) -> StandardControllers:
    """The controllers of that service, made anew in Standard mode."""
    controllers = StandardControllers(kubernetes.broken)
    kubernetes.controllers = controllers
    kubernetes.webhook = refusal
    kubernetes.create("pvc://models/aaaa", {MODE: "Standard"})
    return controllers


@pytest.fixture
def cluster(kubernetes: KubernetesDouble) -> ClusterTarget:
    """The real client, pointed at that API."""
    return connect(NAMESPACE, NAME, client.Configuration(host=kubernetes.url))


@pytest.fixture
def settle(cluster: ClusterTarget) -> Callable[[], Observed]:
    """Looks at the service until its controllers have nothing left to do."""

    def look() -> Observed:
        for _ in range(100):
            seen = cluster.observe()
            if seen.settled and cluster.observe() == seen:
                return seen
        raise AssertionError("the controllers never settle")

    return look


@pytest.fixture
def fault() -> type[Fault]:
    return Fault


@pytest.fixture(scope="session")
def recorded() -> list[Document]:
    """What real controllers answered at each step of a canary."""
    folder = os.environ.get("KSERVE_TRACES")
    if not folder:
        pytest.skip("KSERVE_TRACES names no folder with recorded answers of KServe's controllers")
    text = (Path(folder) / "canary-knative.yaml").read_text()
    return [document["inferenceservice"] for document in yaml.safe_load_all(text)]
