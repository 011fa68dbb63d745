"""KServe's v2 protocol, REST and gRPC ⇄ values. Pure: no I/O, no model."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from predictor.engine.audio import SAMPLE_RATES
from predictor.engine.errors import InvalidAudio, InvalidRequest, SpeechError
from predictor.engine.types import TranscribeOptions, Transcript, Waveform
from predictor.server.errors import quoted, sentence
from predictor.server.json_body import JsonBody, parse_json
from predictor.server.protocol import (
    Item,
    Limits,
    Outcome,
    as_json,
    decode_base64,
    options,
    raise_if_all_failed,
)
from predictor.server.sdk import InferOutput, InferResponse, RequestedOutput
from predictor.server.tensors import (
    BINARY_DATA_SIZE,
    Tensor,
    grpc_parameters,
    grpc_tensor,
    json_tensor,
)

OUTPUTS = ("text", "language", "emotion", "event", "transcript")
"""BYTES [n] each; ``transcript`` holds the whole transcript as JSON."""

ERROR = "error"
"""BYTES [n], beside the others where an item of several failed: a sentence, empty where fine."""

BINARY_DATA = "binary_data"
BINARY_DATA_OUTPUT = "binary_data_output"
SAMPLE_RATE = "sample_rate"
PROTOCOL_PARAMETERS = (BINARY_DATA_SIZE, BINARY_DATA_OUTPUT, SAMPLE_RATE)
"""Parameters with a meaning of their own; every other one is an option."""

_BASE64_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\r\n"


@dataclass(frozen=True, slots=True)
class V2Body:
    """Body of ``POST /v2/models/{name}/infer``.

    Attributes:
        json_length: value of the header ``Inference-Header-Content-Length``: bytes of JSON in front
            of binary tensors. None: the body is JSON. 0: it is the bytes of one audio file.
    """

    body: bytes
    json_length: int | None = None

    @property
    def n_bytes(self) -> int:
        # One file as it is: nothing to parse.
        return 0 if self.json_length == 0 else len(self.body)

    def parse(self, limits: Limits) -> "V2Call":
        if self.json_length == 0:
            return V2Call((Item(self.body, TranscribeOptions()),))
        if self.json_length is None:
            return parse_v2(parse_json(self.body), memoryview(b""), limits)
        if not 0 < self.json_length <= len(self.body):
            raise InvalidRequest(
                f"Inference-Header-Content-Length: is {self.json_length}, but the body has "
                f"{len(self.body)} bytes"
            )
        head = parse_json(self.body[: self.json_length])
        return parse_v2(head, memoryview(self.body)[self.json_length :], limits)


@dataclass(frozen=True, slots=True)
class V2Message:
    """A gRPC ``ModelInferRequest``."""

    message: Any

    @property
    def n_bytes(self) -> int:
        return int(self.message.ByteSize())

    def parse(self, limits: Limits) -> "V2Call":
        message = self.message
        tensor = grpc_tensor(message.inputs, message.raw_input_contents, limits)
        return V2Call(
            _items(tensor, grpc_parameters(message.parameters), limits),
            request_id=message.id,
            wanted=_wanted([output.name for output in message.outputs]),
            # gRPC answers in the form it was asked in.
            binary=dict.fromkeys((*OUTPUTS, ERROR), bool(message.raw_input_contents)),
            grpc=True,
        )


@dataclass(frozen=True, slots=True)
class V2Call:
    """A parsed v2 request.

    Attributes:
        wanted: names of outputs to answer.
        binary: names of outputs → whether to answer them as binary data.
        grpc: for a gRPC answer, where all outputs are binary or none is.
    """

    items: tuple[Item | SpeechError, ...]
    request_id: str = ""
    wanted: tuple[str, ...] = OUTPUTS
    binary: Mapping[str, bool] | None = None
    grpc: bool = False

    def render(self, outcomes: Sequence[Outcome]) -> Any:
        """An ``InferResponse`` without the model's name and version."""
        raise_if_all_failed(outcomes)
        wanted = self.wanted
        if ERROR not in wanted and any(isinstance(outcome, SpeechError) for outcome in outcomes):
            wanted = (*wanted, ERROR)
        rows = [_row(outcome) for outcome in outcomes]
        outputs = [
            InferOutput(name, [len(rows)], "BYTES", [row[name] for row in rows]) for name in wanted
        ]
        binary = self.binary or {}
        return InferResponse(
            response_id=self.request_id or str(uuid.uuid4()),
            model_name="",
            infer_outputs=outputs,
            use_binary_outputs=self.grpc and any(binary.values()),
            requested_outputs=None
            if self.grpc
            else [RequestedOutput(name, {BINARY_DATA: binary.get(name, False)}) for name in wanted],
        )


