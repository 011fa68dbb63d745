"""gRPC, with messages that no client of good will sends."""

from collections.abc import Iterator

import grpc
import pytest
from hypothesis import strategies as st

from predictor.server.sdk import messages, services

SERVICE = "inference.GRPCInferenceService"
METHODS = tuple(messages.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name)
REFUSALS = {"INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED"}
MARK = b"QUJD" * 20
"""Stands for audio in the wrong place."""

SIZES = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([-1, 0, 1, 2, 3, 2**31, 2**62])
CONTENTS = {
    "bool_contents": st.booleans(),
    "int_contents": st.integers(-(2**31), 2**31 - 1),
    "int64_contents": st.integers(-(2**63), 2**63 - 1),
    "uint_contents": st.integers(0, 2**32 - 1),
    "uint64_contents": st.integers(0, 2**64 - 1),
    "fp32_contents": st.floats(width=32),
    "fp64_contents": st.floats(),
    "bytes_contents": st.binary(max_size=40) | st.just(MARK),
}
WORDS = st.sampled_from(
    [
        "",
        "audio",
        "waveform",
        "BYTES",
        "UINT8",
        "FP32",
        "FP64",
        "sample_rate",
        "language",
        "use_itn",
    ]
) | st.text(max_size=20)
CHOICES = st.one_of(
    st.tuples(st.just("bool_param"), st.booleans()),
    st.tuples(st.just("int64_param"), st.integers(-(2**63), 2**63 - 1) | st.just(16_000)),
    st.tuples(st.just("string_param"), WORDS | st.just("x" * 10_000)),
    st.none(),
)
PARAMETERS = st.dictionaries(WORDS, CHOICES, max_size=3)


@st.composite
def tensors(draw, message):
    tensor = message.inputs.add(
        name=draw(st.sampled_from(["audio", "waveform"]) | WORDS),
        datatype=draw(st.sampled_from(["BYTES", "UINT8", "FP32"]) | WORDS),
        shape=draw(st.lists(SIZES, max_size=3)),
    )
    fill(tensor.parameters, draw(PARAMETERS))
    for kind in draw(st.sets(st.sampled_from(sorted(CONTENTS)), max_size=2)):
        getattr(tensor.contents, kind).extend(draw(st.lists(CONTENTS[kind], max_size=5)))


def fill(parameters, values):
    for name, choice in values.items():
        if choice is None:
            parameters[name].ClearField("string_param")
        else:
            setattr(parameters[name], *choice)


@st.composite
def infer_requests(draw):
    message = messages.ModelInferRequest(
        model_name=draw(st.sampled_from(["sensevoice"] * 9 + ["", "x" * 10_000])),
        model_version=draw(st.sampled_from([""] * 9 + ["y" * 10_000])),
        id=draw(st.text(max_size=20)),
    )
    for _ in range(draw(st.sampled_from([1, 1, 1, 0, 2]))):
        draw(tensors(message))
    fill(message.parameters, draw(PARAMETERS))
    for name in draw(st.lists(st.sampled_from(["text", "transcript", "x"]), max_size=2)):
        message.outputs.add(name=name)
    if draw(st.booleans()):
        message.raw_input_contents.extend(draw(st.lists(st.binary(max_size=40), max_size=2)))
    return message.SerializeToString()


