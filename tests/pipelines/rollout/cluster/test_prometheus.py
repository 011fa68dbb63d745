"""Against a real Prometheus that scrapes the predictor's own metrics, and against what else may answer."""

import json
import shutil
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from inspect import isclass

import httpx
import pytest
import yaml
from prometheus_client import CollectorRegistry, start_http_server

import predictor.engine.errors
import predictor.server.errors
from pipelines.rollout.cluster.errors import ClusterError
from pipelines.rollout.cluster.prometheus import FAULTS, PrometheusMeter, query
from pipelines.rollout.target import Unavailable
from predictor.engine.errors import SpeechError
from predictor.server.metrics import Metrics
from predictor.server.observer import CANCELLED, OK, RequestRecord

NAMESPACE, REVISION = "voice", "sensevoice-predictor-00002"
DEADLINE_SECONDS = 60
"""For what takes a moment on an idle machine."""


REVISIONS = {
    "one": REVISION,
    "two": REVISION,
    "other": "other",
    "old": "old",
    "again": "again",
    "fast": "fast",
    "slow": "slow",
    "names": "names",
    "leaving": "leaving",
    "standard": "sensevoice-v0a1b2c3d-predictor",
}
"""Pod → its revision. A pod has no series before it answers."""


class Pod:
    """The predictor's metrics at a port of their own."""

    def __init__(self, port=0):
        registry = CollectorRegistry()
        self.metrics = Metrics(max_batch_seconds=60, registry=registry)
        self.server, _ = start_http_server(port, "127.0.0.1", registry)
        self.port = self.server.server_port

    def answer(self, n, seconds=0.03, reason=OK, protocol="rest_v2"):
        for _ in range(n):
            self.metrics.on_end(RequestRecord(protocol, reason=reason, seconds=seconds))

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Prometheus:
    """A server process."""

    def __init__(self, url):
        self.url = url
        self.client = httpx.Client(base_url=url, trust_env=False)

    def ask(self, text):
        answer = self.client.get("/api/v1/query", params={"query": text}).json()
        assert answer["status"] == "success", answer
        return [float(sample["value"][1]) for sample in answer["data"]["result"]]

    def until(self, condition):
        """What ``condition`` returns, once it is true."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not (found := condition()):
            assert time.monotonic() < deadline, "Prometheus never saw it"
            time.sleep(0.05)
        return found


@pytest.fixture(scope="module")
def pods():
    made = {name: Pod() for name in REVISIONS}
    yield made
    for pod in made.values():
        pod.close()


def revision_label(revision):
    """What the pods' labels make of a revision; a Deployment's name is one in Standard mode."""
    if revision.endswith("-predictor"):
        return {"app": f"isvc.{revision}"}
    return {"serving_knative_dev_revision": revision}


def job(pods):
    """Labelled as a PodMonitor labels them."""
    targets = [
        {
            "targets": [f"127.0.0.1:{pod.port}"],
            "labels": {
                "namespace": NAMESPACE,
                "pod": name,
                **revision_label(REVISIONS[name]),
            },
        }
        for name, pod in pods.items()
    ]
    return {"job_name": "pods", "static_configs": targets}


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory, new_port, pods):
    """Scrapes the pods."""
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("no prometheus on the PATH; Debian's package of that name has it")
    folder, port = tmp_path_factory.mktemp("prometheus"), new_port()
    often = {"scrape_interval": "200ms", "scrape_timeout": "200ms"}
    settings = {"global": often, "scrape_configs": [job(pods)]}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
    command = [
        binary,
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
    ]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, stderr=log, stdout=log) as process,
    ):
        server = Prometheus(f"http://127.0.0.1:{port}")

        def ready():
            assert process.poll() is None, (folder / "log").read_text()
            try:
                return server.client.get("/-/ready").is_success
            except httpx.TransportError:
                return False

        try:
            server.until(ready)
            server.until(lambda: server.ask("sum(up)") == [len(pods)])
            yield server
        finally:
            process.terminate()
            process.wait(DEADLINE_SECONDS)


@pytest.fixture
def meter(prometheus):
    return PrometheusMeter(prometheus.url, NAMESPACE)


def total(pod, when=""):
    return f'sum(sensevoice_requests_total{{pod="{pod}"}} {when})'


# A real one


def test_nobody_has_answered(prometheus, meter):
    found = meter.measure("nobody", 60)
    assert (found.requests, found.errors, found.p95_s, found.p99_s) == (0, 0, None, None)
    assert found.error_rate == 0


def test_what_two_pods_of_a_revision_answered_since_they_were_born(prometheus, meter, pods):
    """Counters that are born within the window count whole: the first error is one."""
    one, two, other = (pods[name] for name in ("one", "two", "other"))
    for each in (one, two):
        each.answer(50)
    one.answer(1, reason="internal", protocol="grpc_v2")
    two.answer(1, reason="not_ready")
    two.answer(4, reason="invalid_audio")
    two.answer(3, reason=CANCELLED)
    two.answer(2, reason="overloaded")
    other.answer(500, seconds=9, reason="internal")
    for name, requests in {"one": 51, "two": 60, "other": 500}.items():
        prometheus.until(lambda name=name, n=requests: prometheus.ask(total(name)) == [n])
    found = meter.measure(REVISION, 300)
    assert (found.requests, found.errors) == (111, 2)
    # Within their bucket, of 25 to 50 ms.
    assert 0.025 < found.p95_s <= found.p99_s <= 0.05
    assert meter.measure("other", 300).errors == 500
    assert PrometheusMeter(prometheus.url, "elsewhere").measure(REVISION, 300).requests == 0


def test_a_deployments_pods_in_standard_mode(prometheus, meter, pods):
    pods["standard"].answer(20)
    prometheus.until(lambda: prometheus.ask(total("standard")) == [20])
    assert meter.measure(REVISIONS["standard"], 300).requests == 20
    assert meter.measure("sensevoice-predictor", 300).requests == 0


def test_what_was_answered_before_the_window_does_not_count(prometheus, meter, pods):
    old, window = pods["old"], 3
    old.answer(1000, seconds=9)
    old.answer(100, reason="internal")
    prometheus.until(lambda: prometheus.ask(total("old", f"offset {window}s")) == [1100])
    assert meter.measure("old", window).requests == 0
    old.answer(300, seconds=0.03)
    old.answer(30, seconds=0.7)
    grown = prometheus.until(lambda: meter.measure("old", window).requests)
    # Prometheus extrapolates from the samples to the window's ends.
    assert 300 <= grown <= 500
    found = meter.measure("old", 300)
    assert (found.requests, found.errors) == (1430, 100)


def test_what_a_container_answered_before_it_started_again_is_not_lost(prometheus, meter, pods):
    """The same pod, so the same series, which begin anew."""
    pods["again"].answer(100)
    pods["again"].answer(5, reason="internal")
    prometheus.until(lambda: prometheus.ask(total("again")) == [105])
    pods["again"].close()
    pods["again"] = Pod(pods["again"].port)
    pods["again"].answer(7)
    prometheus.until(lambda: prometheus.ask(total("again")) == [7])
    found = meter.measure("again", 300)
    assert (found.requests, found.errors) == (105, 5)


def test_errors_and_quantiles_of_one_slow_revision_are_its_own(prometheus, meter, pods):
    fast, slow = pods["fast"], pods["slow"]
    fast.answer(100, seconds=0.03)
    slow.answer(90, seconds=0.03)
    slow.answer(10, seconds=1.5)
    for name in ("fast", "slow"):
        prometheus.until(lambda name=name: prometheus.ask(total(name)) == [100])
    assert meter.measure("fast", 60).p99_s <= 0.05
    assert 1 < meter.measure("slow", 60).p95_s <= 2


def test_a_query_that_prometheus_refuses_is_told(prometheus, meter):
    with pytest.raises(ClusterError, match=r"400: .*parse error|400: .*duration"):
        meter.measure(REVISION, 0)


def test_every_name_in_the_query_is_one_of_the_predictors(pods):
    pods["names"].answer(1)
    text = query(NAMESPACE, REVISION, 60)
    exported = httpx.get(f"http://127.0.0.1:{pods['names'].port}/metrics", trust_env=False).text
    for name in ("sensevoice_requests_total", "sensevoice_request_seconds_bucket"):
        assert f"{name}{{" in text
        assert f"{name}{{" in exported


# What counts as an error


def test_faults_are_the_errors_that_are_answered_with_5xx():
    kinds = [*vars(predictor.engine.errors).values(), *vars(predictor.server.errors).values()]
    errors = {kind for kind in kinds if isclass(kind) and issubclass(kind, SpeechError)}
    assert {kind.reason for kind in errors if kind.http_status >= 500} == set(FAULTS)


# What else may answer


class Answering(BaseHTTPRequestHandler):
    status, body, headers_seen, encoding = 200, b"", [], "identity"

    def log_message(self, *args): ...

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        type(self).headers_seen = [*self.headers_seen, dict(self.headers)]
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.send_header("Content-Encoding", self.encoding)
        self.end_headers()
        self.wfile.write(self.body)


@pytest.fixture
def answering():
    """A server; returns a function that says with what it answers, and its URL."""
    handler = type("Handler", (Answering,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def answer(status, body=b""):
        handler.status, handler.body = status, body
        return f"http://127.0.0.1:{server.server_port}"

    answer.handler = handler
    yield answer
    server.shutdown()
    server.server_close()


def vector(**figures):
    result = [
        {"metric": {"figure": name}, "value": [1_800_000_000, value]}
        for name, value in figures.items()
    ]
    return json.dumps({"status": "success", "data": {"result": result}}).encode()


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_a_server_that_may_be_better_later(answering, status):
    meter = PrometheusMeter(answering(status, b'{"error": "too busy"}'), NAMESPACE)
    with pytest.raises(Unavailable, match=rf"/api/v1/query: {status}: too busy"):
        meter.measure(REVISION, 60)


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 422])
def test_a_refusal_is_told(answering, status):
    meter = PrometheusMeter(answering(status, b"go away"), NAMESPACE)
    with pytest.raises(ClusterError, match=rf"/api/v1/query: {status}: go away"):
        meter.measure(REVISION, 60)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"data": {"result": 5}}',
        b'{"data": {"result": [{"metric": {}, "value": [0, "1"]}]}}',
        b'{"data": {"result": [{"metric": {"figure": "requests"}, "value": [0]}]}}',
        b'{"data": {"result": [{"metric": {"figure": "requests"}, "value": [0, "many"]}]}}',
    ],
)
def test_something_else_than_prometheus_is_told(answering, body):
    meter = PrometheusMeter(answering(200, body), NAMESPACE)
    with pytest.raises(ClusterError, match="answers, but not as Prometheus does"):
        meter.measure(REVISION, 60)


def test_nobody_there(new_port):
    meter = PrometheusMeter(f"http://127.0.0.1:{new_port()}", NAMESPACE)
    with pytest.raises(Unavailable, match="ConnectError"):
        meter.measure(REVISION, 60)


@pytest.mark.parametrize("url", ["prometheus.monitoring:9090", "prometheus", "ftp://prometheus"])
def test_an_address_that_is_no_url_is_told(url):
    with pytest.raises(ClusterError, match="http://"):
        PrometheusMeter(url, NAMESPACE).measure(REVISION, 60)


def test_an_answer_that_does_not_come_ends_with_the_timeout():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        meter = PrometheusMeter(url, NAMESPACE, timeout_s=0.05)
        with pytest.raises(Unavailable, match="ReadTimeout"):
            meter.measure(REVISION, 60)


def test_figures_that_are_no_numbers_are_none(answering):
    body = vector(requests="10", errors="0", p95="NaN", p99="+Inf")
    found = PrometheusMeter(answering(200, body), NAMESPACE).measure(REVISION, 60)
    assert (found.requests, found.p95_s, found.p99_s) == (10, None, None)


def test_extrapolated_errors_are_at_most_the_requests(answering):
    body = vector(requests="9.6", errors="11.2", p95="0.1", p99="0.2")
    found = PrometheusMeter(answering(200, body), NAMESPACE).measure(REVISION, 60)
    assert (found.requests, found.errors) == (10, 10)


def test_a_token_and_a_path_are_sent_along(answering):
    url = answering(200, vector()) + "/prometheus/"
    PrometheusMeter(url, NAMESPACE, token="secret").measure(REVISION, 60)  # noqa: S106
    (headers,) = answering.handler.headers_seen
    assert headers["Authorization"] == "Bearer secret"


def test_a_window_is_rounded_up_to_seconds():
    assert "[16s]" in query(NAMESPACE, REVISION, 15.2)
    assert "[1s]" in query(NAMESPACE, REVISION, 0.3)


def test_in_standard_mode_a_revision_is_told_by_its_pods_label_app():
    text = query(NAMESPACE, "sensevoice-v0a1b2c3d-predictor", 15)
    assert '{namespace="voice",app="isvc.sensevoice-v0a1b2c3d-predictor"' in text
    assert "serving_knative_dev_revision" not in text


def test_names_are_quoted():
    assert r'namespace="a\"b"' in query('a"b', REVISION, 15)


@pytest.mark.parametrize(
    ("age", "stale"),
    [({"age": "29"}, False), ({"age": "31"}, True), ({"age": "NaN"}, True), ({}, True)],
)
def test_figures_without_a_sample_in_the_later_half_are_stale(answering, age, stale):
    body = vector(requests="10", errors="0", p95="0.1", p99="0.2", **age)
    found = PrometheusMeter(answering(200, body), NAMESPACE).measure(REVISION, 60)
    assert found.stale is stale


def test_a_pod_that_is_scraped_no_more_leaves_stale_figures(prometheus, meter, pods):
    leaving = pods["leaving"]
    leaving.answer(30)
    prometheus.until(lambda: prometheus.ask(total("leaving")) == [30])
    assert not meter.measure("leaving", 300).stale
    leaving.close()
    prometheus.until(lambda: meter.measure("leaving", 300).stale)
    assert meter.measure("leaving", 300).requests == 30


@pytest.mark.parametrize("figure", ["requests", "errors"])
def test_counts_that_are_no_numbers_measure_nothing(answering, figure):
    body = vector(**{"requests": "10", "errors": "0", figure: "NaN"})
    with pytest.raises(Unavailable, match="no numbers"):
        PrometheusMeter(answering(200, body), NAMESPACE).measure(REVISION, 60)


def warning(text):
    return json.dumps({**json.loads(vector(requests="10", age="1")), "warnings": [text]}).encode()


def test_an_answer_without_a_part_measures_nothing(answering):
    meter = PrometheusMeter(answering(200, warning("store 2: no answer")), NAMESPACE)
    with pytest.raises(Unavailable, match="not all is there: store 2: no answer"):
        meter.measure(REVISION, 60)
    answering(200, warning("PromQL info: input to histogram_quantile needed to be fixed"))
    assert meter.measure(REVISION, 60).requests == 10


def test_an_answer_that_cannot_be_unpacked_measures_nothing(answering):
    url = answering(200, b"not gzip")
    answering.handler.encoding = "gzip"
    with pytest.raises(Unavailable, match="DecodingError"):
        PrometheusMeter(url, NAMESPACE).measure(REVISION, 60)
