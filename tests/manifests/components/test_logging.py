"""Shipper, indexer and the stores for trials fit together, and take the predictor's lines."""

import json
import logging
import re
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

from predictor.server.access_log import AccessLog
from predictor.server.logs import EcsFormatter
from predictor.server.observer import RequestRecord
from predictor.server.settings import Settings

STREAM = "sensevoice-logs"
PATH = "/var/log/pods/sensevoice_sensevoice-predictor-00001-deployment-x2_0b1c-77/kserve-container/3.log"


@pytest.fixture(scope="module")
def objects(compose):
    """By kind and name, which the base's NetworkPolicies have too."""
    return {
        (each["kind"], each["metadata"]["name"]): each
        for each in compose("logging", "logging-trial")
        if each["kind"] == "ConfigMap" or each["metadata"].get("namespace") != "sensevoice"
    }


def config_map(objects, prefix):
    [found] = [
        each
        for (kind, name), each in objects.items()
        if kind == "ConfigMap" and name.rpartition("-")[0] == prefix
    ]
    return found


def pod(objects, kind, name):
    return objects[kind, name]["spec"]["template"]["spec"]


def beat(objects, name):
    """A Filebeat's own configuration."""
    return yaml.safe_load(config_map(objects, name)["data"]["filebeat.yml"])


def test_the_predictor_takes_the_settings(objects, monkeypatch):
    for name, value in config_map(objects, "sensevoice-settings")["data"].items():
        monkeypatch.setenv(name, value)
    settings = Settings.from_command_line([])
    assert settings.log_format == "json"
    assert settings.access_log is True
    assert settings.log_transcripts is False


def test_without_the_trial_there_are_no_stores(compose):
    kinds = {each["kind"] for each in compose("logging")}
    assert "DaemonSet" in kinds
    assert "StatefulSet" not in kinds


# Lines


@pytest.fixture
def line():
    """What the predictor writes of a request, decoded."""
    records = []
    logger = logging.getLogger("kserve.access")
    handler = logging.Handler()
    handler.emit = records.append
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel("INFO")
    try:
        AccessLog().on_end(RequestRecord(protocol="rest_v2"))
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    [record] = records
    return json.loads(EcsFormatter().format(record))


def test_a_lines_dotted_names_can_be_expanded(line):
    assert {"@timestamp", "message", "log.level", "event.duration"} <= line.keys()
    assert not {(name, other) for name in line for other in line if other.startswith(f"{name}.")}, (
        "a field cannot have both a value and fields"
    )


def test_seconds_are_mapped_as_fractions(objects, line):
    template = json.loads(config_map(objects, "log-indexer")["data"]["index-template.json"])
    [rule] = template["template"]["mappings"]["dynamic_templates"]
    pattern = rule["seconds"]["path_match"].replace(".", r"\.").replace("*", ".*")
    seconds = {name for name in line if re.fullmatch(pattern, name)}
    assert seconds == {name for name in line if name.endswith("_seconds")} != set()
    assert rule["seconds"]["mapping"]["type"] == "double"


def test_only_the_namespace_of_the_predictor_is_read(objects):
    [source] = beat(objects, "log-shipper")["filebeat.inputs"]
    [pattern] = source["paths"]
    glob = re.escape(pattern).replace(r"\*", "[^/]*")
    assert re.fullmatch(glob, PATH)
    assert not re.fullmatch(glob, PATH.replace("/sensevoice_", "/mlflow_"))
    assert not re.fullmatch(glob, PATH.replace("/sensevoice_", "/sensevoice-test_"))


def test_the_path_tells_pod_and_container(objects):
    dissect, decode = beat(objects, "log-shipper")["processors"]
    parts = re.split(r"%\{(.*?)\}", dissect["dissect"]["tokenizer"])
    names = [name for name in parts[1::2] if name]
    pattern = "".join(
        re.escape(part) if i % 2 == 0 else ("(.*?)" if part else ".*?")
        for i, part in enumerate(parts)
    )
    found = dict(zip(names, re.fullmatch(pattern, PATH).groups(), strict=True))
    assert found == {
        "kubernetes.namespace": "sensevoice",
        "kubernetes.pod.name": "sensevoice-predictor-00001-deployment-x2",
        "kubernetes.pod.uid": "0b1c-77",
        "kubernetes.container.name": "kserve-container",
    }
    [(field, value)] = decode["decode_json_fields"]["when"]["equals"].items()
    assert found[field] == value
    [key] = beat(objects, "log-shipper")["output.kafka"]["partition.hash"]["hash"]
    assert key in found


# How they hang together


@pytest.mark.parametrize(
    ("name", "kind"), [("log-shipper", "DaemonSet"), ("log-indexer", "Deployment")]
)
def test_what_a_filebeat_reads_of_its_environment_is_there(objects, name, kind):
    settings = config_map(objects, "logging-settings")
    [container] = pod(objects, kind, name)["containers"]
    [source] = container["envFrom"]
    assert source["configMapRef"]["name"] == settings["metadata"]["name"]
    given = set(settings["data"]) | {each["name"] for each in container["env"]}
    text = config_map(objects, name)["data"]["filebeat.yml"]
    read = re.findall(r"\$\{(\w+)(:?)", text)
    assert {variable for variable, _ in read} <= given
    # Secrets may be missing.
    optional = {each["name"] for each in container["env"]}
    assert {variable for variable, default in read if default} == {
        variable for variable, _ in read if variable in optional
    }


def test_both_ends_of_the_topic_are_the_same(objects):
    shipped = beat(objects, "log-shipper")["output.kafka"]
    [read] = beat(objects, "log-indexer")["filebeat.inputs"]
    assert [shipped["topic"]] == read["topics"]
    for field in ("hosts", "version", "username", "password", "sasl.mechanism", "ssl.enabled"):
        assert shipped[field] == read[field]


