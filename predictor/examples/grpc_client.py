"""KServe v2 over gRPC, with kserve's client: ``grpc_client.py FILE [localhost:8081]``."""

import asyncio
import json
import sys
from pathlib import Path

import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest


async def main(audio: bytes, server: str = "localhost:8081") -> None:
    tensor = InferInput("audio", [1], "BYTES")
    # As an array of objects: the client sends the bytes as they are.
    tensor.set_data_from_numpy(np.array([audio], dtype=np.object_))
    request = InferRequest("sensevoice", [tensor], parameters={"timestamps": "word"})
    async with InferenceGRPCClient(server) as client:
        answer = await client.infer(request)
    transcript = json.loads(answer.get_output_by_name("transcript").as_numpy().ravel()[0])
    print(transcript["text"])
    print(transcript["emotion"], transcript["event"])


asyncio.run(main(Path(sys.argv[1]).read_bytes(), *sys.argv[2:]))
