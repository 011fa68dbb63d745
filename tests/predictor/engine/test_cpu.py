"""What this machine's processors are told to be."""

import pytest

from predictor.engine import cpu
from predictor.engine.cpu import (
    available_cpus,
    has_bfloat16,
    has_vnni,
    multiplies_int8,
    vector_instructions,
)


@pytest.mark.parametrize(
    ("limit", "cpus"), [("100000 100000", 1), ("50000 100000", 1), ("nonsense", None)]
)
def test_the_cpu_limit_of_a_container_counts(tmp_path, limit, cpus):
    file = tmp_path / "cpu.max"
    file.write_text(limit)
    unlimited = available_cpus(tmp_path / "absent")
    assert available_cpus(file) == (cpus or unlimited)
    file.write_text("max 100000")
    assert available_cpus(file) == unlimited


@pytest.mark.parametrize(("quota", "cpus"), [(150_000, 1), (200_000, 2), (900_000, 4)])
def test_part_of_a_cpu_is_not_counted(tmp_path, monkeypatch, quota, cpus):
    monkeypatch.setattr(cpu.os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    file = tmp_path / "cpu.max"
    file.write_text(f"{quota} 100000")
    assert available_cpus(file) == cpus


def cpu_info(tmp_path, flags):
    file = tmp_path / "cpuinfo"
    lines = ["processor\t: 0", "model name\t: A CPU", f"flags\t\t: {flags}"]
    file.write_text("\n".join(lines * 2))
    return file


def test_vector_instructions_are_named_once_and_in_order(tmp_path):
    info = cpu_info(tmp_path, "fpu sse2 avx512f avx amx_int8 avx2")
    assert vector_instructions(info) == ("amx_int8", "avx", "avx2", "avx512f")


@pytest.mark.parametrize(
    ("flags", "int8", "vnni"),
    [
        ("avx avx2 avx512f avx512bw", True, False),
        ("avx2 avx512f avx512_vnni", True, True),
        ("avx2 avx_vnni", True, True),
        ("avx512f amx_tile amx_int8", True, True),
        ("sse4_2 avx", False, False),
        ("asimddp i8mm", False, False),
        ("", False, False),
    ],
)
def test_int8_is_for_cpus_that_gain_by_it(tmp_path, flags, int8, vnni):
    assert multiplies_int8(cpu_info(tmp_path, flags)) is int8
    assert has_vnni(cpu_info(tmp_path, flags)) is vnni


@pytest.mark.parametrize(
    ("flags", "bfloat16"),
    [("avx512f avx512_bf16", True), ("amx_tile amx_bf16", True), ("avx512f avx512_vnni", False)],
)
def test_bfloat16_is_for_cpus_that_multiply_it(tmp_path, flags, bfloat16):
    assert has_bfloat16(cpu_info(tmp_path, flags)) is bfloat16


def test_a_kernel_that_tells_nothing_has_no_instructions(tmp_path):
    assert vector_instructions(tmp_path / "absent") == ()
    assert not multiplies_int8(tmp_path / "absent")
