"""What a live session is set to: the value of ``session.update`` events. Pure.

Names are those of OpenAI's realtime transcription sessions
(https://platform.openai.com/docs/api-reference/realtime), with more sample rates, Opus, ``yue`` and
``use_itn`` beside them. The older ``transcription_session.update`` is taken, too.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from predictor.engine.errors import InvalidOption
from predictor.engine.live import TurnDetection
from predictor.engine.packets import Encoding
from predictor.engine.types import TranscribeOptions
from predictor.server.errors import quoted

LOGPROBS = "item.input_audio_transcription.logprobs"

OLD_FORMATS = {
    "pcm16": {"type": "audio/pcm", "rate": 24_000},
    "g711_ulaw": {"type": "audio/pcmu"},
    "g711_alaw": {"type": "audio/pcma"},
}
"""``input_audio_format`` of the older event."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Format(_Part):
    """``rate`` is that of PCM, in hertz."""

    type: Encoding = "audio/pcm"
    rate: Literal[8000, 16000, 24000, 48000] = 24000


class Transcription(_Part):
    """``model`` is any this server answers to; ``prompt`` and ``keywords`` have no effect."""

    model: str | None = None
    language: str | None = None
    languages: tuple[str, ...] | None = None
    prompt: str | None = None
    keywords: tuple[str, ...] | None = None
    use_itn: bool = True


class ServerVad(_Part):
    """Voice activity detection. The last two have no effect: nothing here responds."""

    type: Literal["server_vad"] = "server_vad"
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    prefix_padding_ms: Annotated[int, Field(ge=0, le=2000)] = 300
    silence_duration_ms: Annotated[int, Field(ge=100, le=5000)] = 500
    create_response: Annotated[bool | None, Field(exclude=True)] = None
    interrupt_response: Annotated[bool | None, Field(exclude=True)] = None


class AudioInput(_Part):
    """``turn_detection`` None: the client commits. Noise reduction is not served."""

    format: Format = Format()
    transcription: Transcription = Transcription()
    turn_detection: ServerVad | None = ServerVad()
    noise_reduction: None = None


class Audio(_Part):
    input: AudioInput = AudioInput()


class Session(_Part):
    """A session's settings. Every update gives a new one."""

    type: Literal["transcription"] = "transcription"
    audio: Audio = Audio()
    include: tuple[Literal["item.input_audio_transcription.logprobs"], ...] = ()

    def updated(self, update: Mapping[str, Any]) -> "Session":
        """This session with what an update mentions, and nothing else, changed.

        Raises:
            InvalidOption: a field is unknown or out of range; says which.
        """
        try:
            session = Session.model_validate(_merged(self.model_dump(), update))
        except ValidationError as error:
            raise InvalidOption("; ".join(map(_sentence, error.errors()[:4]))) from None
        session.options()
        return session

    def options(self) -> TranscribeOptions:
        """What is wanted of each turn.

        Raises:
            InvalidOption: the language is unknown.
        """
        wanted = self.audio.input.transcription
        if wanted.language is not None and wanted.languages is not None:
            raise InvalidOption("languages: give either language or languages")
        return TranscribeOptions.parse(
            {
                "language": wanted.languages or wanted.language or "auto",
                "use_itn": wanted.use_itn,
                "timestamps": "word",
            }
        )

    @property
    def detection(self) -> TurnDetection | None:
        given = self.audio.input.turn_detection
        if given is None:
            return None
        return TurnDetection(given.threshold, given.prefix_padding_ms, given.silence_duration_ms)

    @property
    def logprobs(self) -> bool:
        return LOGPROBS in self.include

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return self.model_dump(mode="json")


def from_old(update: Mapping[str, Any]) -> dict[str, Any]:
    """The session of a ``transcription_session.update`` in today's form.

    Raises:
        InvalidOption: its audio format is unknown.
    """
    names = {
        "input_audio_transcription": "transcription",
        "input_audio_noise_reduction": "noise_reduction",
        "turn_detection": "turn_detection",
    }
    audio_input = {names[key]: value for key, value in update.items() if key in names}
    if (name := update.get("input_audio_format")) is not None:
        if not isinstance(name, str) or name not in OLD_FORMATS:
            known = ", ".join(OLD_FORMATS)
            raise InvalidOption(f"input_audio_format: {quoted(name)} is not known; known: {known}")
        audio_input["format"] = OLD_FORMATS[name]
    taken = {*names, "input_audio_format"}
    rest = {key: value for key, value in update.items() if key not in taken}
    return {**rest, "audio": {"input": audio_input}}


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(old)
    for key, value in new.items():
        before = out.get(key)
        # One format's rate says nothing of another's.
        whole = key == "format" or not isinstance(before, dict) or not isinstance(value, dict)
        out[key] = value if whole else _merged(before, value)  # type: ignore[arg-type]
    return out


def _sentence(error: Any) -> str:
    name = ".".join(("session", *map(str, error["loc"])))
    if error["type"] == "extra_forbidden":
        return f"{name}: unknown field"
    return f"{name}: {str(error['msg']).removeprefix('Input ')}"
