"""One line for each request: what it was, what became of it, and where its time went.

Never audio; transcripts only where they are asked for.
"""

import logging
import re
from typing import Any

from predictor.server.observer import Observer, RequestRecord

logger = logging.getLogger("kserve.access")

MAX_TEXT = 200
"""Characters of what a client names itself: request ids, paths, models."""

TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-")
"""W3C Trace Context: a caller's trace is worth naming even where we export none of our own."""

EVENT_OUTCOMES = {"ok": "success", "cancelled": "unknown"}
"""ECS knows these, and ``failure``."""


class AccessLog(Observer):
    """Writes to the logger ``kserve.access``, with fields for :class:`predictor.server.logs.EcsFormatter`.

    Args:
        transcripts: write down the texts, too.
    """

    def __init__(self, transcripts: bool = False) -> None:
        self._transcripts = transcripts

    def on_end(self, record: RequestRecord) -> None:
        times = record.times
        stages = {
            "decode": times.decode + times.segment,
            "queue": times.queue,
            "batch": times.batch,
            "inference": times.features + times.encoder + times.decoding,
        }
        fields: dict[str, Any] = {
            "event.kind": "event",
            "event.category": ["web"],
            "event.outcome": EVENT_OUTCOMES.get(record.outcome, "failure"),
            "event.duration": round(record.seconds * 1e9),
            "http.request.id": _printable(record.id),
            "url.path": _printable(record.path),
            "sensevoice.protocol": record.protocol,
            "sensevoice.model": _printable(record.model),
            "sensevoice.outcome": record.outcome,
            "sensevoice.reason": record.reason,
            "sensevoice.items": record.n_items,
            "sensevoice.failed_items": record.n_items - len(record.transcripts),
            "sensevoice.audio_seconds": round(record.audio_seconds, 3),
        }
        fields |= {f"sensevoice.{name}_seconds": round(spent, 6) for name, spent in stages.items()}
        if record.trace_id:
            fields |= {"trace.id": record.trace_id, "span.id": record.span_id}
        elif theirs := TRACEPARENT.match(str(record.headers.get("traceparent", ""))):
            fields["trace.id"] = theirs[1]
        if record.method:
            fields |= {
                "http.request.method": record.method,
                "http.response.status_code": record.status,
            }
        else:
            fields["sensevoice.grpc_status"] = record.status
        if self._transcripts:
            fields["sensevoice.transcripts"] = [each.text for each in record.transcripts]
        logger.info(_sentence(record, stages, fields), extra={"ecs": fields})


def _printable(text: str) -> str:
    """Cut short, and on one line: a path may hold any character, percent-encoded."""
    text = text[:MAX_TEXT]
    return text if text.isprintable() else repr(text)[1:-1]


def _sentence(record: RequestRecord, stages: dict[str, float], fields: dict[str, Any]) -> str:
    """``POST /v2/models/m/infer 200 ok in 0.041 s: 1.7 s of audio, decode 0.004, ..., request ...``"""
    parts = []
    if record.transcripts:
        parts.append(f"{record.audio_seconds:.1f} s of audio")
        parts += [f"{name} {seconds:.3f}" for name, seconds in stages.items()]
    parts.append(f"request {fields['http.request.id']}")
    if "trace.id" in fields:
        parts.append(f"trace {fields['trace.id']}")
    if "sensevoice.transcripts" in fields:
        parts.append(f"transcripts {fields['sensevoice.transcripts']!r}")
    what = " ".join(filter(None, (record.method, fields["url.path"], str(record.status))))
    became = record.outcome if record.outcome != "error" else record.reason
    return f"{what} {became} in {record.seconds:.3f} s: {', '.join(parts)}"
