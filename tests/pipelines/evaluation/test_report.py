"""The page and the summary, as a browser and a Markdown reader take them."""

import re
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from pipelines.evaluation.report import MAX_FAILURES, MAX_FLIPS, Report
from pipelines.evaluation.results import Evaluation, Failure, Flip, Gated, Verdict, Worst

VOID = {"meta", "img", "br"}
HOSTILE = "<script>alert(1)</script>'\"><img src=x onerror=alert(1)>&amp;{{ 7 * 7 }}|`"


class Page(HTMLParser):
    """Elements of a page whose tags are all closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def every(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


ABOUT = {"source": "modelscope://iic/SenseVoiceSmall", "pipeline run": "https://runs/1"}


@pytest.fixture(scope="module")
def report(evaluation: Evaluation, gated: Gated) -> Report:
    """With everything in it."""
    return Report(evaluation, gated, "common-voice", ABOUT)


def test_the_page_shows_verdict_figures_plots_and_provenance(
    report: Report, evaluation: Evaluation, gated: Gated
) -> None:
    page = Page(report.html)
    assert "✗ Refused by the gate" in page.text
    fail, unsure, passed = (page.text.index(v.reason) for v in reversed(gated.verdicts))
    assert fail < unsure < passed < page.text.index("zh CER") < page.text.index("Words")
    assert "published 10.78 %" in page.text
    assert "arXiv 2407.04051" in page.text
    for value in (*ABOUT.values(), evaluation.model, evaluation.data, evaluation.champion):
        assert value in page.text
    assert {"href": "https://runs/1"} in page.every("a")
    images = page.every("img")
    # Five of words, two of differences, three for each of four kinds of tag, one of speed.
    assert len(images) == 20
    assert all(image["alt"] for image in images)


def test_the_page_asks_nothing_of_the_network(report: Report) -> None:
    text = report.html
    page = Page(text)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.elements}
    for _, attributes in page.elements:
        assert (attributes.get("src") or "data:").startswith("data:")
        assert not {"srcset", "background", "style"} & set(attributes)
    assert "url(" not in text
    assert "@import" not in text
    (policy,) = (m["content"] for m in page.every("meta") if "http-equiv" in m)
    assert policy is not None
    assert "default-src 'none'" in policy


def test_texts_are_marked_where_they_differ(report: Report) -> None:
    html = report.html
    assert "打开客厅<del>的</del>灯" in html
    assert "<mark>" in html
    assert '<div lang="zh">' in html
    assert "InvalidAudio: &lt;truncated&gt; &amp; damaged" in html


def test_hostile_text_stays_text(evaluation: Evaluation) -> None:
    kind = evaluation.accuracy.languages["zh"]
    accuracy = evaluation.accuracy.model_copy(
        update={
            "worst": [
                Worst(
                    id=HOSTILE,
                    language=HOSTILE,
                    reference=HOSTILE,
                    hypothesis=HOSTILE,
                    errors=1,
                    rate=1.0,
                )
            ],
            "failures": [Failure(id=HOSTILE, error=HOSTILE)],
            "slices": {"noise": {HOSTILE: kind}},
        }
    )
    assert evaluation.comparison is not None
    assert evaluation.tags.event is not None
    flip = Flip(id=HOSTILE, kind="event", reference=HOSTILE, champion=HOSTILE, candidate=HOSTILE)
    labels = {"labels": [HOSTILE], "confusion": [[1]], "f1": {HOSTILE: 1.0}}
    event = evaluation.tags.event.model_copy(update=labels)
    changed = evaluation.model_copy(
        update={
            "accuracy": accuracy,
            "tags": evaluation.tags.model_copy(update={"event": event}),
            "comparison": evaluation.comparison.model_copy(update={"flips": [flip]}),
        }
    )
    gated = Gated(verdicts=[Verdict(rule=HOSTILE, outcome="fail", reason=HOSTILE, refuses=True)])
    report = Report(changed, gated, HOSTILE, {HOSTILE: HOSTILE, "run": "javascript:alert(1)"})
    page = Page(report.html)
    assert not page.every("script")
    assert not page.every("a")
    assert all("onerror" not in attributes for _, attributes in page.elements)
    assert page.text.count(HOSTILE) >= 12
    rendered = Page(
        f"<body>{MarkdownIt('commonmark').enable('table').render(report.markdown)}</body>"
    )
    assert not rendered.every("script")
    assert not rendered.every("img")
    assert rendered.text.count(HOSTILE) == 6


def test_long_tables_are_cut_say_so_and_stay_small(evaluation: Evaluation) -> None:
    text = "很长的句子" * 200
    worst = [
        Worst(id=f"w{n}", language="zh", reference=text, hypothesis=text[::-1], errors=1, rate=1)
        for n in range(20)
    ]
    failures = [Failure(id=f"f{n}", error="x" * 5000) for n in range(5000)]
    flips = [
        Flip(id=f"clip-{n}", kind="event", reference=None, champion="a", candidate="b")
        for n in range(5000)
    ]
    assert evaluation.comparison is not None
    changed = evaluation.model_copy(
        update={
            "accuracy": evaluation.accuracy.model_copy(
                update={"worst": worst, "failures": failures}
            ),
            "comparison": evaluation.comparison.model_copy(update={"flips": flips}),
        }
    )
    html = Report(changed).html
    assert f"Shown: {MAX_FAILURES} of 5000." in html
    assert f"Shown: {MAX_FLIPS} of 5000." in html
    assert "700 more not shown" in html
    assert f"clip-{MAX_FLIPS - 1}<" in html
    assert f"clip-{MAX_FLIPS}<" not in html
    assert len(html.encode()) < 2_000_000


def test_what_was_not_measured_is_left_out(bare_evaluation: Evaluation) -> None:
    report = Report(bare_evaluation)
    page = Page(report.html)
    assert "Not gated" in page.text
    assert "no champion" in page.text
    assert page.text.count("no utterance has such a label") == 4
    assert not page.every("img")
    for absent in ("Speed", "Parity", "Worst", "Failures", "champion's", "Published figures"):
        assert absent not in page.text
    assert "**Not gated**" in report.markdown


@pytest.mark.parametrize(
    ("part", "heading"),
    [
        ("comparison", "Tags that differ from the champion's"),
        ("speed", "Speed in figures"),
        ("parity", "Parity with FunASR"),
    ],
)
def test_any_part_may_be_there_alone(
    evaluation: Evaluation, bare_evaluation: Evaluation, part: str, heading: str
) -> None:
    report = Report(bare_evaluation.model_copy(update={part: getattr(evaluation, part)}))
    assert heading in Page(report.html).text
    assert report.markdown


def test_a_passed_gate_says_so(bare_evaluation: Evaluation) -> None:
    report = Report(bare_evaluation, Gated(verdicts=[]))
    assert "✓ Passed the gate" in Page(report.html).text
    assert "**✓ Passed the gate**" in report.markdown


def test_the_summary_has_well_formed_tables(evaluation: Evaluation, gated: Gated) -> None:
    about = {"note": "a | b\nc"}
    markdown = Report(evaluation, gated, "common-voice", about).markdown
    page = Page(f"<body>{MarkdownIt('commonmark').enable('table').render(markdown)}</body>")
    assert len(page.every("table")) == 3
    columns = [len(re.findall(r"(?<!\\)\|", line)) for line in markdown.splitlines() if "|" in line]
    assert set(columns) == {4, 7, 3}
    assert "a | b c" in page.text
    assert "10.78 %" in page.text
