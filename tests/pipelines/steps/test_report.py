"""The files of a report."""

import json
from pathlib import Path

import pytest

from pipelines.evaluation.results import Evaluation, Gated
from pipelines.evaluation.summary import metrics
from pipelines.steps.report import report


def test_a_report_is_a_page_a_summary_metrics_and_the_table(
    evaluation: Evaluation, bare_evaluation: Evaluation, gated: Gated, tmp_path: Path
) -> None:
    table = tmp_path / "hypotheses.jsonl"
    table.write_text('{"text": "打开"}\n', encoding="utf-8")
    folder = tmp_path / "new" / "report"
    for measured, data_name in ((bare_evaluation, "esd"), (evaluation, "common-voice")):
        report(
            measured,
            folder,
            table=table,
            about={"revision": "v1.2"},
            gated=gated,
            data_name=data_name,
        )
    files = {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir()}
    assert set(files) == {"report.html", "summary.md", "metrics.json", "table.jsonl"}
    assert files["report.html"].startswith("<!doctype html>")
    assert "Refused by the gate" in files["summary.md"]
    for name in ("report.html", "summary.md"):
        assert "v1.2" in files[name]
        assert "common-voice" in files[name]
        assert "Evaluation on esd" not in files[name]
    assert json.loads(files["metrics.json"]) == metrics(evaluation)
    assert files["table.jsonl"] == table.read_text(encoding="utf-8")


def test_a_missing_table_is_named(bare_evaluation: Evaluation, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.jsonl"):
        report(bare_evaluation, tmp_path / "report", table=tmp_path / "gone.jsonl", about={})
