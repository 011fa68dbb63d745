"""The collector: what is rendered fits together, and the predictor takes its address."""

import pytest
import yaml

from predictor.server.settings import Settings

PREDICTOR = {"serving.kserve.io/inferenceservice": "sensevoice", "component": "predictor"}


def by_name(objects):
    return {(each["kind"], each["metadata"]["name"]): each for each in objects}


@pytest.fixture(scope="module")
def objects(compose):
    return by_name(compose("tracing"))


def config_map(objects, prefix):
    [found] = [
        each
        for (kind, name), each in objects.items()
        if kind == "ConfigMap" and name.rpartition("-")[0] == prefix
    ]
    return found


@pytest.fixture(scope="module")
def config(objects):
    """The collector's own."""
    return yaml.safe_load(config_map(objects, "otel-collector")["data"]["collector.yaml"])


@pytest.fixture(scope="module")
def container(objects):
    [container] = objects["Deployment", "otel-collector"]["spec"]["template"]["spec"]["containers"]
    return container


def test_the_predictor_takes_the_settings(objects, monkeypatch):
    for name, value in config_map(objects, "sensevoice-settings")["data"].items():
        monkeypatch.setenv(name, value)
    settings = Settings.from_command_line([])
    service = objects["Service", "otel-collector"]
    [port] = service["spec"]["ports"]
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    assert settings.otlp_endpoint == f"http://{name}.{namespace}:{port['port']}"
    assert 0 < settings.trace_sample_ratio <= 1


def test_settings_of_the_base_stay(objects, compose):
    base = config_map(by_name(compose()), "sensevoice-settings")["data"]
    assert base.items() <= config_map(objects, "sensevoice-settings")["data"].items()


def test_every_component_of_the_collector_is_defined_and_used(config):
    used = {"receivers": set(), "processors": set(), "exporters": set()}
    for pipeline in config["service"]["pipelines"].values():
        assert pipeline.keys() == used.keys()
        for part, names in pipeline.items():
            used[part] |= set(names)
        assert pipeline["processors"][0] == "memory_limiter", (
            "it has to refuse before others buffer"
        )
        assert pipeline["processors"][-1] == "batch"
    assert used == {part: set(config[part]) for part in used}
    assert set(config["service"]["extensions"]) == set(config["extensions"])


def test_what_the_collector_reads_of_its_environment_is_there(objects, config, container):
    text = yaml.safe_dump(config)
    given = config_map(objects, "tracing-settings")["data"]
    [source] = container["envFrom"]
    assert (
        source["configMapRef"]["name"]
        == config_map(objects, "tracing-settings")["metadata"]["name"]
    )
    assert {part.partition("}")[0] for part in text.split("${env:")[1:]} == set(given)
    assert given["TRACES_INSECURE"] in {"true", "false"}
    host, _, port = given["TRACES_ENDPOINT"].rpartition(":")
    assert host
    ports = objects["NetworkPolicy", "otel-collector"]["spec"]["egress"][0]["ports"]
    assert int(port) in {each["port"] for each in ports}


def test_the_config_is_mounted_where_it_is_looked_for(objects, container):
    pod = objects["Deployment", "otel-collector"]["spec"]["template"]["spec"]
    [volume], [mount], [argument] = pod["volumes"], container["volumeMounts"], container["args"]
    name = config_map(objects, "otel-collector")["metadata"]["name"]
    assert volume == {"name": mount["name"], "configMap": {"name": name}}
    assert argument == f"--config={mount['mountPath']}/collector.yaml"


def test_ports_are_the_ones_the_collector_listens_at(objects, config, container):
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    grpc = config["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"]
    health = config["extensions"]["health_check"]["endpoint"]
    assert {grpc, health} == {f"0.0.0.0:{port}" for port in ports.values()}
    [service_port] = objects["Service", "otel-collector"]["spec"]["ports"]
    assert ports[service_port["targetPort"]] == int(grpc.rpartition(":")[2])
    assert f"0.0.0.0:{ports[container['readinessProbe']['tcpSocket']['port']]}" == grpc
    for probe in ("startupProbe", "livenessProbe"):
        assert f"0.0.0.0:{ports[container[probe]['httpGet']['port']]}" == health


def test_spans_get_from_the_predictor_to_the_collector(objects):
    pod = objects["Deployment", "otel-collector"]["spec"]["template"]
    collector = pod["metadata"]["labels"]
    out, into = (
        objects["NetworkPolicy", name]["spec"] for name in ("predictor-traces", "otel-collector")
    )
    assert out["podSelector"]["matchLabels"].items() <= PREDICTOR.items()
    [leaving], [coming] = out["egress"], into["ingress"]
    assert leaving["to"][0]["podSelector"]["matchLabels"].items() <= collector.items()
    assert coming["from"][0]["podSelector"]["matchLabels"].items() <= PREDICTOR.items()
    assert leaving["ports"] == coming["ports"] == [{"port": 4317, "protocol": "TCP"}]
    selector = objects["Service", "otel-collector"]["spec"]["selector"]
    assert selector.items() <= collector.items()


def test_the_collector_is_restricted_and_guaranteed(objects, container):
    pod = objects["Deployment", "otel-collector"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["requests"] == container["resources"]["limits"]
    assert container["image"].rpartition(":")[2][0].isdigit()
