"""v2 requests ⇄ values, for forms that the socket tests do not cover one by one."""

import base64
import json
import struct
from typing import Any

import numpy as np
import pytest

from predictor.engine.errors import AudioTooLarge, InvalidAudio, InvalidRequest
from predictor.engine.types import Tag, Transcript, Waveform
from predictor.server.protocol import Item, Limits
from predictor.server.protocol_v2 import OUTPUTS, V2Body, V2Call, V2Message
from predictor.server.sdk import messages

LIMITS = Limits(max_audio_bytes=10_000, max_items=3)


def tensor(**fields: Any) -> dict[str, Any]:
    return {"name": "audio", "shape": [1], "datatype": "BYTES", "data": ["QUJD"], **fields}


def wave(**fields: Any) -> dict[str, Any]:
    return {"name": "waveform", "shape": [2], "datatype": "FP32", "data": [0.5, 1], **fields}


def parse(*tensors: dict[str, Any], binary: bytes = b"", **request: Any) -> V2Call:
    head = json.dumps({"inputs": tensors, **request}).encode()
    return V2Body(head + binary, len(head) if binary else None).parse(LIMITS)


def items(call: V2Call) -> list[Item]:
    assert all(isinstance(item, Item) for item in call.items)
    return [item for item in call.items if isinstance(item, Item)]


def test_a_tensor_s_parameters_win_over_the_request_s() -> None:
    own = {"language": "zh,en", "timestamps": "word"}
    call = parse(tensor(parameters=own), parameters={"language": "ko", "use_itn": False})
    (item,) = items(call)
    assert item.options.language == ("en", "zh")
    assert item.options.timestamps == "word"
    assert item.options.use_itn is False


def test_nested_json_data() -> None:
    data = [["QUJD"], ["REVG"]]
    assert [item.audio for item in items(parse(tensor(shape=[2, 1], data=data)))] == [
        b"ABC",
        b"DEF",
    ]


def test_long_base64_is_lifted() -> None:
    data = bytes(90_000)
    body = json.dumps({"inputs": [tensor(data=[base64.b64encode(data).decode()])]}).encode()
    (item,) = V2Body(body).parse(Limits(100_000, 1)).items
    assert isinstance(item, Item)
    assert item.audio == data


def test_binary_tensors_and_json_tensors() -> None:
    files = [b"\xff\xfeone", b"two"]
    binary = b"".join(struct.pack("<I", len(file)) + file for file in files)
    head = tensor(shape=[2], data=None, parameters={"binary_data_size": len(binary)})
    assert [item.audio for item in items(parse(head, binary=binary))] == files


def test_waveforms() -> None:
    rows = [[0.25, -0.5], [1.0, 0.0]]
    call = parse(wave(shape=[2, 2], data=rows, parameters={"sample_rate": 8000}))
    for item, row in zip(items(call), rows, strict=True):
        assert isinstance(item.audio, Waveform)
        assert item.audio.sample_rate == 8000
        assert item.audio.samples.dtype == np.float32
        assert item.audio.samples.tolist() == row


