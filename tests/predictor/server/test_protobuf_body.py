"""What a message of gRPC holds beside audio is bounded before it is parsed."""

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from predictor.engine.errors import InvalidRequest
from predictor.server.protobuf_body import (
    INFER,
    MAX_FIELDS,
    MAX_REST_BYTES,
    NOTHING,
    Payload,
    check_rest,
)
from predictor.server.sdk import messages

LARGE = 2 * MAX_REST_BYTES
Tensor = messages.ModelInferRequest.InferInputTensor


def infer(**fields: object) -> bytes:
    return bytes(messages.ModelInferRequest(model_name="m", **fields).SerializeToString())


def contents(**fields: object) -> bytes:
    tensor = Tensor(name="audio", datatype="BYTES", shape=[1])
    for name, values in fields.items():
        getattr(tensor.contents, name).extend(values)
    return infer(inputs=[tensor])


@pytest.mark.parametrize(
    "message",
    [
        b"",
        infer(raw_input_contents=[bytes(LARGE), bytes(LARGE)]),
        contents(bytes_contents=[bytes(LARGE), bytes(LARGE)]),
        contents(fp32_contents=[0.5] * (LARGE // 4)),
        infer(parameters={"language": messages.InferParameter(string_param="zh")}),
        infer(id="x" * (MAX_REST_BYTES - 100)),
    ],
)
def test_audio_is_as_large_as_a_message_may_be(message: bytes) -> None:
    check_rest(message, INFER)


@pytest.mark.parametrize(
    "message",
    [
        infer(id="x" * LARGE),
        infer(inputs=[Tensor(shape=[1] * LARGE)]),
        infer(inputs=[Tensor(name="x" * LARGE)]),
        contents(int_contents=[0] * LARGE),
        contents(bool_contents=[True] * LARGE),
        infer(parameters={str(n): messages.InferParameter() for n in range(LARGE // 8)}),
    ],
)
def test_what_is_no_audio_is_bounded(message: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"^message: .*limit"):
        check_rest(message, INFER)


@pytest.mark.parametrize(
    "message",
    [
        infer(inputs=[Tensor()] * (MAX_FIELDS + 1)),
        infer(raw_input_contents=[b""] * (MAX_FIELDS + 1)),
        contents(bytes_contents=[b""] * (MAX_FIELDS + 1)),
    ],
)
def test_fields_are_bounded(message: bytes) -> None:
    with pytest.raises(InvalidRequest, match=rf"^message: more fields .*{MAX_FIELDS}"):
        check_rest(message, INFER)


def test_other_messages_hold_no_audio() -> None:
    with pytest.raises(InvalidRequest):
        check_rest(infer(raw_input_contents=[bytes(LARGE)]), NOTHING)


@pytest.mark.parametrize(
    "message",
    [
        b"\xff" * 100,  # A number without end.
        b"\x0a",  # No length.
        b"\x0a\x05abc",  # Less than its length.
        b"\x0b",  # A group, of proto1.
        b"\x09abc",  # Less than eight bytes.
        b"\x2a\x02\x2a\x09",  # A tensor whose contents go beyond it.
    ],
)
def test_what_is_no_message_is_none(message: bytes) -> None:
    with pytest.raises(DecodeError):
        check_rest(message, INFER)


@given(st.binary(max_size=200), st.sampled_from([INFER, NOTHING]))
def test_any_bytes_end_in_an_answer(message: bytes, payload: Payload) -> None:
    try:
        check_rest(message, payload)
    except DecodeError as error:
        # Groups are as old as no client of this protocol.
        if "wire type" not in str(error):
            with pytest.raises(DecodeError):
                messages.ModelInferRequest.FromString(message)
