"""The network in torch: its precisions, its best paths, its probabilities."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from predictor.engine.encoder import SenseVoiceNetwork
from predictor.engine.errors import InvalidModel
from predictor.engine.frontend import Frontend, FrontendConfig
from predictor.engine.network import CHUNK_FRAMES, N_QUERIES, NetworkConfig, Queries
from predictor.engine.torch_network import DTYPES, TorchNetwork, build_module

SIZES = FrontendConfig(n_mels=8)
CMVN = np.stack([np.zeros(56, np.float32), np.full(56, 0.1, np.float32)])
FRONTEND = Frontend(SIZES, CMVN)
CONFIG = NetworkConfig(
    input_size=SIZES.feature_size,
    output_size=32,
    attention_heads=4,
    linear_units=48,
    num_blocks=3,
    tp_blocks=2,
    kernel_size=11,
    vocab_size=60,
)
AUTO = Queries(language=0, textnorm=14)
LENGTHS = [1, 2, 17, 40]


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return SenseVoiceNetwork(CONFIG).state_dict()


def network(state, precision="fp32"):
    return TorchNetwork(build_module(CONFIG, state, DTYPES[precision]), FRONTEND, 1)


def features(lengths=LENGTHS):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(length, CONFIG.input_size, generator=generator) for length in lengths]


def relative_error(ours, theirs):
    ours, theirs = (torch.as_tensor(each).double() for each in (ours, theirs))
    return float((ours - theirs).norm() / theirs.norm())


def test_each_clip_has_its_queries_and_its_frames(state):
    outputs = network(state).encode(features(), [AUTO] * len(LENGTHS))
    assert [len(each) for each in outputs] == [N_QUERIES + length for length in LENGTHS]


def test_a_clip_gives_the_same_alone_and_among_others(state):
    ours = network(state)
    together = ours.encode(features(), [AUTO] * len(LENGTHS))
    for clip, among_others in zip(features(), together, strict=True):
        (alone,) = ours.encode([clip], [AUTO])
        torch.testing.assert_close(among_others, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("other", [replace(AUTO, language=3), replace(AUTO, textnorm=15)])
def test_every_query_is_passed_on(state, other):
    ours, clips = network(state), features([10, 10])
    one, asked = ours.encode([clips[0]] * 2, [AUTO, other])
    assert not torch.allclose(one, asked, atol=1e-3)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_on_a_cpu_is_roughly_single_precision(state, precision):
    exact, half = network(state), network(state, precision)
    queries = [AUTO] * len(LENGTHS)
    expected, outputs = (each.encode(features(), queries) for each in (exact, half))
    for ours, theirs in zip(outputs, expected, strict=True):
        assert ours.dtype == DTYPES[precision]
        assert relative_error(ours, theirs) < 0.03
        assert relative_error(half.tag_logits(ours), exact.tag_logits(theirs)) < 0.03


def test_features_are_float32_whatever_the_precision(state):
    samples = np.random.default_rng(0).normal(0, 0.1, 4_000).astype(np.float32)
    exact, half = (network(state, precision).features(samples) for precision in ("fp32", "bf16"))
    assert torch.equal(exact, half)
    assert exact.dtype == torch.float32


def test_best_paths_are_the_best_of_the_softmax(state):
    ours = network(state)
    outputs = ours.encode(features(), [AUTO] * len(LENGTHS))
    for path, output, length in zip(ours.best_paths(outputs), outputs, LENGTHS, strict=True):
        log_probabilities = ours.module.ctc(output[N_QUERIES:]).log_softmax(dim=-1)
        best, ids = log_probabilities.max(dim=-1)
        assert path.ids.shape == path.log_probabilities.shape == (length,)
        assert (path.ids.dtype, path.log_probabilities.dtype) == (np.int64, np.float32)
        assert np.array_equal(path.ids, ids)
        np.testing.assert_allclose(path.log_probabilities, best, atol=1e-5)


def test_more_frames_than_a_chunk_are_one_path(state):
    """Chunks end within a clip as well as between two."""
    ours = network(state)
    lengths = [CHUNK_FRAMES - 1, 3, 2 * CHUNK_FRAMES + 7, 5]
    encoded = [torch.randn(N_QUERIES + length, CONFIG.output_size) for length in lengths]
    for path, clip in zip(ours.best_paths(encoded), encoded, strict=True):
        best, ids = ours.module.ctc(clip[N_QUERIES:]).log_softmax(dim=-1).max(dim=-1)
        assert np.array_equal(path.ids, ids)
        np.testing.assert_allclose(path.log_probabilities, best, atol=1e-5)


def test_tag_logits_are_those_of_the_query_frames(state):
    ours = network(state)
    (output,) = ours.encode(features([9]), [AUTO])
    logits = ours.tag_logits(output)
    assert (logits.shape, logits.dtype) == ((N_QUERIES, CONFIG.vocab_size), np.float32)
    np.testing.assert_allclose(logits, ours.module.ctc(output)[:N_QUERIES], atol=1e-6)


def test_weights_that_do_not_fit_are_refused(state):
    with pytest.raises(InvalidModel, match=r"(?s)weights do not fit config\.yaml.*ctc"):
        build_module(replace(CONFIG, vocab_size=61), state)
    with pytest.raises(InvalidModel, match=r"extra\.weight"):
        build_module(CONFIG, {**state, "extra.weight": torch.zeros(2)})


@pytest.mark.usefixtures("_one_thread")
def test_the_threads_are_those_asked_for(state):
    module = build_module(CONFIG, state)
    TorchNetwork(module, FRONTEND, 2).encode(features([3]), [AUTO])
    assert torch.get_num_threads() == 2
