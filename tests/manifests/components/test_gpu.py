"""One GPU a pod."""

import pytest


@pytest.fixture
def runtime(compose, pick):
    return pick(compose("gpu"), "ServingRuntime")["spec"]


def test_a_pod_has_one_gpu_and_a_node_for_it(runtime):
    [container] = runtime["containers"]
    for which in ("requests", "limits"):
        assert container["resources"][which]["nvidia.com/gpu"] == "1"
    assert runtime["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert [each["key"] for each in runtime["tolerations"]] == ["nvidia.com/gpu"]


def test_the_image_has_cuda_and_the_device_is_fixed(compose, pick, runtime):
    [container] = runtime["containers"]
    assert container["image"] == "sensevoice-predictor:0.1.0-cuda"
    name = container["envFrom"][0]["configMapRef"]["name"]
    data = pick(compose("gpu"), "ConfigMap", name)["data"]
    assert data["SENSEVOICE_DEVICE"] == "cuda"
    assert "SENSEVOICE_GRACE_PERIOD_SECONDS" in data
