"""The images' build files promise what clusters ask of images, and fit the code that they package."""

import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest

from predictor.server.settings import EMBEDDED_MODEL, Settings

REPOSITORY = Path(__file__).resolve().parent.parent
HADOLINT = REPOSITORY / "build/tools/env/bin/hadolint"
DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
LABELS = {"title", "description", "licenses", "version", "revision", "source", "base.name"}
OUTSIDE = (
    ".git/HEAD",
    ".venv/bin/python",
    "build/local/model.safetensors",
    "tests/conftest.py",
    "manifests/base/kustomization.yaml",
    "predictor/Dockerfile",
    "predictor/ui/Dockerfile",
    "predictor/model.pt",
    "predictor/demo_model/encoder.int8.blob",
    "predictor/engine/__pycache__/int8.cpython-311.pyc",
)
GIVEN_BY_THE_BUILD = {"VERSION", "REVISION", "SOURCE"}


@dataclass(frozen=True)
class Stage:
    """Attributes: base: of its FROM; instructions: (keyword, rest of the logical line), in order."""

    base: str
    instructions: tuple[tuple[str, str], ...]

    def of(self, keyword: str) -> list[str]:
        return [rest for name, rest in self.instructions if name == keyword]


@dataclass(frozen=True)
class Dockerfile:
    path: Path

    @property
    def lines(self) -> list[tuple[str, str]]:
        text = re.sub(r"^#.*\n", "", self.path.read_text(encoding="utf-8"), flags=re.M)
        logical = re.sub(r"\\\n\s*", " ", text).splitlines()
        return [(key, rest) for line in logical if line for key, rest in [line.split(" ", 1)]]

    @property
    def arguments(self) -> dict[str, str]:
        """The ARGs before the first FROM."""
        first = [keyword for keyword, _ in self.lines].index("FROM")
        return dict(rest.split("=", 1) for _, rest in self.lines[:first])

    @property
    def stages(self) -> dict[str, Stage]:
        found: dict[str, Stage] = {}
        name, base, instructions = "", "", []
        for keyword, rest in [*self.lines, ("FROM", "the end")]:
            if keyword != "FROM":
                instructions.append((keyword, rest))
                continue
            if name:
                found[name] = Stage(base, tuple(instructions))
            base, _, name = rest.partition(" AS ")
            instructions = []
        return found

    def image(self, target: str) -> Stage:
        """A stage with what it inherits from the stages it begins with."""
        stage = self.stages[target]
        inherited: tuple[tuple[str, str], ...] = ()
        if stage.base in self.stages:
            inherited = self.image(stage.base).instructions
        return Stage(stage.base, inherited + stage.instructions)


PREDICTOR = Dockerfile(REPOSITORY / "predictor/Dockerfile")
UI = Dockerfile(REPOSITORY / "predictor/ui/Dockerfile")
PIPELINES = Dockerfile(REPOSITORY / "pipelines/Dockerfile")
FILES = [pytest.param(each, id=str(each.path.parent.name)) for each in (PREDICTOR, UI, PIPELINES)]
IMAGES = [
    pytest.param(PREDICTOR.image("cpu"), id="predictor-cpu"),
    pytest.param(PREDICTOR.image("cuda"), id="predictor-cuda"),
    pytest.param(UI.image("runtime"), id="ui"),
    pytest.param(PIPELINES.image("runtime"), id="pipelines"),
]


def environment(image: Stage) -> dict[str, str]:
    return dict(pair.split("=", 1) for line in image.of("ENV") for pair in line.split())


def labels(image: Stage) -> dict[str, str]:
    pairs = re.findall(
        r'org\.opencontainers\.image\.([a-z.]+)="([^"]*)"', " ".join(image.of("LABEL"))
    )
    return dict(pairs)


def copied_from_context(dockerfile: Dockerfile) -> list[str]:
    return [
        source
        for stage in dockerfile.stages.values()
        for rest in stage.of("COPY")
        if not rest.startswith("--from=")
        for source in rest.split()[:-1]
    ]


