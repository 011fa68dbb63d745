"""The page's pods: their settings are the page's own, and they find the service."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from predictor.ui.settings import ENV_PREFIX, Settings

START_SECONDS = 120


@pytest.fixture(scope="module")
def objects(compose):
    return compose("ui")


@pytest.fixture(scope="module")
def container(objects, pick):
    [container] = pick(objects, "Deployment", "sensevoice-ui")["spec"]["template"]["spec"][
        "containers"
    ]
    return container


def test_it_asks_the_predictor_of_the_service(objects, container, pick):
    service = pick(objects, "InferenceService")["metadata"]
    [url] = [v["value"] for v in container["env"] if v["name"] == "SENSEVOICE_UI_SERVICE_URL"]
    host = f"{service['name']}-predictor.{service['namespace']}.svc.cluster.local"
    assert urlsplit(url).hostname == host
    # KServe's Services have port 80 in both modes.
    assert urlsplit(url).port is None


def test_policies_lead_from_the_gateways_to_the_page_and_on_to_the_service(
    objects, container, pick
):
    spec = pick(objects, "NetworkPolicy", "sensevoice-ui")["spec"]
    [port] = container["ports"]
    [way_in], [way_out] = spec["ingress"], spec["egress"]
    assert [each["port"] for each in way_in["ports"]] == [port["containerPort"]]
    assert all("namespaceSelector" in each for each in way_in["from"])
    [pods] = [each["podSelector"] for each in way_out["to"] if "podSelector" in each]
    predictor = pick(objects, "NetworkPolicy", "predictor")["spec"]
    assert pods == predictor["podSelector"]
    assert {"podSelector": {}} in [peer for rule in predictor["ingress"] for peer in rule["from"]]
    runtime = pick(objects, "ServingRuntime")["spec"]["containers"][0]
    served = {each["containerPort"] for each in runtime["ports"]}
    assert served <= {each["port"] for each in way_out["ports"]}


def test_the_service_keeps_a_page_with_its_pod(objects, container, pick):
    service = pick(objects, "Service", "sensevoice-ui")["spec"]
    deployment = pick(objects, "Deployment", "sensevoice-ui")["spec"]
    budget = pick(objects, "PodDisruptionBudget", "sensevoice-ui")["spec"]
    assert service["sessionAffinity"] == "ClientIP"
    assert service["selector"] == deployment["selector"]["matchLabels"]
    assert service["ports"][0]["targetPort"] == container["ports"][0]["name"]
    assert budget["selector"] == deployment["selector"]
    assert budget["minAvailable"] < deployment["replicas"]


def test_the_page_starts_as_rendered_and_answers_its_probes(container, new_port, tmp_path):
    prefix, settings = ENV_PREFIX, Settings
    values = {each["name"]: each["value"] for each in container["env"]}
    ours = {name for name in values if name.startswith("SENSEVOICE_")}
    assert ours <= {f"{prefix}{name}".upper() for name in settings.model_fields}
    assert settings().http_port == container["ports"][0]["containerPort"]
    root, tmp, port = tmp_path / "root", tmp_path / "tmp", new_port()
    root.mkdir()
    tmp.mkdir()
    values |= {"TMPDIR": str(tmp), "HOME": str(tmp), f"{prefix}HTTP_PORT": str(port)}
    log = tmp_path / "log"
    # The image's entry point.
    command = [sys.executable, "-m", "predictor.ui", *container.get("args", [])]
    with (
        log.open("w") as output,
        subprocess.Popen(
            command,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path.cwd()), **values},
            cwd=root,
            stdout=output,
            stderr=output,
        ) as page,
    ):
        try:
            port_name = container["ports"][0]["name"]
            assert container["livenessProbe"]["tcpSocket"]["port"] == port_name
            for probe in ("startupProbe", "readinessProbe"):
                wait_for(f"http://127.0.0.1:{port}{container[probe]['httpGet']['path']}", page, log)
        finally:
            page.terminate()
            page.wait(30)
    assert not list(root.iterdir()), "written outside of /tmp"
    assert not re.search("Traceback", log.read_text())


def wait_for(url, process, log) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            assert httpx.get(url, trust_env=False).status_code == 200, url
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
