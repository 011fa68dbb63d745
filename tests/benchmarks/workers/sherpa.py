"""``sherpa-onnx``'s offline recogniser."""

from collections.abc import Sequence
from pathlib import Path

import sherpa_onnx

from tests.benchmarks.workers import loop

FILES = {"fp32": "model.onnx", "int8": "model.int8.onnx"}


def load(job: loop.Job) -> loop.Recognize:
    recognizer = sherpa_onnx.OfflineRecognizer.from_sense_voice(
        model=str(job.model / FILES[job.precision]),
        tokens=str(job.model / "tokens.txt"),
        num_threads=job.threads,
        language="auto",
        use_itn=True,
    )
    samples = loop.cached(loop.read_wav)

    def recognize(paths: Sequence[Path]) -> list[str]:
        streams = [recognizer.create_stream() for _ in paths]
        for stream, path in zip(streams, paths, strict=True):
            stream.accept_waveform(16000, samples(path))
        if len(streams) == 1:
            recognizer.decode_stream(streams[0])
        else:
            recognizer.decode_streams(streams)
        return [stream.result.text for stream in streams]

    return recognize


if __name__ == "__main__":
    loop.main(load, ("sherpa-onnx", "numpy"))
