"""KServe's v1 JSON protocol ⇄ values, and what v1 and v2 have in common. Pure: no I/O, no model."""

import binascii
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from predictor.engine.errors import AudioTooLarge, InvalidAudio, InvalidRequest, SpeechError
from predictor.engine.types import TranscribeOptions, Transcript, Waveform
from predictor.server.errors import quoted, sentence
from predictor.server.json_body import JsonBody, Text, parse_json

BASE64_STEP = 4 * 1024 * 1024
"""Characters decoded at a time, so that no step holds the interpreter's lock for long."""


@dataclass(frozen=True, slots=True)
class AudioUrl:
    """Audio that is to be fetched."""

    url: str


@dataclass(frozen=True, slots=True)
class Item:
    """One audio of a request, and what is wanted of it."""

    audio: bytes | Waveform | AudioUrl
    options: TranscribeOptions


Outcome: TypeAlias = Transcript | SpeechError
"""What became of one item."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may hold."""

    max_audio_bytes: int
    max_items: int

    def check_items(self, n_items: int, name: str) -> None:
        if not n_items:
            raise InvalidRequest(f"{name}: empty; give at least one audio")
        if n_items > self.max_items:
            raise InvalidRequest(f"{name}: {n_items} items, the limit is {self.max_items}")


class Call(Protocol):
    """A parsed request: its items, in order, and the form of its answer. An item that is wrong by
    itself stands here as its error, so that it fails alone."""

    @property
    def items(self) -> Sequence[Item | SpeechError]: ...

    def render(self, outcomes: Sequence[Outcome]) -> Any:
        """The answer's value. Raises the first item's error where no item succeeded."""


class Payload(Protocol):
    """A request as it came off the wire. ``parse`` may take long for many bytes."""

    @property
    def n_bytes(self) -> int: ...

    def parse(self, limits: Limits) -> Call: ...


@dataclass(frozen=True, slots=True)
class V1Body:
    """Body of ``POST /v1/models/{name}:predict``."""

    body: bytes

    @property
    def n_bytes(self) -> int:
        return len(self.body)

    def parse(self, limits: Limits) -> "V1Call":
        return parse_v1(parse_json(self.body), limits)


@dataclass(frozen=True, slots=True)
class V1Call:
    items: tuple[Item | SpeechError, ...]

    def render(self, outcomes: Sequence[Outcome]) -> dict[str, Any]:
        """``{"predictions": [transcript | {"error": {"code", "message"}}, ...]}``"""
        raise_if_all_failed(outcomes)
        return {"predictions": [as_json(outcome) for outcome in outcomes]}


def parse_v1(body: JsonBody, limits: Limits) -> V1Call:
    """``{"instances": [{"audio": {"b64" | "url": ...}, options...}, ...], "parameters": {...}}``.

    Raises:
        InvalidRequest: the request as a whole has the wrong form.
        InvalidOption: a default under ``parameters`` is wrong.
    """
    request = _object(body.value, "body", ("instances", "parameters"))
    instances = request.get("instances")
    if not isinstance(instances, list):
        raise InvalidRequest("instances: missing; give a list of {'audio': {'b64': ...}}")
    limits.check_items(len(instances), "instances")
    defaults = _object(request.get("parameters", {}), "parameters")
    TranscribeOptions.parse(defaults)

    def item(instance: Any, name: str) -> Item | SpeechError:
        try:
            given = dict(_object(instance, name))
            audio = _audio(given.pop("audio", None), body, f"{name}.audio", limits)
            return Item(audio, options(defaults, given, name))
        except SpeechError as error:
            return error

    return V1Call(tuple(item(value, f"instances[{i}]") for i, value in enumerate(instances)))


def _audio(value: Any, body: JsonBody, name: str, limits: Limits) -> bytes | AudioUrl:
    known = ("b64", "url")
    if value is None:
        raise InvalidRequest(f"{name}: missing; give {{'b64': ...}} or {{'url': ...}}")
    audio = _object(value, name, known)
    if len(audio) != 1:
        raise InvalidRequest(f"{name}: give exactly one of 'b64' and 'url'")
    ((key, text),) = audio.items()
    if not isinstance(text, str):
        raise InvalidRequest(f"{name}.{key}: must be a string")
    if key == "url":
        if text in body.lifted or text.startswith("data:"):
            raise InvalidRequest(f"{name}.url: must be an http or https URL; give data as 'b64'")
        return AudioUrl(text)
    return decode_base64(body.text(text), f"{name}.b64", limits)


def _object(value: Any, name: str, known: Sequence[str] = ()) -> Mapping[str, Any]:
    """Raises:
    InvalidRequest: not a JSON object, or one with keys that are not ``known`` (if any is).
    """
    if not isinstance(value, dict):
        raise InvalidRequest(f"{name}: must be a JSON object")
    if known and (unknown := sorted(set(value) - set(known))):
        raise InvalidRequest(
            f"{name}: unknown field {quoted(unknown[0])}; known: {', '.join(known)}"
        )
    return value


def options(defaults: Mapping[str, Any], own: Mapping[str, Any], name: str) -> TranscribeOptions:
    """An item's options: its own over the request's.

    Raises:
        InvalidOption: of the same kind as ``TranscribeOptions.parse``, with the item's name.
    """
    try:
        return TranscribeOptions.parse({**defaults, **own})
    except InvalidRequest as error:
        raise type(error)(f"{name}: {error}") from None


def decode_base64(text: Text, name: str, limits: Limits) -> bytes:
    """Standard base64 with padding and nothing else, as RFC 4648 has it.

    Raises:
        InvalidAudio: anything else.
        AudioTooLarge: more bytes than the limit.
    """
    if text[:5] in ("data:", b"data:"):
        raise InvalidAudio(f"{name}: is a data URL; give the base64 text alone")
    size = len(text) // 4 * 3
    # The last two characters may be padding.
    if size - 2 > limits.max_audio_bytes:
        limit = limits.max_audio_bytes
        raise AudioTooLarge(f"{name}: {size} bytes of audio, the limit is {limit} bytes")
    # Unlike a bytearray, this gives its bytes away without copying them once more.
    decoded = io.BytesIO()
    try:
        if len(text) % 4:
            raise ValueError("not padded")
        for start in range(0, len(text), BASE64_STEP):
            if decoded.tell() * 4 != start * 3:
                raise ValueError("padding inside")
            piece = text[start : start + BASE64_STEP]
            decoded.write(binascii.a2b_base64(piece, strict_mode=True))
    except ValueError:
        raise InvalidAudio(
            f"{name}: not valid base64 (standard alphabet with padding, no line breaks)"
        ) from None
    return decoded.getvalue()


def raise_if_all_failed(outcomes: Sequence[Outcome]) -> None:
    """Raises the first item's error where every item has one."""
    errors = [outcome for outcome in outcomes if isinstance(outcome, SpeechError)]
    if len(errors) == len(outcomes):
        raise errors[0]


def as_json(outcome: Outcome) -> dict[str, Any]:
    """JSON form of one item's outcome."""
    if isinstance(outcome, SpeechError):
        return {"error": {"code": outcome.reason, "message": sentence(outcome)}}
    return outcome.to_dict()
