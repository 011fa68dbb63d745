"""What runs may do is what the code does, as its requests tell; the CronJob's commands are run."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from kfp import client as kfp_client
from kubernetes import client

from manifests.render import render
from pipelines import pod, submit
from pipelines.rollout.cluster.target import ClusterTarget, connect
from pipelines.rollout.target import ServedModel

NAMESPACE, NAME = pod.SERVICE.removeprefix("kserve://").split("/")
Answer = Callable[[str, str], dict]


@contextmanager
def recorded(answer: Answer) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """A server over a socket; yields its address and the methods and paths that it was asked."""
    asked: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            """Of any method."""
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = urlsplit(self.path).path
            asked.append((self.command, path))
            body = json.dumps(answer(self.command, path)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def allowed(role) -> set[tuple[str, str, str, str]]:
    """(group, resource, name or empty, verb) of each permission."""
    return {
        (group, resource, name, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
        for verb in rule["verbs"]
    }


@pytest.fixture(scope="module")
def objects(compose):
    return compose("pipelines")


@pytest.fixture(scope="module")
def job(objects, pick):
    """The pod of the CronJob."""
    cron = pick(objects, "CronJob", "submit-release")
    return cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]


def test_the_rollout_may_do_what_it_does(objects, pick):
    document = {
        "metadata": {
            "namespace": NAMESPACE,
            "name": NAME,
            "uid": "1",
            "generation": 1,
            "resourceVersion": "1",
            "annotations": pick(objects, "InferenceService")["metadata"]["annotations"],
        },
        "spec": pick(objects, "InferenceService")["spec"],
    }
    public = {name for name in vars(ClusterTarget) if not name.startswith("_")}
    assert public == {"observe", "write", "record"}, "another call: make it below"
    with recorded(lambda method, path: document) as (url, asked):
        target = connect(NAMESPACE, NAME, client.Configuration(host=url))
        seen = target.observe()
        model = ServedModel("pvc://model-cache/sensevoice-small/aaaa", "a" * 64)
        target.write(seen, state="{}", percent=0, model=model)
        target.record("Started", "a rollout")
    verbs = {"GET": "get", "PATCH": "patch", "POST": "create"}
    done = set()
    for method, path in asked:
        found = re.fullmatch(r"/apis/([^/]+)/[^/]+/namespaces/([^/]+)/([^/]+)/?([^/]*)", path)
        assert found, path
        group, namespace, resource, name = found.groups()
        assert namespace == NAMESPACE
        done.add((group, resource, name, verbs[method]))
    assert allowed(pick(objects, "Role", "sensevoice-rollout")) == done


def kubeflow(method: str, path: str) -> dict:
    """An API of Kubeflow Pipelines (v2beta1) where nothing has been uploaded yet."""
    answers = {
        ("GET", "/healthz"): {"multi_user": True},
        ("POST", "/pipelines/upload"): {"pipeline_id": "p", "display_name": "sensevoice-release"},
        ("POST", "/pipelines/upload_version"): {"pipeline_id": "p", "pipeline_version_id": "v"},
        ("POST", "/experiments"): {"experiment_id": "e", "display_name": "sensevoice"},
        ("POST", "/runs"): {"run_id": "r"},
        ("GET", "/runs/r"): {"run_id": "r", "state": "SUCCEEDED"},
    }
    return answers.get((method, path.removeprefix("/apis/v2beta1")), {})


def permission(method: str, path: str) -> tuple[str, str, str, str] | None:
    """What Kubeflow Pipelines asks Kubernetes about a request; None: nothing."""
    words = path.removeprefix("/apis/v2beta1/").split("/")
    if words == ["healthz"]:
        return None
    if words[0] == "pipelines":
        # Versions are asked about as their pipelines.
        return "pipelines.kubeflow.org", "pipelines", "", "create" if method == "POST" else "list"
    verb = "create" if method == "POST" else "list" if len(words) == 1 else "get"
    return "pipelines.kubeflow.org", words[0], "", verb


@pytest.fixture(scope="module")
def compiled(job, tmp_path_factory) -> Path:
    """The folder that the init container writes."""
    [container] = job["initContainers"]
    folder = tmp_path_factory.mktemp("compiled")
    words = container["args"][:-1]
    values = {each["name"]: each["value"] for each in container["env"]}
    words = [sys.executable, *words, str(folder)]
    subprocess.run(words, env=os.environ | values, check=True, capture_output=True)
    return folder


def test_the_job_submits_the_release_with_its_own_permissions(
    objects, pick, job, compiled, monkeypatch
):
    [container], [compiling] = job["containers"], job["initContainers"]
    assert container["args"][:2] == ["-m", submit.__name__]
    monkeypatch.delenv(submit.TOKEN, raising=False)
    with recorded(kubeflow) as (url, asked):
        words = [
            word.replace(compiling["args"][-1], str(compiled)) for word in container["args"][2:]
        ]
        # The last of two counts.
        assert submit.main([*words, f"--host={url}"]) == 0
    done = {permission(*request) for request in asked} - {None}
    assert ("pipelines.kubeflow.org", "runs", "", "create") in done
    assert allowed(pick(objects, "Role", "submit-release")) == done


def test_steps_run_the_image_of_an_overlay(tmp_path, job):
    digest = "sha256:" + "1" * 64
    folder = os.path.relpath(Path("manifests").resolve(), tmp_path.resolve())
    kustomization = {
        "resources": [f"{folder}/base"],
        "components": [f"{folder}/components/pipelines"],
        "images": [
            {
                "name": "sensevoice-pipelines",
                "newName": "registry.example/speech/pipelines",
                "digest": digest,
            }
        ],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    text = render(tmp_path)
    [cron] = [each for each in yaml.safe_load_all(text) if each["kind"] == "CronJob"]
    spec = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    image = f"registry.example/speech/pipelines@{digest}"
    [compiling], [submitting] = spec["initContainers"], spec["containers"]
    assert compiling["env"] == [{"name": "SENSEVOICE_PIPELINES_IMAGE", "value": image}]
    assert (compiling["image"], submitting["image"]) == (image, image)


def test_compiled_steps_run_the_job_s_image(job, compiled):
    [container] = job["containers"]
    specification = next(yaml.safe_load_all((compiled / "release.yaml").read_text()))
    executors = specification["deploymentSpec"]["executors"].values()
    assert {each["container"]["image"] for each in executors} == {container["image"]}


def test_the_token_is_where_kfp_looks_and_for_its_audience(job):
    [container] = job["containers"]
    variables = {each["name"]: each["value"] for each in container["env"]}
    [mount] = [each for each in container["volumeMounts"] if each["name"] == "token"]
    [volume] = [each for each in job["volumes"] if each["name"] == "token"]
    [source] = volume["projected"]["sources"]
    token = source["serviceAccountToken"]
    path = f"{mount['mountPath']}/{token['path']}"
    assert variables[kfp_client.KF_PIPELINES_SA_TOKEN_ENV] == path
    assert path == kfp_client.KF_PIPELINES_SA_TOKEN_PATH
    assert token["audience"] == "pipelines.kubeflow.org"
    # Kubernetes itself it is not to ask.
    assert job["automountServiceAccountToken"] is False


def test_names_are_those_that_steps_use(objects, pick):
    [rule, _] = pick(objects, "Role", "sensevoice-rollout")["rules"]
    service = pick(objects, "InferenceService")["metadata"]
    assert f"kserve://{service['namespace']}/{service['name']}" == pod.SERVICE
    assert rule["resourceNames"] == [service["name"]]
    assert (
        pick(objects, "PersistentVolumeClaim", pod.CACHE_CLAIM)["metadata"]["namespace"]
        == (service["namespace"])
    )
    policy = pick(objects, "NetworkPolicy", "pipeline-runs")["spec"]["egress"]
    open_to = {
        (peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"], port["port"])
        for each in policy
        for peer in each["to"]
        if "matchLabels" in peer.get("namespaceSelector", {})
        for port in each.get("ports", [])
    }
    for url in (pod.MLFLOW, pod.PROMETHEUS):
        parts = urlsplit(url)
        assert (parts.hostname.split(".")[1], parts.port) in open_to
    for binding in (each for each in objects if each["kind"] == "RoleBinding"):
        assert binding["metadata"]["namespace"] == service["namespace"]
        [subject] = binding["subjects"]
        assert subject["namespace"] == service["namespace"]
