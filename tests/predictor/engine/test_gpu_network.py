"""What the GPU's network does beside CUDA itself, on the CPU: it must agree with the reference."""

import asyncio
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from predictor.engine.batch_frontend import BatchFrontend
from predictor.engine.checkpoint import Checkpoint
from predictor.engine.cuda_graphs import Inputs
from predictor.engine.encoder import SenseVoiceNetwork
from predictor.engine.errors import DeviceLost, OutOfMemory
from predictor.engine.gpu_network import GpuNetwork
from predictor.engine.network import N_QUERIES, Queries
from predictor.engine.recording import Clip
from predictor.engine.segment import Span
from predictor.engine.torch_network import TorchNetwork, build_module
from predictor.engine.transcribe import Engine
from predictor.engine.types import TranscribeOptions
from predictor.server.batching import Batcher

AUTO = Queries(language=0, textnorm=14)
LENGTHS = [16_000, 900, 1, 23_456, 8_000]


@pytest.fixture(scope="module")
def reference(random_model_dir) -> TorchNetwork:
    return Checkpoint(random_model_dir).network("cpu", "fp32", 1)


@pytest.fixture(scope="module")
def network(random_model_dir, reference) -> GpuNetwork:
    checkpoint = Checkpoint(random_model_dir)
    return GpuNetwork(reference.module, checkpoint.frontend_config, checkpoint.cmvn)


def clips(lengths=LENGTHS):
    rng = np.random.default_rng(0)
    return [rng.normal(0, 0.1, length).astype(np.float32) for length in lengths]


def answers(network, samples, queries=None):
    """Paths and tag logits of one batch."""
    features = [network.features(each) for each in samples]
    encoded = network.encode(features, queries or [AUTO] * len(samples))
    return network.best_paths(encoded), [network.tag_logits(each) for each in encoded]


@pytest.mark.parametrize("lengths", [LENGTHS, [8_000] * 3, [12_345]], ids=str)
def test_answers_are_those_of_the_reference(network, reference, lengths):
    queries = [Queries(language, 15) for language in (0, 3, 4, 7, 11)][: len(lengths)]
    paths, tags = answers(network, clips(lengths), queries)
    expected_paths, expected_tags = answers(reference, clips(lengths), queries)
    for path, expected in zip(paths, expected_paths, strict=True):
        assert path.ids.dtype == np.int64
        assert np.array_equal(path.ids, expected.ids)
        np.testing.assert_allclose(path.log_probabilities, expected.log_probabilities, atol=1e-4)
    for logits, expected in zip(tags, expected_tags, strict=True):
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_a_clip_gives_the_same_alone_and_among_others(network):
    together, tags = answers(network, clips())
    for clip, path, logits in zip(clips(), together, tags, strict=True):
        ((alone,), (alone_logits,)) = answers(network, [clip])
        assert np.array_equal(path.ids, alone.ids)
        np.testing.assert_allclose(logits, alone_logits, atol=1e-4)


def test_threads_may_work_side_by_side(network):
    batches = [clips(LENGTHS[first:]) for first in range(len(LENGTHS))] * 3
    one_by_one = [answers(network, batch) for batch in batches]
    with ThreadPoolExecutor(3) as pool:
        at_once = list(pool.map(lambda batch: answers(network, batch), batches))
    for (paths, tags), (expected, expected_tags) in zip(at_once, one_by_one, strict=True):
        assert np.array_equal(tags, expected_tags)
        assert all(
            np.array_equal(one.ids, other.ids) for one, other in zip(paths, expected, strict=True)
        )


def test_bfloat16_takes_its_logits_in_float32(random_model_dir, network):
    checkpoint = Checkpoint(random_model_dir)
    state = {name: each.bfloat16() for name, each in network.module.state_dict().items()}
    module = build_module(checkpoint.network_config, state, torch.bfloat16)
    half = GpuNetwork(module, checkpoint.frontend_config, checkpoint.cmvn)
    (_, (logits,)), (_, (expected,)) = (answers(each, clips([9_000])) for each in (half, network))
    assert not np.array_equal(logits, torch.from_numpy(logits).bfloat16().float().numpy())
    assert np.linalg.norm(logits - expected) < 0.03 * np.linalg.norm(expected)