def test_uint8_is_one_file() -> None:
    for shape in ([3], [1, 3]):
        (item,) = items(parse(tensor(shape=shape, datatype="UINT8", data=[65, 0, 255])))
        assert item.audio == b"A\x00\xff"


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ([], "inputs: 0 tensors; give one"),
        ([tensor(), wave()], "inputs: 2 tensors; give one"),
        ([tensor(name="sound")], "inputs: tensor 'sound' is unknown; known: audio, waveform"),
        ([tensor(datatype="FP32")], "inputs.audio: datatype is 'FP32', must be BYTES or UINT8"),
        ([wave(datatype="FP64")], "inputs.waveform: datatype is 'FP64', must be FP32"),
        ([tensor(shape=[])], "inputs.audio: shape has 0 dimensions, must have one or two"),
        ([tensor(shape=[1] * 9)], "inputs.audio: shape has 9 dimensions"),
        ([wave(shape=[2**62, 0], data=[])], f"inputs.waveform: {2**62} items, the limit is 3"),
        ([wave(shape=[0, 2**62], data=[])], "inputs.waveform: empty"),
        ([tensor(shape=[-1])], "inputs.audio: shape is [-1]"),
        ([tensor(shape="1")], "inputs[0].shape: must be a list of integers"),
        ([tensor(shape=[2])], "inputs.audio: shape is [2], that is 2 elements, but the data has 1"),
        ([tensor(shape=[1, 2], data=["QQ==", "QQ=="])], "inputs.audio: shape is [1, 2], must be"),
        ([tensor(shape=[0], data=[])], "inputs.audio: empty"),
        ([tensor(shape=[4], data=["QQ=="] * 4)], "inputs.audio: 4 items, the limit is 3"),
        ([tensor(data=None)], "inputs.audio: data is missing"),
        ([tensor(data=[5])], "inputs.audio: every element of data must be a base64 string"),
        ([tensor(datatype="UINT8", data=[256])], "inputs.audio: every element of data must be an"),
        ([tensor(datatype="UINT8", data=[0.5])], "inputs.audio: every element of data must be an"),
        ([tensor(datatype="UINT8", shape=[2, 1], data=[1, 2])], "inputs.audio: UINT8 holds one"),
        ([wave(data=["a", "b"])], "inputs.waveform: every element of data must be a number"),
        ([wave(data=[True, False])], "inputs.waveform: every element of data must be a number"),
        ([wave()], "inputs.waveform: parameter 'sample_rate' is missing"),
        ([wave(parameters={"sample_rate": 0})], "inputs.waveform: parameter 'sample_rate' must"),
        ([wave(parameters={"sample_rate": 8e3})], "inputs.waveform: parameter 'sample_rate' must"),
        ([wave(parameters=[])], "inputs.waveform: parameter 'sample_rate' is missing"),
        ([wave(parameters=[1])], "inputs[0].parameters: must be a JSON object"),
        ([5], "inputs[0]: must be a JSON object"),
        ([{"name": 5}], "inputs[0].name: must be a string"),
        (
            [tensor(parameters={"sample_rate": 8000})],
            "inputs.audio: parameter 'sample_rate' is for",
        ),
        ([tensor(parameters={"speed": 2})], "parameters: option 'speed' is unknown"),
        (
            [tensor(parameters={"binary_data_size": 9})],
            "inputs.audio: binary_data_size is 9, but the body has 0 bytes",
        ),
    ],
)
def test_wrong_tensors(tensors: list[Any], sentence: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(*tensors)
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"inputs": {}}, "inputs: missing"),
        ({"parameters": [1]}, "parameters: must be a JSON object"),
        ({"id": 5}, "id: must be a string"),
        ({"outputs": [5]}, "outputs: must be a list"),
        ({"outputs": [{"name": "words"}]}, "outputs: 'words' is unknown; known: text, language"),
    ],
)
def test_wrong_requests(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        V2Body(json.dumps({"inputs": [tensor()], **fields}).encode()).parse(LIMITS)
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize("binary", [b"\x01", b"\x09\0\0\0abc", b"\xff\xff\xff\xffabc"])
def test_binary_data_that_ends_too_early(binary: bytes) -> None:
    head = tensor(data=None, parameters={"binary_data_size": len(binary)})
    with pytest.raises(InvalidRequest, match=r"inputs\.audio: binary data ends inside an element"):
        parse(head, binary=binary)


def test_binary_data_that_nobody_claims() -> None:
    with pytest.raises(InvalidRequest, match="3 bytes of binary data belong to no tensor"):
        parse(tensor(), binary=b"abc")


def test_an_element_that_is_wrong_stands_as_its_error() -> None:
    wrong, right, large = parse(tensor(shape=[3], data=["?", "QUJD", "A" * 20_000])).items
    assert isinstance(wrong, InvalidAudio)
    assert str(wrong).startswith("inputs.audio[0]: not valid base64")
    assert isinstance(right, Item)
    assert isinstance(large, AudioTooLarge)


def test_base64_where_bytes_belong_is_explained() -> None:
    message = messages.ModelInferRequest(model_name="m")
    contents = message.inputs.add(name="audio", datatype="BYTES", shape=[2]).contents
    contents.bytes_contents.extend([b"UklGRg==" * 20, b"RIFF\0\0\0\0WAVEfmt "])
    encoded, raw = V2Message(message).parse(LIMITS).items
    assert isinstance(encoded, InvalidAudio)
    assert "bytes as they are" in str(encoded)
    assert isinstance(raw, Item)


def test_grpc_parameters() -> None:
    message = messages.ModelInferRequest(model_name="m", id="7")
    message.parameters["use_itn"].bool_param = False
    head = message.inputs.add(name="waveform", datatype="FP32", shape=[2])
    head.parameters["sample_rate"].int64_param = 16_000
    head.contents.fp32_contents.extend([0.5, 0.25])
    call = V2Message(message).parse(LIMITS)
    (item,) = items(call)
    assert item.options.use_itn is False
    assert call.request_id == "7"
    message.parameters["language"].SetInParent()
    with pytest.raises(InvalidRequest, match="language"):
        V2Message(message).parse(LIMITS)


def test_grpc_uint_contents_above_a_byte() -> None:
    message = messages.ModelInferRequest(model_name="m")
    head = message.inputs.add(name="audio", datatype="UINT8", shape=[1])
    head.contents.uint_contents.append(256)
    with pytest.raises(InvalidRequest, match=r"inputs\.audio: every element of uint_contents"):
        V2Message(message).parse(LIMITS)


def rendered(call: V2Call, *outcomes: Any) -> dict[str, list[str]]:
    body, _ = call.render(outcomes).to_rest()
    return {output["name"]: output["data"] for output in body["outputs"]}


def test_outputs() -> None:
    def tag(label: str) -> Tag:
        return Tag(label, 0.5)

    fine = Transcript("hello", tag("en"), tag("HAPPY"), tag("Speech"), duration=1.0)
    outputs = rendered(V2Call(()), fine)
    assert tuple(outputs) == OUTPUTS
    assert [outputs[name] for name in OUTPUTS[:4]] == [["hello"], ["en"], ["HAPPY"], ["Speech"]]
    assert json.loads(outputs["transcript"][0]) == fine.to_dict()

    failed = InvalidAudio("audio: empty")
    outputs = rendered(V2Call((), wanted=("text",)), fine, failed)
    assert outputs == {"text": ["hello", ""], "error": ["", "audio: empty"]}
    assert rendered(V2Call((), wanted=("error",)), fine) == {"error": [""]}
    with pytest.raises(InvalidAudio):
        V2Call(()).render([failed, failed])
