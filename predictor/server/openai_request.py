"""The form of ``POST /v1/audio/transcriptions`` → what is wanted. Pure: no I/O, no model.

Fields and their meanings are those of OpenAI's API
(https://platform.openai.com/docs/api-reference/audio/createTranscription), with ``use_itn`` beside them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from predictor.engine.errors import InvalidOption, InvalidRequest, SpeechError
from predictor.engine.types import TranscribeOptions
from predictor.server.errors import quoted
from predictor.server.form import Form
from predictor.server.openai_answer import Answer
from predictor.server.protocol import Item, Limits, Outcome, raise_if_all_failed

FILE = "file"
FORMATS = ("json", "text", "srt", "vtt", "verbose_json")
STREAM_FORMATS = ("json", "text", "verbose_json")
GRANULARITIES = ("segment", "word")

SINGLE = (
    "model",
    "language",
    "prompt",
    "response_format",
    "temperature",
    "stream",
    "chunking_strategy",
    "use_itn",
)
REPEATED = ("languages", "timestamp_granularities", "include", "keywords")

ABSENT_SPEAKERS = ("known_speaker_names", "known_speaker_references")

BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class TranscriptionCall:
    """A parsed request: a payload of the model that needs no further parsing.

    Attributes:
        model: as the client named it.
        item: the file and what is wanted of it.
        answer: the form of the answer.
        stream: whether to answer segment by segment.
    """

    model: str
    item: Item
    answer: Answer
    stream: bool

    n_bytes = 0

    def parse(self, limits: Limits) -> "TranscriptionCall":
        return self

    @property
    def items(self) -> tuple[Item | SpeechError, ...]:
        return (self.item,)

    def render(self, outcomes: Sequence[Outcome]) -> dict[str, Any] | str:
        raise_if_all_failed(outcomes)
        (transcript,) = outcomes
        return self.answer.whole(transcript)  # type: ignore[arg-type]  # errors are raised above


def parse_request(form: Form) -> TranscriptionCall:
    """A form → the call.

    Raises:
        InvalidRequest: a field is missing, unknown, or given too often.
        InvalidOption: a field's value is out of range.
    """
    _check_names(form)
    if FILE not in form.files:
        raise InvalidRequest(f"{FILE}: missing; give one audio file")
    single = {name: values[0] for name, values in form.fields.items() if name in SINGLE}
    if not single.get("model"):
        raise InvalidRequest("model: missing; GET /v1/models lists what is served")
    # Neither has anything to act on: the model takes no text, and CTC decoding is deterministic.
    _temperature(single.get("temperature", "0"))
    if single.get("chunking_strategy", "auto") != "auto":
        raise InvalidOption(
            "chunking_strategy: must be 'auto'; long audio is always cut by voice activity"
        )
    answer, stream = _answer(form, single), _boolean("stream", single.get("stream", "false"))
    if stream and answer.response_format not in STREAM_FORMATS:
        raise InvalidOption(
            f"response_format: {answer.response_format} cannot be streamed; "
            f"choose {', '.join(STREAM_FORMATS)}"
        )
    options: dict[str, Any] = {
        "language": _language(form, single),
        "use_itn": _boolean("use_itn", single.get("use_itn", "true")),
        "timestamps": "word" if answer.needs_words else "segment",
        "distributions": answer.needs_distributions,
    }
    item = Item(form.files[FILE], TranscribeOptions.parse(options))
    return TranscriptionCall(single["model"], item, answer, stream)


def _check_names(form: Form) -> None:
    for name, values in form.fields.items():
        if name in ABSENT_SPEAKERS:
            raise InvalidOption(f"{name}: not served; speakers are not told apart")
        if name not in (*SINGLE, *REPEATED):
            known = ", ".join((FILE, *SINGLE, *REPEATED))
            raise InvalidRequest(f"body: unknown field {quoted(name)}; known: {known}")
        if name in SINGLE and len(values) > 1:
            raise InvalidRequest(f"{name}: given {len(values)} times, the limit is 1")


def _answer(form: Form, single: Mapping[str, str]) -> Answer:
    response_format = _choice("response_format", single.get("response_format", "json"), FORMATS)
    granularities = [
        _choice("timestamp_granularities", value, GRANULARITIES)
        for value in form.fields.get("timestamp_granularities", [])
    ]
    if granularities and response_format != "verbose_json":
        raise InvalidOption(
            "timestamp_granularities: needs response_format verbose_json, which has times"
        )
    include = [_choice("include", value, ("logprobs",)) for value in form.fields.get("include", [])]
    if include and response_format != "json":
        raise InvalidOption("include: logprobs needs response_format json; verbose_json has words")
    return Answer(response_format, tuple(granularities) or ("segment",), bool(include))


def _language(form: Form, single: Mapping[str, str]) -> str | list[str]:
    several = form.fields.get("languages")
    if several and "language" in single:
        raise InvalidRequest("languages: give either language or languages")
    return several or single.get("language", "auto")


def _choice(name: str, value: str, known: Sequence[str]) -> str:
    if value not in known:
        raise InvalidOption(f"{name}: {quoted(value)} is not known; known: {', '.join(known)}")
    return value


def _boolean(name: str, value: str) -> bool:
    if value.lower() not in BOOLEANS:
        raise InvalidOption(f"{name}: must be true or false, not {quoted(value)}")
    return BOOLEANS[value.lower()]


def _temperature(value: str) -> None:
    try:
        temperature = float(value)
    except ValueError:
        temperature = math.nan
    if not 0 <= temperature <= 1:
        raise InvalidOption(f"temperature: must be a number from 0 to 1, not {quoted(value)}")