@st.composite
def damaged(draw):
    """A message of which some bytes are others, more or fewer."""
    message = bytearray(draw(infer_requests()))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(message)))
        message[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(message)


@pytest.fixture
def channel(demo_served) -> Iterator[grpc.Channel]:
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(demo_served.grpc, options) as opened:
        yield opened


@pytest.fixture
def send(channel, tried):
    """The function that sends bytes as a call's message, and returns its code and its words."""

    def sent(method, message, seconds=60):
        tried["gRPC calls"] += 1
        try:
            channel.unary_unary(f"/{SERVICE}/{method}")(message, timeout=seconds)
        except grpc.RpcError as error:
            return error.code().name, error.details()
        return "OK", ""

    return sent


def check(answer):
    code, words = answer
    assert code in REFUSALS | {"OK"}, answer
    if code != "OK":
        assert 5 < len(words) <= 400
        assert "\n" not in words
        assert "Traceback" not in words
        assert MARK.decode() not in words


@pytest.fixture
def works(channel, demo_model_dir):
    """The function that asks for a transcript, and must get it."""
    clip = (demo_model_dir / "evaluation" / "en-001.opus").read_bytes()

    def asked():
        message = messages.ModelInferRequest(model_name="sensevoice")
        tensor = message.inputs.add(name="audio", datatype="BYTES", shape=[1])
        tensor.contents.bytes_contents.append(clip)
        answer = services.GRPCInferenceServiceStub(channel).ModelInfer(message, timeout=60)
        assert answer.outputs[0].contents.bytes_contents[0].startswith(b"I want")

    return asked


PROMISE = pytest.mark.promise(
    "No gRPC message fails the server: each is answered, or refused in words"
)


@PROMISE
def test_any_tensors(send, works, search, effort):
    search(infer_requests(), effort(150, 8000), lambda message: check(send("ModelInfer", message)))
    works()


@PROMISE
def test_damaged_messages(send, works, search, effort):
    search(damaged(), effort(100, 6000), lambda message: check(send("ModelInfer", message)))
    works()


@PROMISE
@pytest.mark.parametrize("method", METHODS)
def test_any_bytes(send, works, search, effort, method):
    for message in (b"", b"\xff" * 100, b"\x0a\x02\xff\xfe", b"\x0a\xff\x01", b"\xfa\x07\x03abc"):
        check(send(method, message))
    search(st.binary(max_size=60), effort(10, 500), lambda message: check(send(method, message)))
    works()


def repeated(**fields):
    return messages.ModelInferRequest(model_name="sensevoice", **fields).SerializeToString()


def one(**fields):
    return messages.ModelInferRequest.InferInputTensor(**fields)


def waveform(shape):
    message = messages.ModelInferRequest(model_name="sensevoice")
    message.inputs.add(name="waveform", datatype="FP32", shape=shape)
    message.parameters["sample_rate"].int64_param = 16_000
    return message.SerializeToString()


TENSOR = {"name": "audio", "datatype": "BYTES"}
LARGE = {
    "inputs": lambda n: repeated(inputs=[one(**TENSOR, shape=[1])] * n),
    "dimensions": lambda n: repeated(inputs=[one(**TENSOR, shape=[1] * n)]),
    "elements": lambda n: repeated(
        inputs=[one(**TENSOR, shape=[n])], raw_input_contents=[bytes(4 * n)]
    ),
    "raw": lambda n: repeated(inputs=[one(**TENSOR, shape=[1])], raw_input_contents=[b""] * n),
    "outputs": lambda n: repeated(
        inputs=[one(**TENSOR, shape=[1])],
        outputs=[messages.ModelInferRequest.InferRequestedOutputTensor(name="text")] * n,
    ),
    "waveforms of no samples": lambda n: waveform([2**62, 0]),
    "samples of no waveform": lambda n: waveform([0, 2**62]),
    "overflow": lambda n: waveform([2**62, 2**62]),
}


@PROMISE
@pytest.mark.parametrize("name", LARGE)
def test_many_of_everything(send, works, resident, effort, measured, name):
    message = LARGE[name](effort(100_000, 2_000_000))
    works()
    before = resident()
    for _ in range(3):
        code, words = send("ModelInfer", message)
        assert code == "INVALID_ARGUMENT", words
        assert len(words) <= 400
    assert resident() - before < 500, "MiB"
    works()


@PROMISE
def test_a_message_over_the_limit(send, works):
    assert send("ModelInfer", bytes(110 * 2**20))[0] == "RESOURCE_EXHAUSTED"
    works()


@PROMISE
def test_calls_that_are_given_up(channel, send, works, demo_model_dir, tried, effort):
    clip = (demo_model_dir / "evaluation" / "en-001.opus").read_bytes()
    message = repeated(
        inputs=[one(**TENSOR, shape=[1])],
        raw_input_contents=[len(clip).to_bytes(4, "little") + clip],
    )
    call = channel.unary_unary(f"/{SERVICE}/ModelInfer")
    for i in range(effort(20, 1000)):
        tried["gRPC calls given up"] += 1
        if i % 2:
            assert send("ModelInfer", message, seconds=0.001 * (i % 10))[0] in (
                "DEADLINE_EXCEEDED",
                "OK",
            )
        else:
            call.future(message).cancel()
    works()
