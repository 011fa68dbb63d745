"""Requests as OpenTelemetry traces, sent by OTLP.

A request's span continues the trace of its caller's ``traceparent`` (W3C Trace Context). It holds a
``decode`` span for each audio, and a ``queue`` and an ``inference`` span for each batch that its clips ran
in. A ``batch`` is a trace of its own, linked to the requests that shared it, as their inference is to it.

Only imported where traces are wanted.
"""

import threading
import time
from importlib import metadata
from typing import Any

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    Link,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    format_span_id,
    format_trace_id,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from predictor.engine.transcribe import ModelInfo
from predictor.server.batching import Batch
from predictor.server.logs import SERVICE
from predictor.server.observer import Observer, RequestRecord

EXPORT_SECONDS = 5
"""Longest time for one export, retries included. Spans wait in a bounded queue meanwhile."""

MAX_TRACED_BATCHES = 100
"""Batches of one request that get spans: hours of audio run in thousands."""

MAX_TEXT = 200
"""Characters of what a client names itself."""

GRPC_SERVER_ERRORS = ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE")
"""Codes that are the server's fault, by the semantic conventions (DATA_LOSS is never answered)."""


class Traces(Observer):
    """Makes and exports spans. No method waits for the collector, and none fails because of it.

    Args:
        endpoint: of the collector: ``http://host:port``, or ``https://`` for TLS. The variables
            ``OTEL_EXPORTER_OTLP_*`` of the exporter (headers, certificate, compression) count, too.
        sample_ratio: share of the requests without a ``traceparent`` that are traced, in [0, 1].
        model, precision, device: what is served, for the resource of all spans;
            ``OTEL_SERVICE_NAME`` and ``OTEL_RESOURCE_ATTRIBUTES`` win over ours.
    """

    def __init__(
        self, endpoint: str, sample_ratio: float, model: ModelInfo, precision: str, device: str
    ) -> None:
        ours = Resource.create(
            {
                "service.name": SERVICE,
                "service.version": metadata.version("sensevoice-kserve"),
                "sensevoice.model.name": model.name,
                "sensevoice.model.version": model.version,
                "sensevoice.model.digest": model.digest,
                "sensevoice.model.precision": precision,
                "sensevoice.model.device": device,
            }
        )
        described = ours.merge(OTELResourceDetector().detect())
        self._processor = BatchSpanProcessor(
            OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_SECONDS)
        )
        self._propagator = TraceContextTextMapPropagator()
        sampler = ParentBased(TraceIdRatioBased(sample_ratio))
        self._requests = self._tracer(TracerProvider(sampler, described, shutdown_on_exit=False))
        # A batch has no parent to be sampled with: it is traced where one of its requests is.
        self._batches = self._tracer(TracerProvider(ALWAYS_ON, described, shutdown_on_exit=False))

    def _tracer(self, provider: TracerProvider) -> Tracer:
        provider.add_span_processor(self._processor)
        return provider.get_tracer(__name__)

    def on_start(self, record: RequestRecord) -> None:
        attributes: dict[str, Any] = {
            "sensevoice.protocol": record.protocol,
            "sensevoice.request.id": record.id[:MAX_TEXT],
            "sensevoice.model": record.model[:MAX_TEXT],
        }
        if record.method:
            attributes |= {
                "http.request.method": record.method,
                "http.route": record.route,
                "url.path": record.path[:MAX_TEXT],
                "url.scheme": "http",
            }
        else:
            attributes |= {"rpc.system.name": "grpc", "rpc.method": record.route}
        span = self._requests.start_span(
            f"{record.method} {record.route}".strip(),
            self._propagator.extract(record.headers),
            SpanKind.SERVER,
            attributes,
        )
        context = span.get_span_context()
        record.span = span
        record.trace_id = format_trace_id(context.trace_id)
        record.span_id = format_span_id(context.span_id)

    def on_decoded(self, record: RequestRecord, since: float, reason: str) -> None:
        if _is_traced(record):
            decode = self._child(record, "decode", since)
            if reason:
                decode.set_attribute("error.type", reason)
                decode.set_status(Status(StatusCode.ERROR))
            decode.end()

    def on_batch(self, batch: Batch) -> None:
        since: dict[RequestRecord, float] = {}
        for owner, waited in batch.waits:
            if isinstance(owner, RequestRecord) and _is_traced(owner):
                since[owner] = min(waited, since.get(owner, waited))
        if not since:
            return
        started, ended = _epoch_ns(batch.started), _epoch_ns(batch.ended)
        span = self._batches.start_span(
            "batch",
            attributes={
                "sensevoice.batch.clips": batch.n_clips,
                "sensevoice.batch.audio_seconds": batch.audio_seconds,
                "sensevoice.batch.padded_seconds": batch.padded_seconds,
            },
            links=[Link(record.span.get_span_context()) for record in since],
            start_time=started,
        )
        for record, waited in since.items():
            record.n_traced_batches += 1
            if record.n_traced_batches > MAX_TRACED_BATCHES:
                continue
            self._child(record, "queue", waited).end(started)
            link = Link(span.get_span_context())
            self._child(record, "inference", batch.started, link).end(ended)
        span.end(ended)

    def on_end(self, record: RequestRecord) -> None:
        span: Span = record.span
        span.set_attributes(
            {
                "sensevoice.items": record.n_items,
                "sensevoice.audio_seconds": record.audio_seconds,
                "sensevoice.outcome": record.outcome,
            }
        )
        if record.reason:
            span.set_attribute("error.type", record.reason)
        if record.method:
            span.set_attribute("http.response.status_code", record.status)
            failed = isinstance(record.status, int) and record.status >= 500
        else:
            span.set_attribute("rpc.response.status_code", record.status)
            failed = record.status in GRPC_SERVER_ERRORS
        if failed:
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def close(self, timeout_seconds: float) -> None:
        """Export what is left, for so long at most. Nothing is exported afterwards."""
        # The processor's own shutdown waits half a minute for a collector that is away.
        flushing = threading.Thread(target=self._processor.shutdown, daemon=True)
        flushing.start()
        flushing.join(timeout_seconds)

    def _child(self, record: RequestRecord, name: str, since: float, *links: Link) -> Span:
        return self._requests.start_span(
            name,
            set_span_in_context(record.span),
            links=links,
            start_time=_epoch_ns(since),
        )


def _is_traced(record: RequestRecord) -> bool:
    return record.span is not None and record.span.get_span_context().trace_flags.sampled


def _epoch_ns(monotonic: float) -> int:
    """``time.monotonic`` seconds → nanoseconds since the epoch."""
    return time.time_ns() - round((time.monotonic() - monotonic) * 1e9)
