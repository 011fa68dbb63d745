"""The end of a start: once the server answers, it says so, and what to try."""

import asyncio
import json
import os
import shlex
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx

from predictor.engine.transcribe import Engine
from predictor.server.settings import Settings

POLL_SECONDS = 0.05


async def announce(
    ready_url: str, is_over: Callable[[], bool], on_ready: Callable[[], object]
) -> None:
    """Calls back once the model's readiness is answered over the port itself; gRPC is listening by then,
    because it opens its port before the event loop first comes back here.

    Args:
        is_over: whether the server stops before it was ready.
    """
    async with httpx.AsyncClient(trust_env=False) as client:
        while not is_over():
            with suppress(httpx.TransportError):
                if (await client.get(ready_url)).is_success:
                    on_ready()
                    return
            await asyncio.sleep(POLL_SECONDS)


def ready_lines(settings: Settings, engine: Engine, started: float) -> str:
    """What a person at a terminal is told.

    Args:
        started: by ``time.monotonic``.
    """
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
