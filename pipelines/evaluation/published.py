"""What the authors of SenseVoiceSmall measured on public test sets: targets for the real weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field

SOURCE = "FunAudioLLM, arXiv 2407.04051"


@dataclass(frozen=True, slots=True)
class Published:
    """Figures of SenseVoiceSmall on one data set.

    Attributes:
        error_rates: CER (zh, yue, ja, ko) or WER (en) by language.
        noise: the same by slice of recording conditions, for sets whose parts were measured apart.
        unweighted_accuracy, weighted_accuracy: of emotions, four classes with EMO_UNKNOWN banned; None
            where the authors give none.
    """

    error_rates: Mapping[str, float] = field(default_factory=dict)
    noise: Mapping[str, float] = field(default_factory=dict)
    unweighted_accuracy: float | None = None
    weighted_accuracy: float | None = None


def _emotion(unweighted: float, weighted: float) -> Published:
    return Published(unweighted_accuracy=unweighted, weighted_accuracy=weighted)


PUBLISHED: Mapping[str, Published] = {
    "aishell-1": Published({"zh": 0.0296}),
    "librispeech": Published(noise={"en clean": 0.0315, "en other": 0.0718}),
    "wenetspeech": Published(noise={"zh net": 0.0784, "zh meeting": 0.0744}),
    "common-voice": Published(
        {"zh": 0.1078, "yue": 0.0709, "en": 0.1471, "ja": 0.1196, "ko": 0.0828}
    ),
    "casia": _emotion(0.700, 0.700),
    "crema-d": _emotion(0.731, 0.740),
    "esd": _emotion(0.855, 0.855),
    "iemocap": _emotion(0.705, 0.657),
    "meld": _emotion(0.508, 0.578),
    "mer2023": _emotion(0.690, 0.683),
    "msp-podcast": _emotion(0.494, 0.641),
}
"""By data set name (FunAudioLLM, arXiv 2407.04051: the tables of speech recognition and of emotion)."""
