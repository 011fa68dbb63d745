"""The rendered MLflow, run here with its own arguments, variables and files, on PostgreSQL and S3."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import boto3
import httpx
import pytest
from mlflow import MlflowClient
from moto.server import ThreadedMotoServer

from pipelines import pod

START_SECONDS = 120
SECRETS = {
    "mlflow-database": {"username": "mlflow", "password": "database password"},
    "mlflow-admin": {"password": "the admin's password", "secret-key": "signs forms"},
    "mlflow-artifacts": {"access-key-id": "artifacts", "secret-access-key": "their password"},
}


@pytest.fixture(scope="module")
def server(compose):
    """Objects of the component."""
    return compose("mlflow")


@pytest.fixture(scope="module")
def trial(compose):
    """Objects of its SQLite form."""
    return compose("mlflow", "mlflow-trial")


def values_of(objects, container) -> dict[str, str]:
    """The variables that the kubelet sets."""
    maps = {each["metadata"]["name"]: each for each in objects if each["kind"] == "ConfigMap"}
    values = {}
    for source in container.get("envFrom", []):
        values |= maps[source["configMapRef"]["name"]]["data"]
    for variable in container.get("env", []):
        if "value" in variable:
            values[variable["name"]] = variable["value"]
        else:
            reference = variable["valueFrom"]["secretKeyRef"]
            values[variable["name"]] = SECRETS[reference["name"]][reference["key"]]
    return values


@dataclass
class Pod:
    """A rendered pod as processes of this machine: each mount is a folder under ``folder``.

    ``changed`` are variables that name where other servers are, as an overlay would set them.
    """

    objects: list
    spec: dict
    folder: Path
    port: int
    changed: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """What the kubelet does before it starts the containers."""
        maps = {
            each["metadata"]["name"]: each for each in self.objects if each["kind"] == "ConfigMap"
        }
        self.volumes = {}
        for volume in self.spec["volumes"]:
            place = self.folder / volume["name"]
            place.mkdir()
            self.volumes[volume["name"]] = place
            if name := volume.get("configMap", {}).get("name"):
                for file, text in maps[name]["data"].items():
                    (place / file).write_text(self.here(text))
        # Like the root file system, except that a write shows instead of failing.
        self.root = self.folder / "root"
        self.root.mkdir()

    def here(self, text: str) -> str:
        """Paths of mounts to this machine's."""
        mounts = self.spec["containers"][0]["volumeMounts"]
        places = {each["mountPath"]: str(self.folder / each["name"]) for each in mounts}
        # All in one pass: this machine's paths may begin like one of the pod's.
        there = "|".join(map(re.escape, places))
        return re.sub(rf"({there})(?![\w-])", lambda found: places[found[1]], text)

    def command(self, container) -> tuple[list[str], dict[str, str]]:
        values = values_of(self.objects, container) | self.changed
        values = {name: self.here(value) for name, value in values.items()}
        words = [
            re.sub(r"\$\((\w+)\)", lambda found: values[found[1]], word)
            for word in container["args"]
        ]
        words = [word.replace("--port=5000", f"--port={self.port}") for word in words]
        path = {"PATH": os.environ["PATH"], "HOME": str(self.folder / "tmp")}
        return [sys.executable, *words], {**path, "TMPDIR": path["HOME"], **values}

    def prepare(self) -> None:
        """Run the init containers."""
        for container in self.spec["initContainers"]:
            words, values = self.command(container)
            done = subprocess.run(words, env=values, cwd=self.root, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr

    @contextmanager
    def serving(self) -> Iterator[str]:
        """The container, from its startup probe on; yields its address."""
        [container] = self.spec["containers"]
        words, values = self.command(container)
        log, path = self.folder / "log", container["startupProbe"]["httpGet"]["path"]
        uri = f"http://127.0.0.1:{self.port}"
        with (
            log.open("a") as output,
            subprocess.Popen(
                words, env=values, cwd=self.root, stdout=output, stderr=output
            ) as server,
        ):
            try:
                await_answer(uri + path, server, log)
                yield uri
            finally:
                server.terminate()
                server.wait(60)


def await_answer(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            if httpx.get(url, trust_env=False).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)


@pytest.fixture(scope="module")
def postgresql(server, pick, new_port) -> Iterator[dict[str, str]]:
    """A cluster as the StatefulSet's image makes it; gives the variables that lead to it."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    binaries = found[-1].parent if found else None
    if binaries is None:
        pytest.skip("no PostgreSQL server under /usr/lib/postgresql: Debian's package postgresql")
    [container] = pick(server, "StatefulSet", "mlflow-postgresql")["spec"]["template"]["spec"][
        "containers"
    ]
    values = values_of(server, container)
    # PostgreSQL does not run as root.
    owner = "postgres" if os.geteuid() == 0 else None
    folder, port = Path(tempfile.mkdtemp(prefix="postgresql-")), new_port()
    try:
        password = folder / "password"
        password.write_text(values["POSTGRES_PASSWORD"])
        [script] = [
            each["data"]["create-auth-database.sql"]
            for each in server
            if each["kind"] == "ConfigMap" and "create-auth-database.sql" in each["data"]
        ]
        if owner:
            shutil.chown(folder, owner)
            shutil.chown(password, owner)

        def run(program: str, *words: str, text: str = "") -> None:
            subprocess.run(
                [binaries / program, *words],
                input=text,
                check=True,
                user=owner,
                cwd=folder,
                text=True,
                capture_output=True,
            )

        data, asking = str(folder / "data"), [f"--host={folder}", f"--port={port}"]
        asking += [f"--username={values['POSTGRES_USER']}", "--set=ON_ERROR_STOP=1"]
        initial = values["POSTGRES_INITDB_ARGS"].split()
        run(
            "initdb",
            f"--pgdata={data}",
            f"--username={values['POSTGRES_USER']}",
            f"--pwfile={password}",
            "--auth-local=trust",
            "--no-sync",
            *initial,
        )
        listen = f"-F -p {port} -k {folder} -c listen_addresses=127.0.0.1"
        run(
            "pg_ctl", "start", f"--pgdata={data}", "--wait", f"--log={folder / 'log'}", "-o", listen
        )
        try:
            create = f"CREATE DATABASE {values['POSTGRES_DB']};"
            run("psql", *asking, "--dbname=postgres", text=create)
            run("psql", *asking, f"--dbname={values['POSTGRES_DB']}", text=script)
            yield {"PGHOST": "127.0.0.1", "PGPORT": str(port)}
        finally:
            run("pg_ctl", "stop", f"--pgdata={data}", "--mode=immediate", "--wait")
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def object_store() -> Iterator[str]:
    """Address of an S3 server, which has the bucket that the settings name."""
    s3 = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    s3.start()
    yield "http://{}:{}".format(*s3.get_host_and_port())
    s3.stop()


def bucket_of(store: str, objects):
    [settings] = [
        each["data"]
        for each in objects
        if each["kind"] == "ConfigMap" and "MLFLOW_ARTIFACTS_DESTINATION" in each["data"]
    ]
    resource = boto3.resource(
        "s3",
        endpoint_url=store,
        region_name=settings["AWS_DEFAULT_REGION"],
        aws_access_key_id="admin",
        aws_secret_access_key="admin",  # noqa: S106
    )
    return resource.Bucket(settings["MLFLOW_ARTIFACTS_DESTINATION"].removeprefix("s3://"))


def use(uri: str, monkeypatch: pytest.MonkeyPatch, name: str, password: str) -> MlflowClient:
    """A client as a step of a pipeline is one: by the variables of the Secret ``mlflow-credentials``."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    return MlflowClient(uri, uri)


def register(uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A user for the pipelines, and by it a run with a file and a version → the run's id."""
    admin = ("admin", SECRETS["mlflow-admin"]["password"])
    user = {"username": "pipelines", "password": "the pipelines' password"}
    made = httpx.post(
        f"{uri}/api/2.0/mlflow/users/create", json=user, auth=admin, timeout=60, trust_env=False
    )
    assert made.is_success, made.text
    client = use(uri, monkeypatch, *user.values())
    run = client.create_run(client.create_experiment("releases"))
    report = tmp_path / "report.md"
    report.write_text("measured")
    client.log_artifact(run.info.run_id, str(report))
    client.create_registered_model("sensevoice")
    version = client.create_model_version(
        "sensevoice", "pvc://model-cache/sensevoice-small/aaaa", run.info.run_id
    )
    client.set_registered_model_alias("sensevoice", "champion", version.version)
    return run.info.run_id


def check_kept(uri: str, run: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    client = use(uri, monkeypatch, "pipelines", "the pipelines' password")
    version = client.get_model_version_by_alias("sensevoice", "champion")
    assert version.source == "pvc://model-cache/sensevoice-small/aaaa"
    assert version.run_id == run
    copy = tmp_path / "copy"
    copy.mkdir()
    assert Path(client.download_artifacts(run, "report.md", str(copy))).read_text() == "measured"


def check_guarded(uri: str) -> None:
    """Nobody without a password, and no browser that was led here by another name."""
    search = f"{uri}/api/2.0/mlflow/experiments/search?max_results=1"
    admin = ("admin", SECRETS["mlflow-admin"]["password"])
    with httpx.Client(trust_env=False, timeout=60) as client:
        assert client.get(search).status_code == 401
        assert client.get(search, auth=("admin", "guess")).status_code == 401
        for host, status in (
            ("mlflow.mlflow:5000", 200),
            ("mlflow.mlflow.svc.cluster.local:5000", 200),
            ("elsewhere.example", 403),
        ):
            answer = client.get(search, auth=admin, headers={"Host": host})
            assert (host, answer.status_code) == (host, status)


def test_versions_outlive_the_server(
    server, pick, postgresql, object_store, new_port, monkeypatch, tmp_path
):
    bucket = bucket_of(object_store, server)
    bucket.create()
    folder = tmp_path / "pod"
    folder.mkdir()
    # One worker, to be quick.
    changed = {**postgresql, "MLFLOW_S3_ENDPOINT_URL": object_store, "MLFLOW_WORKERS": "1"}
    spec = pick(server, "Deployment", "mlflow")["spec"]["template"]["spec"]
    pod_here = Pod(server, spec, folder, new_port(), changed)
    pod_here.prepare()
    with pod_here.serving() as uri:
        run = register(uri, monkeypatch, tmp_path)
    [kept] = [each.key for each in bucket.objects.all()]
    assert kept.endswith(f"{run}/artifacts/report.md")
    with pod_here.serving() as uri:
        check_kept(uri, run, monkeypatch, tmp_path)
        check_guarded(uri)
    assert not list(pod_here.root.iterdir()), "written outside of the mounts"


def test_a_trial_keeps_versions_on_its_volume(trial, pick, new_port, monkeypatch, tmp_path):
    folder = tmp_path / "pod"
    folder.mkdir()
    spec = pick(trial, "Deployment", "mlflow")["spec"]["template"]["spec"]
    pod_here = Pod(trial, spec, folder, new_port())
    pod_here.prepare()
    with pod_here.serving() as uri:
        run = register(uri, monkeypatch, tmp_path)
    # What is not on the claim does not outlive the pod.
    shutil.rmtree(pod_here.volumes["tmp"])
    pod_here.volumes["tmp"].mkdir()
    with pod_here.serving() as uri:
        check_kept(uri, run, monkeypatch, tmp_path)
        check_guarded(uri)
    assert not list(pod_here.root.iterdir()), "written outside of the mounts"


def test_the_pipelines_find_it_where_they_look(server, pick):
    service = pick(server, "Service", "mlflow")
    [port] = service["spec"]["ports"]
    name, namespace = (service["metadata"][key] for key in ("name", "namespace"))
    assert f"http://{name}.{namespace}:{port['port']}" == pod.MLFLOW
    template = pick(server, "Deployment", "mlflow")["spec"]["template"]
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    [container] = template["spec"]["containers"]
    [exposed] = container["ports"]
    assert exposed["name"] == port["targetPort"]
    assert f"--port={exposed['containerPort']}" in container["args"]


def test_no_object_holds_a_secret(server, trial):
    for objects in (server, trial):
        assert not [each for each in objects if each["kind"] == "Secret"]
        for each in objects:
            text = str(each).lower()
            assert not re.search(r"://[^/\s']+:[^/\s']+@", text), each["metadata"]["name"]


def test_sqlite_has_one_writer_and_no_database_beside_it(trial, pick):
    spec = pick(trial, "Deployment", "mlflow")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    mine = [each for each in trial if each["metadata"].get("namespace") == "mlflow"]
    assert not [each for each in mine if "postgresql" in each["metadata"]["name"]]
    assert not [each for each in mine if each["kind"] in ("StatefulSet", "PodDisruptionBudget")]
    assert not re.search("PG|AWS", str(spec))


def test_a_node_that_is_drained_leaves_a_replica(server, pick):
    spec = pick(server, "Deployment", "mlflow")["spec"]
    budget = pick(server, "PodDisruptionBudget", "mlflow")["spec"]
    assert budget["selector"] == spec["selector"]
    assert budget["minAvailable"] < spec["replicas"]
