"""Spans stay bounded, and no header that a client makes up disturbs its request."""

import random
import time

import pytest

from predictor.engine.transcribe import ModelInfo
from predictor.server.batching import Batch
from predictor.server.observer import OK, RequestRecord, observed
from predictor.server.tracing import MAX_TRACED_BATCHES, Traces

MODEL = ModelInfo("model", "1", "abc", "")


@pytest.fixture
def traces(collector):
    made = Traces(collector.endpoint, 1.0, MODEL, "int8", "cpu")
    yield made
    made.close(10)


def test_hours_of_audio_do_not_become_thousands_of_spans(collector, traces):
    n_batches = 3 * MAX_TRACED_BATCHES
    with observed(traces, RequestRecord("grpc_v2", route="s/m", status="OK", reason=OK)) as record:
        for _ in range(n_batches):
            now = time.monotonic()
            traces.on_batch(Batch(1, 30, 30, started=now, ended=now, waits=[(record, now)]))
    traces.close(10)
    assert len(collector.named("inference", record.trace_id)) == MAX_TRACED_BATCHES
    assert len(collector.named("queue", record.trace_id)) == MAX_TRACED_BATCHES
    links = [link for batch in collector.named("batch") for link in batch.span.links]
    assert sum(link.trace_id.hex() == record.trace_id for link in links) == n_batches


def test_clips_of_no_request_are_no_trace(collector, traces):
    before = len(collector.received)
    traces.on_batch(Batch(1, 30, 30, started=0, ended=1, waits=[(None, 0.0)]))
    traces.close(10)
    assert len(collector.received) == before


def test_headers_may_hold_anything(traces):
    generator = random.Random(0)
    text = "".join(map(chr, range(1, 256)))
    for _ in range(300):
        made_up = {
            name: "".join(generator.choices(text, k=generator.randrange(80)))
            for name in ("traceparent", "tracestate")
        }
        if generator.random() < 0.5:
            made_up["traceparent"] = f"00-{generator.getrandbits(128):032x}-{1:016x}-01"
        with observed(traces, RequestRecord("rest_v1", method="POST", headers=made_up)) as record:
            assert len(record.trace_id) == 32
            if made_up["traceparent"].startswith("00-") and len(made_up["traceparent"]) == 55:
                assert record.trace_id in made_up["traceparent"]
