"""What the promises of docs/reliability.md are proved with.

Each test here says its promise in a marker and counts what it tried. `make test` tries a little of
everything, `make stress` much, and prints what was promised, tried and held as a table.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

from tests.reliability.servers import resident_bytes

STRESS = os.environ.get("STRESS") == "1"
HELD = {"skipped": "not tried", "passed": "yes", "failed": "**no**"}
"""A promise is as good as the worst of its tests."""

REPORT = Path(__file__).resolve().parents[2] / "build" / "stress"


@pytest.fixture(scope="session")
def effort() -> Callable[[int, int], int]:
    """The function that picks how much to try: ``effort(short, stress)``."""
    return lambda short, stress: stress if STRESS else short


@pytest.fixture
def tried(record_property: Callable[[str, object], None]) -> Counter[str]:
    """What the test has tried, by name: ``tried["requests"] += 1``."""
    counts: Counter[str] = Counter()
    record_property("tried", counts)
    return counts


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> dict[str, str]:
    """What came of it, by name: a number with its unit, as text."""
    figures: dict[str, str] = {}
    record_property("measured", figures)
    return figures


@pytest.fixture
def search() -> Callable[[SearchStrategy[Any], int, Callable[[Any], None]], None]:
    """The function that checks so many values that Hypothesis finds: ``search(strategy, n, check)``.
    The short form finds the same ones each time."""

    def searched(strategy: SearchStrategy[Any], n: int, check: Callable[[Any], None]) -> None:
        settings(
            max_examples=n,
            deadline=None,
            database=None,
            derandomize=not STRESS,
            suppress_health_check=list(HealthCheck),
        )(given(strategy)(check))()

    return searched


@pytest.fixture
def resident(demo_served: Any) -> Callable[[], float]:
    """The function that tells the memory of the server and its children, in MiB."""
    return lambda: resident_bytes(demo_served.process.pid) / 2**20


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    report = yield
    # Plain values: only such reach the process that prints, where tests run in several.
    report.user_properties = [(name, dict(values)) for name, values in item.user_properties]
    if report.when == "call" or not report.passed:
        for marker in item.iter_markers("promise"):
            report.promise = {
                "promise": " ".join(marker.args[0].split()),
                "outcome": report.outcome,
                **dict(report.user_properties),
            }
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not STRESS:
        return
    reports = [report for each in terminalreporter.stats.values() for report in each]
    table = "\n".join(_lines(getattr(each, "promise", None) for each in reports))
    REPORT.mkdir(parents=True, exist_ok=True)
    (REPORT / "promises.md").write_text(table + "\n")
    terminalreporter.section("promises")
    terminalreporter.write_line(table)


def _lines(outcomes: Iterable[dict | None]) -> Iterable[str]:
    """A Markdown table; the tests of one promise share a row."""
    rows: defaultdict[str, list[dict]] = defaultdict(list)
    for outcome in outcomes:
        if outcome is not None:
            rows[outcome["promise"]].append(outcome)
    yield "| promise | tried | came of it | held |"
    yield "|---|---|---|---|"
    for promise, tests in rows.items():
        counts = sum((Counter(each.get("tried", {})) for each in tests), Counter())
        tried = ", ".join(f"{number:,} {name}" for name, number in counts.items())
        figures = {name: text for each in tests for name, text in each.get("measured", {}).items()}
        came = ", ".join(f"{name} {text}" for name, text in figures.items())
        outcomes = {each["outcome"] for each in tests}
        held = HELD[max(outcomes, key=list(HELD).index)]
        yield f"| {promise} | {tried} | {came} | {held} |"
