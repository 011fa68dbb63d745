"""What this machine's processors are, and how many of them may be used."""

import os
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")
CGROUP_CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")

VNNI = {"avx512_vnni", "avx_vnni", "amx_int8"}
"""Instructions that sum int8 products into int32; without them pairs saturate in int16."""

BFLOAT16 = {"avx512_bf16", "amx_bf16"}
"""Instructions that multiply bfloat16 and sum in float32."""

INT8 = {"avx2", *VNNI}
"""Instructions with which int8 networks are faster than float32."""


def available_cpus(limit: Path = CGROUP_CPU_LIMIT) -> int:
    """CPUs this process may use: its affinity, cut by the container's CPU limit.

    Libraries look at the machine only, and so many threads under a small limit run slower than one.
    """
    cpus = len(os.sched_getaffinity(0))
    try:
        quota, period = limit.read_text().split()
    except (OSError, ValueError):
        return cpus
    return cpus if quota == "max" else max(1, min(cpus, int(quota) // int(period)))


def vector_instructions(info: Path = CPU_INFO) -> tuple[str, ...]:
    """Names of the vector instruction sets, sorted; none where the kernel does not tell (or not on x86)."""
    try:
        flags = set(info.read_text().split())
    except OSError:
        return ()
    return tuple(sorted(flag for flag in flags if flag.startswith(("avx", "amx"))))


def has_vnni(info: Path = CPU_INFO) -> bool:
    return not VNNI.isdisjoint(vector_instructions(info))


def has_bfloat16(info: Path = CPU_INFO) -> bool:
    return not BFLOAT16.isdisjoint(vector_instructions(info))


def multiplies_int8(info: Path = CPU_INFO) -> bool:
    """Whether int8 networks are faster here than float32."""
    return not INT8.isdisjoint(vector_instructions(info))
