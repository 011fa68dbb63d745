"""From no pod."""

import re

import pytest


@pytest.fixture
def objects(compose):
    return compose("gpu", "scale-to-zero")


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)([smh])", text).groups()
    return int(number) * {"s": 1, "m": 60, "h": 3600}[unit]


def test_it_goes_to_zero_and_comes_back_on_requests(objects, pick):
    spec = pick(objects, "InferenceService")["spec"]["predictor"]
    assert spec["minReplicas"] == 0
    assert spec["maxReplicas"] > 1
    assert spec["scaleMetric"] == "concurrency"
    assert spec["scaleTarget"] > 1


def test_a_cold_gpu_node_has_time(objects, pick):
    """Longer than Knative's own 600 s, and longer than the container alone may take."""
    annotations = pick(objects, "InferenceService")["spec"]["predictor"]["annotations"]
    deadline = seconds(annotations["serving.knative.dev/progress-deadline"])
    [container] = pick(objects, "ServingRuntime")["spec"]["containers"]
    probe = container["startupProbe"]
    assert deadline > 600
    assert 600 <= probe["periodSeconds"] * probe["failureThreshold"] < deadline


def test_pods_do_not_go_at_the_first_pause(objects, pick):
    """Knative takes at most an hour for either."""
    annotations = pick(objects, "InferenceService")["spec"]["predictor"]["annotations"]
    for name in ("scale-down-delay", "scale-to-zero-pod-retention-period"):
        assert 60 <= seconds(annotations[f"autoscaling.knative.dev/{name}"]) <= 3600
