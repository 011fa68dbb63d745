"""``python -m predictor transcribe`` and ``prepare``: the engine at the command line."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any, get_args

from tqdm import tqdm

from predictor.engine.audio import declared_seconds
from predictor.engine.errors import SpeechError
from predictor.engine.network import Precision
from predictor.engine.segment import SPAN_SECONDS
from predictor.engine.subtitles import srt
from predictor.engine.transcribe import Engine
from predictor.engine.types import TranscribeOptions, Transcript
from predictor.server.settings import ENV_PREFIX, default_model_dir

FORMATS = ("text", "json", "srt")


def add_transcribe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="audio files")
    parser.add_argument(
        "--model_dir",
        type=Path,
        default=os.environ.get(f"{ENV_PREFIX}MODEL_DIR") or default_model_dir(),
        help="prepared model directory (default: the embedded demo model)",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument(
        "--precision",
        choices=("auto", *get_args(Precision)),
        default="auto",
        help="numbers the network computes in (auto: int8 on a CPU that multiplies it)",
    )
    parser.add_argument("--format", choices=FORMATS, default="text", help="of the output")
    parser.add_argument("--language", default="auto", help="auto, a code, or codes with commas")
    parser.add_argument(
        "--itn",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="punctuation, capitals and digits as written",
    )
    parser.add_argument(
        "--timestamps",
        choices=("none", "segment", "word"),
        help="detail of times in JSON (default: segment)",
    )
    parser.add_argument(
        "--segmentation", choices=("vad", "overlap"), default="vad", help="how long audio is cut"
    )
    parser.add_argument(
        "--channels", choices=("mix", "split"), default="mix", help="average or keep apart"
    )
    parser.add_argument("--ban_emo_unk", action="store_true", help="never answer EMO_UNKNOWN")
    parser.add_argument(
        "--distributions", action="store_true", help="probability of every tag, in JSON"
    )


def transcribe(arguments: argparse.Namespace) -> int:
    """Print a transcript of each file; 1 if any file could not be transcribed, 2 for bad options."""
    words = "word" if arguments.format == "srt" else "segment"
    try:
        options = TranscribeOptions.parse(
            {
                "language": arguments.language,
                "use_itn": arguments.itn,
                "timestamps": arguments.timestamps or words,
                "segmentation": arguments.segmentation,
                "channels": arguments.channels,
                "ban_emo_unk": arguments.ban_emo_unk,
                "distributions": arguments.distributions,
                "rich": arguments.format == "text",
            }
        )
        precision = None if arguments.precision == "auto" else arguments.precision
        engine = Engine(Path(arguments.model_dir), arguments.device, precision)
    except SpeechError as error:
        return _fail(str(error), 2)
    if engine.model.notice:
        print(f"{engine.model.name}: {engine.model.notice}", file=sys.stderr)
    status = 0
    for file in arguments.files:
        try:
            transcript = _transcribe_file(engine, file, options)
        except (SpeechError, OSError) as error:
            status = _fail(f"{file}: {error}", 1)
            continue
        _print(transcript, file, arguments.format, several=len(arguments.files) > 1)
    return status


def _transcribe_file(engine: Engine, file: Path, options: TranscribeOptions) -> Transcript:
    data = file.read_bytes()
    total = declared_seconds(data)
    # A bar on a terminal only, and only where there is something to wait for.
    short = total is not None and total <= SPAN_SECONDS
    with tqdm(
        total=total and round(total),
        desc=file.name,
        unit="s",
        disable=True if short else None,
        leave=False,
    ) as bar:
        return engine.transcribe(data, options, lambda done: _advance(bar, done))


def _advance(bar: "tqdm[Any]", done: float) -> None:
    bar.update(round(done) - bar.n)


def _print(transcript: Transcript, file: Path, form: str, several: bool) -> None:
    if form == "json":
        print(json.dumps({"file": str(file), **transcript.to_dict()}, ensure_ascii=False))
        return
    if form == "srt":
        print(srt(transcript))
        return
    tags = (transcript.language, transcript.emotion, transcript.event)
    labels = " ".join(f"{tag.label} {tag.confidence:.0%}" for tag in tags)
    name = f"{file}: " if several else ""
    print(f"{name}{transcript.rich}  [{labels}]")


def add_prepare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", type=Path, help="directory with model.pt, as a model hub gives it"
    )
    parser.add_argument("destination", type=Path, help="prepared model directory to make")
    parser.add_argument("--name", default="SenseVoiceSmall", help="the model's name")
    parser.add_argument("--origin", default="", help="where the files came from")
    parser.add_argument("--revision", default="", help="commit or tag of the origin")
    parser.add_argument("--licence", default="", help="SPDX id or name of the model's licence")
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="also keep the int8 network compiled for this kind of CPU: servers start faster",
    )


def run_prepare(arguments: argparse.Namespace) -> int:
    """Make a prepared model directory; 1 if that is not possible."""
    from predictor.engine.prepare import prepare  # It needs torch, which transcribing does not.

    try:
        manifest = prepare(
            arguments.source,
            arguments.destination,
            name=arguments.name,
            origin=arguments.origin,
            revision=arguments.revision,
            licence=arguments.licence,
            compiled=arguments.compile,
        )
    except (SpeechError, OSError) as error:
        return _fail(str(error), 1)
    print(f"{arguments.destination}: {manifest.name}, digest {manifest.digest}")
    return 0


def _fail(message: str, status: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status
