"""Every rule and every query of the dashboard, in a real Prometheus that scrapes a real predictor."""

import base64
import json
import math
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import httpx
import pytest
import yaml

from manifests.build_dashboard import dashboard
from predictor.server.sdk import messages, services

HERE = Path(__file__).parent
NAMESPACE, POD = "voice", "sensevoice-1"
WEEK = 7 * 24 * 3600
DEADLINE_SECONDS = 60
"""For what takes some seconds on an idle machine."""

TARGETS = {
    (panel["title"], target["legendFormat"]): target["expr"]
    for panel in dashboard()["panels"]
    for target in panel.get("targets", [])
}


class Foreign(BaseHTTPRequestHandler):
    """The metrics that others have."""

    series = yaml.safe_load((HERE / "foreign_metrics.yaml").read_text())

    def log_message(self, *args): ...

    def do_GET(self):
        lines = []
        for each in self.series:
            labels = ",".join(f'{key}="{value}"' for key, value in each["labels"].items())
            grown = 1000 * time.monotonic() if each["metric"].endswith("_total") else 1
            lines.append(f"{each['metric']}{{{labels}}} {grown}\n")
        body = "".join(lines).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def last_week(folder, promtool):
    """Blocks of a database in which a week ago everybody spoke English."""
    begin = time.time() - WEEK - 120
    lines = [
        f'namespace_kind_tag:sensevoice_tags:ratio_increase6h{{namespace="{NAMESPACE}",kind="{kind}",'
        f'tag="{tag}"}} 1 {begin + minute * 60:.0f}\n'
        for kind, tag in {"language": "en", "emotion": "NEUTRAL", "event": "Speech"}.items()
        for minute in range(10)
    ]
    (folder / "week.txt").write_text("".join(lines) + "# EOF\n")
    command = [promtool, "tsdb", "create-blocks-from", "openmetrics", "week.txt", "data"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


class Prometheus:
    def __init__(self, url):
        self.client = httpx.Client(base_url=url, trust_env=False)

    def get(self, path, **parameters):
        answer = self.client.get(f"/api/v1/{path}", params=parameters).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def values(self, text):
        """Finite ones."""
        result = self.get("query", query=text)["result"]
        values = [float(sample["value"][1]) for sample in result]
        return [value for value in values if math.isfinite(value)]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory, new_port, demo_served, program, write_rules):
    """A server with the rules; it scrapes a predictor and what stands in for a cluster."""
    binary, promtool = program("prometheus"), program("promtool")
    folder, port = tmp_path_factory.mktemp("prometheus"), new_port()
    foreign = ThreadingHTTPServer(("127.0.0.1", 0), Foreign)
    threading.Thread(target=foreign.serve_forever, args=(0.02,), daemon=True).start()
    last_week(folder, promtool)
    labels = {"namespace": NAMESPACE, "pod": POD, "serving_knative_dev_revision": "a-00001"}
    jobs = [
        {
            "job_name": f"{NAMESPACE}/sensevoice-predictor",
            "static_configs": [
                {"targets": [demo_served.http.removeprefix("http://")], "labels": labels}
            ],
        },
        {
            "job_name": "foreign",
            "honor_labels": True,
            "static_configs": [{"targets": [f"127.0.0.1:{foreign.server_port}"]}],
        },
    ]
    often = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}
    files = [str(write_rules(folder))]
    settings = {"global": often, "rule_files": files, "scrape_configs": jobs}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
    command = [binary, "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, cwd=folder, stderr=log, stdout=log) as process,
    ):
        server = Prometheus(f"http://127.0.0.1:{port}")

        def scraped():
            assert process.poll() is None, (folder / "log").read_text()
            try:
                return server.values("sum(up)") == [2]
            except (httpx.TransportError, json.JSONDecodeError):
                return False

        try:
            deadline = time.monotonic() + DEADLINE_SECONDS
            while not scraped():
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.1)
            yield server
        finally:
            process.terminate()
            process.wait(DEADLINE_SECONDS)
            foreign.shutdown()
            foreign.server_close()


@pytest.fixture(scope="module")
def send(demo_served, demo_model_dir):
    """The function that sends one request over each protocol, and one that is wrong."""
    clip = min((demo_model_dir / "evaluation").glob("*.opus")).read_bytes()
    text = base64.b64encode(clip).decode()
    tensor = {"name": "audio", "shape": [1], "datatype": "BYTES"}
    with (
        httpx.Client(base_url=demo_served.http, trust_env=False, timeout=60) as client,
        grpc.insecure_channel(demo_served.grpc) as channel,
    ):
        stub = services.GRPCInferenceServiceStub(channel)

        def requests():
            v1 = {"instances": [{"audio": {"b64": text}}]}
            assert client.post("/v1/models/sensevoice:predict", json=v1).status_code == 200
            for data, status in ((text, 200), (base64.b64encode(b"noise").decode(), 400)):
                body = {"inputs": [{**tensor, "data": [data]}]}
                answer = client.post("/v2/models/sensevoice/infer", json=body)
                assert answer.status_code == status, answer.text
            message = messages.ModelInferRequest(model_name="sensevoice")
            audio = message.inputs.add(name="audio", datatype="BYTES", shape=[1])
            audio.contents.bytes_contents.append(clip)
            stub.ModelInfer(message, timeout=60)

        yield requests


def filled_in(expression):
    """As Grafana sends it."""
    return expression.replace("$namespace", NAMESPACE).replace("$__rate_interval", "1m")


def test_every_record_and_every_query_of_the_dashboard_finds_data(prometheus, send, rule_groups):
    rules = [rule for group in rule_groups for rule in group["rules"]]
    lacking = {("record", rule["record"]): rule["record"] for rule in rules if "record" in rule}
    lacking |= {title: filled_in(text) for title, text in TARGETS.items()}
    deadline = time.monotonic() + DEADLINE_SECONDS
    while lacking:
        send()
        lacking = {title: text for title, text in lacking.items() if not prometheus.values(text)}
        assert time.monotonic() < deadline, json.dumps({str(k): v for k, v in lacking.items()})
    groups = prometheus.get("rules")["groups"]
    evaluated = [rule for group in groups for rule in group["rules"]]
    assert len(evaluated) == len(rules)
    assert {
        each["name"]: each.get("lastError") for each in evaluated if each["health"] != "ok"
    } == {}


def test_figures_are_the_ones_that_were_sent(prometheus, send):
    """Some requests were wrong themselves; none failed by the predictor's fault."""
    send()
    [drift] = prometheus.values('namespace_kind:sensevoice_tags:drift1w{kind="language"}')
    assert 0.9 < drift <= 1, "everybody spoke English a week ago, and now nearly all speak Chinese"
    assert prometheus.values("namespace:sensevoice_faults:ratio_rate5m") == [0]
    assert prometheus.values("namespace:sensevoice_rejections:ratio_rate5m") == [0]
    deadline = time.monotonic() + DEADLINE_SECONDS
    by_protocol = "count(namespace_protocol:sensevoice_requests:rate5m > 0)"
    # A protocol has a rate once it has grown between two scrapes.
    while prometheus.values(by_protocol) != [3]:
        send()
        assert time.monotonic() < deadline, prometheus.values(by_protocol)
