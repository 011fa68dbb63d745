"""Start-up, in order: load, warm up, register, listen, say so."""

import asyncio
import json
import logging
import os
import shlex
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from predictor.engine.errors import InvalidModel
from predictor.engine.transcribe import Engine
from predictor.server import logs
from predictor.server.batching import Batcher
from predictor.server.fetch import Fetcher
from predictor.server.grpc_service import GrpcServer, SpeechServicer
from predictor.server.kserve_model import FixedRepository, SpeechDataPlane, SpeechModel
from predictor.server.limits import ByteBudget
from predictor.server.metrics import Metrics
from predictor.server.observer import Observer
from predictor.server.protocol import Limits
from predictor.server.rest import add_routes
from predictor.server.sdk import ModelServer, app
from predictor.server.settings import Settings
from predictor.server.transcriber import Transcriber

logger = logging.getLogger("kserve.predictor")

POLL_SECONDS = 0.05

CPU_BATCH_SECONDS, GPU_BATCH_SECONDS = 30.0, 600.0
"""Most audio in a batch unless the settings say otherwise."""

GPU_DRIVER = Path("/dev/nvidiactl")
"""Where a container sees NVIDIA's driver."""


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        SystemExit: the model cannot be loaded or a port is taken; says which.
    """
    started = time.monotonic()
    for setting in ("http_port", "grpc_port"):
        _check_free(setting, getattr(settings, setting))
    logs.configure(settings.log_level)
    device = _device(settings.device)
    engine = _load(settings, device)
    max_batch_seconds = settings.max_batch_seconds or (
        CPU_BATCH_SECONDS if device == "cpu" else GPU_BATCH_SECONDS
    )
    pool = ThreadPoolExecutor(settings.decode_threads, "decode")
    metrics = Metrics(max_batch_seconds)
    batcher: Batcher[Any, Any] = Batcher(
        engine.recognize,
        n_threads=engine.passes,
        max_batch_clips=settings.max_batch_clips,
        max_batch_seconds=max_batch_seconds,
        max_queue_seconds=settings.max_queue_seconds,
        batch_wait_seconds=settings.batch_wait_ms / 1000,
        on_batch=metrics.on_batch,
    )
    metrics.follow(lambda: batcher.queue_seconds, lambda: batcher.n_requests)
    fetcher = Fetcher(
        settings.allowed_url_hosts, settings.max_audio_bytes, settings.url_timeout_seconds
    )
    transcriber = Transcriber(engine, batcher, pool, fetcher)
    limits = Limits(settings.max_audio_bytes, settings.max_request_items)
    model = SpeechModel(settings.model_name, engine.model, transcriber, limits, metrics)
    model.ready = True
    try:
        ready_lines = _ready_lines(settings, engine, started)
        SpeechServer(settings, model, metrics, ready_lines).start([model])
    finally:
        batcher.close()
        pool.shutdown(wait=False, cancel_futures=True)


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
    except InvalidModel as error:
        raise SystemExit(f"cannot load {settings.model_dir}: {error}") from None
    engine.warm_up()
    if engine.model.notice:
        logger.warning("%s: %s", engine.model.name, engine.model.notice)
    return engine


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


class SpeechServer(ModelServer):  # type: ignore[misc]
    """kserve's server with our data plane, routes and gRPC.

    Args:
        model: the only model.
        observer: is told what became of each request.
        ready_lines: what to print once both ports answer.
    """

    def __init__(
        self,
        settings: Settings,
        model: SpeechModel,
        observer: Observer,
        ready_lines: Callable[[], str],
    ) -> None:
        super().__init__(
            http_port=settings.http_port,
            enable_grpc=False,  # Ours is started below.
            enable_docs_url=settings.enable_docs,
            enable_latency_logging=settings.log_level == "debug",
            grace_period=settings.grace_period_seconds,
            workers=1,
        )
        self.dataplane = SpeechDataPlane(model_registry=self.registered_models)
        repository = FixedRepository(model_registry=self.registered_models)
        self.model_repository_extension = repository
        self._grace_seconds = settings.grace_period_seconds
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
        budget = ByteBudget(settings.max_pending_bytes)
        add_routes(
            app,
            self.dataplane,
            headers=headers,
            max_body_bytes=settings.max_body_bytes,
            budget=budget,
            observer=observer,
            enable_docs=settings.enable_docs,
        )
        self._grpc = GrpcServer(
            SpeechServicer(self.dataplane, repository, budget, observer),
            headers=headers,
            port=settings.grpc_port,
            max_message_bytes=settings.max_message_bytes,
        )
        ready_url = f"http://127.0.0.1:{settings.http_port}/v2/models/{model.name}/ready"
        self.servers += [self._grpc.serve(), _announce(ready_url, ready_lines)]

    def stop(self, sig: int) -> None:
        """Runs in the signal's handler, after REST has finished its requests."""
        self._stopping = asyncio.ensure_future(self._grpc.stop(self._grace_seconds))
        super().stop(sig)


def _ascii(text: str) -> str:
    """A revision or notice may be any text; headers and gRPC metadata may not."""
    return " ".join(text.encode("ascii", "backslashreplace").decode().split())


async def _announce(ready_url: str, ready_lines: Callable[[], str]) -> None:
    """Prints once the model's readiness is answered over the port itself; gRPC is listening by then,
    because it opens its port before the event loop first comes back here."""
    async with httpx.AsyncClient(trust_env=False) as client:
        while True:
            try:
                if (await client.get(ready_url)).is_success:
                    break
            except httpx.TransportError:
                pass
            await asyncio.sleep(POLL_SECONDS)
    print(ready_lines(), flush=True)  # noqa: T201


def _ready_lines(settings: Settings, engine: Engine, started: float) -> Callable[[], str]:
    def lines() -> str:
        address = f"http://localhost:{settings.http_port}"
        seconds = time.monotonic() - started
        ready = (
            f"ready: {address} (gRPC {settings.grpc_port}) model={settings.model_name} "
            f"version={engine.model.version} loaded in {seconds:.1f} s"
        )
        clip = example_clip(settings.model_dir)
        if clip is None:
            return ready
        url = f"{address}/v2/models/{settings.model_name}/infer"
        # A body of length-0 JSON is one audio file as it is: the shortest request of the v2 protocol.
        return (
            f"{ready}\ntry:   curl -s {url} -H 'Inference-Header-Content-Length: 0' "
            f"--data-binary @{shlex.quote(str(clip))}"
        )

    return lines


def example_clip(model_dir: Path) -> Path | None:
    """The first English clip of the evaluation set beside the model, relative to the working
    directory where that is shorter; None where there is none."""
    manifest = model_dir / "evaluation" / "manifest.jsonl"
    lines = manifest.read_text(encoding="utf-8").splitlines() if manifest.is_file() else []
    for row in map(json.loads, lines):
        audio = manifest.parent / str(row["audio"])
        if row["language"] == "en" and audio.is_file():
            return min((audio, Path(os.path.relpath(audio))), key=lambda path: len(str(path)))
    return None
