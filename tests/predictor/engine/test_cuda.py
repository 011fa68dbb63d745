"""On a GPU the engine hears what it hears on the CPU, with graphs and without, alone and in batches."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from predictor.engine import cuda_graphs
from predictor.engine.checkpoint import Checkpoint
from predictor.engine.gpu_network import GpuNetwork
from predictor.engine.network import Queries
from predictor.engine.transcribe import Engine

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device"),
]

AUTO = Queries(language=0, textnorm=14)


def network(model_dir, precision="fp32", *, graphs=True):
    checkpoint = Checkpoint(model_dir)
    module = checkpoint.module("cuda", precision)
    return GpuNetwork(module, checkpoint.frontend_config, checkpoint.cmvn, graphs=graphs)


def clips(lengths, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(0, 0.1, length).astype(np.float32) for length in lengths]


def answers(network, samples):
    encoded = network.encode(samples, [AUTO] * len(samples))
    return network.best_paths(encoded), [network.tag_logits(each) for each in encoded]


def test_transcripts_equal_those_of_the_cpu(demo_model_dir):
    on_cpu, on_gpu = (Engine(demo_model_dir, device, "fp32") for device in ("cpu", "cuda"))
    for clip in sorted((demo_model_dir / "evaluation").glob("*-*.*"))[::5]:
        expected, heard = (engine.transcribe(clip.read_bytes()) for engine in (on_cpu, on_gpu))
        assert heard.text == expected.text
        assert heard.language.label == expected.language.label
        assert heard.emotion.confidence == pytest.approx(expected.emotion.confidence, abs=1e-3)


def test_bfloat16_is_what_a_gpu_computes_in_and_hears_the_same(demo_model_dir):
    engine = Engine(demo_model_dir, "cuda")
    assert engine.precision == "bf16"
    engine.network = network(demo_model_dir, "bf16")
    exact = Engine(demo_model_dir, "cuda", "fp32")
    for clip in sorted((demo_model_dir / "evaluation").glob("*-*.*"))[::10]:
        expected, heard = (each.transcribe(clip.read_bytes()) for each in (exact, engine))
        assert heard.language.label == expected.language.label
        assert heard.event.label == expected.event.label


@pytest.mark.parametrize("lengths", [[16_000], [160_000], [16_000] * 4, [9_000, 100, 32_000]])
def test_a_graph_answers_what_single_launches_do(random_model_dir, lengths):
    graphs, eager = network(random_model_dir), network(random_model_dir, graphs=False)
    for seed in range(3):  # A second replay must not answer for the first one's clips.
        (paths, tags), (expected, expected_tags) = (
            answers(each, clips(lengths, seed)) for each in (graphs, eager)
        )
        for one, other in zip(paths, expected, strict=True):
            # Random weights leave the best two tokens of a frame equal here and there.
            assert (one.ids == other.ids).mean() > 0.98
            np.testing.assert_allclose(one.log_probabilities, other.log_probabilities, atol=1e-3)
        np.testing.assert_allclose(np.stack(tags), np.stack(expected_tags), atol=1e-3)


def test_answers_outlive_the_next_batch(random_model_dir):
    """Both go through the same graph, and only then is the first looked at."""
    ours = network(random_model_dir)
    first, second = (ours.encode(clips([16_000], seed), [AUTO]) for seed in (1, 2))
    (path,), (other,) = ours.best_paths(first), ours.best_paths(second)
    (expected,), _ = answers(ours, clips([16_000], 1))
    assert np.array_equal(path.ids, expected.ids)
    assert not np.array_equal(path.ids, other.ids)


def test_threads_may_work_side_by_side(random_model_dir):
    """All through few graphs, whose memory they share."""
    ours = network(random_model_dir)
    batches = [clips([16_000 * (1 + seed % 3)] * (1 + seed % 2), seed) for seed in range(24)]
    one_by_one = [answers(ours, batch) for batch in batches]
    with ThreadPoolExecutor(3) as pool:
        at_once = list(pool.map(lambda batch: answers(ours, batch), batches))
    for (paths, _), (expected, _) in zip(at_once, one_by_one, strict=True):
        for one, other in zip(paths, expected, strict=True):
            assert np.array_equal(one.ids, other.ids)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_clip_gives_the_same_words_alone_and_among_others(demo_model_dir, shipped, precision):
    """On trained weights: random ones have ties that any rounding breaks."""
    ours = network(demo_model_dir, precision)
    samples = [clip.samples for clip in shipped if clip.text][::7]
    together, _ = answers(ours, samples)
    for clip, path in zip(samples, together, strict=True):
        (alone,), _ = answers(ours, [clip])
        assert np.array_equal(path.ids, alone.ids)


def test_many_shapes_take_no_more_memory_than_the_graphs_kept(random_model_dir, monkeypatch):
    monkeypatch.setattr(cuda_graphs, "CAPACITY", 4)
    ours = network(random_model_dir)
    taken = []
    for _ in range(3):
        for batch in (1, 2, 3, 9, 17):
            for seconds in (0.5, 2, 5, 11, 29):
                answers(ours, clips([int(seconds * 16_000)] * batch))
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        taken.append(torch.cuda.memory_reserved())
    assert taken[2] <= 1.02 * taken[1]
