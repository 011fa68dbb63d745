"""Training clips as tensors: features with their augmentation, targets, batches."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentencepiece import SentencePieceProcessor
from torch import Tensor

from predictor.engine.frontend import low_frame_rate
from predictor.engine.transcribe import LANGUAGE_QUERIES
from predictor.engine.transcribe import TEXTNORM_QUERIES as ITN_QUERIES

N_MELS = 80
LFR_M, LFR_N = 7, 6
FRAME_SECONDS = 0.06
_FRAME_CENTRE = 0.0125
"""Middle of the first stacked frame's middle window, in seconds."""

TEXTNORM_QUERIES = {"withitn": ITN_QUERIES[True], "woitn": ITN_QUERIES[False]}
_AUTO_SHARE = 0.65
_WORD_START = "\u2581"

Features = NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Target:
    """What the network should say for one clip with one text normalisation."""

    tags: list[int]
    """Language, emotion, event, text normalisation."""
    tokens: list[int]
    times: list[tuple[float, float]]
    """Start and end of each token, in seconds."""


@dataclass(frozen=True, slots=True)
class Item:
    offset: int
    frames: int
    """10 ms windows."""
    language: str
    targets: dict[str, Target]
    """By text normalisation: ``withitn``, ``woitn``."""

    @property
    def stacked(self) -> int:
        return -(-self.frames // LFR_N)


@dataclass(frozen=True, slots=True)
class Batch:
    features: Tensor
    """float32 [batch, frames, 560], normalised."""
    n_frames: Tensor
    language_query: Tensor
    textnorm_query: Tensor
    tags: Tensor
    """int64 [batch, 4]."""
    tokens: Tensor
    """int64, all targets one after the other."""
    n_tokens: Tensor
    frame_tokens: Tensor
    """int64 [batch, frames]: the token at each frame, 0 between tokens, -100 in the padding."""


class Cmvn:
    """Mean and deviation of the log-mel energies, the same for each of the stacked windows."""

    def __init__(self, mean: NDArray[np.float32], deviation: NDArray[np.float32]) -> None:
        self.mean, self.deviation = mean, deviation

    @classmethod
    def of(cls, features: Features) -> "Cmvn":
        sample = features[::53].astype(np.float32)
        return cls(sample.mean(axis=0), sample.std(axis=0))

    def write(self, path: Path) -> None:
        """As FunASR's ``am.mvn``, a Kaldi nnet: shift by −mean, scale by 1 / deviation."""
        size = N_MELS * LFR_M

        def vector(values: NDArray[np.floating[Any]]) -> str:
            return " ".join(f"{value:.6f}" for value in np.tile(values, LFR_M))

        path.write_text(
            f"<Nnet> \n<Splice> {size} {size}\n[ 0 ]\n"
            f"<AddShift> {size} {size} \n<LearnRateCoef> 0 [ {vector(-self.mean)} ]\n"
            f"<Rescale> {size} {size}\n<LearnRateCoef> 0 [ {vector(1 / self.deviation)} ]\n"
            "</Nnet> \n",
            encoding="utf-8",
        )

    def stacked(self, log_mel: NDArray[np.float32]) -> Tensor:
        """[windows, 80] → normalised low-frame-rate features, float32 [frames, 560]."""
        normalised = (log_mel - self.mean) / self.deviation
        return torch.from_numpy(low_frame_rate(normalised, LFR_M, LFR_N))


def target(
    processor: SentencePieceProcessor,
    tags: Sequence[str],
    units: Sequence[tuple[str, float, float]],
) -> Target:
    """``units`` are (written form, start, end); a token's time is that of its characters, which share
    their unit's time evenly."""
    text = "".join(unit[0] for unit in units)
    tokens: list[int] = processor.encode(text) if text else []
    edges = [units[0][1]] if units else [0.0]
    for written, start, end in units:
        step = (end - start) / max(1, len(written))
        edges += [start + step * (k + 1) for k in range(len(written))]
    times, position = [], -1  # the first piece starts with a word mark that the text does not have
    for token in tokens:
        length = len(processor.id_to_piece(token))
        times.append((edges[max(0, position)], edges[position + length]))
        position += length
    ids = [processor.piece_to_id(f"<|{tag}|>") for tag in tags]
    return Target(ids, tokens, times)


def frame_tokens(wanted: Target, n_frames: int) -> Tensor:
    """The token at each stacked frame, int64 [n_frames], 0 (blank) where none is."""
    labels = torch.zeros(n_frames, dtype=torch.long)
    previous, previous_end = 0, 0
    for token, (start, end) in zip(wanted.tokens, wanted.times, strict=True):
        first = min(n_frames - 1, max(0, round((start - _FRAME_CENTRE) / FRAME_SECONDS)))
        last = min(n_frames, max(first + 1, round((end - _FRAME_CENTRE) / FRAME_SECONDS)))
        if token == previous and previous_end == first and first > 0:
            labels[first - 1] = 0  # a repeated token needs a blank between
        labels[first:last] = token
        previous, previous_end = token, last
    return labels


class TrainingSet:
    """``train.jsonl`` and ``train.features`` of a corpus directory."""

    def __init__(self, directory: Path, processor: SentencePieceProcessor) -> None:
        flat = np.memmap(directory / "train.features", np.float16, "r")
        self.features: Features = flat.reshape(-1, N_MELS)
        self.cmvn = Cmvn.of(self.features)
        with (directory / "train.jsonl").open(encoding="utf-8") as index:
            self.items = [_item(json.loads(line), processor) for line in index]

    @property
    def hours(self) -> float:
        return len(self.features) / 360_000

    def batches(
        self, rng: random.Random, rank: int, world: int, frames: int
    ) -> Iterator[list[Item]]:
        """One pass in random order: clips of similar length, at most ``frames`` stacked frames with
        padding; every rank gets as many batches. ``rng`` must be in the same state on every rank."""
        order = sorted(self.items, key=lambda item: item.stacked + rng.random() * 6)
        groups: list[list[Item]] = [[]]
        for item in order:
            if groups[-1] and item.stacked * (len(groups[-1]) + 1) > frames:
                groups.append([])
            groups[-1].append(item)
        rng.shuffle(groups)
        yield from groups[rank : len(groups) // world * world : world]

    def batch(self, items: Sequence[Item], rng: random.Random, mask: bool) -> Batch:
        """``mask``: with SpecAugment."""
        features, labels, wanted, languages, norms = [], [], [], [], []
        for item in items:
            log_mel = self.features[item.offset : item.offset + item.frames].astype(np.float32)
            features.append(self.cmvn.stacked(self._varied(log_mel, rng, mask)))
            norm = rng.choice(tuple(TEXTNORM_QUERIES))
            wanted.append(item.targets[norm])
            labels.append(frame_tokens(wanted[-1], len(features[-1])))
            languages.append("auto" if rng.random() < _AUTO_SHARE else item.language)
            norms.append(norm)
        pad = torch.nn.utils.rnn.pad_sequence
        return Batch(
            features=pad(features, batch_first=True),
            n_frames=torch.tensor([len(each) for each in features]),
            language_query=torch.tensor([LANGUAGE_QUERIES[each] for each in languages]),
            textnorm_query=torch.tensor([TEXTNORM_QUERIES[each] for each in norms]),
            tags=torch.tensor([each.tags for each in wanted]),
            tokens=torch.tensor(
                [token for each in wanted for token in each.tokens], dtype=torch.long
            ),
            n_tokens=torch.tensor([len(each.tokens) for each in wanted]),
            frame_tokens=pad(labels, batch_first=True, padding_value=-100),
        )

    def _varied(
        self, log_mel: NDArray[np.float32], rng: random.Random, mask: bool
    ) -> NDArray[np.float32]:
        """A new level and spectral tilt at each visit; with ``mask``, bands and times set to the mean."""
        tilt = np.linspace(-1, 1, N_MELS, dtype=np.float32) * rng.uniform(-1, 1)
        log_mel = log_mel + (rng.uniform(-1.0, 1.0) + tilt)
        if mask:
            for _ in range(2):
                width = rng.randint(0, 14)
                low = rng.randint(0, N_MELS - width)
                log_mel[:, low : low + width] = self.cmvn.mean[low : low + width]
            for _ in range(2):
                width = rng.randint(0, max(1, min(20, len(log_mel) // 10)))
                start = rng.randint(0, len(log_mel) - width)
                log_mel[start : start + width] = self.cmvn.mean
        return log_mel


def _item(row: dict[str, Any], processor: SentencePieceProcessor) -> Item:
    tags = (row["language"], row["emotion"], row["event"])
    units = {
        "woitn": [(unit[0], unit[2], unit[3]) for unit in row["units"]],
        "withitn": [(unit[1], unit[2], unit[3]) for unit in row["units"]],
    }
    targets = {norm: target(processor, (*tags, norm), units[norm]) for norm in units}
    return Item(row["offset"], row["frames"], row["language"], targets)
