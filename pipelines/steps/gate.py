"""Is the model good enough to be released?"""

from collections.abc import Mapping
from typing import Any

from pipelines.evaluation.gate import judge, read_rules
from pipelines.evaluation.results import Evaluation, Gated


class Refused(Exception):
    """The model must not be released, or not go on serving; says why."""


def gate(evaluation: Evaluation, changes: Mapping[str, Any]) -> Gated:
    """Every rule's verdict on an evaluation.

    Args:
        changes: to the project's rules, see :func:`~pipelines.evaluation.gate.read_rules`.

    Raises:
        InvalidRules: see there.
    """
    return judge(evaluation, read_rules(changes))


def require(refusal: str) -> None:
    """Stop a pipeline.

    Args:
        refusal: why; empty lets it go on.

    Raises:
        Refused: there is a reason.
    """
    if refusal:
        raise Refused(refusal)
