"""What each precision costs in accuracy.

Error rates and tags come from the embedded model, which is trained, on its evaluation set. Full-size random
weights measure numeric error only: their logits are nearly flat, so that the smallest error turns an
argmax, and agreement there is a lower bound.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
from numpy.typing import NDArray

from pipelines.demo_model.evaluate import OPTIONS
from pipelines.demo_model.scoring import Heard, plain, score
from predictor.engine.assembly import Hypothesis
from predictor.engine.network import N_QUERIES, Queries
from predictor.engine.recording import Clip
from predictor.engine.transcribe import LANGUAGE_QUERIES, TEXTNORM_QUERIES, Engine
from predictor.engine.types import AUTO, Waveform
from tests.benchmarks.clips import EVALUATION
from tests.benchmarks.workers.loop import read_wav

BATCH = 6
"""Clips in a batch of the neighbour check, of very different lengths."""

TAGS = ("language", "emotion", "event")

Logits = NDArray[np.float32]
"""[frames, vocab_size]."""


def embedded(
    model: Path, precisions: Sequence[str], limit: int | None = None, folder: Path = EVALUATION
) -> dict[str, Any]:
    """Scores against the labels, and agreement with the first precision.

    Args:
        model: the embedded model.
        precisions: the first is the reference.
        limit: take about so many clips, spread over the set; all unless given.
        folder: the evaluation set.
    """
    lines = (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    step = max(1, len(lines) // limit) if limit else 1
    labels = [json.loads(line) for line in lines[::step]]
    wanted = [Heard(row["text"], *(row[tag] for tag in TAGS)) for row in labels]
    audio = [(folder / row["audio"]).read_bytes() for row in labels]
    reference: list[Heard] = []
    results: dict[str, Any] = {}
    for precision in precisions:
        engine = Engine(model, device="cpu", precision=precision, threads=1)
        alone: list[Hypothesis] = []
        heard: list[Heard] = []
        clips: list[Clip] = []
        for one in audio:
            recording = engine.open(one, OPTIONS)
            found = list(recording)
            hypotheses = [engine.recognize([clip])[0] for clip in found]
            text = engine.assemble(recording, hypotheses)
            heard.append(Heard(text.text, *(getattr(text, tag).label for tag in TAGS)))
            clips += found
            alone += hypotheses
        reference = reference or heard
        results[precision] = {
            "scores": asdict(score(wanted, heard)),
            "against": precisions[0],
            "agreement": agreement(reference, heard),
            "batch_mismatches": batch_mismatches(engine, clips, alone),
        }
    for result in results.values():
        first = results[precisions[0]]["scores"]["cer"]
        result["cer_points"] = 100 * (result["scores"]["cer"] - first)
    return results


def agreement(reference: Sequence[Heard], heard: Sequence[Heard]) -> dict[str, float]:
    """Shares of clips with equal tags and equal text, and the error rate of characters, all against
    the reference's answers."""
    pairs = list(zip(reference, heard, strict=True))
    equal = {
        name: sum(getattr(one, name) == getattr(other, name) for one, other in pairs) / len(pairs)
        for name in ("text", *TAGS)
    }
    spoken = [(plain(one.text), plain(other.text)) for one, other in pairs if one.text]
    equal["cer"] = jiwer.cer([one for one, _ in spoken], [other for _, other in spoken])
    return equal


def batch_mismatches(
    engine: Engine, clips: Sequence[Clip], alone: Sequence[Hypothesis]
) -> dict[str, int]:
    """How many clips have other token ids in a batch than they have alone."""
    # By length, then a stride: the shortest beside the longest, the hardest neighbours.
    order = sorted(range(len(clips)), key=lambda index: clips[index].duration)
    n_batches = -(-len(order) // BATCH)
    mismatches = 0
    for start in range(n_batches):
        rows = order[start::n_batches]
        together = engine.recognize([clips[index] for index in rows])
        mismatches += sum(
            _ids(hypothesis) != _ids(alone[index])
            for index, hypothesis in zip(rows, together, strict=True)
        )
    return {"clips": len(clips), "mismatches": mismatches}


def _ids(hypothesis: Hypothesis) -> list[int]:
    return [token.id for token in hypothesis.tokens]


def full_size(model: Path, precisions: Sequence[str], paths: Sequence[Path]) -> dict[str, Any]:
    """Numeric distance from the first precision, and whether neighbours matter.

    Args:
        model: prepared directory with full-size weights.
        precisions: the first is the reference.
        paths: WAV files of at most 30 s, of different lengths.
    """
    waveforms = [Waveform(read_wav(path)) for path in paths]
    reference: list[Logits] = []
    results: dict[str, Any] = {}
    for precision in precisions:
        engine = Engine(model, device="cpu", precision=precision, threads=1)
        clips = [next(iter(engine.open(waveform, OPTIONS))) for waveform in waveforms]
        logits = [_logits(engine, clip) for clip in clips]
        reference = reference or logits
        alone = [engine.recognize([clip])[0] for clip in clips]
        results[precision] = {
            "against": precisions[0],
            **distance(reference, logits),
            "batch_mismatches": batch_mismatches(engine, clips, alone),
        }
    return results


def distance(reference: Sequence[Logits], logits: Sequence[Logits]) -> dict[str, float]:
    """How far the logits of each clip are from the reference's.

    Returns:
        ``logit_max``: largest |Δ| over the reference's largest magnitude; ``logit_rms``: root mean
        square of Δ over that of the reference; ``frames``: share of frames with the same best token;
        ``token_error_rate``: of the collapsed tokens.
    """
    one, other = np.concatenate(reference), np.concatenate(logits)
    paths = [
        (theirs.argmax(axis=1), mine.argmax(axis=1))
        for theirs, mine in zip(reference, logits, strict=True)
    ]
    same = sum(int((theirs == mine).sum()) for theirs, mine in paths)
    return {
        "logit_max": float(np.abs(other - one).max() / np.abs(one).max()),
        "logit_rms": float(np.linalg.norm(other - one) / np.linalg.norm(one)),
        "frames": same / len(one),
        "token_error_rate": jiwer.wer(
            [_words(theirs) for theirs, _ in paths], [_words(mine) for _, mine in paths]
        ),
    }


def _words(path: NDArray[np.int64]) -> str:
    """Collapsed token ids as words."""
    changes = np.flatnonzero(np.diff(path, prepend=-1))
    return " ".join(map(str, path[changes].tolist()))


def _logits(engine: Engine, clip: Clip) -> Logits:
    """Logits of one clip."""
    network = engine.network
    queries = Queries(LANGUAGE_QUERIES[AUTO], TEXTNORM_QUERIES[clip.options.use_itn])
    (encoded,) = network.encode([network.features(clip.span.samples)], [queries])
    # The network gives whole logits for the query frames only: any four frames can stand there.
    starts = range(0, len(encoded) - N_QUERIES + 1, N_QUERIES)
    return np.concatenate([network.tag_logits(encoded[start:]) for start in starts])
