"""An evaluation's files: ``report.html``, ``summary.md``, ``metrics.json`` and the table of utterances."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from pipelines.evaluation.report import Report
from pipelines.evaluation.results import (
    Accuracy,
    Comparison,
    Evaluation,
    Gated,
    ParityResult,
    SpeedComparison,
    Tags,
)
from pipelines.evaluation.summary import metrics

HTML = "report.html"
MARKDOWN = "summary.md"
METRICS = "metrics.json"
TABLE = "table.jsonl"


def collect(
    model: str,
    champion: str,
    data: str,
    accuracy: Path,
    tags: Path,
    comparison: Path,
    speed: Path,
    parity: Path,
) -> Evaluation:
    """What the measuring steps wrote, as one.

    Args:
        model, champion, data: digests; the champion's is empty where there is none.
        comparison: an empty file where there was no champion to compare with.
    """
    compared = comparison.read_text(encoding="utf-8")
    return Evaluation(
        model=model,
        data=data,
        champion=champion,
        accuracy=Accuracy.model_validate_json(accuracy.read_text(encoding="utf-8")),
        tags=Tags.model_validate_json(tags.read_text(encoding="utf-8")),
        comparison=Comparison.model_validate_json(compared) if compared else None,
        speed=SpeedComparison.model_validate_json(speed.read_text(encoding="utf-8")),
        parity=ParityResult.model_validate_json(parity.read_text(encoding="utf-8")),
    )


def report(
    evaluation: Evaluation,
    destination: Path,
    *,
    table: Path,
    about: Mapping[str, str],
    gated: Gated | None = None,
    data_name: str = "",
) -> Report:
    """Write the files into a folder, made where it does not exist; files of an earlier report are replaced.

    Args:
        evaluation: what was measured.
        destination: the folder.
        table: the candidate's hypotheses (:mod:`pipelines.evaluation.hypothesis`), copied.
        about: where it all came from, such as source, revision, pipeline run, versions.
        gated: what the gate says; None where there was none.
        data_name: name of the data set, by which published figures are found.

    Raises:
        OSError: the table cannot be read or the folder not written.
    """
    written = Report(evaluation, gated, data_name, about)
    destination.mkdir(parents=True, exist_ok=True)
    (destination / HTML).write_text(written.html, encoding="utf-8")
    (destination / MARKDOWN).write_text(written.markdown, encoding="utf-8")
    values = json.dumps(metrics(evaluation), indent=2, ensure_ascii=False, allow_nan=False)
    (destination / METRICS).write_text(values + "\n", encoding="utf-8")
    shutil.copyfile(table, destination / TABLE)
    return written
