"""An evaluation's files: ``report.html``, ``summary.md``, ``metrics.json`` and the table of utterances."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from pipelines.evaluation.report import Report
from pipelines.evaluation.results import Evaluation, Gated
from pipelines.evaluation.summary import metrics

HTML = "report.html"
MARKDOWN = "summary.md"
METRICS = "metrics.json"
TABLE = "table.jsonl"


def report(
    evaluation: Evaluation,
    destination: Path,
    *,
    table: Path,
    about: Mapping[str, str],
    gated: Gated | None = None,
    data_name: str = "",
) -> None:
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
