"""What the server tells whoever watches it: the metrics, the access log and the traces listen."""

import logging
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from predictor.engine.errors import Overloaded, SpeechError
from predictor.engine.types import StageTimes, Transcript
from predictor.server.batching import Batch

logger = logging.getLogger("kserve.predictor")

ProtocolName: TypeAlias = Literal["rest_v1", "rest_v2", "grpc_v2", "openai", "realtime"]
"""All there are: labels of metrics are closed sets."""

OK = ""
CANCELLED = "cancelled"
"""Beside the reasons of errors, what may become of a request."""

OUTCOMES = {OK: "ok", CANCELLED: "cancelled", Overloaded.reason: "rejected"}
"""What else becomes of a request is an ``error``."""


@dataclass(slots=True, eq=False)
class RequestRecord:
    """All that is known of one request, filled in on its way.

    Attributes:
        protocol: that it came by.
        model: name it asks for.
        id: its ``x-request-id``.
        method: of HTTP; empty over gRPC.
        route: the path with names in place of what varies; ``package.Service/Method`` over gRPC.
        path: the path as it was asked for.
        headers: by lower-case name; the metadata of a gRPC call.
        reason: of a ``SpeechError``, or ``OK`` or ``CANCELLED``.
        status: of HTTP, or the name of gRPC's.
        seconds: from its start to its answer; set at its end.
        n_items: audios in it that were worked on.
        transcripts: of the items that succeeded, in order.
        trace_id, span_id: 32 and 16 hexadecimal digits; empty where nobody traces.
        span: the tracer's own.
        n_traced_batches: the tracer's own.
    """

    protocol: ProtocolName
    model: str = ""
    id: str = ""
    method: str = ""
    route: str = ""
    path: str = ""
    headers: Mapping[str, Any] = field(default_factory=dict)
    reason: str = CANCELLED
    status: int | str = ""
    seconds: float = 0.0
    n_items: int = 0
    transcripts: list[Transcript] = field(default_factory=list)
    trace_id: str = ""
    span_id: str = ""
    span: Any = None
    n_traced_batches: int = 0

    @property
    def outcome(self) -> str:
        """``ok``, ``error``, ``rejected`` (over capacity) or ``cancelled`` (the client left)."""
        return OUTCOMES.get(self.reason, "error")

    @property
    def audio_seconds(self) -> float:
        """Audio transcribed, in seconds."""
        return sum(transcript.duration for transcript in self.transcripts)

    @property
    def times(self) -> StageTimes:
        """Sums over the items."""
        return sum((transcript.times for transcript in self.transcripts), StageTimes())

    def add(self, outcomes: Sequence[Transcript | SpeechError]) -> None:
        """Items have been worked on."""
        self.n_items += len(outcomes)
        self.transcripts += [each for each in outcomes if isinstance(each, Transcript)]


class Observer:
    """Base of whoever watches; does nothing. Must be quick."""

    def on_start(self, record: RequestRecord) -> None:
        """A request has begun. In the event loop."""

    def on_decoded(self, record: RequestRecord, since: float, reason: str) -> None:
        """An audio of a request has been decoded and cut, or could not be. In a thread of the pool.

        Args:
            since: when that began, as ``time.monotonic`` has it.
            reason: of the error, or ``OK``.
        """

    def on_batch(self, batch: Batch) -> None:
        """A batch has run; the owners of its clips are ``RequestRecord`` or None. In the batch's thread."""

    def on_end(self, record: RequestRecord) -> None:
        """A request has its answer, or will never have one. In the event loop."""


class Observers(Observer):
    """Tells all of several, in order. One that fails costs its own records, and nothing else."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def on_start(self, record: RequestRecord) -> None:
        for observer in self._observers:
            with _survived():
                observer.on_start(record)

    def on_decoded(self, record: RequestRecord, since: float, reason: str) -> None:
        for observer in self._observers:
            with _survived():
                observer.on_decoded(record, since, reason)

    def on_batch(self, batch: Batch) -> None:
        for observer in self._observers:
            with _survived():
                observer.on_batch(batch)

    def on_end(self, record: RequestRecord) -> None:
        for observer in self._observers:
            with _survived():
                observer.on_end(record)


@contextmanager
def _survived() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # Its message may quote the request.
        frames = "".join(traceback.format_tb(error.__traceback__))
        logger.error("an observer failed: %s at\n%s", type(error).__name__, frames)


_current: ContextVar[RequestRecord | None] = ContextVar("request", default=None)


def current() -> RequestRecord | None:
    """The record of the request that the calling task works on."""
    return _current.get()


@contextmanager
def observed(
    observer: Observer, record: RequestRecord, started: float | None = None
) -> Iterator[RequestRecord]:
    """From a request's start to its answer. Whoever answers sets ``reason`` and ``status``; a request
    that leaves before is a cancelled one.

    Args:
        started: by ``time.perf_counter``, where it was before now.
    """
    started = time.perf_counter() if started is None else started
    token = _current.set(record)
    observer.on_start(record)
    try:
        yield record
    finally:
        record.seconds = time.perf_counter() - started
        observer.on_end(record)
        _current.reset(token)