def test_the_engine_hears_the_same_with_it(demo_model_dir, shipped):
    engine = Engine(demo_model_dir, precision="fp32")
    # A closed set of languages makes the engine encode some clips again.
    options = TranscribeOptions.parse({"language": ["zh", "ko"]})
    spoken = [clip.path.read_bytes() for clip in shipped if clip.text][::9]
    expected = [engine.transcribe(audio, options) for audio in spoken]
    checkpoint = Checkpoint(demo_model_dir)
    reference = engine.network
    engine.network = GpuNetwork(reference.module, checkpoint.frontend_config, checkpoint.cmvn)
    for audio, before in zip(spoken, expected, strict=True):
        heard = engine.transcribe(audio, options)
        assert (heard.text, heard.language.label) == (before.text, before.language.label)


def test_nothing_is_asked_of_the_device_while_a_batch_is_started(random_model_dir):
    """Tensors of the meta device have shapes and no values: to read one fails. A graph can be captured
    only of such work."""
    checkpoint = Checkpoint(random_model_dir)
    meta = torch.device("meta")
    with meta:
        module = SenseVoiceNetwork(checkpoint.network_config).eval().requires_grad_(False)
    network = GpuNetwork(module, checkpoint.frontend_config, checkpoint.cmvn)
    assert network._graphs is None
    frontend = BatchFrontend(checkpoint.frontend_config, checkpoint.cmvn, meta)
    rows = torch.zeros(2, N_QUERIES, dtype=torch.int64, device=meta)
    features = frontend(torch.empty(32_000, device=meta), rows[:, 0], rows[:, 1], 60)
    outputs = network._forward(Inputs(features, rows, rows[:, 0]))
    assert outputs.ids.shape == outputs.log_probabilities.shape == (2, 64)
    assert outputs.tag_logits.shape == (2, N_QUERIES, checkpoint.network_config.vocab_size)


class Scarce:
    """Stands before a network's forward pass and has memory for so many frames."""

    def __init__(self, network, monkeypatch, frames):
        self._forward, self._frames = network._forward, frames
        self.held = []
        monkeypatch.setattr(network, "_forward", self)

    def __call__(self, inputs):
        if inputs.features.shape[0] * inputs.features.shape[1] > self._frames:
            tensor = inputs.features.clone()
            self.held.append(weakref.ref(tensor))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return self._forward(inputs)


def clip(seconds, seed):
    samples = np.random.default_rng(seed).normal(0, 0.1, int(16_000 * seconds))
    return Clip(Span(0, samples.astype(np.float32)), TranscribeOptions())


def ids(hypothesis) -> list[int]:
    return [token.id for token in hypothesis.tokens]


@pytest.fixture
def gpu_engine(random_model_dir, network) -> Engine:
    engine = Engine(random_model_dir, precision="fp32")
    engine.network = network
    return engine


def test_a_batch_that_does_not_fit_says_so_and_holds_nothing(gpu_engine, network, monkeypatch):
    scarce = Scarce(network, monkeypatch, frames=100)
    with pytest.raises(OutOfMemory, match="the GPU has not the memory"):
        gpu_engine.recognize([clip(3, seed) for seed in range(4)])
    # What a traceback keeps alive would still be there when half of the batch is tried.
    assert [tensor() for tensor in scarce.held] == [None]
    assert len(gpu_engine.recognize([clip(3, 0)])) == 1


def test_in_a_batcher_every_clip_has_its_words_whatever_the_memory(
    gpu_engine, network, monkeypatch
):
    clips = [clip(2 + seed / 50, seed) for seed in range(16)]
    expected = [ids(gpu_engine.recognize([each])[0]) for each in clips]
    Scarce(network, monkeypatch, frames=200)

    async def words():
        batcher = Batcher(
            gpu_engine.recognize, max_batch_clips=64, max_batch_seconds=600, max_queue_seconds=600
        )
        with batcher.lane() as lane:
            done = await asyncio.gather(*map(lane.put, clips))
        limit = batcher.batch_seconds
        batcher.close()
        return [ids(each.result) for each in done], limit

    found, limit = asyncio.run(words())
    assert found == expected
    assert limit < 32


def test_other_libraries_say_it_in_other_words(network):
    for error in (
        MemoryError(),
        torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be ..."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ):
        assert isinstance(network.failure(error), OutOfMemory)


def test_a_failure_that_the_device_survives_is_the_clips_own(network, monkeypatch):
    assert network.failure(ValueError("shape")) is None
    assert network.failure(torch.AcceleratorError("CUDA error: invalid argument")) is None
    monkeypatch.setattr(network, "_answers", lambda: False)
    failure = network.failure(torch.AcceleratorError("CUDA error: device-side assert triggered"))
    assert isinstance(failure, DeviceLost)
