"""Many requests, good and bad ones, and clients that leave: nothing is lost, and nothing stays."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import httpx
import numpy as np
import pytest

from tests.reliability.servers import cpu_seconds, held, metrics, resident_bytes
from tests.reliability.traffic import (
    NAME,
    OK,
    RAW,
    Client,
    Clip,
    LiveSession,
    grpc_request,
    made_clip,
)

N_CLIENTS = 16

N_SAMPLES = 50
"""Of memory, over the whole run."""

BAD_SHARE = 0.3
"""Of requests that are wrong, or whose client leaves."""

SHORT_BYTES, STRESS_BYTES = 16_384, 200
"""Most growth for a request. What 5,000 requests show of a leak is less than what 100,000 do: that each
leaves its audio behind, tens of kilobytes."""

SPARE = 4
"""Descriptors and threads that may be more than before: a pool that has grown, a connection that closes."""

DEADLINE_SECONDS = 60
"""For what takes a moment on an idle machine."""


class Stranger:
    """Does what clients should not. Every method tells what came of it: ``OK``, if the right thing."""

    def __init__(self, client: Client, seed: int) -> None:
        self._client = client
        self._random = random.Random(seed)
        self.deeds: tuple[Callable[[Clip], Awaitable[str]], ...] = (
            self.unknown_path,
            self.unknown_model,
            self.unknown_model_over_grpc,
            self.no_audio,
            self.no_json,
            self.by_url,
            self.wrong_option,
            self.leave_in_the_upload,
            self.leave_before_the_answer,
            self.leave_the_stream,
            self.leave_the_session,
            self.cancel_the_call,
        )

    def _new_name(self) -> str:
        """One that was never heard: whoever remembers names grows."""
        return f"n{self._random.getrandbits(64):x}"

    async def unknown_path(self, clip: Clip) -> str:
        answer = await self._client.http.get(f"/{self._new_name()}/{self._new_name()}")
        return _expected(answer, 404)

    async def unknown_model(self, clip: Clip) -> str:
        url = f"/v2/models/{self._new_name()}/infer"
        headers = {**RAW, "x-request-id": self._new_name(), self._new_name(): "x"}
        return _expected(await self._client.http.post(url, content=clip.file, headers=headers), 404)

    async def unknown_model_over_grpc(self, clip: Clip) -> str:
        request = grpc_request(clip)
        request.model_name = self._new_name()
        try:
            await self._client.stub.ModelInfer(request)
        except grpc.aio.AioRpcError as error:
            return OK if error.code() is grpc.StatusCode.NOT_FOUND else str(error)
        return "answered"

    async def no_audio(self, clip: Clip) -> str:
        url, noise = f"/v2/models/{NAME}/infer", self._random.randbytes(2000)
        return _expected(await self._client.http.post(url, content=noise, headers=RAW), 400)

    async def no_json(self, clip: Clip) -> str:
        body = b"{" + self._new_name().encode()
        return _expected(
            await self._client.http.post(f"/v1/models/{NAME}:predict", content=body), 400
        )

    async def by_url(self, clip: Clip) -> str:
        body = {"instances": [{"audio": {"url": f"http://{self._new_name()}.example/a.wav"}}]}
        answer = await self._client.http.post(f"/v1/models/{NAME}:predict", json=body)
        return _expected(answer, 400)

    async def wrong_option(self, clip: Clip) -> str:
        answer = await self._client.http.post(
            "/v1/audio/transcriptions",
            data={"model": NAME, "response_format": self._new_name()},
            files={"file": ("clip", clip.file)},
        )
        return _expected(answer, 400)

    async def leave_in_the_upload(self, clip: Clip) -> str:
        return await self._leave(clip.file, len(clip.file) // 2)

    async def leave_before_the_answer(self, clip: Clip) -> str:
        return await self._leave(clip.file, len(clip.file))

    async def _leave(self, body: bytes, n_sent: int) -> str:
        address = httpx.URL(self._client.url)
        _, writer = await asyncio.open_connection(address.host, address.port)
        head = f"POST /v2/models/{NAME}/infer HTTP/1.1\r\nhost: x\r\n"
        head += f"inference-header-content-length: 0\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body[:n_sent])
        await writer.drain()
        await asyncio.sleep(self._random.uniform(0, 0.02))
        writer.transport.abort()
        return OK

    async def leave_the_stream(self, clip: Clip) -> str:
        events = self._client.events(clip)
        async for event in events:
            await events.aclose()
            return OK if "type" in event else str(event)
        return "no event"

    async def leave_the_session(self, clip: Clip) -> str:
        async with LiveSession(self._client.url) as socket:
            await socket.send(clip.pcm)
            await socket.send(json.dumps({"type": "input_audio_buffer.commit"}))
            await asyncio.sleep(self._random.uniform(0, 0.05))
            socket.transport.abort()
        return OK

    async def cancel_the_call(self, clip: Clip) -> str:
        call = self._client.stub.ModelInfer(grpc_request(clip))
        await asyncio.sleep(self._random.uniform(0, 0.02))
        call.cancel()
        return OK


def _expected(answer: httpx.Response, status: int) -> str:
    return OK if answer.status_code == status else f"{answer.status_code}: {answer.text[:200]}"


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return [made_clip(seed, 0.4 + 0.2 * seed) for seed in range(12)]


@pytest.mark.promise(
    "However many requests come, and however they end, memory, descriptors, threads and files do not grow"
)
async def test_soak(
    start_server, random_model_dir, tmp_path, monkeypatch, clips, effort, tried, measured
):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    n_requests = effort(5_000, 100_000)
    outcomes: Counter[tuple[str, str]] = Counter()
    samples: list[tuple[int, int]] = []
    threads: list[int] = []
    before: dict[str, int] = {}
    for served in start_server(random_model_dir, tmp_path / "log"):
        pid = served.process.pid

        async def ask(seed: int, pid: int = pid, served: Any = served) -> None:
            async with Client(served.http, served.grpc) as client:
                stranger, choice = Stranger(client, seed), random.Random(seed)
                while (n_done := sum(outcomes.values())) < n_requests:
                    clip = choice.choice(clips)
                    if choice.random() < BAD_SHARE:
                        deed = choice.choice(stranger.deeds)
                        outcomes[deed.__name__, await deed(clip)] += 1
                    else:
                        protocol = choice.choice(client.PROTOCOLS)
                        outcomes[protocol, (await client.ask(protocol, clip)).outcome] += 1
                    if n_done >= len(samples) * n_requests / N_SAMPLES:
                        threads.append(held(pid)["threads"])
                        samples.append((n_done, resident_bytes(pid)))
                    if not before and n_done >= n_requests / 10:
                        before.update(held(pid))

        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for seed in range(N_CLIENTS):
                group.create_task(ask(seed))
        seconds = time.monotonic() - began
        await _until_idle(served)
        after = held(pid)
        used = cpu_seconds(pid)
        await asyncio.sleep(1)
        idle_cpu = cpu_seconds(pid) - used
        assert not list(temporary.rglob("*"))
    failures = {kind: n for kind, n in outcomes.items() if kind[1] != OK}
    assert not failures
    # While clients are there, so are their connections: fewer are left than in the middle.
    assert all(after[name] <= before[name] + SPARE for name in after), (before, after)
    # A decoder's process is one, too: how many there are at a moment is chance, how many at most is not.
    middle = len(threads) // 2
    assert max(threads[middle:]) <= max(threads[:middle]) + SPARE, threads
    assert idle_cpu < 0.3
    half = np.array(samples[len(samples) // 2 :])
    growth = float(np.polyfit(half[:, 0], half[:, 1], 1)[0])
    tried["requests"] += sum(outcomes.values())
    tried["kinds of request"] += len(outcomes)
    measured["memory at the end"] = f"{samples[-1][1] / 2**20:.0f} MiB"
    measured["growth a request"] = f"{growth:.0f} B"
    measured["descriptors, threads"] = f"{after['descriptors']}, {after['threads']}"
    measured["rate"] = f"{n_requests / seconds:.0f} a second"
    assert growth < effort(SHORT_BYTES, STRESS_BYTES), samples


async def _until_idle(served: Any) -> None:
    """Until nothing of the clients, who have all gone, is worked on."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        found = await metrics(served.http)
        if found["sensevoice_requests_running"] == found["sensevoice_queue_audio_seconds"] == 0:
            return
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.05)
