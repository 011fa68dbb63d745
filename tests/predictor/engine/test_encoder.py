"""The torch modules: FunASR's parameters, its logits, no influence of a batch's other items."""

from dataclasses import asdict, replace

import pytest
import torch

from predictor.engine.encoder import SenseVoiceNetwork, sinusoidal_positions
from predictor.engine.network import NetworkConfig

CONFIG = NetworkConfig(
    input_size=56,
    output_size=32,
    attention_heads=4,
    linear_units=48,
    num_blocks=3,
    tp_blocks=2,
    kernel_size=11,
    vocab_size=60,
)


def network(config=CONFIG, seed=0):
    torch.manual_seed(seed)
    return SenseVoiceNetwork(config).eval().requires_grad_(False)


def funasr_network(config=CONFIG):
    model = pytest.importorskip("funasr.models.sense_voice.model")
    sizes = asdict(config)
    for name in ("input_size", "vocab_size", "dropout_rate", "attention_dropout_rate"):
        del sizes[name]
    return model.SenseVoiceSmall(
        encoder="SenseVoiceEncoderSmall",
        encoder_conf={
            **sizes,
            "input_layer": "pe",
            "pos_enc_class": "SinusoidalPositionEncoder",
            "normalize_before": True,
            "sanm_shfit": 0,
            "selfattention_layer_type": "sanm",
        },
        input_size=config.input_size,
        vocab_size=config.vocab_size,
    ).eval()


def shapes(module):
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        replace(CONFIG, num_blocks=1, tp_blocks=0),
        replace(CONFIG, kernel_size=4, attention_heads=1),
        replace(CONFIG, input_size=CONFIG.output_size),
    ],
    ids=["usual", "one block", "even kernel", "no widening"],
)
def test_parameters_and_logits_are_those_of_funasr(config):
    mine, reference = network(config), funasr_network(config)
    assert shapes(mine) == shapes(reference)
    reference.load_state_dict(mine.state_dict())
    torch.manual_seed(1)
    features, lengths = torch.randn(1, 23, config.input_size), torch.tensor([23])
    with torch.inference_mode():
        queries = reference.embed(torch.tensor([[3, 1, 2, 14]]))
        encoded, _ = reference.encoder(torch.cat([queries, features], dim=1), lengths + 4)
        expected = reference.ctc.ctc_lo(encoded)
        logits = mine(features, lengths, torch.tensor([3]), torch.tensor([14]))
    assert float((logits - expected).abs().max() / expected.abs().max()) < 1e-5


def test_logits_of_a_padded_batch_are_those_of_each_item_alone():
    mine = network()
    lengths = [1, 2, 17, 40]
    items = [torch.randn(length, CONFIG.input_size) for length in lengths]
    languages, textnorms = torch.tensor([0, 3, 4, 12]), torch.tensor([14, 15, 14, 15])
    padded = torch.nn.utils.rnn.pad_sequence(items, batch_first=True)
    together = mine(padded, torch.tensor(lengths), languages, textnorms)
    for i, item in enumerate(items):
        alone = mine(
            item[None], torch.tensor([len(item)]), languages[i : i + 1], textnorms[i : i + 1]
        )
        torch.testing.assert_close(together[i, : 4 + len(item)], alone[0], atol=1e-4, rtol=1e-4)


def test_what_lies_in_the_padding_has_no_influence():
    mine = network()
    features, lengths = torch.randn(2, 30, CONFIG.input_size), torch.tensor([30, 12])
    queries = torch.tensor([0, 0]), torch.tensor([14, 14])
    clean = mine(features, lengths, *queries)[1, :16]
    features[1, 12:] = 1e3
    torch.testing.assert_close(mine(features, lengths, *queries)[1, :16], clean)


@pytest.mark.parametrize(("language", "textnorm"), [(3, 14), (0, 15)])
def test_every_query_changes_the_output(language, textnorm):
    mine = network()
    features, lengths = torch.randn(1, 10, CONFIG.input_size), torch.tensor([10])
    base = mine(features, lengths, torch.tensor([0]), torch.tensor([14]))
    other = mine(features, lengths, torch.tensor([language]), torch.tensor([textnorm]))
    assert not torch.allclose(base, other)


def test_positions_are_sines_then_cosines_counted_from_one():
    positions = sinusoidal_positions(2, 4, torch.device("cpu"))
    expected = [[1.0, 1e-4], [2.0, 2e-4]]
    angles = torch.tensor(expected)
    torch.testing.assert_close(positions, torch.cat([angles.sin(), angles.cos()], dim=1))
