"""Who is measured: each recogniser with each of its precisions."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.models import Models

OURS = "ours"
FUNASR = "funasr"

OUR_PRECISIONS = ("fp32", "int8")
"""What the engine serves with on a CPU."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A recogniser at one precision.

    Attributes:
        name: ``ours``, ``funasr``, ``funasr-onnx`` or ``sherpa-onnx``.
        precision: ``fp32`` or ``int8``.
        module: its worker's, below ``tests.benchmarks.workers``.
        python: interpreter of its environment.
        model: directory it loads.
    """

    name: str
    precision: str
    module: str
    python: Path
    model: Path

    @property
    def label(self) -> str:
        return f"{self.name} {self.precision}"


def variants(models: Models, rivals_python: Path) -> list[Variant]:
    """Every recogniser at every precision it has."""
    python = Path(sys.executable)
    return [
        *(Variant(OURS, each, "ours", python, models.prepared) for each in OUR_PRECISIONS),
        Variant(FUNASR, "fp32", "funasr_auto", python, models.hub),
        *(
            Variant("funasr-onnx", each, "funasr_onnx_model", rivals_python, models.funasr_onnx)
            for each in ("fp32", "int8")
        ),
        *(
            Variant("sherpa-onnx", each, "sherpa", rivals_python, models.sherpa_onnx)
            for each in ("fp32", "int8")
        ),
    ]


def fastest(everyone: Sequence[Variant]) -> list[Variant]:
    """Each recogniser at its fastest, and ours in float32 beside FunASR's."""
    return [one for one in everyone if one.precision == "int8" or one.name == FUNASR] + [
        one for one in everyone if (one.name, one.precision) == (OURS, "fp32")
    ]
