"""The Deployment form."""

import pytest


@pytest.fixture
def standard(compose):
    return compose("standard")


@pytest.fixture
def predictor(standard, pick):
    return pick(standard, "InferenceService")["spec"]["predictor"]


def test_knative_leaves_nothing_behind(standard, pick):
    service = pick(standard, "InferenceService")
    assert service["metadata"]["annotations"] == {
        "serving.kserve.io/autoscalerClass": "keda",
        "serving.kserve.io/deploymentMode": "Standard",
    }
    assert not any("knative" in name for name in service["spec"]["predictor"]["annotations"])


def test_pods_are_spread_over_zones_and_nodes(predictor):
    keys = {each["topologyKey"] for each in predictor["topologySpreadConstraints"]}
    assert keys == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}


def test_no_pod_goes_before_its_successor_is_ready(predictor):
    assert predictor["minReplicas"] >= 2
    assert predictor["deploymentStrategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_it_scales_on_audio_that_waits(predictor):
    """KServe v0.20 refuses an external metric without ``value``, and gives KEDA that one."""
    [metric] = predictor["autoScaling"]["metrics"]
    assert metric["type"] == "External"
    query = metric["external"]["metric"]["query"]
    assert 'sensevoice_queue_audio_seconds{namespace="sensevoice"}' in query
    target = metric["external"]["target"]
    assert target["type"] == "AverageValue"
    assert target["value"] == target["averageValue"]


def test_grpc_has_a_port_beside_rest(standard, pick):
    [container] = pick(standard, "ServingRuntime")["spec"]["containers"]
    assert [port["name"] for port in container["ports"]] == ["http1", "h2c"]


def test_it_does_not_go_with_scale_to_zero(compose, pick):
    """The order of the two does not matter: one of them is refused or undone visibly."""
    spec = pick(compose("scale-to-zero", "standard"), "InferenceService")["spec"]["predictor"]
    assert spec["minReplicas"] == 2
    assert "scaleMetric" not in spec
