"""``python predictor/examples/make.py``: the request files beside it, from one clip."""

import base64
import json
from pathlib import Path

import numpy as np
from kserve import InferInput, InferRequest

HERE = Path(__file__).resolve().parent
CLIP = HERE.parent / "demo_model" / "evaluation" / "en-001.opus"


def files() -> dict[str, bytes]:
    """Name of each request file → its content."""
    audio = CLIP.read_bytes()
    b64 = base64.b64encode(audio).decode()
    options = {"language": "en", "timestamps": "word"}
    tensor = InferInput("audio", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([audio], dtype=np.object_), binary_data=True)
    request = InferRequest("sensevoice", [tensor], request_id="example", parameters=options)
    binary, json_length = request.to_rest()
    return {
        "v1.json": _json({"instances": [{"audio": {"b64": b64}, **options}]}),
        "v2.json": _json(
            {
                "id": "example",
                "inputs": [{"name": "audio", "shape": [1], "datatype": "BYTES", "data": [b64]}],
                "parameters": options,
            }
        ),
        "v2.bin": bytes(binary),
        "v2.bin.length": f"{json_length}\n".encode(),
        "grpc.json": _json(
            {
                "modelName": "sensevoice",
                "id": "example",
                "parameters": {name: {"stringParam": value} for name, value in options.items()},
                "inputs": [
                    {
                        "name": "audio",
                        "datatype": "BYTES",
                        "shape": ["1"],
                        "contents": {"bytesContents": [b64]},
                    }
                ],
            }
        ),
    }


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1).encode() + b"\n"


if __name__ == "__main__":
    for name, content in files().items():
        (HERE / name).write_bytes(content)
