"""The GPU benchmark's lines run on a CPU; its figures there mean nothing."""

import json

import pytest
import torch

from predictor.engine.encoder import SenseVoiceNetwork, shifted_sum
from tests.benchmarks import gpu
from tests.benchmarks.gpu_kernels import conv1d, conv2d
from tests.benchmarks.gpu_network import SENSEVOICE_SMALL, clips, flops, seconds


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_tiny_run_on_a_cpu_writes_every_part_that_needs_no_other_program(tmp_path):
    out = tmp_path / "gpu.json"
    arguments = ["--device", "cpu", "--tiny", "--out", str(out)]
    gpu.main([*arguments, "latency", "network", "kernels", "engine"])
    result = json.loads(out.read_text())
    for part in ("latency", "network", "kernels", "engine"):
        assert "skipped" not in result[part], result[part]
    shapes = {(row["mode"], row["clip_s"], row["batch"]) for row in result["network"]["rows"]}
    assert shapes == {(m, s, b) for m in ("eager", "compile") for s in (1, 2) for b in (1, 3)}
    for row in result["network"]["rows"]:
        assert row["audio_s_per_s"] > 0
        assert row["share_of_peak"] > 0
    assert "no CUDA graphs here" in result["about"]["device"]
    text = out.with_suffix(".md").read_text()
    assert "no CUDA graphs here" in text
    assert text.count("\n## ") == 4


def test_a_part_that_fails_leaves_the_others_their_figures(tmp_path, monkeypatch):
    def fail(_):
        raise RuntimeError("no such kernel")

    def lack(_):
        raise ImportError("No module named 'funasr'")

    monkeypatch.setitem(gpu.PARTS, "kernels", fail)
    monkeypatch.setitem(gpu.PARTS, "funasr", lack)
    out = tmp_path / "gpu.json"
    gpu.main(["--device", "cpu", "--tiny", "--out", str(out), "kernels", "latency", "funasr"])
    result = json.loads(out.read_text())
    assert result["kernels"]["skipped"] == "failed: RuntimeError('no such kernel')"
    assert result["funasr"]["skipped"] == "not installed: No module named 'funasr'"
    assert result["latency"]["rows"]
    assert "Skipped: failed: RuntimeError('no such kernel')" in out.with_suffix(".md").read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_how_to_run(capsys):
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "--device cpu --tiny" in capsys.readouterr().err


def test_operations_are_those_of_the_layers():
    """Multiplications with weights, counted from the parameters themselves; attention from its formula."""
    with torch.device("meta"):
        network = SenseVoiceNetwork(SENSEVOICE_SMALL)
    weights = sum(
        each.numel()
        for name, each in network.named_parameters()
        if each.dim() > 1 and "embed" not in name
    )
    frames = 167 + 4
    attention = 70 * 2 * frames * 512
    assert flops(SENSEVOICE_SMALL, 3, 167) == 2 * 3 * frames * (weights + attention)


def test_a_second_of_audio_costs_what_the_literature_of_this_project_says():
    """7.8 GFLOP in the linear layers, at 16.7 frames a second; attention over ten seconds adds 5 %."""
    assert flops(SENSEVOICE_SMALL, 1, 167) / 10 == pytest.approx(8.4e9, rel=0.03)


def test_calls_before_the_timed_ones_do_not_count():
    calls = []
    assert len(seconds(lambda: calls.append(1), torch.device("cpu"), 3)) == 3
    assert len(calls) == 4


def test_large_batches_repeat_few_clips():
    many = clips(0.1, 40)
    assert len(many) == 40
    assert len({id(each) for each in many}) == 16


@pytest.mark.parametrize("kernel", [11, 5])
def test_all_forms_of_the_memory_are_the_same(kernel):
    value, weight = torch.randn(2, 20, 8), torch.randn(8, 1, kernel)
    for form in (conv2d, shifted_sum):
        torch.testing.assert_close(form(value, weight), conv1d(value, weight), atol=1e-5, rtol=1e-4)
