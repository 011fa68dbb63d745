"""The values that pass between stages. All are immutable; times are seconds from the file's start."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, StrictBool, ValidationError

from predictor.engine.errors import InvalidOption

Samples: TypeAlias = NDArray[np.float32]

SAMPLE_RATE = 16_000
"""Rate of every waveform inside the library, in hertz."""

AUTO = "auto"
NO_SPEECH = "nospeech"
SPOKEN_LANGUAGES = ("zh", "en", "yue", "ja", "ko")
LANGUAGES = (AUTO, *SPOKEN_LANGUAGES, NO_SPEECH)
"""Codes that the ``language`` option knows."""


@dataclass(frozen=True, slots=True)
class Waveform:
    """Decoded audio.

    Attributes:
        samples: float32 [n_samples], mono, in [-1, 1].
        sample_rate: hertz.
    """

    samples: Samples
    sample_rate: int = SAMPLE_RATE

    @property
    def duration(self) -> float:
        return len(self.samples) / self.sample_rate


def _language_codes(value: object) -> tuple[str, ...]:
    """One code, a comma-separated string, or a list of codes → sorted unique codes."""
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, Iterable):
        raise ValueError("must be a code, a comma-separated string or a list of codes")
    codes = {str(code).strip() for code in value}
    unknown = sorted(codes - set(LANGUAGES))
    if unknown or not codes:
        named = ", ".join(repr(code) for code in unknown) or "no code"
        raise ValueError(f"unknown code {named}; known codes: {', '.join(LANGUAGES)}")
    if AUTO in codes and len(codes) > 1:
        raise ValueError("'auto' cannot be combined with other codes")
    return tuple(sorted(codes))


class TranscribeOptions(BaseModel):
    """What the caller wants of one audio.

    Attributes:
        language: ``auto``, one code, or a set of allowed codes (the answer is one of the set, or
            ``nospeech``). Known codes: auto, zh, en, yue, ja, ko, nospeech.
        use_itn: inverse text normalisation: punctuation, capitals and digits as written.
        timestamps: ``none``, ``segment`` or ``word``.
        ban_emo_unk: never answer EMO_UNKNOWN; choose among the named emotions.
        distributions: add the probability of every language, emotion and event.
        rich: add the text with emotion and event emoji.
        channels: ``mix`` averages the channels; ``split`` transcribes each one by itself.
        segmentation: how audio longer than one span is cut: ``vad`` (voice activity) or
            ``overlap`` (overlapping windows, joined at the CTC path).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    language: Annotated[tuple[str, ...], BeforeValidator(_language_codes)] = (AUTO,)
    use_itn: StrictBool = True
    timestamps: Literal["none", "segment", "word"] = "segment"
    ban_emo_unk: StrictBool = False
    distributions: StrictBool = False
    rich: StrictBool = False
    channels: Literal["mix", "split"] = "mix"
    segmentation: Literal["vad", "overlap"] = "vad"

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> "TranscribeOptions":
        """Options of a request.

        Raises:
            InvalidOption: names the first option that is unknown, or else every one that has a wrong
                value, and what it may be.
        """
        if unknown := [name for name in options if name not in cls.model_fields]:
            # Not for pydantic to find, which takes seconds over a hundred thousand of them.
            known = ", ".join(cls.model_fields)
            raise InvalidOption(f"option {unknown[0]!r} is unknown; known options: {known}")
        try:
            return cls.model_validate(dict(options))
        except ValidationError as error:
            raise InvalidOption("; ".join(map(_sentence, error.errors()))) from None


def _sentence(error: Any) -> str:
    name = ".".join(map(str, error["loc"]))
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    return f"option {name!r}: {message}"


@dataclass(frozen=True, slots=True)
class Tag:
    """A label the network chose, with its probability among the labels of its kind.

    Attributes:
        label: e.g. ``zh``, ``HAPPY``, ``Laughter``.
        confidence: probability in [0, 1]: the tag frame's softmax over the labels of this kind.
        distribution: probability of every label; None unless asked for.
    """

    label: str
    confidence: float
    distribution: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Word:
    """A word, or one character of Chinese, Cantonese or Japanese, with its place on the CTC path.

    Attributes:
        start: seconds; None where the path does not tell.
        end: seconds; None where the path does not tell.
        confidence: geometric mean probability of the word's tokens, in [0, 1].
    """

    text: str
    start: float | None
    end: float | None
    confidence: float


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of audio with its own text and tags. ``channel`` is None for mixed channels;
    ``words`` is None unless word times were asked for."""

    start: float
    end: float
    text: str
    language: Tag
    emotion: Tag
    event: Tag
    words: tuple[Word, ...] | None = None
    channel: int | None = None


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Wall seconds spent in each stage. A batch's time is shared among its clips by their duration in
    ``features``, ``encoder`` and ``decoding``; ``batch`` is all of it, as a server's client waits."""

    decode: float = 0.0
    segment: float = 0.0
    queue: float = 0.0
    batch: float = 0.0
    features: float = 0.0
    encoder: float = 0.0
    decoding: float = 0.0

    def __add__(self, other: "StageTimes") -> "StageTimes":
        return StageTimes(
            *(getattr(self, name) + getattr(other, name) for name in StageTimes.__slots__)
        )

    def __mul__(self, share: float) -> "StageTimes":
        return StageTimes(*(getattr(self, name) * share for name in StageTimes.__slots__))


@dataclass(frozen=True, slots=True)
class Transcript:
    """Everything known about one audio.

    Attributes:
        text: the whole text; empty where nobody speaks.
        language, emotion, event: of the whole audio, averaged over its segments by duration.
        duration: seconds of audio.
        segments: in order of start; None when ``timestamps`` is ``none``.
        rich: text with emotion and event emoji; None unless asked for.
        times: wall seconds by stage.
    """

    text: str
    language: Tag
    emotion: Tag
    event: Tag
    duration: float
    segments: tuple[Segment, ...] | None = None
    rich: str | None = None
    times: StageTimes = field(default_factory=StageTimes)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form. Times and probabilities are rounded to a tenth of a millisecond or of a
        permille; keys that were not asked for are absent; unknown word times are null."""
        out: dict[str, Any] = _rounded(_without_unasked(asdict(self)))
        return out


_OPTIONAL = ("segments", "rich", "words", "channel", "distribution")


def _without_unasked(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _without_unasked(item)
            for key, item in value.items()
            if not (item is None and key in _OPTIONAL)
        }
    if isinstance(value, list | tuple):
        return [_without_unasked(item) for item in value]
    return value


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value
