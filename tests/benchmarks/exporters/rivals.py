"""An exported graph → the model directories of funasr-onnx and sherpa-onnx, in float32 and int8.

Run in the rivals' environment. Each int8 model is quantized as that project publishes its own: dynamic,
unsigned weights, by column for funasr-onnx and by matrix for sherpa-onnx.
"""

import argparse
import os
import shutil
from pathlib import Path

import onnx
import yaml
from onnxruntime.quantization import QuantType, quantize_dynamic
from sentencepiece import SentencePieceProcessor

FUNASR_TOKENIZER = "chn_jpn_yue_eng_ko_spectok.bpe.model"
"""The only name funasr-onnx looks for."""

QUERIES = {
    "lang_auto": 0,
    "lang_zh": 3,
    "lang_en": 4,
    "lang_yue": 7,
    "lang_ja": 11,
    "lang_ko": 12,
    "lang_nospeech": 13,
    "with_itn": 14,
    "without_itn": 15,
}
"""Rows of the query embedding, under the names sherpa-onnx reads from a model's metadata."""


def funasr_onnx(graph: Path, hub: Path, destination: Path) -> None:
    """Model directory of funasr-onnx, without dither."""
    destination.mkdir()
    os.link(graph, destination / "model.onnx")
    shutil.copyfile(hub / "am.mvn", destination / "am.mvn")
    shutil.copyfile(next(hub.glob("*.bpe.model")), destination / FUNASR_TOKENIZER)
    config = yaml.safe_load((hub / "config.yaml").read_text(encoding="utf-8"))
    config["frontend_conf"]["dither"] = 0.0
    (destination / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    quantize_dynamic(
        destination / "model.onnx",
        destination / "model_quant.onnx",
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        weight_type=QuantType.QUInt8,
    )


def sherpa_onnx(graph: Path, hub: Path, destination: Path) -> None:
    """Model directory of sherpa-onnx: logits alone, and its metadata inside the graph."""
    destination.mkdir()
    pieces = SentencePieceProcessor(model_file=str(next(hub.glob("*.bpe.model"))))
    tokens = [f"{pieces.id_to_piece(index)} {index}\n" for index in range(pieces.vocab_size())]
    (destination / "tokens.txt").write_text("".join(tokens), encoding="utf-8")
    front = yaml.safe_load((hub / "config.yaml").read_text(encoding="utf-8"))["frontend_conf"]
    shift, scale = cmvn(hub / "am.mvn")
    metadata = {
        "model_type": "sense_voice_ctc",
        "version": 2,
        "vocab_size": pieces.vocab_size(),
        "lfr_window_size": front["lfr_m"],
        "lfr_window_shift": front["lfr_n"],
        "normalize_samples": 0,
        "neg_mean": shift,
        "inv_stddev": scale,
        **QUERIES,
    }
    model = onnx.load(graph)
    del model.graph.output[1:]
    onnx.helper.set_model_props(model, {key: str(value) for key, value in metadata.items()})
    onnx.save(model, destination / "model.onnx")
    quantize_dynamic(
        destination / "model.onnx",
        destination / "model.int8.onnx",
        op_types_to_quantize=["MatMul"],
        weight_type=QuantType.QUInt8,
    )


def cmvn(path: Path) -> tuple[str, str]:
    """Shift and scale of a Kaldi-style CMVN file, numbers joined by commas."""
    rows = [line.split() for line in path.read_text().splitlines() if "<LearnRateCoef>" in line]
    shift, scale = (",".join(row[row.index("[") + 1 : row.index("]")]) for row in rows)
    return shift, scale


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("graph", type=Path)
    parser.add_argument("hub", type=Path)
    parser.add_argument("destination", type=Path)
    arguments = parser.parse_args()
    funasr_onnx(arguments.graph, arguments.hub, arguments.destination / "funasr-onnx")
    sherpa_onnx(arguments.graph, arguments.hub, arguments.destination / "sherpa-onnx")
