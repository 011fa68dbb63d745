"""Scores of a model directory on labelled clips, through the engine that serves it."""

import json
from collections.abc import Mapping
from pathlib import Path

from pipelines.demo_model.scoring import Heard, Scores, by_language
from predictor.engine.transcribe import Engine
from predictor.engine.types import TranscribeOptions

_BEGIN, _END = "<!-- scores:begin -->", "<!-- scores:end -->"
_ORDER = ("zh", "en", "ja", "ko", "yue", "speech", "nospeech", "all")

OPTIONS = TranscribeOptions.parse(
    {"language": "auto", "use_itn": False, "ban_emo_unk": True, "timestamps": "none"}
)
"""How clips are transcribed for the scores: the language is not given away."""


def evaluate(engine: Engine, directory: Path) -> dict[str, Scores]:
    """Scores of the clips in ``directory/manifest.jsonl``, by language."""
    with (directory / "manifest.jsonl").open(encoding="utf-8") as manifest:
        rows = [json.loads(line) for line in manifest]
    references = [Heard(row["text"], row["language"], row["emotion"], row["event"]) for row in rows]
    hypotheses = [heard(engine, directory / row["audio"]) for row in rows]
    return by_language(references, hypotheses)


def heard(engine: Engine, path: Path) -> Heard:
    """What the engine makes of one file."""
    transcript = engine.transcribe(path.read_bytes(), OPTIONS)
    return Heard(
        transcript.text,
        transcript.language.label,
        transcript.emotion.label,
        transcript.event.label,
    )


def table(sets: Mapping[str, Mapping[str, Scores]]) -> str:
    """Markdown table, one row for each set and language."""
    lines = [
        "| set | clips of | n | CER | language | emotion | event | no text |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, groups in sets.items():
        # In a set of one language the sums over languages would say the same again.
        shown = set(groups) - (
            {"speech", "all"} if len(set(groups) - {"speech", "all"}) == 1 else set()
        )
        for group in sorted(shown, key=_ORDER.index):
            scores = groups[group]
            shares = (scores.cer, scores.language, scores.emotion, scores.event, scores.empty)
            cells = " | ".join("" if share is None else f"{share:.1%}" for share in shares)
            lines.append(f"| {name} | {group} | {scores.clips} | {cells} |")
    return "\n".join(lines)


def write_card(card: Path, scores: str) -> None:
    """Replace the scores between the markers of a model card.

    Raises:
        ValueError: the card has no markers.
    """
    text = card.read_text(encoding="utf-8")
    if _BEGIN not in text or _END not in text:
        raise ValueError(f"{card.name}: no {_BEGIN} ... {_END}")
    before, rest = text.split(_BEGIN, 1)
    _, after = rest.split(_END, 1)
    card.write_text(f"{before}{_BEGIN}\n{scores}\n{_END}{after}", encoding="utf-8")
