"""The int8 network: what float32 computes but for rounding, and to the last bit whoever is beside."""

import gc
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import openvino as ov
import pytest
import torch

from pipelines.demo_model.evaluate import OPTIONS
from pipelines.demo_model.scoring import Heard, by_language
from predictor.engine.assembly import assemble
from predictor.engine.checkpoint import Checkpoint
from predictor.engine.cpu import has_vnni, multiplies_int8
from predictor.engine.encoder import SenseVoiceNetwork
from predictor.engine.errors import OutOfMemory
from predictor.engine.frontend import Frontend, FrontendConfig
from predictor.engine.int8 import (
    FRAMES_STEP,
    PASS_FRAMES,
    Compiled,
    Int8Network,
    compile_graph,
    graph_builder,
    load_compiled,
    target,
)
from predictor.engine.int8_conv_graph import ConvolutionGraphBuilder
from predictor.engine.int8_graph import GraphBuilder
from predictor.engine.network import CHUNK_FRAMES, N_QUERIES, NetworkConfig, Queries
from predictor.engine.quantize import quantize
from predictor.engine.tokenizer import BLANK_ID
from predictor.engine.torch_network import TorchNetwork
from predictor.engine.transcribe import Engine
from predictor.engine.types import Waveform

pytestmark = pytest.mark.skipif(not multiplies_int8(), reason="this CPU has neither AVX2 nor VNNI")

BUILDERS = {"convolutions": ConvolutionGraphBuilder}
"""What is exact on this machine's CPU."""
if has_vnni():
    BUILDERS["products"] = GraphBuilder

SIZES = FrontendConfig(n_mels=8)
CMVN = np.stack([np.zeros(56, np.float32), np.full(56, 0.1, np.float32)])
FRONTEND = Frontend(SIZES, CMVN)
USUAL = NetworkConfig(
    input_size=SIZES.feature_size,
    output_size=32,
    attention_heads=4,
    linear_units=48,
    num_blocks=3,
    tp_blocks=2,
    kernel_size=11,
    vocab_size=60,
)
CONFIGS = {
    "usual": USUAL,
    "one block": replace(USUAL, num_blocks=1, tp_blocks=0),
    "even kernel": replace(USUAL, kernel_size=4, attention_heads=1),
    "no widening": replace(USUAL, output_size=USUAL.input_size),
    "size 16": replace(USUAL, output_size=16, attention_heads=2, linear_units=16),
    "size 160": replace(USUAL, output_size=160, linear_units=320, kernel_size=15),
}
AUTO = Queries(language=0, textnorm=14)

LENGTHS = (1, 2, 11, 12, 13, 28, 29, 60, 167, 500)
"""Frames: a thirtieth of a second to thirty seconds, on either side of what clips are padded to."""


def random_module(config, seed=0):
    """Norms and biases drawn too: as torch makes them, they would hide a mistake."""
    torch.manual_seed(seed)
    module = SenseVoiceNetwork(config).eval().requires_grad_(False)
    for name, tensor in module.named_parameters():
        if "norm" in name:
            tensor.copy_(torch.randn_like(tensor) * 0.2 + name.endswith("weight"))
        elif name.endswith("bias"):
            tensor.copy_(torch.randn_like(tensor) * 0.1)
    return module


def graphs_of(config, module, builder=None):
    arrays = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    return (builder or graph_builder())(config, quantize(arrays))


def networks(config, module, threads=1, passes=1, builder=None):
    """The same weights in int8 and in float32."""
    graphs = graphs_of(config, module, builder)
    ours = Int8Network(
        FRONTEND,
        compile_graph(graphs.encoder(), threads, passes),
        compile_graph(graphs.head(), threads, passes, exact=True),
    )
    return ours, TorchNetwork(module, FRONTEND, 1)


@pytest.fixture(scope="module", params=BUILDERS)
def builder(request):
    return BUILDERS[request.param]


@pytest.fixture(scope="module", params=CONFIGS)
def pair(request, builder):
    """The int8 network and its float32 reference, of each form."""
    config = CONFIGS[request.param]
    return networks(config, random_module(config), builder=builder)


@pytest.fixture(scope="module")
def usual():
    return networks(USUAL, random_module(USUAL))


def features(lengths=LENGTHS, size=USUAL.input_size):
    rng = np.random.default_rng(1)
    return [rng.normal(size=(length, size)).astype(np.float32) for length in lengths]


def relative_error(ours, theirs):
    theirs = np.asarray(theirs)
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


