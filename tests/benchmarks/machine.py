"""What the figures were measured on."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
)
"""CPU features that decide how fast int8 and bf16 are."""

PACKAGES = ("openvino", "torch", "numpy", "kserve", "funasr")
RIVALS = ("funasr-onnx", "sherpa-onnx", "onnxruntime", "locust")


def machine() -> dict[str, Any]:
    """CPU, cores, memory and kernel."""
    cpu = _fields(Path("/proc/cpuinfo"))
    present = set(cpu.get("flags", "").split())
    memory = _fields(Path("/proc/meminfo"))["MemTotal"].split()[0]
    return {
        "cpu": cpu.get("model name", platform.processor()),
        "flags": [flag for flag in FLAGS if flag in present],
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(memory) / 2**20, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_1min": os.getloadavg()[0],
    }


def versions(rivals_python: Path) -> dict[str, str]:
    """Of the packages that are measured, in both environments."""
    program = "import importlib.metadata as m, sys; print(*map(m.version, sys.argv[1:]))"
    done = subprocess.run(
        [rivals_python, "-c", program, *RIVALS], check=True, capture_output=True, text=True
    )
    theirs = dict(zip(RIVALS, done.stdout.split(), strict=True))
    return {package: version(package) for package in PACKAGES} | theirs


def stolen_seconds() -> float:
    """CPU seconds since boot that the hypervisor gave to somebody else."""
    ticks = int(Path("/proc/stat").read_text().split("\n", 1)[0].split()[8])
    return ticks / os.sysconf("SC_CLK_TCK")


def _fields(path: Path) -> dict[str, str]:
    """First value of each ``name : value`` line."""
    fields: dict[str, str] = {}
    for line in path.read_text().splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    return fields
