"""Submitting over a socket, to a server that answers as Kubeflow Pipelines' API v2beta1 does."""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from kfp.client import KF_PIPELINES_SA_TOKEN_ENV

from pipelines import submit
from pipelines.submit import InvalidParameter, Package, main

SPECIFICATION = """\
pipelineInfo: {name: sensevoice-release}
root:
  inputDefinitions:
    parameters:
      source: {parameterType: STRING, defaultValue: embedded}
      clips: {parameterType: NUMBER_INTEGER, defaultValue: 5}
      share: {parameterType: NUMBER_DOUBLE}
      strict: {parameterType: BOOLEAN}
      steps: {parameterType: LIST}
      plan: {parameterType: STRUCT}
schemaVersion: 2.1.0
"""


class Kubeflow:
    """What is stored, what was asked for, and the states that a run goes through."""

    def __init__(self) -> None:
        self.pipelines: dict[str, str] = {}
        self.namespaces: dict[str, str | None] = {}
        self.versions: dict[str, dict[str, str]] = {}
        self.runs: dict[str, dict] = {}
        self.recurring: list[dict] = []
        self.experiments: dict[str, str] = {}
        self.tokens: set[str | None] = set()
        self.failing = 0
        self.states = [
            ("RUNNING", {"fetch": "RUNNING"}),
            ("RUNNING", {"fetch": "SUCCEEDED", "prepare": "RUNNING"}),
            ("SUCCEEDED", {"fetch": "SUCCEEDED", "prepare": "SUCCEEDED"}),
        ]

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes) -> dict | None:
        path = path.removeprefix("/apis/v2beta1")
        if path == "/healthz":
            return {"multi_user": False}
        if path == "/pipelines" and method == "GET":
            wanted = json.loads(query["filter"])["predicates"][0]["stringValue"]
            found = [{"pipeline_id": i, "display_name": n} for n, i in self.pipelines.items()]
            # Without a namespace, a profile's own are not among them.
            found = [
                one
                for one in found
                if one["display_name"] == wanted
                and self.namespaces[one["pipeline_id"]] == query.get("namespace")
            ]
            return {"pipelines": found}
        if path == "/pipelines/upload":
            if query["name"] in self.pipelines:
                return None
            self.pipelines[query["name"]] = f"pipeline-{len(self.pipelines)}"
            self.namespaces[self.pipelines[query["name"]]] = query.get("namespace")
            return {"pipeline_id": self.pipelines[query["name"]], "display_name": query["name"]}
        if path == "/pipelines/upload_version":
            versions = self.versions.setdefault(query["pipelineid"], {})
            versions[query["name"]] = f"version-{len(versions)}"
            return {
                "pipeline_id": query["pipelineid"],
                "pipeline_version_id": versions[query["name"]],
            }
        if listing := re.fullmatch(r"/pipelines/([^/]+)/versions", path):
            found = list(self.versions.get(listing[1], {}).items())
            at = int(query.get("page_token") or 0)
            page = [{"pipeline_version_id": i, "display_name": n} for n, i in found[at : at + 1]]
            more = {"next_page_token": str(at + 1)} if at + 1 < len(found) else {}
            return {"pipeline_versions": page, **more}
        if path == "/experiments" and method == "GET":
            found = [{"experiment_id": i, "display_name": n} for n, i in self.experiments.items()]
            return {"experiments": found}
        if path == "/experiments":
            name = json.loads(body)["display_name"]
            self.experiments[name] = f"experiment-{len(self.experiments)}"
            return {"experiment_id": self.experiments[name], "display_name": name}
        if path == "/runs":
            run = json.loads(body)
            self.runs[f"run-{len(self.runs)}"] = run
            return {"run_id": f"run-{len(self.runs) - 1}", **run}
        if path == "/recurringruns":
            self.recurring.append(json.loads(body))
            return {"recurring_run_id": "weekly"}
        if path.startswith("/runs/"):
            return self.run(path.rsplit("/", 1)[1])
        return None

    def run(self, run_id: str) -> dict:
        state, tasks = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        details = [{"task_id": n, "display_name": n, "state": s} for n, s in tasks.items()]
        failed = {"error": {"message": "gate: CER zh 0.4 > 0.1"}} if state == "FAILED" else {}
        return {
            "run_id": run_id,
            "state": state,
            "run_details": {"task_details": details},
            **failed,
        }


@pytest.fixture
def kubeflow() -> Kubeflow:
    return Kubeflow()


