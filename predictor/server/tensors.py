"""Tensors of KServe's v2 protocol as they come off the wire: JSON, binary extension, gRPC.

Whatever the wire, a ``Tensor`` holds its elements in one form, in row-major order: a list for BYTES,
a NumPy vector for numbers.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from predictor.engine.errors import InvalidRequest
from predictor.server.errors import quoted
from predictor.server.json_body import JsonBody, Text
from predictor.server.protocol import Limits

Elements: TypeAlias = list[bytes] | list[Text] | NDArray[np.uint8] | NDArray[np.float32]

DATATYPES: Mapping[str, tuple[str, ...]] = {
    "audio": ("BYTES", "UINT8"),
    "waveform": ("FP32",),
}
"""The inputs this server knows, each with the datatypes it may have."""

BINARY_DATA_SIZE = "binary_data_size"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input.

    Attributes:
        data: BYTES: a list of ``bytes`` (binary, gRPC) or of strings (JSON); UINT8: uint8 [n];
            FP32: float32 [n]; where n is the product of ``shape``.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: Mapping[str, Any]
    data: Elements


@dataclass(frozen=True, slots=True)
class TensorHead:
    """What a request says of a tensor before its data.

    Raises:
        InvalidRequest: no input of this server has this name, datatype or kind of shape.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: Mapping[str, Any]

    def __post_init__(self) -> None:
        known = DATATYPES.get(self.name)
        if known is None:
            inputs = ", ".join(DATATYPES)
            raise InvalidRequest(f"inputs: tensor {quoted(self.name)} is unknown; known: {inputs}")
        if self.datatype not in known:
            raise self.error(f"datatype is {quoted(self.datatype)}, must be {' or '.join(known)}")
        if not 1 <= len(self.shape) <= 2:
            raise self.error(f"shape has {len(self.shape)} dimensions, must have one or two")
        if min(self.shape) < 0:
            raise self.error(f"shape is {list(self.shape)}, must hold no negative size")

    @property
    def n_elements(self) -> int:
        return math.prod(self.shape)

    @property
    def n_items(self) -> int:
        """Audio files or waveforms."""
        if self.datatype == "BYTES":
            return self.n_elements
        return self.shape[0] if len(self.shape) == 2 else 1

    def error(self, message: str) -> InvalidRequest:
        return InvalidRequest(f"inputs.{self.name}: {message}")

    def with_data(self, data: Elements) -> Tensor:
        """Raises:
        InvalidRequest: the data has not as many elements as the shape says.
        """
        if len(data) != self.n_elements:
            raise self.error(
                f"shape is {list(self.shape)}, that is {self.n_elements} elements, "
                f"but the data has {len(data)}"
            )
        return Tensor(self.name, self.datatype, self.shape, self.parameters, data)

    def from_json(self, data: Any, body: JsonBody) -> Tensor:
        """``data``: a list of strings (BYTES) or numbers, flat or nested as the shape is."""
        if not isinstance(data, list):
            raise self.error("data is missing; give a list, or binary_data_size and binary data")
        flat: list[Any] = []
        for element in data:
            flat += element if isinstance(element, list) else [element]
        if self.datatype == "BYTES":
            if not all(isinstance(element, str) for element in flat):
                raise self.error("every element of data must be a base64 string")
            return self.with_data([body.text(element) for element in flat])
        if not all(type(element) in (int, float) for element in flat):
            raise self.error("every element of data must be a number")
        if self.datatype == "FP32":
            with np.errstate(over="ignore"):  # Too large becomes infinite, which is no sample.
                return self.with_data(np.array(flat, dtype=np.float32))
        try:
            return self.with_data(np.frombuffer(bytes(flat), dtype=np.uint8))
        except (TypeError, ValueError):
            raise self.error("every element of data must be an integer from 0 to 255") from None

    def from_binary(self, data: bytes | memoryview) -> Tensor:
        """``data``: little-endian elements; of BYTES, each after its length in four bytes."""
        if self.datatype == "BYTES":
            return self.with_data(self._split(memoryview(data)))
        if self.datatype == "UINT8":
            return self.with_data(np.frombuffer(data, dtype=np.uint8))
        if len(data) % 4:
            raise self.error(f"{len(data)} bytes are no whole number of FP32 elements")
        return self.with_data(np.frombuffer(data, dtype="<f4").astype(np.float32, copy=False))

    def _split(self, data: memoryview) -> list[bytes]:
        elements: list[bytes] = []
        position = 0
        while position < len(data):
            head = data[position : position + 4]
            if len(head) < 4:
                raise self.error("binary data ends inside an element's length")
            (size,) = struct.unpack("<I", head)
            position += 4 + size
            if position > len(data):
                raise self.error(
                    "binary data ends inside an element; each element of BYTES comes after its "
                    "length, four bytes, little-endian"
                )
            elements.append(bytes(data[position - size : position]))
            if len(elements) > self.n_elements:
                break  # Elements of no bytes would be millions.
        return elements

    def from_contents(self, contents: Any) -> Tensor:
        """``contents``: a gRPC ``InferTensorContents``."""
        if self.datatype == "BYTES":
            return self.with_data(list(contents.bytes_contents))
        if self.datatype == "FP32":
            return self.with_data(np.array(contents.fp32_contents, dtype=np.float32))
        values = np.array(contents.uint_contents, dtype=np.uint32)
        if values.size and values.max() > 255:
            raise self.error("every element of uint_contents must be at most 255")
        return self.with_data(values.astype(np.uint8))


