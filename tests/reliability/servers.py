"""What a server process tells from outside: its metrics, and what the kernel knows of it."""

import os
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families


async def metrics(url: str) -> dict[str, float]:
    """:func:`samples` of a server."""
    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
        return samples((await client.get(f"{url}/metrics")).text)


def samples(text: str) -> dict[str, float]:
    """Our samples of a scrape: names with labels in alphabetical order → values."""
    return {
        " ".join((sample.name, *(f"{k}={v}" for k, v in sorted(sample.labels.items())))): (
            sample.value
        )
        for family in text_string_to_metric_families(text)
        if family.name.startswith("sensevoice_")
        for sample in family.samples
    }


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    parents = {
        int(folder.name): int(fields[1])
        for folder in _listed(Path("/proc"))
        if folder.name.isdecimal() and (fields := _fields(int(folder.name)))
    }
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found


def resident_bytes(pid: int) -> int:
    """Memory of a process and its descendants; a page that they share counts once (Pss of proc(5))."""
    rollups = [_read(Path(f"/proc/{each}/smaps_rollup")).splitlines() for each in family(pid)]
    lines = [line for lines in rollups for line in lines if line.startswith("Pss:")]
    return sum(1024 * int(line.split()[1]) for line in lines)


def peak_bytes(pid: int) -> int:
    """Most memory that a process has had at once."""
    lines = _read(Path(f"/proc/{pid}/status")).splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and its descendants that live."""
    ticks = sum(int(ticks) for each in family(pid) for ticks in _fields(each)[11:13])
    return ticks / os.sysconf("SC_CLK_TCK")


def held(pid: int) -> dict[str, int]:
    """What else a process can lose: ``descriptors``, ``threads``, ``processes``."""
    return {
        "descriptors": sum(len(_listed(Path(f"/proc/{each}/fd"))) for each in family(pid)),
        "threads": sum(len(_listed(Path(f"/proc/{each}/task"))) for each in family(pid)),
        "processes": len(family(pid)),
    }


def _fields(pid: int) -> list[str]:
    """Of its ``stat``, from the third on (proc(5)); none where the process has ended."""
    return _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()


def _listed(folder: Path) -> list[Path]:
    """Nothing where the process has ended meanwhile."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""
