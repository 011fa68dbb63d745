"""What an attacker finds: pods that could do more than they must, and packages that could be swapped."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from manifests.predictor_pod import predictor_pod

REPOSITORY = Path(__file__).resolve().parents[2]
RENDERED = REPOSITORY / "manifests" / "rendered"
OVERLAYS = [path.stem for path in sorted(RENDERED.glob("*.yaml"))]
NODE_READERS = {("logging", "log-shipper"), ("gpu-monitoring", "dcgm-exporter")}
"""They read what is root's on their node; their components say why."""

LOCKS = [
    path.relative_to(REPOSITORY)
    for folder in ("", "predictor", "predictor/ui", "pipelines", "tests")
    for path in sorted((REPOSITORY / folder).glob("*.lock"))
]
PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)( ; [^\\]+)? \\$")
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}( \\)?$")


@cache
def objects(overlay: str) -> list[dict[str, Any]]:
    text = (RENDERED / f"{overlay}.yaml").read_text(encoding="utf-8")
    return [each for each in yaml.safe_load_all(text) if each]


def pods(overlay: str) -> list[tuple[tuple[str, str], dict[str, Any]]]:
    """(namespace, name) and specification of every pod; the predictor's as KServe makes it."""
    found = []
    for each in objects(overlay):
        spec = each.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "containers" in spec.get("template", {}).get("spec", {}):
            names = (each["metadata"].get("namespace", ""), each["metadata"]["name"])
            found.append((names, spec["template"]["spec"]))
    return [*found, (("sensevoice", "predictor"), predictor_pod(objects(overlay))["spec"])]


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", ()), *pod["containers"]]


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.promise(
    "Every pod runs without root, capabilities, writable root or the node's own files"
)
def test_pods_can_do_no_more_than_they_must(overlay: str, tried) -> None:
    for names, pod in pods(overlay):
        assert not any(pod.get(each) for each in ("hostNetwork", "hostPID", "hostIPC")), names
        on_node = [each for each in pod.get("volumes", ()) if "hostPath" in each]
        assert not on_node or names in NODE_READERS, names
        for container in containers(pod):
            context = {**pod.get("securityContext", {}), **container.get("securityContext", {})}
            where = (overlay, names, container["name"])
            if names not in NODE_READERS:
                assert context["runAsNonRoot"] is True, where
                assert context["seccompProfile"] == {"type": "RuntimeDefault"}, where
            assert context["readOnlyRootFilesystem"] is True, where
            assert context["allowPrivilegeEscalation"] is False, where
            assert context["capabilities"] == {"drop": ["ALL"]}, where
            assert not context.get("privileged"), where
            assert not any(port.get("hostPort") for port in container.get("ports", ())), where
            tried["containers"] += 1


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.promise("No pod holds a token of the Kubernetes API but those that call it")
def test_tokens(overlay: str, tried) -> None:
    accounts = {
        (each["metadata"]["namespace"], each["metadata"]["name"]): each
        for each in objects(overlay)
        if each["kind"] == "ServiceAccount"
    }
    bound = {
        subject["name"]
        for each in objects(overlay)
        if each["kind"] in ("RoleBinding", "ClusterRoleBinding")
        for subject in each["subjects"]
    }
    for names, pod in pods(overlay):
        account = pod.get("serviceAccountName", "default")
        mounted = pod.get(
            "automountServiceAccountToken",
            accounts.get((names[0], account), {}).get("automountServiceAccountToken", True),
        )
        assert not mounted or account in bound, (overlay, names)
        tried["pods"] += 1


@pytest.mark.parametrize("overlay", [each for each in OVERLAYS if each.startswith("production")])
@pytest.mark.promise("Production runs images by digest: a tag that is moved changes nothing")
def test_images(overlay: str, tried) -> None:
    for names, pod in pods(overlay):
        for container in containers(pod):
            assert re.search(r"@sha256:[0-9a-f]{64}$", container["image"]), (overlay, names)
            tried["images"] += 1


@pytest.mark.parametrize("lock", LOCKS, ids=str)
@pytest.mark.promise(
    "Every package is installed by the sha256 of its file, in images and by `make`"
)
def test_locks_have_hashes(lock: Path, tried) -> None:
    text = (REPOSITORY / lock).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    pins = [line for line in lines if PIN.match(line)]
    assert pins
    # Nothing but pins, each with at least one hash: neither an index nor an option nor a URL.
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        assert PIN.match(line) or HASH.match(line), f"{lock}: {line}"
        assert not PIN.match(line) or HASH.match(following), f"{lock}: {line}"
    tried["packages"] += len(pins)
    tried["hashes"] += len(lines) - len(pins)


@pytest.mark.promise(
    "Every package is installed by the sha256 of its file, in images and by `make`"
)
def test_another_file_is_refused(tmp_path: Path, tried) -> None:
    """By pip itself, for a package made here: its own hash lets it in, any other does not."""
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "sensevoice_canary.py").write_text("HERE = True\n")
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "sensevoice-canary"\nversion = "1.0"\n'
        '[tool.setuptools]\npy-modules = ["sensevoice_canary"]\n'
    )
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    wheels = tmp_path / "wheels"
    building = ["wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, *building, "--wheel-dir", wheels, folder], check=True)
    [wheel] = wheels.iterdir()
    line = subprocess.run([*pip, "hash", wheel], check=True, capture_output=True, text=True).stdout
    [good] = re.findall(r"sha256:[0-9a-f]{64}", line)
    for digest, welcome in ((good, True), (f"sha256:{'0' * 64}", False)):
        lock = tmp_path / "some.lock"
        lock.write_text(f"sensevoice-canary==1.0 \\\n    --hash={digest}\n")
        command = [*pip, "install", "--quiet", "--no-deps", "--require-hashes", "--no-index"]
        command += [
            "--find-links",
            wheels,
            "--target",
            tmp_path / digest[-8:],
            "--requirement",
            lock,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) is welcome, done.stderr
        assert (tmp_path / digest[-8:] / "sensevoice_canary.py").exists() is welcome
        assert welcome or "DO NOT MATCH THE HASHES" in done.stderr
        tried["installations"] += 1


@pytest.mark.promise(
    "Every package is installed by the sha256 of its file, in images and by `make`"
)
def test_nothing_is_installed_but_from_a_lock(tried) -> None:
    """Of all installations in recipes and make's targets that make what is run."""
    for name in ("predictor/Dockerfile", "predictor/ui/Dockerfile", "pipelines/Dockerfile"):
        text = (REPOSITORY / name).read_text(encoding="utf-8").replace("\\\n", " ")
        commands = re.findall(r"pip [^&\n]*\binstall\b[^&\n]*", text)
        assert commands
        for command in commands:
            locked = "--require-hashes" in command and "--requirement" in command
            code = "--no-build-isolation" in command and command.rstrip().endswith(" .")
            assert "--no-deps" in command, command
            assert locked or code, command
            tried["commands"] += 1
