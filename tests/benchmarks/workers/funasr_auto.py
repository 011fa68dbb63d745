"""FunASR's ``AutoModel.generate``."""

from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.workers import loop


def load(job: loop.Job) -> loop.Recognize:
    # Imported here: without ffmpeg on the machine it prints to standard output.
    from funasr import AutoModel

    assert job.precision == "fp32"
    model = AutoModel(
        model=str(job.model),
        device="cpu",
        ncpu=job.threads,
        disable_update=True,
        disable_pbar=True,
        log_level="ERROR",
    )
    samples = loop.cached(loop.read_wav)

    def recognize(paths: Sequence[Path]) -> list[str]:
        answers = model.generate(
            [samples(path) for path in paths],
            batch_size=len(paths),
            language="auto",
            use_itn=True,
            cache={},
        )
        return [answer["text"] for answer in answers]

    return recognize


if __name__ == "__main__":
    loop.main(load, ("funasr", "torch", "numpy"))