def _row(outcome: Outcome) -> dict[str, str]:
    """Name of output → its element for one item."""
    row = dict.fromkeys((*OUTPUTS, ERROR), "")
    if isinstance(outcome, Transcript):
        row["text"] = outcome.text
        for kind in ("language", "emotion", "event"):
            row[kind] = getattr(outcome, kind).label
    else:
        row[ERROR] = sentence(outcome)
    row["transcript"] = orjson.dumps(as_json(outcome)).decode()
    return row


def parse_v2(body: JsonBody, binary: memoryview, limits: Limits) -> V2Call:
    """A REST request: ``body`` with the binary tensors that came after it."""
    request = body.value
    if not isinstance(request, dict):
        raise InvalidRequest("body: must be a JSON object")
    parameters = request.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise InvalidRequest("parameters: must be a JSON object")
    request_id = request.get("id") or ""
    if not isinstance(request_id, str):
        raise InvalidRequest("id: must be a string")
    outputs = request.get("outputs") or []
    if not isinstance(outputs, list) or not all(isinstance(output, dict) for output in outputs):
        raise InvalidRequest("outputs: must be a list of {'name': ...}")
    binary_outputs = dict.fromkeys((*OUTPUTS, ERROR), parameters.get(BINARY_DATA_OUTPUT) is True)
    for output in outputs:
        flags = output.get("parameters") or {}
        if isinstance(flags, dict) and isinstance(flags.get(BINARY_DATA), bool):
            binary_outputs[str(output.get("name"))] = flags[BINARY_DATA]
    return V2Call(
        _items(json_tensor(request.get("inputs"), body, binary, limits), parameters, limits),
        request_id=request_id,
        wanted=_wanted([output.get("name") for output in outputs]),
        binary=binary_outputs,
    )


def _wanted(names: Sequence[Any]) -> tuple[str, ...]:
    """Raises:
    InvalidRequest: an output of this name does not exist.
    """
    for name in names:
        if name not in (*OUTPUTS, ERROR):
            raise InvalidRequest(f"outputs: {quoted(name)} is unknown; known: {', '.join(OUTPUTS)}")
    return tuple(dict.fromkeys(names)) or OUTPUTS


def _items(
    tensor: Tensor, parameters: Mapping[str, Any], limits: Limits
) -> tuple[Item | SpeechError, ...]:
    """The audio of a request's only tensor, with the request's options under the tensor's."""
    name = f"inputs.{tensor.name}"
    merged = {**parameters, **tensor.parameters}
    wanted = options(
        {}, {k: v for k, v in merged.items() if k not in PROTOCOL_PARAMETERS}, "parameters"
    )
    if tensor.datatype == "FP32":
        return _waveforms(tensor, merged.get(SAMPLE_RATE), wanted, name)
    if SAMPLE_RATE in merged:
        raise InvalidRequest(
            f"{name}: parameter 'sample_rate' is for 'waveform'; a file has its own"
        )
    if tensor.datatype == "UINT8":
        if len(tensor.shape) == 2 and tensor.shape[0] != 1:
            raise InvalidRequest(f"{name}: UINT8 holds one file: shape [n_bytes] or [1, n_bytes]")
        return (Item(np.asarray(tensor.data).tobytes(), wanted),)
    if len(tensor.shape) == 2 and tensor.shape[1] != 1:
        raise InvalidRequest(f"{name}: shape is {list(tensor.shape)}, must be [n] or [n, 1]")
    return tuple(
        _file(element, wanted, f"{name}[{i}]", limits) for i, element in enumerate(tensor.data)
    )


def _file(element: Any, wanted: TranscribeOptions, name: str, limits: Limits) -> Item | SpeechError:
    """A file from an element of BYTES: base64 text in JSON, the bytes themselves elsewhere."""
    if not isinstance(element, bytes):
        try:
            return Item(decode_base64(element, name, limits), wanted)
        except SpeechError as error:
            return error
    # No audio format begins with 64 letters and digits: somebody encoded what needs no encoding.
    if len(element) >= 64 and not element[:64].strip(_BASE64_ALPHABET):
        return InvalidAudio(
            f"{name}: is text; binary data and gRPC take the file's bytes as they are"
        )
    return Item(element, wanted)


def _waveforms(
    tensor: Tensor, rate: Any, wanted: TranscribeOptions, name: str
) -> tuple[Item | SpeechError, ...]:
    lowest, highest = SAMPLE_RATES
    if rate is None:
        raise InvalidRequest(f"{name}: parameter 'sample_rate' is missing; give hertz")
    if type(rate) is not int or not lowest <= rate <= highest:
        raise InvalidRequest(
            f"{name}: parameter 'sample_rate' must be an integer from {lowest} to {highest} hertz"
        )
    samples = np.asarray(tensor.data, dtype=np.float32)
    batch = samples.reshape(tensor.shape if len(tensor.shape) == 2 else (1, -1))
    return tuple(Item(Waveform(row, rate), wanted) for row in batch)