def test_lines_go_where_template_and_policy_apply(objects):
    data = config_map(objects, "log-indexer")["data"]
    template = json.loads(data["index-template.json"])
    assert template["index_patterns"] == [STREAM]
    assert template["data_stream"] == {}
    assert template["template"]["settings"]["index.lifecycle.name"] == STREAM
    indexer = beat(objects, "log-indexer")
    assert indexer["output.elasticsearch"]["index"] == STREAM
    assert indexer["setup.ilm.enabled"] is indexer["setup.template.enabled"] is False
    phases = json.loads(data["lifecycle-policy.json"])["policy"]["phases"]
    assert phases.keys() == {"hot", "delete"}


@pytest.mark.parametrize(("user", "status"), [(None, 200), ("writer", 200), (None, 403)])
def test_the_index_is_described_before_the_first_line(objects, tmp_path, user, status):
    """The init container's script, for real, against an HTTP server."""
    seen = []

    class Elasticsearch(BaseHTTPRequestHandler):
        def log_message(self, *args): ...

        def do_PUT(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            seen.append((self.path, json.loads(body), self.headers.get("Authorization")))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Elasticsearch)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    data = config_map(objects, "log-indexer")["data"]
    for name, text in data.items():
        (tmp_path / name).write_text(text)
    [container] = pod(objects, "Deployment", "log-indexer")["initContainers"]
    [script] = container["args"]
    script = script.replace("/etc/filebeat", str(tmp_path)).replace("--retry 30", "--retry 0")
    hosts = f"http://127.0.0.1:{server.server_port},http://other.invalid:9200"
    environment = {"ELASTICSEARCH_HOSTS": hosts, "PATH": "/usr/bin:/bin"}
    if user:
        environment |= {"ELASTICSEARCH_USERNAME": user, "ELASTICSEARCH_PASSWORD": "a b"}
    try:
        command = [*container["command"], script]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    finally:
        server.shutdown()
        server.server_close()
    if status != 200:
        assert done.returncode != 0
        assert len(seen) == 1
        return
    assert done.returncode == 0, done.stderr
    policy, template = seen
    assert policy[:2] == (f"/_ilm/policy/{STREAM}", json.loads(data["lifecycle-policy.json"]))
    assert template[:2] == (f"/_index_template/{STREAM}", json.loads(data["index-template.json"]))
    assert {policy[2], template[2]} == {"Basic d3JpdGVyOmEgYg==" if user else None}


def test_addresses_are_those_of_the_trials_services(objects):
    settings = config_map(objects, "logging-settings")["data"]
    services = {
        f"{name}.{each['metadata']['namespace']}:{port['port']}"
        for (kind, name), each in objects.items()
        if kind == "Service"
        for port in each["spec"]["ports"]
    }
    [kafka] = pod(objects, "StatefulSet", "kafka")["containers"]
    variables = {each["name"]: each["value"] for each in kafka["env"]}
    assert settings["KAFKA_BROKERS"] in services
    assert variables["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://{settings['KAFKA_BROKERS']}"
    assert settings["ELASTICSEARCH_HOSTS"].removeprefix("http://") in services
    [kibana] = pod(objects, "Deployment", "kibana")["containers"]
    variables = {each["name"]: each["value"] for each in kibana["env"]}
    assert variables["ELASTICSEARCH_HOSTS"] == settings["ELASTICSEARCH_HOSTS"]


def workloads(objects):
    kinds = ("Deployment", "StatefulSet", "DaemonSet")
    return {
        name: each["spec"]["template"]
        for (kind, name), each in objects.items()
        if kind in kinds and each["metadata"]["namespace"] == "logging"
    }


def test_policies_let_through_what_is_asked_for(objects):
    labels = {name: template["metadata"]["labels"] for name, template in workloads(objects).items()}

    def peers(policy, direction, side):
        [rule] = objects["NetworkPolicy", policy]["spec"][direction]
        [peer] = rule[side]
        selector = peer["podSelector"]
        for expression in selector.get("matchExpressions", []):
            assert expression["operator"] == "In"
        return {
            name
            for name, has in labels.items()
            if selector.get("matchLabels", {}).items() <= has.items()
            and all(has.get(e["key"]) in e["values"] for e in selector.get("matchExpressions", []))
        }

    assert peers("kafka", "ingress", "from") == {"log-shipper", "log-indexer"}
    assert peers("elasticsearch", "ingress", "from") == {"log-indexer", "kibana"}
    assert peers("kibana", "egress", "to") == {"elasticsearch"}
    assert objects["NetworkPolicy", "default-deny"]["spec"]["podSelector"] == {}


def test_all_but_the_shipper_would_be_restricted_and_all_are_guaranteed(objects):
    for name, template in workloads(objects).items():
        spec = template["spec"]
        host_paths = [volume for volume in spec["volumes"] if "hostPath" in volume]
        assert bool(host_paths) == (name == "log-shipper")
        assert spec["securityContext"].get("runAsNonRoot", False) is (name != "log-shipper")
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is spec["enableServiceLinks"] is False
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"] == container["resources"]["limits"]
            assert re.search(r":\d+\.\d+\.\d+(@|$)", container["image"])


def test_the_nodes_logs_are_read_only(objects):
    spec = pod(objects, "DaemonSet", "log-shipper")
    [container] = spec["containers"]
    paths = {
        volume["name"]: volume["hostPath"]["path"]
        for volume in spec["volumes"]
        if "hostPath" in volume
    }
    writable = {
        paths[mount["name"]]
        for mount in container["volumeMounts"]
        if mount["name"] in paths and not mount.get("readOnly")
    }
    assert writable == {"/var/lib/sensevoice-log-shipper"}
