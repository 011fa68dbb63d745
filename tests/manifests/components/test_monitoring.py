"""What is scraped, the rules as promtool reads them, and how the dashboard is made."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from manifests.build_dashboard import OUTPUT, dashboard
from manifests.render import COMPONENTS
from manifests.schemas import Schemas, is_built_in
from manifests.tools import REPOSITORY
from pipelines.rollout.cluster.prometheus import FAULTS, query
from predictor.server.settings import Settings

HERE = Path(__file__).parent
SPEC = yaml.safe_load((COMPONENTS / "monitoring" / "rules.yaml").read_text())["spec"]
RULES = [rule for group in SPEC["groups"] for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RUNBOOK = "docs/runbook.md"
UNIT_TESTS = ("alerts.yaml", "alerts_weekly.yaml")


@pytest.fixture(scope="module")
def objects(compose):
    return {(each["kind"], each["metadata"]["name"]): each for each in compose("monitoring")}


# What is rendered


def test_objects_are_what_their_kinds_allow(objects):
    folder = os.environ.get("CRD_SCHEMAS")
    if not folder:
        pytest.skip("CRD_SCHEMAS names no folder with schemas of custom resources")
    schemas = Schemas(Path(folder))
    custom = [each for each in objects.values() if not is_built_in(each)]
    assert {"PodMonitor", "PrometheusRule"} <= {each["kind"] for each in custom}
    assert [problem for each in custom for problem in schemas.problems(each)] == []


def test_what_is_scraped_is_what_the_predictor_serves_and_a_rollout_reads(objects):
    spec = objects["PodMonitor", "sensevoice-predictor"]["spec"]
    [endpoint] = spec["podMetricsEndpoints"]
    assert endpoint["portNumber"] == Settings.model_fields["http_port"].default
    assert endpoint["path"] == "/metrics"
    labels = {re.sub(r"\W", "_", label) for label in spec["podTargetLabels"]}
    asked = query("voice", "a-00001", 60) + query("voice", "a-predictor", 60)
    assert labels == set(re.findall(r"(\w+)=", asked)) - {"namespace", "reason"}
    # What prometheus-operator calls the job: the monitor's namespace and name.
    assert re.search(r'job=~"\.\+/sensevoice-predictor"', ALERTS["SenseVoiceScrapeFailing"]["expr"])


def test_prometheus_gets_through_to_what_is_scraped(objects):
    policy = objects["NetworkPolicy", "allow-prometheus"]["spec"]
    monitor = objects["PodMonitor", "sensevoice-predictor"]["spec"]
    assert (
        policy["podSelector"]["matchLabels"].items() <= monitor["selector"]["matchLabels"].items()
    )
    [rule] = policy["ingress"]
    ports = {port["port"] for port in rule["ports"]}
    assert {endpoint["portNumber"] for endpoint in monitor["podMetricsEndpoints"]} <= ports


def test_queue_proxy_is_told_the_same_port_and_path(objects):
    annotations = objects["ServingRuntime", "sensevoice"]["spec"]["annotations"]
    [endpoint] = objects["PodMonitor", "sensevoice-predictor"]["spec"]["podMetricsEndpoints"]
    assert annotations["prometheus.kserve.io/port"] == str(endpoint["portNumber"])
    assert annotations["prometheus.kserve.io/path"] == endpoint["path"]
    service = objects["InferenceService", "sensevoice"]["metadata"]["annotations"]
    assert service["serving.kserve.io/enable-metric-aggregation"] == "true"
    assert service["serving.kserve.io/deploymentMode"]


def test_the_dashboard_is_generated(objects):
    assert json.loads(OUTPUT.read_text()) == dashboard(), (
        "run `python -m manifests.build_dashboard`"
    )
    config = objects["ConfigMap", "sensevoice-dashboard"]
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(config["data"]["sensevoice.json"]) == dashboard()


def test_panels_do_not_overlap():
    taken = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells


# Alerts


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_it_means_and_where_to_read_on(name):
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert {"summary", "description", "runbook_url"} == set(alert["annotations"])
    assert alert["annotations"]["runbook_url"] == f"{RUNBOOK}#{name.lower()}"


def test_the_runbook_has_a_section_on_every_alert():
    text = (REPOSITORY / RUNBOOK).read_text(encoding="utf-8")
    assert set(ALERTS) <= set(re.findall(r"^#+ (.+)$", text, re.M))


def test_errors_are_what_the_rollout_counts_as_errors():
    [rule] = [
        rule for rule in RULES if rule.get("record", "").startswith("namespace:sensevoice_faults")
    ]
    [reasons] = re.findall(r'reason=~"([^"]+)"', rule["expr"])
    assert set(reasons.split("|")) == set(FAULTS)


def test_promtool_takes_the_rules(tmp_path, program, write_rules):
    file = write_rules(tmp_path)
    done = subprocess.run(
        [program("promtool"), "check", "rules", file], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(RULES)} rules found" in done.stdout


def test_alerts_fire_when_they_have_to_and_not_otherwise(tmp_path, program, write_rules):
    # Labels are compared; what annotations make of them is looked at below.
    write_rules(tmp_path, annotations=False)
    for name in UNIT_TESTS:
        shutil.copy(HERE / name, tmp_path)
    command = [program("promtool"), "test", "rules", *UNIT_TESTS]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_both_ways_and_has_the_labels_it_speaks_of():
    cases = [
        case
        for name in UNIT_TESTS
        for test in yaml.safe_load((HERE / name).read_text())["tests"]
        for case in test["alert_rule_test"]
    ]
    firing = {case["alertname"]: case["exp_alerts"] for case in cases if case["exp_alerts"]}
    assert set(firing) == set(ALERTS)
    silent = {case["alertname"] for case in cases if not case["exp_alerts"]}
    assert silent == set(ALERTS)
    for name, alerts in firing.items():
        spoken = set(re.findall(r"\$labels\.(\w+)", json.dumps(ALERTS[name]["annotations"])))
        assert all(spoken <= set(alert["exp_labels"]) for alert in alerts), name
