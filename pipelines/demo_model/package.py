"""The trained network as a prepared model directory, and the evaluation set that ships with it."""

import json
import random
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import soundfile
import torch
import yaml
from safetensors.torch import save_file

from pipelines.demo_model import tokenizer
from pipelines.demo_model.dataset import LFR_M, LFR_N, N_MELS
from pipelines.demo_model.prosody import EMOTIONS
from pipelines.demo_model.train import network_config
from predictor.engine.checkpoint import CMVN, CONFIG, WEIGHTS, write_manifest
from predictor.engine.prepare import write_int8

TOKENIZER = "demo.bpe.model"
NAME = "sensevoice-demo"
LICENCE = "Apache-2.0"
SOURCE = "trained from scratch on synthetic voices: pipelines/demo_model"
NOTICE = (
    "Demonstration model, trained on synthetic voices saying sentences of a small grammar. "
    "Not for production: it does not recognise natural speech."
)

OPUS_COMPRESSION = 0.8
"""libsndfile's scale: about 60 kbit/s, a third of FLAC's size; the scores stay."""
CLIPS_PER_MOOD = 6
"""Evaluation clips of each language and emotion (five languages, four emotions: 120 clips)."""
CLIPS_PER_EVENT = 4
"""Evaluation clips without speech of each event (of eight: the set has 30)."""
EVENT_CLIPS = 30


def package(training: Path, destination: Path) -> None:
    """``last.pt``, ``am.mvn`` and the tokenizer of a training → a model directory, in fp16 and int8."""
    destination.mkdir(parents=True, exist_ok=True)
    state = torch.load(training / "last.pt", map_location="cpu", weights_only=True)
    save_file(
        {name: tensor.half().contiguous() for name, tensor in state.items()}, destination / WEIGHTS
    )
    shutil.copyfile(training / CMVN, destination / CMVN)
    shutil.copyfile(training / TOKENIZER, destination / TOKENIZER)
    sizes = network_config(tokenizer.load(training / TOKENIZER).get_piece_size())
    write_int8(destination, sizes, compiled=False)
    config = model_config(tokenizer.load(training / TOKENIZER).get_piece_size())
    (destination / CONFIG).write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    write_manifest(destination, TOKENIZER, NAME, source=SOURCE, licence=LICENCE, notice=NOTICE)


def model_config(vocab_size: int) -> Mapping[str, Any]:
    """``config.yaml`` with the keys of SenseVoiceSmall's."""
    sizes = asdict(network_config(vocab_size))
    del sizes["input_size"], sizes["vocab_size"]
    return {
        "encoder": "SenseVoiceEncoderSmall",
        "encoder_conf": {
            **sizes,
            "positional_dropout_rate": 0.0,
            "input_layer": "pe",
            "pos_enc_class": "SinusoidalPositionEncoder",
            "normalize_before": True,
            "sanm_shfit": 0,
            "selfattention_layer_type": "sanm",
        },
        "model": "SenseVoiceSmall",
        "model_conf": {"length_normalized_loss": True, "sos": 1, "eos": 2, "ignore_id": -1},
        "tokenizer": "SentencepiecesTokenizer",
        "tokenizer_conf": {"bpemodel": None, "unk_symbol": "<unk>", "split_with_space": True},
        "frontend": "WavFrontend",
        "frontend_conf": {
            "fs": 16_000,
            "window": "hamming",
            "n_mels": N_MELS,
            "frame_length": 25,
            "frame_shift": 10,
            "lfr_m": LFR_M,
            "lfr_n": LFR_N,
            "cmvn_file": None,
        },
    }


def package_evaluation(test: Path, destination: Path, seed: int) -> int:
    """Encode a balanced choice of the test set's clips, drawn by seed and not by success.

    Args:
        test: a held-out set of the corpus.
        destination: gets ``manifest.jsonl`` and Opus clips ``<language or event>-<number>``.
        seed: of the draw.

    Returns:
        The number of clips.
    """
    with (test / "manifest.jsonl").open(encoding="utf-8") as manifest:
        rows = [json.loads(line) for line in manifest]
    chosen = choose(rows, random.Random(seed))
    destination.mkdir(parents=True, exist_ok=True)
    for stale in destination.glob("*.opus"):
        stale.unlink()
    counts: dict[str, int] = {}
    with (destination / "manifest.jsonl").open("w", encoding="utf-8") as manifest:
        for row in chosen:
            kind = row["language"] if row["text"] else row["event"].lower().replace("_", "-")
            counts[kind] = counts.get(kind, 0) + 1
            name = f"{kind}-{counts[kind]:03d}.opus"
            samples, rate = soundfile.read(test / row["audio"], dtype="float32")
            soundfile.write(
                destination / name,
                samples,
                rate,
                format="OGG",
                subtype="OPUS",
                compression_level=OPUS_COMPRESSION,
            )
            manifest.write(json.dumps({**row, "audio": name}, ensure_ascii=False) + "\n")
    return len(chosen)


def choose(rows: list[dict[str, str]], rng: random.Random) -> list[dict[str, str]]:
    """As many clips of every language and emotion, and of every event without speech."""
    rows = rng.sample(rows, len(rows))
    speech = [
        row
        for language in sorted({row["language"] for row in rows if row["text"]})
        for emotion in EMOTIONS
        for row in [r for r in rows if (r["language"], r["emotion"]) == (language, emotion)][
            :CLIPS_PER_MOOD
        ]
    ]
    silent = [
        row
        for event in sorted({row["event"] for row in rows if not row["text"]})
        for row in [r for r in rows if r["event"] == event and not r["text"]][:CLIPS_PER_EVENT]
    ]
    silent = sorted(rng.sample(silent, min(EVENT_CLIPS, len(silent))), key=lambda row: row["event"])
    return speech + silent
