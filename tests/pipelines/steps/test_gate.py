"""What stops a release, in words."""

import pytest

from pipelines.steps.gate import Refused, gate, require


def test_a_model_that_keeps_the_rules_is_let_through(evaluation):
    broken = ("words-zh", "words-no-worse", "every-clip-answered", "tags-no-worse")
    gated = gate(evaluation, {rule: {} for rule in broken})
    assert gated.passed
    require(gated.refusal)


def test_a_refusal_names_what_refused_and_nothing_else(evaluation):
    changes = {"unproven": {"metric": "speed/ratio/none", "max": 1, "conclusive": True}}
    gated = gate(evaluation, changes)
    assert not gated.passed
    with pytest.raises(Refused) as raised:
        require(gated.refusal)
    message = str(raised.value)
    assert "words-zh: accuracy/zh/cer is" in message
    assert "unproven: speed/ratio/none was not measured, but must be" in message
    assert "latency" not in message
