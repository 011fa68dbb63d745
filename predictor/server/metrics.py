"""What Prometheus sees at ``/metrics``, beside what kserve and the process itself report there.

Everything is measured in seconds, in seconds of audio or in bytes. The label sets are closed: the
protocols of ``predictor.server.observer``, the reasons of ``predictor.engine.errors`` and
``predictor.server.errors``, and the tags of the model.

Only counters, gauges and histograms: KServe's queue-proxy, which adds its own metrics to these, reads the
plain text format, and one family of another type (OpenMetrics' ``info``) loses it all of them.
"""

from collections.abc import Callable, Mapping
from typing import get_args

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from predictor.engine.transcribe import ModelInfo
from predictor.server.batching import Batch
from predictor.server.decoder import Cause
from predictor.server.observer import OK, Observer, RequestRecord

FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""Buckets in seconds, from a decoded utterance to an hour of audio."""

WHOLE = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300)
"""Buckets in seconds, from a GPU's answer to a clip to a CPU's to an hour."""

AUDIO = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 2400)
"""Buckets in seconds of audio."""

CLIPS = (1, 2, 4, 8, 16, 32, 64, 128)
RATIO = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

REALTIME = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
"""Buckets in seconds per second of audio, from a GPU's with an hour to a user's who waits too long."""

OTHER_TAG = "other"
"""Stands for every tag that the model does not have."""


class Metrics(Observer):
    """All metrics of one server.

    Args:
        max_batch_seconds: what a full batch holds.
        registry: where they are registered; kserve serves the default one.
    """

    def __init__(self, max_batch_seconds: float, registry: CollectorRegistry = REGISTRY) -> None:
        self._max_batch_seconds = max_batch_seconds

        def histogram(
            name: str, text: str, buckets: tuple[float, ...], labels: tuple[str, ...] = ()
        ) -> Histogram:
            return Histogram(f"sensevoice_{name}", text, labels, buckets=buckets, registry=registry)

        self._requests = Counter(
            "sensevoice_requests",
            "Requests answered. outcome: ok, error, rejected (over capacity, 429) or cancelled (the "
            "client left); reason: the error's label, empty where outcome is ok.",
            ("protocol", "outcome", "reason"),
            registry=registry,
        )
        self._seconds = histogram(
            "request_seconds",
            "From the start of a request to its answer, its body's way here included over REST.",
            WHOLE,
            ("protocol",),
        )
        self._decode = histogram(
            "request_decode_seconds", "Decoding and segmenting the audio of a request.", FAST
        )
        self._queue = histogram(
            "request_queue_seconds", "Clips of a request waiting for their batches, summed.", FAST
        )
        self._batch = histogram(
            "request_batch_seconds", "Batches that clips of a request ran in, summed.", FAST
        )
        self._inference = histogram(
            "request_inference_seconds", "A request's own share of the network's time.", FAST
        )
        self._audio = Counter(
            "sensevoice_audio_seconds", "Audio transcribed, in seconds.", registry=registry
        )
        self._realtime_factor = histogram(
            "realtime_factor",
            "Seconds of a request per second of its audio, waiting included; requests answered ok.",
            REALTIME,
        )
        self._tags = Counter(
            "sensevoice_tags",
            "Audios by the tags they were given as a whole: one of each kind. A shift is a drift of the "
            "input, or of the model.",
            ("kind", "tag"),
            registry=registry,
        )
        self._known_tags: Mapping[str, tuple[str, ...]] = {}
        self._model = Gauge(
            "sensevoice_model_info",
            "1 for the model that is served.",
            ("name", "version", "digest", "precision", "device"),
            registry=registry,
        )
        self._startup = Gauge(
            "sensevoice_startup_seconds",
            "What this process's start took. phase: import (the interpreter and all imports), load, "
            "warm_up, total (from the process's creation until both ports answer).",
            ("phase",),
            registry=registry,
        )
        self._gpu_memory = Gauge(
            "sensevoice_gpu_memory_bytes",
            "Memory of the GPU. kind: allocated (tensors of this process), reserved (held by this "
            "process's allocator, allocated included), total (what the GPU has).",
            ("kind",),
            registry=registry,
        )
        self._batch_audio = histogram(
            "batch_audio_seconds", "Audio in a batch, padding not counted.", AUDIO
        )
        self._batch_clips = histogram("batch_clips", "Clips in a batch.", CLIPS)
        fill = "Padded audio in a batch as a share of max_batch_seconds"
        self._batch_fill_ratio = histogram("batch_fill_ratio", f"{fill}.", RATIO)
        self._batch_fill = Gauge(
            "sensevoice_batch_fill", f"{fill}: the last batch.", registry=registry
        )
        self._batch_limit = Gauge(
            "sensevoice_batch_limit_seconds",
            "Most padded audio in a batch now: max_batch_seconds, or less after running out of memory.",
            registry=registry,
        )
        self._queue_audio = Gauge(
            "sensevoice_queue_audio_seconds",
            "Audio that waits for the network, with a guess at what is still being decoded. New "
            "requests are refused from max_queue_seconds on; scale on this.",
            registry=registry,
        )
        self._queue_limit = Gauge(
            "sensevoice_queue_limit_seconds",
            "Audio that may wait: the setting max_queue_seconds.",
            registry=registry,
        )
        self._decoders_lost = Counter(
            "sensevoice_decoders_lost",
            "Processes lost in the middle of an audio, which was refused. cause: crash (or killed), "
            "timeout (decode_timeout_seconds).",
            ("cause",),
            registry=registry,
        )
        for cause in get_args(Cause):
            self._decoders_lost.labels(cause)
        self._running = Gauge(
            "sensevoice_requests_running",
            "Requests let in and not yet answered.",
            registry=registry,
        )

    def follow(
        self,
        queue_seconds: Callable[[], float],
        n_requests: Callable[[], float],
        batch_seconds: Callable[[], float],
        max_queue_seconds: float,
    ) -> None:
        """Where the gauges look whenever somebody scrapes, and the queue's limit."""
        self._queue_audio.set_function(queue_seconds)
        self._running.set_function(n_requests)
        self._batch_limit.set_function(batch_seconds)
        self._queue_limit.set(max_queue_seconds)

    def follow_gpu(self, device: str) -> None:
        """Let the gauges of memory look at a GPU that the network runs on: ``cuda`` or ``cuda:N``."""
        import torch  # A CPU's network does not need it, and has not imported it.

        def follow(kind: str, n_bytes: Callable[[], float]) -> None:
            self._gpu_memory.labels(kind).set_function(n_bytes)

        total = torch.cuda.get_device_properties(device).total_memory
        follow("allocated", lambda: torch.cuda.memory_allocated(device))
        follow("reserved", lambda: torch.cuda.memory_reserved(device))
        follow("total", lambda: total)

    def describe(self, model: ModelInfo, precision: str, device: str) -> None:
        """What is served. Every tag that it may give has a series from now on."""
        self._model.labels(model.name, model.version, model.digest, precision, device).set(1)
        self._known_tags = {
            "language": model.languages,
            "emotion": model.emotions,
            "event": model.events,
        }
        for kind, tags in self._known_tags.items():
            for tag in tags:
                self._tags.labels(kind, tag)

    def on_startup(self, seconds: Mapping[str, float]) -> None:
        """Phases of the start have ended: ``import``, ``load``, ``warm_up`` or ``total`` → seconds."""
        for phase, spent in seconds.items():
            self._startup.labels(phase).set(spent)

    def on_batch(self, batch: Batch) -> None:
        """A batch has run."""
        fill = batch.padded_seconds / self._max_batch_seconds
        self._batch_audio.observe(batch.audio_seconds)
        self._batch_clips.observe(batch.n_clips)
        self._batch_fill_ratio.observe(fill)
        self._batch_fill.set(fill)

    def on_decoder_lost(self, cause: Cause) -> None:
        """A process was lost in the middle of an audio. From any thread."""
        self._decoders_lost.labels(cause).inc()

    def on_end(self, record: RequestRecord) -> None:
        """A request has its answer, or will never have one."""
        self._requests.labels(record.protocol, record.outcome, record.reason).inc()
        self._seconds.labels(record.protocol).observe(record.seconds)
        if not record.transcripts:
            return
        times, audio_seconds = record.times, record.audio_seconds
        self._decode.observe(times.decode + times.segment)
        self._queue.observe(times.queue)
        self._batch.observe(times.batch)
        self._inference.observe(times.features + times.encoder + times.decoding)
        self._audio.inc(audio_seconds)
        if record.reason == OK and audio_seconds:
            self._realtime_factor.observe(record.seconds / audio_seconds)
        for transcript in record.transcripts:
            self._count_tag("language", transcript.language.label)
            self._count_tag("emotion", transcript.emotion.label)
            self._count_tag("event", transcript.event.label)

    def _count_tag(self, kind: str, tag: str) -> None:
        known = tag in self._known_tags.get(kind, ())
        self._tags.labels(kind, tag if known else OTHER_TAG).inc()
