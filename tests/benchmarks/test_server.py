from email.parser import BytesParser

import pytest

from tests.benchmarks.load import Load, Request, summary
from tests.benchmarks.server import engine_alone, row, server_ratios
from tests.benchmarks.servers import FUNASR_API, OURS_API


def load(n=100, gap=0.1, seconds=0.5, failures=0):
    """A request every ``gap`` seconds from time 1000 on; the last ones fail."""
    requests = [
        Request(1000 + i * gap, seconds, "" if i < n - failures else "503") for i in range(n)
    ]
    return Load(requests, cpu_s=20.0, load_s=n * gap, resident_mb=100.0)


def test_a_summary_counts_rates_latencies_and_failures():
    figures = summary(load(failures=20), clip_s=5.0)
    assert (figures["requests"], figures["failures"], figures["first_failures"]) == (
        100,
        20,
        ["503"],
    )
    assert figures["p50_s"] == figures["p99_s"] == 0.5
    assert figures["cpu_s_per_request"] == 20.0 / 80
    assert figures["cpu_s_per_audio_s"] == 20.0 / 80 / 5


def test_the_rate_is_that_of_the_steady_part():
    figures = summary(load(), clip_s=5.0)
    assert figures["requests_per_s"] == pytest.approx(10.0, rel=0.05)
    assert figures["audio_s_per_s"] == pytest.approx(50.0, rel=0.05)


def test_a_slow_server_is_measured_to_its_last_answer():
    # 100 requests within 10 seconds, each answered 90 seconds later.
    drained = summary(load(seconds=90.0), clip_s=5.0)
    assert drained["requests_per_s"] == pytest.approx(100 / 97.9)
    assert drained["p50_s"] == 90.0


def test_a_load_that_only_failed_has_no_latencies():
    figures = summary(load(failures=100), clip_s=5.0)
    assert figures["failures"] == 100
    assert "p99_s" not in figures


def test_one_request_at_a_time_is_set_against_the_engine():
    engine = engine_alone(
        [{"batch": {"wall_s": 2.0, "cpu_s": 4.0}, "single_s": [0.3, 0.25, 0.35]}] * 2
    )
    assert engine["audio_s_per_s"] == 8 * 5.0 / 2.0
    found = row("ours", "int8", 1, 2, [summary(load(seconds=0.31), 5.0)], engine)
    assert found["over_engine_ms"] == pytest.approx(10.0)
    assert found["share_of_engine"] == pytest.approx(found["audio_s_per_s"] / 20.0)
    assert found["engine_cpu_share"] == pytest.approx(0.1 / found["cpu_s_per_audio_s"])


def test_servers_are_compared_at_the_same_concurrency():
    ours = row("ours", "int8", 8, 2, [summary(load(), 5.0)], None)
    theirs = row("funasr", "fp32", 8, 2, [summary(load(gap=0.2, seconds=1.0), 5.0)], None)
    (ratio,) = server_ratios([ours, theirs])
    assert (ratio["ours"], ratio["concurrency"]) == ("int8", 8)
    assert ratio["requests_per_s"] == pytest.approx(2.0, rel=0.1)
    assert ratio["p50_s"] == 0.5


def test_our_request_is_the_file_itself():
    assert OURS_API.body(b"RIFF") == b"RIFF"


def test_a_form_holds_its_fields_and_the_file():
    wav = b"RIFF\r\n\x00\xff"
    head = f"Content-Type: {FUNASR_API.headers['Content-Type']}\r\n\r\n".encode()
    parts = BytesParser().parsebytes(head + FUNASR_API.body(wav)).get_payload()
    fields = {
        part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
        for part in parts
    }
    assert fields == {"model": b"custom", "response_format": b"json", "file": wav}