@pytest.fixture
def host(kubeflow: Kubeflow, monkeypatch: pytest.MonkeyPatch, tmp_path) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            kubeflow.tokens.add(self.headers.get("Authorization"))
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            if kubeflow.failing and url.path.startswith("/apis/v2beta1/runs/"):
                kubeflow.failing -= 1
                answer = None
            else:
                answer = kubeflow.answer(self.command, url.path, query, body)
            content = json.dumps(answer or {"message": "unavailable"}).encode()
            self.send_response(200 if answer else 503)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *arguments: object) -> None:
            pass

    monkeypatch.setattr(submit, "POLL_SECONDS", 0.01)
    monkeypatch.setattr("kfp.Client._LOCAL_KFP_CONTEXT", str(tmp_path / "context.json"))
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def package(tmp_path):
    path = tmp_path / "release.yaml"
    path.write_text(SPECIFICATION)
    return path


def words(host, package, *more):
    return ["release", f"--host={host}", f"--package={package}", *more]


def test_a_run_is_followed_task_by_task(kubeflow, host, package, capsys):
    assert main(words(host, package, "--set=source=/model", "--set=clips=3")) == 0
    printed = capsys.readouterr().out.splitlines()
    assert f"{host}/#/runs/details/run-0" in printed
    told = [line for line in printed if line.startswith(("fetch", "prepare"))]
    assert told == [
        "fetch: RUNNING",
        "fetch: SUCCEEDED",
        "prepare: RUNNING",
        "prepare: SUCCEEDED",
    ]
    assert printed[-1] == "SUCCEEDED"
    run = kubeflow.runs["run-0"]
    assert run["runtime_config"]["parameters"] == {"source": "/model", "clips": 3}
    assert run["pipeline_version_reference"] == {
        "pipeline_id": "pipeline-0",
        "pipeline_version_id": "version-0",
    }


def test_a_failed_run_says_why(kubeflow, host, package, capsys):
    kubeflow.states = [("FAILED", {"gate": "FAILED"})]
    assert main(words(host, package)) == 1
    printed = capsys.readouterr().out
    assert "gate: FAILED" in printed
    assert "gate: CER zh 0.4 > 0.1" in printed


@pytest.mark.parametrize("profile", [[], ["--namespace=speech"]])
def test_a_package_is_uploaded_once_and_a_changed_one_again(kubeflow, host, package, profile):
    for _ in range(2):
        assert main(words(host, package, "--no-wait", *profile)) == 0
    package.write_text(SPECIFICATION + "# changed\n")
    for _ in range(2):
        assert main(words(host, package, "--no-wait", *profile)) == 0
    assert list(kubeflow.pipelines) == ["sensevoice-release"]
    assert len(kubeflow.versions["pipeline-0"]) == 2
    assert len(kubeflow.runs) == 4


def test_a_run_outlives_an_endpoint_that_does_not_answer(kubeflow, host, package, capsys):
    kubeflow.failing = 2
    assert main(words(host, package)) == 0
    assert capsys.readouterr().out.count("asking again") == 2


def test_a_pipeline_can_recur(kubeflow, host, package, capsys):
    assert main(words(host, package, "--cron=0 0 3 * * 1")) == 0
    (recurring,) = kubeflow.recurring
    assert recurring["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * 1"
    assert not kubeflow.runs
    assert f"{host}/#/recurringrun/details/weekly" in capsys.readouterr().out


def test_a_token_is_sent(kubeflow, host, package, monkeypatch):
    monkeypatch.setenv(submit.TOKEN, "secret")
    assert main(words(host, package, "--no-wait")) == 0
    assert kubeflow.tokens == {"Bearer secret"}


def test_a_token_in_a_file_is_read_again(kubeflow, host, package, monkeypatch, tmp_path):
    file = tmp_path / "token"
    monkeypatch.setenv(KF_PIPELINES_SA_TOKEN_ENV, str(file))
    for token in ("first", "second"):
        file.write_text(token)
        kubeflow.tokens.clear()
        assert main(words(host, package, "--no-wait")) == 0
        assert kubeflow.tokens == {f"Bearer {token}"}


def test_values_have_the_types_of_their_parameters(package):
    settings = ["clips=3", "share=1", "strict=true", "steps=[0, 100]", "plan={bake_seconds: 5}"]
    assert Package(package).arguments(settings) == {
        "clips": 3,
        "share": 1,
        "strict": True,
        "steps": [0, 100],
        "plan": {"bake_seconds": 5},
    }


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("clips", "'clips': expected name=value"),
        ("clip=3", "no parameter 'clip'; it has: source, clips"),
        ("clips=three", "clips: 'three' is not of type NUMBER_INTEGER"),
        ("clips=true", "clips: 'true' is not of type NUMBER_INTEGER"),
        ("steps=5", "steps: '5' is not of type LIST"),
        ("plan={", "plan: "),
    ],
)
def test_a_wrong_parameter_is_named(package, setting, message):
    with pytest.raises(InvalidParameter, match=re.escape(message)):
        Package(package).arguments([setting])


def test_an_endpoint_that_is_not_there_is_an_error(package, capsys, new_port):
    assert main(words(f"http://127.0.0.1:{new_port()}", package)) == 1
    assert "127.0.0.1" in capsys.readouterr().out
