"""The GPUs' own metrics, where no operator brings them."""

import pytest


@pytest.fixture
def objects(compose):
    return compose("gpu", "dcgm-exporter")


def test_it_runs_where_the_predictor_runs(objects, pick):
    exporter = pick(objects, "DaemonSet")["spec"]["template"]["spec"]
    runtime = pick(objects, "ServingRuntime")["spec"]
    assert exporter["nodeSelector"] == runtime["nodeSelector"]
    assert exporter["tolerations"] == runtime["tolerations"]


def test_prometheus_reads_the_port_that_is_open_to_it(objects, pick):
    template = pick(objects, "DaemonSet")["spec"]["template"]
    [container] = template["spec"]["containers"]
    [port] = container["ports"]
    monitor = pick(objects, "PodMonitor")["spec"]
    assert monitor["podMetricsEndpoints"][0]["port"] == port["name"]
    assert monitor["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    [rule] = pick(objects, "NetworkPolicy", "dcgm-exporter")["spec"]["ingress"]
    assert [each["port"] for each in rule["ports"]] == [port["containerPort"]]


def test_the_predictors_namespace_stays_restricted(objects, pick):
    label = "pod-security.kubernetes.io/enforce"
    levels = {
        name: pick(objects, "Namespace", name)["metadata"]["labels"][label]
        for name in ("sensevoice", "gpu-monitoring")
    }
    assert levels == {"sensevoice": "restricted", "gpu-monitoring": "privileged"}
