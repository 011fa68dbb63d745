"""``funasr-onnx``'s SenseVoiceSmall on ONNX Runtime."""

from collections.abc import Sequence
from pathlib import Path

from funasr_onnx import SenseVoiceSmall

from tests.benchmarks.workers import loop


def load(job: loop.Job) -> loop.Recognize:
    options = {"quantize": job.precision == "int8", "intra_op_num_threads": job.threads}
    one = SenseVoiceSmall(str(job.model), batch_size=1, **options)
    samples = loop.cached(loop.read_wav)

    def recognize(paths: Sequence[Path]) -> list[str]:
        # It takes an array for one clip, and only paths for several.
        one.batch_size = len(paths)
        source = samples(paths[0]) if len(paths) == 1 else [str(path) for path in paths]
        return list(one(source, language="auto", textnorm="withitn"))

    return recognize


if __name__ == "__main__":
    loop.main(load, ("funasr-onnx", "onnxruntime", "numpy"))
