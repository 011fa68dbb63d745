"""Messages of gRPC that are mostly audio, measured before they are parsed.

A field of two bytes becomes an object of fifty: a message of the size that audio may have would take
gigabytes. What is not audio is therefore bounded by itself, by a walk over the message's wire form
(https://protobuf.dev/programming-guides/encoding/) that looks into no audio.
"""

from collections.abc import Iterator, Mapping
from typing import TypeAlias, Union

from google.protobuf.message import DecodeError

from predictor.engine.errors import InvalidRequest

MAX_REST_BYTES = 1024 * 1024
"""Most of a message beside audio. Names, shapes and parameters take hundreds."""

MAX_FIELDS = 50_000
"""Most fields that are looked at: some hundredths of a second."""

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
"""Wire types."""

Payload: TypeAlias = Mapping[int, Union["Payload", None]]
"""Numbers of the fields that hold audio, or hold fields that do: None, or those."""

FP32_CONTENTS, BYTES_CONTENTS, CONTENTS = 6, 8, 5
INPUTS, RAW_INPUT_CONTENTS = 5, 7

INFER: Payload = {
    INPUTS: {CONTENTS: {FP32_CONTENTS: None, BYTES_CONTENTS: None}},
    RAW_INPUT_CONTENTS: None,
}
"""Of ModelInferRequest (``open_inference_grpc.proto`` of the Open Inference Protocol)."""

NOTHING: Payload = {}
"""Of every other message."""


def check_rest(message: bytes, payload: Payload) -> None:
    """Refuse a message with much beside audio.

    Args:
        message: as it came.
        payload: what of it is audio.

    Raises:
        DecodeError: it is no message of protobuf.
        InvalidRequest: too much of it is no audio.
    """
    n_audio = n_fields = 0
    waiting = [(0, len(message), payload)]
    while waiting:
        start, end, known = waiting.pop()
        for number, wire_type, opening, closing in _fields(message, start, end):
            n_fields += 1
            if n_fields > MAX_FIELDS:
                raise InvalidRequest(f"message: more fields than the limit, {MAX_FIELDS}")
            if wire_type != LENGTH or number not in known:
                continue
            if inner := known[number]:
                waiting.append((opening, closing, inner))
            else:
                n_audio += closing - opening
    if len(message) - n_audio > MAX_REST_BYTES:
        raise InvalidRequest(
            f"message: {len(message) - n_audio} bytes beside audio, the limit is {MAX_REST_BYTES}"
        )


def _fields(message: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, and where the value begins and ends, of each field in a part of a message."""
    while at < end:
        tag, at = _varint(message, at)
        wire_type, start = tag & 7, at
        if wire_type == VARINT:
            _, at = _varint(message, at)
        elif wire_type == LENGTH:
            n_bytes, start = _varint(message, at)
            at = start + n_bytes
        elif wire_type in (FIXED32, FIXED64):
            at += 4 if wire_type == FIXED32 else 8
        else:
            raise DecodeError(f"wire type {wire_type}")
        if at > end:
            raise DecodeError("the message ends within a field")
        yield tag >> 3, wire_type, start, at


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number of up to 64 bits, and where it ends."""
    value = 0
    for shift, byte in zip(range(0, 70, 7), message[at : at + 10], strict=False):
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at + shift // 7 + 1
    raise DecodeError("a number does not end")
