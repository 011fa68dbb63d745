"""What a network is asked with, whichever library runs it."""

from dataclasses import replace

import pytest

from predictor.engine.network import EMOTION_QUERY, EVENT_QUERY, N_QUERIES, NetworkConfig, Queries

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


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        *(
            (name, value, f"{name} must be at least 1, not {value}")
            for name in (
                "input_size",
                "output_size",
                "attention_heads",
                "linear_units",
                "num_blocks",
                "kernel_size",
                "vocab_size",
            )
            for value in (0, -1)
        ),
        ("tp_blocks", -1, "tp_blocks must be at least 0"),
        ("attention_heads", 5, "output_size 32 is not a multiple of attention_heads 5"),
    ],
)
def test_senseless_sizes_are_refused(name, value, message):
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **{name: value})


def test_a_network_may_lack_the_second_stack_and_dropout():
    config = replace(CONFIG, tp_blocks=0, dropout_rate=0.0, attention_dropout_rate=0.0)
    assert config.tp_blocks == 0


def test_queries_are_language_event_emotion_and_text_normalisation():
    """The order in which the network was trained to answer them."""
    rows = Queries(language=3, textnorm=14).rows
    assert rows == (3, EVENT_QUERY, EMOTION_QUERY, 14)
    assert len(rows) == N_QUERIES
