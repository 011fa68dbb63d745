"""Start-up, in order: load, warm up, register, listen, say so."""

import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from predictor.engine.errors import SpeechError
from predictor.engine.transcribe import Engine
from predictor.server import logs, openapi
from predictor.server.access_log import AccessLog
from predictor.server.allowlist import Allowlist
from predictor.server.announcement import announce, ready_lines
from predictor.server.batching import Batcher
from predictor.server.connections import allow_connections
from predictor.server.decoder import Decoders
from predictor.server.draining import DrainingServer, DrainingWebSocket, Steps
from predictor.server.fetch import Fetcher
from predictor.server.fork_server import ForkServer
from predictor.server.grpc_service import GrpcServer, SpeechServicer
from predictor.server.health import Health, WatchedPool
from predictor.server.http_connection import HttpConnection
from predictor.server.kserve_model import FixedRepository, SpeechDataPlane, SpeechModel
from predictor.server.limits import BROWSER_HEADERS, ByteBudget
from predictor.server.metrics import Metrics
from predictor.server.observer import Observer, Observers
from predictor.server.openai_api import OpenAiApi
from predictor.server.protocol import Limits
from predictor.server.realtime_api import MAX_MESSAGE_BYTES, RealtimeApi
from predictor.server.rest import add_routes
from predictor.server.sdk import ModelServer, app
from predictor.server.settings import Settings
from predictor.server.startup import Startup, process_seconds
from predictor.server.transcriber import Transcriber

if TYPE_CHECKING:
    from predictor.server.tracing import Traces

logger = logging.getLogger("kserve.predictor")

CPU_BATCH_SECONDS, GPU_BATCH_SECONDS = 30.0, 600.0
"""Most audio in a batch unless the settings say otherwise."""

LAST_BATCH_SECONDS = 10.0
"""Longest time for the batches that run when the server has stopped: nobody waits for them any more."""

FLUSH_SECONDS = 3.0
"""Longest time to export the last traces, once all requests are answered."""

GPU_DRIVER = Path("/dev/nvidiactl")
"""Where a container sees NVIDIA's driver."""


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        SystemExit: the model cannot be loaded or a port is taken; says which.
    """
    started = time.monotonic()
    startup = Startup()
    allow_connections()
    for setting in ("http_port", "grpc_port"):
        _check_free(setting, getattr(settings, setting))
    logs.configure(settings.log_level, settings.log_format)
    # It imports what decoding needs while the model is loaded.
    forks = ForkServer()
    forks.start()
    device = _device(settings.device)
    engine = _load(settings, device)
    startup.ended("load")
    _warm_up(engine)
    startup.ended("warm_up")
    max_batch_seconds = settings.max_batch_seconds or (
        CPU_BATCH_SECONDS if device == "cpu" else GPU_BATCH_SECONDS
    )
    pool = WatchedPool(settings.decode_threads, "decode", settings.stuck_seconds)
    metrics = Metrics(max_batch_seconds)
    metrics.describe(engine.model, engine.precision, device)
    metrics.on_startup(startup.seconds)
    if device != "cpu":
        metrics.follow_gpu(device)
    traces = _traces(settings, engine, device)
    # Traces first: they give a request the ids that the access log writes.
    observer = Observers(
        *([traces] if traces else ()),
        metrics,
        *([AccessLog(settings.log_transcripts)] if settings.access_log else ()),
    )
    batcher: Batcher[Any, Any] = Batcher(
        engine.recognize,
        n_threads=engine.passes,
        max_batch_clips=settings.max_batch_clips,
        max_batch_seconds=max_batch_seconds,
        max_queue_seconds=settings.max_queue_seconds,
        batch_wait_seconds=settings.batch_wait_ms / 1000,
        on_batch=observer.on_batch,
        stuck_seconds=settings.stuck_seconds,
    )
    metrics.follow(
        lambda: batcher.queue_seconds,
        lambda: batcher.n_requests,
        lambda: batcher.batch_seconds,
        settings.max_queue_seconds,
    )
    budget = ByteBudget(settings.max_pending_bytes)
    allowlist = Allowlist(settings.allowed_url_hosts)
    fetcher = Fetcher(allowlist, settings.max_audio_bytes, settings.url_timeout_seconds, budget)
    decoders = _decoders(settings, forks, metrics)
    health = Health(batcher.trouble, pool.trouble, end=_end)
    transcriber = Transcriber(engine, batcher, pool, decoders, fetcher, observer)
    limits = Limits(settings.max_audio_bytes, settings.max_request_items)
    model = SpeechModel(settings.model_name, engine.model, transcriber, limits, health)
    model.ready = True

    def on_ready() -> None:
        metrics.on_startup({"total": process_seconds()})
        logging.getLogger(logs.READY).info(ready_lines(settings, engine, started))

    try:
        SpeechServer(settings, model, budget, observer, on_ready, batcher.refuse).start([model])
    finally:
        # It ends: from here on Python would let the signal kill it, and its status would be no longer 0.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        is_good = health.is_good
        batcher.close(LAST_BATCH_SECONDS if is_good else 0)
        decoders.close()
        pool.shutdown(wait=False, cancel_futures=True)
        if traces:
            traces.close(FLUSH_SECONDS)
        if not is_good or not health.is_good:
            _end()


def _end() -> None:
    """The interpreter itself would wait for a thread that is stuck."""
    logging.shutdown()
    os._exit(1)


def _check_free(setting: str, port: int) -> None:
    """A taken port is better told before minutes of loading than after."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))  # noqa: S104  # as the server itself will
        except OSError as error:
            raise SystemExit(f"{setting} {port}: {error.strerror}") from None


