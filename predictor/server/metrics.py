"""What Prometheus sees at ``/metrics``, beside what kserve and the process itself report there.

Everything is measured in seconds, or in seconds of audio. The label sets are closed: three protocols, and
the reasons of ``predictor.engine.errors`` and ``predictor.server.errors``.
"""

from collections.abc import Callable

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from predictor.engine.errors import Overloaded
from predictor.engine.types import StageTimes
from predictor.server.batching import Batch
from predictor.server.observer import CANCELLED, OK

FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""Buckets in seconds, from a decoded utterance to an hour of audio."""

WHOLE = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300)
"""Buckets in seconds, from a GPU's answer to a clip to a CPU's to an hour."""

AUDIO = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 2400)
"""Buckets in seconds of audio."""

CLIPS = (1, 2, 4, 8, 16, 32, 64, 128)
RATIO = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class Metrics:
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
        self._batch_audio = histogram(
            "batch_audio_seconds", "Audio in a batch, padding not counted.", AUDIO
        )
        self._batch_clips = histogram("batch_clips", "Clips in a batch.", CLIPS)
        fill = "Padded audio in a batch as a share of max_batch_seconds"
        self._batch_fill_ratio = histogram("batch_fill_ratio", f"{fill}.", RATIO)
        self._batch_fill = Gauge(
            "sensevoice_batch_fill", f"{fill}: the last batch.", registry=registry
        )
        self._queue_audio = Gauge(
            "sensevoice_queue_audio_seconds",
            "Audio that waits for the network, with a guess at what is still being decoded. New "
            "requests are refused from max_queue_seconds on; scale on this.",
            registry=registry,
        )
        self._running = Gauge(
            "sensevoice_requests_running",
            "Requests let in and not yet answered.",
            registry=registry,
        )

    def follow(self, queue_seconds: Callable[[], float], n_requests: Callable[[], float]) -> None:
        """Where the gauges look whenever somebody scrapes."""
        self._queue_audio.set_function(queue_seconds)
        self._running.set_function(n_requests)

    def on_batch(self, batch: Batch) -> None:
        """A batch has run."""
        fill = batch.padded_seconds / self._max_batch_seconds
        self._batch_audio.observe(batch.audio_seconds)
        self._batch_clips.observe(batch.n_clips)
        self._batch_fill_ratio.observe(fill)
        self._batch_fill.set(fill)

    def on_transcribed(self, times: StageTimes, audio_seconds: float) -> None:
        """A request's audio has been transcribed; ``times`` are the sums over its items."""
        self._decode.observe(times.decode + times.segment)
        self._queue.observe(times.queue)
        self._batch.observe(times.batch)
        self._inference.observe(times.features + times.encoder + times.decoding)
        self._audio.inc(audio_seconds)

    def on_request(self, protocol: str, reason: str, seconds: float) -> None:
        """A request has its answer, or will never have one.

        Args:
            protocol: ``rest_v1``, ``rest_v2`` or ``grpc_v2``.
            reason: of a ``SpeechError``, or ``OK`` or ``CANCELLED``.
            seconds: since it began.
        """
        outcome = {OK: "ok", CANCELLED: "cancelled", Overloaded.reason: "rejected"}
        self._requests.labels(protocol, outcome.get(reason, "error"), reason).inc()
        self._seconds.labels(protocol).observe(seconds)