def ignored(path: str) -> bool:
    """Whether the builder leaves a path out, by the last pattern that fits it or a folder above it."""
    folders = [path, *map(str, list(Path(path).parents)[:-1])]
    out = False
    for line in (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.removeprefix("!").removeprefix("**/")
        if (
            line
            and not line.startswith("#")
            and any(
                fnmatch(each if "**/" not in line else Path(each).name, pattern) for each in folders
            )
        ):
            out = not line.startswith("!")
    return out


@pytest.mark.parametrize("dockerfile", FILES)
def test_bases_are_pinned(dockerfile: Dockerfile) -> None:
    stages = dockerfile.stages
    outside = {stage.base for stage in stages.values()} - stages.keys()
    assert outside == {"${PYTHON_IMAGE}"}
    assert DIGEST.search(dockerfile.arguments["PYTHON_IMAGE"])


def test_all_images_have_one_base() -> None:
    assert len({each.arguments["PYTHON_IMAGE"] for each in (PREDICTOR, UI, PIPELINES)}) == 1


@pytest.mark.parametrize("dockerfile", FILES)
def test_what_is_copied_is_there(dockerfile: Dockerfile) -> None:
    sources = copied_from_context(dockerfile)
    assert {"pyproject.toml", "build.lock", "predictor"} <= set(sources)
    for source in sources:
        assert (REPOSITORY / source).exists()
        assert not ignored(source)
    copied_stages = {
        match[1]
        for stage in dockerfile.stages.values()
        for rest in stage.of("COPY")
        if (match := re.match(r"--from=(\S+)", rest))
    }
    assert copied_stages
    assert copied_stages <= dockerfile.stages.keys()


@pytest.mark.parametrize(
    ("stage", "locks"),
    [
        (
            PREDICTOR.image("dependencies-cpu"),
            {"predictor/requirements.lock", "predictor/torch-cpu.lock"},
        ),
        (
            PREDICTOR.image("dependencies-cuda"),
            {"predictor/requirements.lock", "predictor/torch.lock"},
        ),
        (UI.image("dependencies"), {"predictor/ui/requirements.lock"}),
        (
            PIPELINES.image("dependencies"),
            {"pipelines/requirements.lock", "predictor/torch-cpu.lock", "predictor/torch.lock"},
        ),
    ],
)
def test_packages_are_those_of_the_locks_and_no_code_is_needed(
    stage: Stage, locks: set[str]
) -> None:
    """So that a change of code installs nothing again."""
    assert {source for rest in stage.of("COPY") for source in rest.split()[:-1]} == locks
    making, *installing = stage.of("RUN")
    assert "venv" in making
    for command in " ".join(installing).split("&&"):
        assert "install --no-deps --require-hashes" in command


@pytest.mark.parametrize("image", IMAGES)
def test_runs_as_nobody_in_particular_on_a_read_only_root(image: Stage) -> None:
    assert image.of("USER")[-1] == "65532:65532"
    variables = environment(image)
    assert variables["HOME"] == "/tmp"  # noqa: S108  # an emptyDir
    assert variables["PYTHONDONTWRITEBYTECODE"] == "1"
    # The working directory is the one folder that can be written to: nothing is imported from there.
    assert image.of("WORKDIR")[-1] == "/tmp"  # noqa: S108
    assert variables["PYTHONSAFEPATH"] == "1"


def test_stops_when_asked() -> None:
    """kserve handles SIGTERM; of any other program Python, as process 1, ignores it."""
    assert PREDICTOR.image("cpu").of("STOPSIGNAL") == ["SIGTERM"]
    assert PREDICTOR.image("cuda").of("STOPSIGNAL") == ["SIGTERM"]
    assert UI.image("runtime").of("STOPSIGNAL") == ["SIGINT"]
    assert PIPELINES.image("runtime").of("STOPSIGNAL") == ["SIGINT"]


@pytest.mark.parametrize("image", IMAGES)
def test_has_no_tools_to_build_with(image: Stage) -> None:
    (prune,) = image.of("RUN")
    assert "pip uninstall --yes --root-user-action ignore pip setuptools wheel" in prune
    assert "ensurepip" in prune
    assert not re.search(r"apt-get|curl|gcc", prune)


@pytest.mark.parametrize("image", IMAGES)
def test_says_what_it_is(image: Stage) -> None:
    said = labels(image)
    assert said.keys() == LABELS
    assert said["licenses"] == "Apache-2.0"
    for name in GIVEN_BY_THE_BUILD:
        assert said[name.lower()] == f"${{{name}}}"
        assert f"{name}=" in image.of("ARG")


def test_predictor_listens_where_its_settings_say() -> None:
    fields = Settings.model_fields
    ports = f"{fields['http_port'].default} {fields['grpc_port'].default}"
    for target in ("cpu", "cuda"):
        image = PREDICTOR.image(target)
        assert image.of("EXPOSE") == [ports]
        (check,) = image.of("HEALTHCHECK")
        assert f"'SENSEVOICE_HTTP_PORT', {fields['http_port'].default}" in check


@pytest.mark.parametrize(
    ("image", "command"),
    [
        (PREDICTOR.image("cpu"), ["python", "-m", "predictor", "serve"]),
        (PREDICTOR.image("cuda"), ["python", "-m", "predictor", "serve"]),
        (UI.image("runtime"), ["python", "-m", "predictor.ui"]),
        (PIPELINES.image("runtime"), ["python"]),
    ],
)
def test_entry_point(image: Stage, command: list[str]) -> None:
    assert [json.loads(rest) for rest in image.of("ENTRYPOINT")] == [command]
    if command[1:]:
        assert importlib.util.find_spec(f"{command[2]}.__main__")


def test_health_check_tells_a_server_from_none(demo_served) -> None:
    (check,) = PREDICTOR.image("cpu").of("HEALTHCHECK")
    command = json.loads(check[check.index("[") :])
    command[0] = sys.executable
    port = demo_served.http.rpartition(":")[2]
    for value, status in ((port, 0), ("1", 1)):
        done = subprocess.run(
            command, env={"SENSEVOICE_HTTP_PORT": value}, capture_output=True, timeout=60
        )
        assert done.returncode == status


def test_context_is_the_source_and_the_embedded_model() -> None:
    for path in OUTSIDE:
        assert ignored(path), path
    embedded = [path for path in EMBEDDED_MODEL.rglob("*") if path.is_file()]
    assert EMBEDDED_MODEL / "model.safetensors" in embedded
    for path in embedded:
        assert not ignored(str(path.relative_to(REPOSITORY)))


@pytest.mark.parametrize("dockerfile", FILES)
def test_lint(dockerfile: Dockerfile) -> None:
    if not HADOLINT.exists():
        pytest.skip(f"{HADOLINT.relative_to(REPOSITORY)} is not there: make tools")
    done = subprocess.run([HADOLINT, dockerfile.path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