def _load(settings: Settings, device: str) -> Engine:
    try:
        engine = Engine(
            settings.model_dir,
            device,
            None if settings.precision == "auto" else settings.precision,
            settings.network_threads,
            settings.network_passes,
            settings.max_audio_seconds,
            settings.max_audio_bytes,
        )
    except SpeechError as error:
        raise SystemExit(f"cannot load {settings.model_dir}: {error}") from None
    except MemoryError:
        raise SystemExit(f"cannot load {settings.model_dir}: the memory is not enough") from None
    if engine.model.notice:
        logger.warning("%s: %s", engine.model.name, engine.model.notice)
    return engine


def _decoders(settings: Settings, forks: ForkServer, metrics: Metrics) -> Decoders:
    decoders = Decoders(forks, settings.decode_timeout_seconds, metrics.on_decoder_lost)
    try:
        decoders.start()
    except (OSError, EOFError) as error:
        raise SystemExit(f"cannot start a process that decodes audio: {error}") from None
    return decoders


def _warm_up(engine: Engine) -> None:
    try:
        engine.warm_up()
    except SpeechError as error:
        raise SystemExit(f"cannot recognise a second of audio: {error}") from None


def _device(wanted: str) -> str:
    """Where the network runs. Importing torch to ask it for a GPU costs a start on a CPU two seconds."""
    if wanted == "cpu" or (wanted == "auto" and not GPU_DRIVER.exists()):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda" if wanted == "auto" else wanted
    if wanted == "auto":
        return "cpu"
    raise SystemExit(f"device {wanted}: torch finds no GPU here")


def _traces(settings: Settings, engine: Engine, device: str) -> "Traces | None":
    if not settings.otlp_endpoint:
        return None
    # Its libraries cost a start some tenths of a second.
    from predictor.server.tracing import Traces

    endpoint, sample_ratio = settings.otlp_endpoint, settings.trace_sample_ratio
    return Traces(endpoint, sample_ratio, engine.model, engine.precision, device)


class SpeechServer(ModelServer):  # type: ignore[misc]
    """kserve's server with our data plane, routes and gRPC.

    Args:
        model: the only model.
        budget: for the bytes of all requests.
        observer: watches all requests.
        on_ready: called once both ports answer.
        refuse: called shortly before the grace period ends: nothing waits any more.
    """

    def __init__(
        self,
        settings: Settings,
        model: SpeechModel,
        budget: ByteBudget,
        observer: Observer,
        on_ready: Callable[[], None],
        refuse: Callable[[], None],
    ) -> None:
        super().__init__(
            http_port=settings.http_port,
            enable_grpc=False,  # Ours is started below.
            enable_docs_url=settings.enable_docs,
            enable_latency_logging=settings.log_level == "debug",
            workers=1,
        )
        self.dataplane = SpeechDataPlane(model_registry=self.registered_models)
        repository = FixedRepository(model_registry=self.registered_models)
        self.model_repository_extension = repository
        self._grace_seconds = settings.grace_period_seconds
        self._refuse = refuse
        headers = {
            "x-model-name": model.name,
            "x-model-version": _ascii(model.card.version),
            "x-model-digest": model.card.digest,
        }
        # Knative tells a container its revision: a rollout asks whose answer it reads.
        if revision := os.environ.get("K_REVISION"):
            headers["x-revision"] = _ascii(revision)
        if model.card.notice:
            headers["x-model-notice"] = _ascii(model.card.notice)
        # Read with every answer: one more is added when the server stops.
        self._headers = {**BROWSER_HEADERS, **headers}
        add_routes(
            app,
            self.dataplane,
            headers=self._headers,
            max_body_bytes=settings.max_body_bytes,
            budget=budget,
            observer=observer,
            enable_docs=settings.enable_docs,
        )
        openai_api = OpenAiApi(self.dataplane, model, observer)
        openai_api.add_routes(app)
        RealtimeApi(
            model.transcriber,
            openai_api.check_model,
            observer,
            settings.max_realtime_connections,
            settings.realtime_idle_seconds,
        ).add_routes(app)
        openapi.install(app)
        self._grpc = GrpcServer(
            SpeechServicer(self.dataplane, repository, budget, observer),
            headers=headers,
            port=settings.grpc_port,
            max_message_bytes=settings.max_message_bytes,
        )
        ready_url = f"http://127.0.0.1:{settings.http_port}/v2/models/{model.name}/ready"
        self.servers += [
            self._grpc.serve(),
            announce(ready_url, lambda: self.dataplane.is_draining, on_ready),
        ]

    def register_signal_handler(self) -> None:
        """Signals are uvicorn's; kserve's own handlers would cut calls that run."""

    async def _serve(self) -> None:
        config = self._rest_server.config
        config.http, config.ws = HttpConnection, DrainingWebSocket
        config.ws_max_size = MAX_MESSAGE_BYTES
        # A pong waits behind the audio of a client that is held up; who is gone, the idle limit tells.
        config.ws_ping_timeout = None
        steps = Steps(self._begin_draining, self._grpc.stop, self._refuse)
        self._rest_server._server = DrainingServer(config, self._grace_seconds, steps)
        await super()._serve()

    def _begin_draining(self) -> None:
        self.dataplane.is_draining = True
        self._headers["connection"] = "close"


def _ascii(text: str) -> str:
    """A revision or notice may be any text; headers and gRPC metadata may not."""
    return " ".join(text.encode("ascii", "backslashreplace").decode().split())
