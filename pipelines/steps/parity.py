"""Does the engine compute what FunASR computes? Features, logits and tokens, side by side in fp32.

FunASR's own ``SenseVoiceSmall.inference`` runs with the same weights and dither 0, over clips of many
lengths with every language and text normalisation. The same clips then run through the engine in
batches, where a clip's tokens must not depend on its neighbours.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain, cycle, islice, product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import yaml
from torch import Tensor

from pipelines.evaluation.results import ParityResult
from pipelines.random_model import write_random_model
from predictor.engine.audio import decode
from predictor.engine.checkpoint import CMVN, CONFIG, Checkpoint
from predictor.engine.decoding import collapse
from predictor.engine.encoder import SenseVoiceNetwork
from predictor.engine.frontend import Frontend
from predictor.engine.transcribe import LANGUAGE_QUERIES, TEXTNORM_QUERIES
from predictor.engine.types import SAMPLE_RATE, Samples

SETTINGS = list(product(LANGUAGE_QUERIES, TEXTNORM_QUERIES))
"""Every language query with and without inverse text normalisation."""

LONG = (30.0, 20.0, 14.0)
SHORT = (0.3, 0.5, 0.8, 1.2, 1.7, 2.5, 3.5, 5.0, 7.0, 10.0)
"""Seconds; real clips are cut or strung together to these lengths, the long ones once each."""

EMBEDDED = Path(__file__).resolve().parents[2] / "predictor" / "demo_model"
"""The embedded model; real speech is beside it, in ``evaluation``."""

BATCH = 6
"""Clips in one batch of the neighbour check."""


@dataclass(frozen=True, slots=True)
class Parity:
    """Largest differences over all clips.

    Attributes:
        n_clips: clips compared.
        seconds: their audio.
        parameters: of the network.
        features: max |Δ| of normalised features.
        features_beyond: share of feature values whose |Δ| exceeds 1e-3.
        logits: max |Δ| of logits, divided by the reference's largest magnitude.
        token_mismatches: clips whose token ids differ.
        batch_mismatches: clips whose token ids in a batch differ from those alone.
    """

    n_clips: int
    seconds: float
    parameters: int
    features: float
    features_beyond: float
    logits: float
    token_mismatches: int
    batch_mismatches: int

    @property
    def held(self) -> bool:
        """Within the bars: 1e-3 on relative logits, tokens identical, 1e-3 on features.

        FunASR's filter bank is float32, and in bins 100 dB below a loud harmonic its own distance from
        exact arithmetic, which the engine's is, can exceed 1e-3: one value in 100,000 may, by as much.
        """
        return (
            self.features_beyond <= 1e-5
            and self.features <= 2e-3
            and self.logits <= 1e-3
            and not self.token_mismatches
            and not self.batch_mismatches
        )


def parity(model: Path, clips: int) -> ParityResult:
    """A model directory beside FunASR over ``clips`` real clips of 0.3 to 30 s."""
    found = compare(model, real_clips(EMBEDDED / "evaluation", clips))
    return ParityResult(**asdict(found), held=found.held)


def real_clips(folder: Path, n: int) -> list[Samples]:
    """``n`` clips of 0.3 to 30 s from the audio files of a folder, float32 [n_samples], 16 kHz.

    Raises:
        FileNotFoundError: the folder holds no audio file.
    """
    files = sorted(p for p in folder.rglob("*") if p.suffix in {".flac", ".wav", ".opus", ".ogg"})
    if not files:
        raise FileNotFoundError(f"no audio files in {folder}")
    # Every seventh file: neighbours in the sorted list share a language.
    sources = cycle(files[index % len(files)] for index in range(0, 7 * len(files), 7))
    clips = []
    for length in islice(chain(LONG, cycle(SHORT)), n):
        wanted = round(length * SAMPLE_RATE)
        pieces: list[Samples] = []
        while sum(map(len, pieces)) < wanted:
            blocks = list(decode(next(sources).read_bytes(), max_seconds=60.0))
            pieces.append(np.concatenate(blocks, axis=1)[0])
        clips.append(np.concatenate(pieces)[:wanted])
    return clips


class Reference:
    """FunASR's SenseVoiceSmall around the engine's weights."""

    def __init__(self, checkpoint: Checkpoint, module: SenseVoiceNetwork) -> None:
        # The package looks for all models that it has and imports them, for five seconds. Where this
        # process wants another one, it is imported by its own name.
        with patch("pkgutil.walk_packages", return_value=[]):
            from funasr.frontends.wav_frontend import WavFrontend
            from funasr.models.sense_voice.model import SenseVoiceSmall
            from funasr.tokenizer.sentencepiece_tokenizer import SentencepiecesTokenizer

        directory = checkpoint.directory
        config = yaml.safe_load((directory / CONFIG).read_text(encoding="utf-8"))
        frontend = {**config["frontend_conf"], "cmvn_file": str(directory / CMVN), "dither": 0.0}
        self.frontend = WavFrontend(**frontend)
        self.tokenizer = SentencepiecesTokenizer(str(directory / checkpoint.manifest.tokenizer))
        self.model = SenseVoiceSmall(
            encoder=config["encoder"],
            encoder_conf=config["encoder_conf"],
            input_size=checkpoint.frontend_config.feature_size,
            vocab_size=checkpoint.tokenizer.vocab_size,
        ).eval()
        self.model.load_state_dict(module.state_dict(), assign=True)
        self._logits: list[Tensor] = []
        self._ids: list[list[int]] = []
        self.model.ctc.ctc_lo.register_forward_hook(self._keep_logits)
        self._decode = self.tokenizer.decode
        self.tokenizer.decode = self._keep_ids

    def _keep_logits(self, module: Any, inputs: Any, output: Tensor) -> None:
        self._logits.append(output[0].clone())

    def _keep_ids(self, ids: list[int], **kwargs: Any) -> Any:
        self._ids.append(ids)
        return self._decode(ids, **kwargs)

    @torch.inference_mode()
    def run(self, samples: Samples, language: str, itn: bool) -> tuple[Tensor, Tensor, list[int]]:
        """→ features [frames, 560], logits [4 + frames, vocab], token ids."""
        self._logits.clear()
        self._ids.clear()
        waveform = torch.from_numpy(samples)
        features, _ = self.frontend(waveform[None], torch.tensor([len(samples)]))
        self.model.inference(
            [waveform],
            tokenizer=self.tokenizer,
            frontend=self.frontend,
            key=["clip"],
            device="cpu",
            language=language,
            use_itn=itn,
        )
        return features[0], self._logits[0], self._ids[0]


@torch.inference_mode()
def compare(directory: Path, clips: Sequence[Samples]) -> Parity:
    """Run FunASR and the engine over the same clips, cycling through every setting."""
    checkpoint = Checkpoint(directory)
    module = checkpoint.module("cpu", "fp32")
    frontend = Frontend(checkpoint.frontend_config, checkpoint.cmvn)
    reference = Reference(checkpoint, module)
    settings = [SETTINGS[index % len(SETTINGS)] for index in range(len(clips))]
    features_delta = logits_delta = 0.0
    n_values = n_beyond = 0
    mismatches = 0
    features: list[Tensor] = []
    alone: list[list[int]] = []
    for clip, (language, itn) in zip(clips, settings, strict=True):
        expected_features, expected_logits, expected_ids = reference.run(clip, language, itn)
        mine = torch.from_numpy(frontend(clip))
        logits = _logits(module, [mine], [(language, itn)])[0]
        ids = _token_ids(logits)
        delta = (mine - expected_features).abs()
        features_delta = max(features_delta, float(delta.max()))
        n_beyond += int((delta > 1e-3).sum())
        n_values += delta.numel()
        scale = float(expected_logits.abs().max())
        logits_delta = max(logits_delta, float((logits - expected_logits).abs().max()) / scale)
        mismatches += ids != expected_ids
        features.append(mine)
        alone.append(ids)
    batch_mismatches = 0
    # A stride puts short clips beside long ones, the hardest neighbours.
    order = [i for start in range(BATCH) for i in range(start, len(clips), BATCH)]
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        batch = _logits(module, [features[i] for i in rows], [settings[i] for i in rows])
        batch_mismatches += sum(
            _token_ids(logits) != alone[i] for i, logits in zip(rows, batch, strict=True)
        )
    return Parity(
        n_clips=len(clips),
        seconds=round(sum(map(len, clips)) / SAMPLE_RATE, 1),
        parameters=sum(p.numel() for p in module.parameters()),
        features=features_delta,
        features_beyond=n_beyond / n_values,
        logits=logits_delta,
        token_mismatches=mismatches,
        batch_mismatches=batch_mismatches,
    )


def _logits(
    module: SenseVoiceNetwork, features: Sequence[Tensor], settings: Sequence[tuple[str, bool]]
) -> list[Tensor]:
    """Logits [4 + frames, vocab] of each clip, computed in one batch."""
    logits = module(
        torch.nn.utils.rnn.pad_sequence(list(features), batch_first=True),
        torch.tensor([len(x) for x in features]),
        torch.tensor([LANGUAGE_QUERIES[language] for language, _ in settings]),
        torch.tensor([TEXTNORM_QUERIES[itn] for _, itn in settings]),
    )
    return [row[: 4 + len(x)] for row, x in zip(logits, features, strict=True)]


def _token_ids(logits: Tensor) -> list[int]:
    return [token_id for token_id, _, _ in collapse(logits.argmax(dim=-1).tolist())]


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Compare the engine with FunASR on the embedded model, and on the full-size "
        "architecture with random weights where SENSEVOICE_REFERENCE_FILES names its files."
    )
    parser.add_argument("--model", type=Path, default=EMBEDDED, help="prepared model directory")
    parser.add_argument(
        "--audio", type=Path, default=EMBEDDED / "evaluation", help="folder of clips"
    )
    parser.add_argument("--clips", type=int, default=33, help="how many clips to compare")
    arguments = parser.parse_args()
    clips = real_clips(arguments.audio, arguments.clips)
    reports = {arguments.model.name: compare(arguments.model, clips)}
    files = os.environ.get("SENSEVOICE_REFERENCE_FILES")
    if files:
        with tempfile.TemporaryDirectory() as scratch:
            full = write_random_model(Path(files), Path(scratch) / "full-size")
            reports["SenseVoiceSmall, random weights"] = compare(full, clips)
    for name, report in reports.items():
        print(json.dumps({"model": name, **asdict(report), "held": report.held}))  # noqa: T201
    if not all(report.held for report in reports.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
