"""Whatever comes, parsing gives a call or a SpeechError, and quotes little of it."""

import gc
import json
import string
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from predictor.engine.errors import SpeechError
from predictor.server.errors import MAX_SENTENCE, sentence
from predictor.server.protocol import Item, Limits, Payload, V1Body
from predictor.server.protocol_v2 import V2Body, V2Message
from predictor.server.sdk import messages

LIMITS = Limits(max_audio_bytes=1000, max_items=5)

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-300, 300)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["QUJD", "", "data:x", "http://a/b", "en,zh", "xx", "word", "BYTES", "FP32"])
    | st.text(string.printable, max_size=10)
    | st.just("QUJD" * 400)
)
NAMES = st.sampled_from(
    """instances parameters audio b64 url language inputs outputs name shape datatype data
    binary_data_size sample_rate id waveform text""".split()  # noqa: SIM905
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(NAMES | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)
TENSOR = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["audio", "waveform", "x"]),
        "shape": st.lists(st.integers(-1, 4), max_size=3) | JSON,
        "datatype": st.sampled_from(["BYTES", "FP32", "UINT8", "FP16"]),
    },
    optional={"data": st.lists(SCALARS, max_size=3) | JSON, "parameters": JSON},
)


def check(payload: Payload) -> None:
    try:
        items = payload.parse(LIMITS).items
    except SpeechError as error:
        items = [error]
    assert items
    for item in items:
        if isinstance(item, SpeechError):
            assert len(sentence(item)) <= MAX_SENTENCE
            assert item.http_status in (400, 413)
            assert "QUJDQUJD" * 20 not in sentence(item)
        else:
            assert isinstance(item, Item)


@given(JSON | st.fixed_dictionaries({"instances": st.lists(JSON, max_size=3)}))
@example({"instances": [{"audio": {"b64": "QUJD"}, "QUJD" * 400: 1}]})
@example({"instances": [{"audio": {"b64": "QUJD"}, "language": "QUJD" * 400}]})
def test_v1(value: Any) -> None:
    check(V1Body(json.dumps(value).encode()))


@given(
    JSON | st.fixed_dictionaries({"inputs": st.lists(TENSOR, max_size=2)}),
    st.binary(max_size=20),
    st.booleans(),
)
@example({"inputs": [{"name": "QUJD" * 400, "shape": [1], "datatype": "BYTES"}]}, b"", False)
@example({"inputs": [{"name": "audio", "shape": [1], "datatype": "QUJD" * 400}]}, b"", False)
def test_v2(value: Any, binary: bytes, declared: bool) -> None:
    head = json.dumps(value).encode()
    check(V2Body(head + binary, len(head)) if declared else V2Body(head))


@given(st.binary(max_size=60), st.none() | st.integers(0, 70))
def test_any_bytes(body: bytes, json_length: int | None) -> None:
    check(V1Body(body))
    check(V2Body(body, json_length))


@given(
    st.sampled_from(["audio", "waveform"]),
    st.sampled_from(["BYTES", "FP32", "UINT8", ""]),
    st.lists(st.integers(-1, 5), max_size=3),
    st.lists(st.binary(max_size=20), max_size=2),
)
def test_grpc(name: str, datatype: str, shape: list[int], raw: list[bytes]) -> None:
    message = messages.ModelInferRequest(model_name="m", raw_input_contents=raw)
    head = message.inputs.add(name=name, datatype=datatype, shape=shape)
    head.parameters["sample_rate"].int64_param = 8000
    check(V2Message(message))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [1e300, -1e300])
def test_numbers_beyond_float32_are_no_crash(value: float) -> None:
    tensor = {"name": "waveform", "shape": [1], "datatype": "FP32", "data": [value]}
    body = json.dumps({"inputs": [tensor], "parameters": {"sample_rate": 8000}}).encode()
    check(V2Body(body))


OPTIONS = {str(i): 1 for i in range(200_000)}
V2_HEAD = {"inputs": [{"name": "audio", "shape": [1], "datatype": "BYTES", "data": ["QUJD"]}]}
MANY_TENSORS = json.dumps({"inputs": V2_HEAD["inputs"] * 70_000}).encode()
NO_BYTES = b"""{"inputs": [{"name": "audio", "shape": [5000000], "datatype": "BYTES",
    "parameters": {"binary_data_size": 20000000}}]}"""


@pytest.mark.parametrize(
    "payload",
    [
        V1Body(json.dumps({"instances": [{"audio": {"b64": "QUJD"}, **OPTIONS}]}).encode()),
        V2Body(json.dumps({**V2_HEAD, "parameters": OPTIONS}).encode()),
        V2Body(NO_BYTES + bytes(20_000_000), len(NO_BYTES)),
        V2Body(MANY_TENSORS),
    ],
    ids=["options of an instance", "options", "elements of no bytes", "tensors"],
)
def test_what_is_refused_costs_little(payload: Payload) -> None:
    """Not much more than reading a few megabytes of JSON does in the same process."""

    def cpu_seconds(work: Callable[[], object]) -> float:
        def once() -> float:
            begun = time.thread_time()
            work()
            return time.thread_time() - begun

        # A collection would count every object that earlier tests of this process left.
        gc.collect()
        gc.disable()
        try:
            return min(once() for _ in range(3))
        finally:
            gc.enable()

    assert cpu_seconds(lambda: check(payload)) < 5 * cpu_seconds(lambda: json.loads(MANY_TENSORS))