def same(one, other):
    """To the last bit."""
    assert np.array_equal(one, other)


def same_paths(one, other):
    same(one.ids, other.ids)
    spoken = one.ids != BLANK_ID
    same(one.log_probabilities[spoken], other.log_probabilities[spoken])


def test_it_computes_what_float32_computes(pair):
    ours, reference = pair
    clips, queries = features(), [AUTO] * len(LENGTHS)
    expected = reference.encode([torch.from_numpy(clip) for clip in clips], queries)
    for mine, theirs, length in zip(ours.encode(clips, queries), expected, LENGTHS, strict=True):
        assert (mine.shape, mine.dtype) == (tuple(theirs.shape), np.float32)
        assert len(mine) == N_QUERIES + length
        assert relative_error(mine, theirs) < 0.04
        assert relative_error(ours.tag_logits(mine), reference.tag_logits(theirs)) < 0.04


def test_logits_of_the_same_encoder_output_differ_by_rounding_alone(pair):
    ours, reference = pair
    (output,) = ours.encode(features([60]), [AUTO])
    theirs = reference.tag_logits(torch.from_numpy(output))
    assert relative_error(ours.tag_logits(output), theirs) < 0.02


def test_best_paths_are_the_best_of_its_own_softmax(usual):
    ours, _ = usual
    lengths = [CHUNK_FRAMES - 1, 3, 2 * CHUNK_FRAMES + 7, 5]
    encoded = [
        clip[:, : USUAL.output_size] * 3 for clip in features([N_QUERIES + n for n in lengths])
    ]
    for path, clip in zip(ours.best_paths(encoded), encoded, strict=True):
        # The head takes any frame for a query frame.
        frames = [clip[at : at + N_QUERIES] for at in range(N_QUERIES, len(clip), N_QUERIES)]
        logits = np.concatenate([ours.tag_logits(each) for each in frames]).astype(np.float64)
        expected = logits.max(axis=1) - np.log(np.exp(logits).sum(axis=1))
        assert (path.ids.dtype, path.log_probabilities.dtype) == (np.int64, np.float32)
        same(path.ids, logits.argmax(axis=1))
        spoken = path.ids != BLANK_ID
        assert spoken.any()
        np.testing.assert_allclose(path.log_probabilities[spoken], expected[spoken], atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_clip_gives_the_same_bits_alone_and_among_others(config, threads, builder):
    """Longer and shorter neighbours, in any order."""
    ours, _ = networks(config, random_module(config), threads, builder=builder)
    clips = features()
    alone = [ours.encode([clip], [AUTO])[0] for clip in clips]
    paths = [ours.best_paths([output])[0] for output in alone]
    tags = [ours.tag_logits(output) for output in alone]
    for batch in (range(10), reversed(range(10)), (0, 9), (9, 4), (3, 2, 3), (1, 5, 6, 7)):
        chosen = list(batch)
        together = ours.encode([clips[i] for i in chosen], [AUTO] * len(chosen))
        among_others = ours.best_paths(together)
        for i, output, path in zip(chosen, together, among_others, strict=True):
            same(output, alone[i])
            same_paths(path, paths[i])
            same(ours.tag_logits(output), tags[i])


def test_more_clips_than_one_pass_takes_keep_their_order_and_their_bits(usual):
    ours, _ = usual
    clips = features([PASS_FRAMES - N_QUERIES, 300, 150, 150, 90, PASS_FRAMES + 30, 7])
    queries = [Queries(language=index % 3, textnorm=14) for index in range(len(clips))]
    together = ours.encode(clips, queries)
    for clip, asked, encoded in zip(clips, queries, together, strict=True):
        (alone,) = ours.encode([clip], [asked])
        same(encoded, alone)


def test_the_number_of_threads_changes_no_bit():
    module = random_module(USUAL)
    one, two = (networks(USUAL, module, threads)[0] for threads in (1, 2))
    queries = [AUTO] * len(LENGTHS)
    for mine, theirs in zip(
        one.encode(features(), queries), two.encode(features(), queries), strict=True
    ):
        same(mine, theirs)


def test_passes_at_once_change_no_bit():
    ours, _ = networks(USUAL, random_module(USUAL), passes=2)
    clips = features() * 4
    alone = [ours.encode([clip], [AUTO])[0] for clip in clips]
    tags = [ours.tag_logits(output) for output in alone]

    def run(clip):
        (output,) = ours.encode([clip], [AUTO])
        return output, ours.tag_logits(output)

    with ThreadPoolExecutor(2) as pool:
        for (output, logits), one, tag in zip(pool.map(run, clips), alone, tags, strict=True):
            same(output, one)
            same(logits, tag)


def test_what_lies_in_the_padding_has_no_influence():
    encoder = compile_graph(graphs_of(USUAL, random_module(USUAL)).encoder(), 1)
    clips = features([60, 12, 1])
    padded = np.zeros((3, 4 * FRAMES_STEP - N_QUERIES, USUAL.input_size), np.float32)
    for row, clip in zip(padded, clips, strict=True):
        row[: len(clip)] = clip
    n_frames = np.array([len(clip) + N_QUERIES for clip in clips])
    rows = np.array([AUTO.rows] * 3)
    clean = encoder(padded, n_frames, rows).copy()
    for row, clip in zip(padded, clips, strict=True):
        row[len(clip) :] = 1e6
    for mine, theirs, n in zip(encoder(padded, n_frames, rows), clean, n_frames, strict=True):
        same(mine[:n], theirs[:n])


def test_results_outlive_the_next_call(usual):
    ours, _ = usual
    (output,) = ours.encode(features([20]), [AUTO])
    logits, kept = ours.tag_logits(output), output.copy()
    kept_logits = logits.copy()
    (other,) = ours.encode([-clip for clip in features([20])], [AUTO])
    ours.tag_logits(other)
    same(output, kept)
    same(logits, kept_logits)


def test_what_was_compiled_elsewhere_computes_the_same(pair, builder, tmp_path):
    """Saved, loaded, and still there when whatever it was loaded with is not."""
    ours, reference = pair
    graphs = graphs_of(reference.module.config, reference.module, builder)
    loaded = []
    for name, graph in (("encoder", graphs.encoder()), ("head", graphs.head())):
        exact = name == "head"
        compile_graph(graph, 1, exact=exact).save(tmp_path / name)
        loaded.append(load_compiled(tmp_path / name, 1, exact=exact))
        (tmp_path / name).unlink()
    again = Int8Network(FRONTEND, *loaded)
    del loaded
    gc.collect()
    queries = [AUTO] * len(LENGTHS)
    expected = ours.encode(features(), queries)
    outputs = again.encode(features(), queries)
    for mine, theirs in zip(outputs, expected, strict=True):
        same(mine, theirs)
        same(again.tag_logits(mine), ours.tag_logits(theirs))
    for mine, theirs in zip(again.best_paths(outputs), ours.best_paths(expected), strict=True):
        same_paths(mine, theirs)


def test_a_compiled_graph_is_for_one_openvino():
    assert ov.__version__ in target()


@pytest.mark.parametrize("level", [0.0, 1e-20, 1e4])
def test_silence_and_noise_give_numbers(pair, level):
    ours, _ = pair
    clips = [clip * np.float32(level) for clip in features([1, 30])]
    for output in ours.encode(clips, [AUTO] * 2):
        assert np.isfinite(output).all()
        assert np.isfinite(ours.tag_logits(output)).all()


def test_rows_of_zeros_within_the_network_give_numbers():
    """As where no hidden unit fires."""
    module = random_module(USUAL)
    for name, tensor in module.named_parameters():
        if name.endswith("feed_forward.w_1.bias"):
            tensor.fill_(-1e3)
    ours, reference = networks(USUAL, module)
    clips = features([30])
    (mine,) = ours.encode(clips, [AUTO])
    (theirs,) = reference.encode([torch.from_numpy(clips[0])], [AUTO])
    assert relative_error(mine, theirs) < 0.04


def test_every_query_changes_the_output_of_its_clip_alone(usual):
    ours, _ = usual
    (clip,) = features([10])
    base, language, textnorm, again = ours.encode(
        [clip] * 4, [AUTO, replace(AUTO, language=3), replace(AUTO, textnorm=15), AUTO]
    )
    assert not np.allclose(base, language, atol=1e-3)
    assert not np.allclose(base, textnorm, atol=1e-3)
    same(base, again)


def test_features_are_those_of_the_front_end(demo_model_dir):
    samples = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    checkpoint = Checkpoint(demo_model_dir)
    expected = Frontend(checkpoint.frontend_config, checkpoint.cmvn)(samples)
    same(checkpoint.network("cpu", "int8", 1).features(samples), expected)


@pytest.fixture(scope="module")
def engines(demo_model_dir):
    """The embedded model in int8 and in float32."""
    return [
        Engine(demo_model_dir, precision=precision, threads=1) for precision in ("int8", "fp32")
    ]


@pytest.fixture(scope="module")
def recordings(shipped):
    return [clip.samples for clip in shipped]


def heard_in_batches(engine, recordings):
    """What :func:`pipelines.demo_model.evaluate.heard` gives for each, but sixteen at a time."""
    opened = [engine.open(Waveform(samples), OPTIONS) for samples in recordings]
    clips = [clip for recording in opened for clip in recording]
    assert len(clips) == len(recordings)
    # By length, so that little is padding.
    order = sorted(range(len(clips)), key=lambda i: len(clips[i].span.samples))
    hypotheses = {}
    for start in range(0, len(order), 16):
        chosen = order[start : start + 16]
        outcomes = engine.recognize([clips[i] for i in chosen])
        hypotheses |= dict(zip(chosen, outcomes, strict=True))
    return [
        assemble(recording, [hypotheses[i]], engine.tokenizer, 0.06)
        for i, recording in enumerate(opened)
    ]


def test_the_embedded_model_hears_in_int8_what_it_hears_in_float32(engines, recordings, shipped):
    heard = []
    for engine in engines:
        transcripts = heard_in_batches(engine, recordings)
        heard.append(
            [Heard(t.text, t.language.label, t.emotion.label, t.event.label) for t in transcripts]
        )
    ours, theirs = heard
    assert len(ours) == 150
    assert [(h.language, h.event) for h in ours] == [(h.language, h.event) for h in theirs]
    wanted = [Heard(clip.text, clip.language, "", clip.event) for clip in shipped]
    mine, reference = (by_language(wanted, each)["all"] for each in (ours, theirs))
    assert abs(mine.cer - reference.cer) <= 0.002
    emotions = [one.emotion == other.emotion for one, other in zip(ours, theirs, strict=True)]
    assert sum(emotions) >= 0.995 * len(emotions)


def test_transcripts_in_int8_depend_on_no_neighbour(engines, recordings):
    """The embedded model, through the engine: tokens, their confidences, and every distribution."""
    engine = engines[0]
    chosen = recordings[::11]
    clips = [clip for samples in chosen for clip in engine.open(Waveform(samples), OPTIONS)]
    for clip, among_others in zip(clips, engine.recognize(clips), strict=True):
        (alone,) = engine.recognize([clip])
        assert alone.tokens == among_others.tokens
        assert alone.tags == among_others.tags


def test_nobody_is_told_of_an_import():
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, threading, predictor.engine.int8; "
            "print(sys.modules['openvino_telemetry'], threading.active_count())",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["None", "1"]


SIGNALLED = """
import signal, sys
from tests.predictor.engine.test_int8 import USUAL, networks, random_module
module = random_module(USUAL)
one, other = networks(USUAL, module)[0], networks(USUAL, module)[0]
del one, other
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
signal.raise_signal(signal.SIGTERM)
"""


def test_signals_are_heard_after_networks_have_come_and_gone():
    done = subprocess.run([sys.executable, "-c", SIGNALLED])
    assert done.returncode == 7


class Request:
    """An inference request that writes, fails, or does nothing and says nothing."""

    def __init__(self, does):
        self._does = does
        self.output = np.zeros((2, 3), np.float32)

    def infer(self, inputs, share_inputs):
        match self._does.pop(0):
            case "write":
                self.output = np.full((len(inputs[0]), 3), inputs[0][0], np.float32)
            case "fail":
                raise RuntimeError("std::bad_alloc")

    def get_output_tensor(self, index):
        return SimpleNamespace(data=self.output)


def test_an_output_that_was_not_written_is_nobodys_result(random_engine):
    """OpenVINO 2026 keeps silent where it finds no memory, and leaves the output of the call before."""
    does = ["write", "write", "nothing", "write", "fail", "nothing", "write"]
    compiled = Compiled(SimpleNamespace(create_infer_request=lambda: Request(does)))
    one, two = np.ones(2), np.full(2, 2.0)
    assert (compiled(one) == 1).all()
    assert (compiled(two) == 2).all()
    with pytest.raises(MemoryError) as unwritten:
        compiled(one)
    assert (compiled(one) == 1).all()
    with pytest.raises(RuntimeError) as failed:
        compiled(two)
    # A fresh request has an output, too.
    with pytest.raises(MemoryError):
        compiled(np.ones(5))
    assert (compiled(two) == 2).all()
    for error in (unwritten.value, failed.value):
        assert isinstance(random_engine.network.failure(error), OutOfMemory)
    assert random_engine.network.failure(RuntimeError("shape")) is None