def json_tensor(inputs: Any, body: JsonBody, binary: memoryview, limits: Limits) -> Tensor:
    """The only input of a REST request: it has its ``data`` in JSON, or all of ``binary``, whose length
    it gives as ``binary_data_size``."""
    if not isinstance(inputs, list):
        raise InvalidRequest("inputs: missing; give a list of tensors")
    value = _only(inputs)
    head = _json_head(value, "inputs[0]")
    limits.check_items(head.n_items, f"inputs.{head.name}")
    size = head.parameters.get(BINARY_DATA_SIZE)
    if size is None:
        if len(binary):
            raise InvalidRequest(f"inputs: {len(binary)} bytes of binary data belong to no tensor")
        return head.from_json(value.get("data"), body)
    if type(size) is not int or size != len(binary):
        raise head.error(
            f"{BINARY_DATA_SIZE} is {quoted(size)}, but the body has {len(binary)} bytes of it"
        )
    return head.from_binary(binary)


def _only(inputs: Sequence[Any]) -> Any:
    """Counted before any is read: a body of some megabytes may hold a hundred thousand."""
    if len(inputs) != 1:
        raise InvalidRequest(
            f"inputs: {len(inputs)} tensors; give one: 'audio' (BYTES [n] or UINT8 [n_bytes]) or "
            "'waveform' (FP32 [n_samples] or [n, n_samples])"
        )
    return inputs[0]


def _json_head(value: Any, name: str) -> TensorHead:
    if not isinstance(value, dict):
        raise InvalidRequest(f"{name}: must be a JSON object")
    for key in ("name", "datatype"):
        if not isinstance(value.get(key), str):
            raise InvalidRequest(f"{name}.{key}: must be a string")
    shape = value.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int for size in shape):
        raise InvalidRequest(f"{name}.shape: must be a list of integers")
    parameters = value.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise InvalidRequest(f"{name}.parameters: must be a JSON object")
    return TensorHead(value["name"], value["datatype"], tuple(shape), parameters)


def grpc_tensor(inputs: Sequence[Any], raw: Sequence[bytes], limits: Limits) -> Tensor:
    """The only input of a gRPC ``ModelInferRequest``: in ``raw_input_contents``, or in its own
    ``contents``."""
    value = _only(inputs)
    if len(raw) > 1:
        raise InvalidRequest(f"raw_input_contents: has {len(raw)} elements for 1 input")
    parameters = grpc_parameters(value.parameters)
    head = TensorHead(value.name, value.datatype, tuple(value.shape), parameters)
    limits.check_items(head.n_items, f"inputs.{head.name}")
    if raw and value.HasField("contents"):
        raise head.error("give contents or raw_input_contents, not both")
    return head.from_binary(raw[0]) if raw else head.from_contents(value.contents)


def grpc_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """``InferParameter`` messages → plain values; None where a message holds none."""
    values: dict[str, Any] = {}
    for name, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        values[name] = getattr(parameter, choice) if choice else None
    return values
