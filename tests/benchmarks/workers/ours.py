"""The engine, as a user of the library calls it."""

from collections.abc import Sequence
from pathlib import Path

from predictor.engine.transcribe import Engine
from predictor.engine.types import TranscribeOptions, Waveform
from tests.benchmarks.workers import loop

OPTIONS = TranscribeOptions.parse({"timestamps": "none"})


def load(job: loop.Job) -> loop.Recognize:
    engine = Engine(job.model, device="cpu", precision=job.precision, threads=job.threads)
    waveform = loop.cached(lambda path: Waveform(loop.read_wav(path)))

    def recognize(paths: Sequence[Path]) -> list[str]:
        if len(paths) == 1:
            return [engine.transcribe(waveform(paths[0]), OPTIONS).text]
        # As the server's batcher does: clips of several recordings in one pass of the network.
        recordings = [engine.open(waveform(path), OPTIONS) for path in paths]
        clips = [list(recording) for recording in recordings]
        hypotheses = iter(engine.recognize([clip for some in clips for clip in some]))
        return [
            engine.assemble(recording, [next(hypotheses) for _ in some]).text
            for recording, some in zip(recordings, clips, strict=True)
        ]

    return recognize


if __name__ == "__main__":
    loop.main(load, ("openvino", "torch", "numpy"))
