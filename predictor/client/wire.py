"""Audio ⇄ KServe's v2 protocol with binary data. Pure, but for reading a file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict

import httpx
import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from predictor.client.errors import InvalidAnswer, Refused, ServiceError, Unavailable
from predictor.engine.types import SAMPLE_RATE, Transcript

Audio: TypeAlias = str | Path | bytes | NDArray[np.floating[Any]]
"""A file by its path, a file's bytes, or samples: [n_samples], mono, in [-1, 1]."""

Outcome: TypeAlias = Transcript | ServiceError | OSError
"""What became of one audio of several. OSError: its file cannot be read."""

RETRIED = frozenset({429, 502, 503, 504})
"""Statuses of a service that will be there later: overloaded or stopping (the predictor's own 429 and
503), starting from zero (Knative's and Envoy's 502, 503 and 504)."""

MAX_TEXT = 400
"""Characters quoted of an answer that is not the predictor's."""

_TRANSCRIPT = TypeAdapter(Transcript)


class Options(TypedDict, total=False):
    """What is wanted of an audio, as :class:`~predictor.engine.types.TranscribeOptions` has it. The
    service checks the values."""

    language: str | Sequence[str]
    use_itn: bool
    timestamps: Literal["none", "segment", "word"]
    ban_emo_unk: bool
    distributions: bool
    rich: bool
    channels: Literal["mix", "split"]
    segmentation: Literal["vad", "overlap"]


@dataclass(frozen=True, slots=True)
class Message:
    """Body and headers of ``POST /v2/models/{name}/infer``: JSON, then one binary tensor."""

    content: bytes
    headers: Mapping[str, str]


def message(audio: Audio, options: Options, sample_rate: int = SAMPLE_RATE) -> Message:
    """A request for one transcript.

    Args:
        sample_rate: of samples, in hertz; a file has its own.

    Raises:
        OSError: the file cannot be read.
        TypeError: ``audio`` is something else than an :data:`Audio`.
        ValueError: an array of another shape or of integers.
    """
    parameters: dict[str, Any] = dict(options)
    if isinstance(audio, np.ndarray):
        if audio.ndim != 1 or not np.issubdtype(audio.dtype, np.floating):
            raise ValueError(
                f"audio: an array of {audio.dtype} {list(audio.shape)}; give floats [n_samples] in "
                "[-1, 1], one channel"
            )
        name, datatype, data = "waveform", "FP32", audio.astype("<f4").tobytes()
        parameters["sample_rate"] = sample_rate
        shape = [len(audio)]
    elif isinstance(audio, str | Path | bytes):
        data = audio if isinstance(audio, bytes) else Path(audio).read_bytes()
        name, datatype, shape = "audio", "UINT8", [len(data)]
    else:
        raise TypeError(
            f"audio: {type(audio).__name__}; give a path, a file's bytes, or samples as an array"
        )
    size = {"binary_data_size": len(data)}
    tensor = {"name": name, "datatype": datatype, "shape": shape, "parameters": size}
    head = orjson.dumps(
        {"inputs": [tensor], "outputs": [{"name": "transcript"}], "parameters": parameters}
    )
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(head)),
    }
    return Message(head + data, headers)


def transcript(response: httpx.Response) -> Transcript:
    """The transcript of a response.

    Raises:
        ServiceError: see :func:`raise_for_status`.
        InvalidAnswer: not an answer of the v2 protocol.
    """
    raise_for_status(response)
    try:
        outputs = {
            output["name"]: output["data"] for output in orjson.loads(response.content)["outputs"]
        }
        return _TRANSCRIPT.validate_json(outputs["transcript"][0])
    except (ValueError, KeyError, TypeError, IndexError, ValidationError) as error:
        raise InvalidAnswer(
            f"{response.url}: not a predictor's answer of the v2 protocol", response.status_code
        ) from error


def raise_for_status(response: httpx.Response) -> None:
    """Raises:
    Unavailable: one of the statuses that are :data:`RETRIED`.
    Refused: another one from 400 to 499.
    ServiceError: any other that is no success.
    """
    if response.is_success:
        return
    status = response.status_code
    kind = (
        Unavailable if status in RETRIED else Refused if response.is_client_error else ServiceError
    )
    raise kind(error_text(response), status)


def error_text(response: httpx.Response) -> str:
    """The service's sentence; where there is none, the beginning of what came, or the status's name."""
    try:
        said = orjson.loads(response.content)["error"]
    except (ValueError, KeyError, TypeError):
        said = response.text.strip()[:MAX_TEXT] or response.reason_phrase
    return said if isinstance(said, str) else str(said)[:MAX_TEXT]
