"""More work than the server can do."""

import asyncio
import random
import resource
import socket
import statistics
import time
from collections import Counter

import httpx
import numpy as np
import pytest

from tests.reliability.servers import metrics, peak_bytes, resident_bytes
from tests.reliability.traffic import NAME, OK, REJECTED, Client, Clip, made_clip, speech_clip

SPEED = 10.0
"""Audio seconds a second that the slowed network does."""

MAX_QUEUE_SECONDS, MAX_BATCH_SECONDS = 20.0, 5.0

TIMES_CAPACITY = 10

PROMPT_SECONDS = 1.0
"""In which a refusal, or a probe, is answered."""

ROUNDS = 4

MARGIN_SECONDS = 2.0
"""For what requests take beside the network, and for a busy machine."""

LONG_MARGIN_SECONDS = 3.0
"""The same beside long files, whose decoding keeps a core busy."""

MAX_GROWTH_BYTES = 300 * 2**20
"""Memory of an overloaded server beyond that of an idle one: its queue, decoded, is 2 MB; the rest are
buffers of connections and what allocators keep."""

N_LONG, MIN_LONG, MIN_QUEUED = 14, 3, 60.0
"""Long files at once; how many must be at work, and how many seconds of them wait, to mean anything."""

LONG_SPEED, LONG_BATCH_SECONDS, LONG_QUEUE_SECONDS = 20.0, 10.0, 120.0
"""The network that long files keep busy: a fraction of their decoding's speed on any machine."""

N_IDLE = 3000
"""Connections on which nothing is ever said."""


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return [made_clip(seed, seconds) for seed, seconds in enumerate((2, 3, 4, 5, 6))]


async def _probe(url: str, stopped: asyncio.Event) -> list[float]:
    """Seconds that probes took, each over a connection of its own as kubelet's."""
    took = []
    while not stopped.is_set():
        began = time.monotonic()
        async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
            assert (await client.get(f"{url}/v2/models/{NAME}/ready")).is_success
            assert (await client.get(f"{url}/v2/health/live")).is_success
        took.append((time.monotonic() - began) / 2)
        await asyncio.sleep(0.2)
    return took


async def _lag(stopped: asyncio.Event) -> list[float]:
    """Seconds by which this process is late: what an answer takes longer here than at the server."""
    late = []
    while not stopped.is_set():
        began = time.monotonic()
        await asyncio.sleep(0.01)
        late.append(time.monotonic() - began - 0.01)
    return late


def _centile(values: list[float], share: float) -> float:
    return float(np.quantile(values, share))


@pytest.mark.promise(
    "At ten times its capacity a server refuses at once and says when to come back; whom it lets in it "
    "answers within what its queue may hold; probes are answered; afterwards all is as before"
)
async def test_ten_times_the_capacity(
    start_server, random_model_dir, tmp_path, clips, effort, tried, measured
):
    slowly = ("tests.reliability.slow_network", str(SPEED))
    flags = [f"--max_queue_seconds={MAX_QUEUE_SECONDS}", "--network_passes=1"]
    flags += [f"--max_batch_seconds={MAX_BATCH_SECONDS}", "--max_realtime_connections=1000"]
    for served in start_server(random_model_dir, tmp_path / "log", *flags, module=slowly):
        await _overload(served, clips, effort(8, 60), tried, measured)


async def _overload(served, clips, seconds, tried, measured):
    audio_seconds = statistics.mean(clip.seconds for clip in clips)
    rate = TIMES_CAPACITY * SPEED / audio_seconds
    pid = served.process.pid
    async with Client(served.http, served.grpc) as client:
        # The first of each protocol pays for what is loaded then.
        for protocol in client.PROTOCOLS:
            assert (await client.ask(protocol, clips[0])).outcome == OK
        idle = statistics.median(
            [(await client.ask("v2_binary", clips[1])).seconds for _ in range(5)]
        )
        memory = resident_bytes(pid)
        stopped = asyncio.Event()
        probes = asyncio.create_task(_probe(served.http, stopped))
        lags = asyncio.create_task(_lag(stopped))
        choice = random.Random(7)
        began, asked = time.monotonic(), []
        # An open loop: who comes does not wait for those who came before.
        while (now := time.monotonic() - began) < seconds:
            while len(asked) < now * rate:
                one = client.ask(choice.choice(client.PROTOCOLS), choice.choice(clips))
                asked.append(asyncio.create_task(one))
            await asyncio.sleep(0.01)
        answers = await asyncio.gather(*asked)
        stopped.set()
        probed, lag = await probes, _centile(await lags, 0.99)
        again = (await client.ask("v2_binary", clips[1])).seconds
        growth = peak_bytes(pid) - memory
    assert {answer.outcome for answer in answers} == {OK, REJECTED}
    refused = [answer for answer in answers if answer.outcome == REJECTED]
    admitted = [answer.seconds for answer in answers if answer.outcome == OK]
    assert len(refused) > len(answers) / 2
    for answer in refused:
        # A live session has no headers: its error event and code 1013 say the same.
        assert answer.protocol == "websocket" or (answer.retry_after or 0) >= 1
    # What may wait, the request that was let in last, and the batch that runs; and all else. A request
    # takes some rounds of both event loops, which on a busy machine are as late as each other.
    bound = (MAX_QUEUE_SECONDS + clips[-1].seconds + 2 * MAX_BATCH_SECONDS) / SPEED
    bound += MARGIN_SECONDS + ROUNDS * lag
    tried["requests"] += len(answers)
    tried["refused"] += len(refused)
    tried["probes"] += 2 * len(probed)
    late = _centile([answer.seconds for answer in refused], 0.99)
    measured["p99 of refusals"] = f"{late:.2f} s"
    measured["p99 of those let in"] = f"{_centile(admitted, 0.99):.2f} s (bound {bound:.2f} s)"
    measured["longest probe"] = f"{max(probed):.2f} s"
    measured["first request afterwards"] = f"{again:.2f} s (idle {idle:.2f} s)"
    measured["clients late by"] = f"{lag:.2f} s"
    measured["memory"] = f"{growth / 2**20:+.0f} MiB"
    assert late < PROMPT_SECONDS + ROUNDS * lag
    assert _centile(admitted, 0.99) < bound
    assert max(probed) < PROMPT_SECONDS + ROUNDS * lag
    assert again < 2 * idle + 0.5
    assert growth < MAX_GROWTH_BYTES


@pytest.mark.promise("Somebody's hour-long files neither hold up nor keep out others' short ones")
async def test_long_files_beside_short_ones(
    start_server, random_model_dir, demo_model_dir, tmp_path, effort, tried, measured
):
    """More of them at once than the queue holds, on a network that is busy with them all the time."""
    short = made_clip(1, 3)
    long = speech_clip(demo_model_dir / "evaluation", effort(1200, 3600))
    slowly = ("tests.reliability.slow_network", str(LONG_SPEED))
    flags = ("--network_passes=1", f"--max_batch_seconds={LONG_BATCH_SECONDS}")
    flags += (f"--max_queue_seconds={LONG_QUEUE_SECONDS}",)
    for served in start_server(random_model_dir, tmp_path / "log", *flags, module=slowly):
        async with Client(served.http, served.grpc) as me:
            alone = await _one_after_the_other(me, short, 5)
            async with Client(served.http, served.grpc) as tenant:
                long_ones = [
                    asyncio.create_task(tenant.ask("v2_binary", long)) for _ in range(N_LONG)
                ]
                # Until their lanes are as full as they get, and the others have been told so.
                while (await metrics(served.http))["sensevoice_queue_audio_seconds"] < MIN_QUEUED:
                    assert not all(task.done() for task in long_ones)
                    await asyncio.sleep(0.1)
                refused, _ = await asyncio.wait(long_ones, timeout=0)
                assert {task.result().outcome for task in refused} <= {REJECTED}
                beside = await _one_after_the_other(me, short, effort(10, 120))
                assert sum(not task.done() for task in long_ones) >= MIN_LONG
                for task in long_ones:
                    task.cancel()
                await asyncio.wait(long_ones)
            # They have left, and taken with them what waited.
            while (await metrics(served.http))["sensevoice_requests_running"] > 0:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            after = await _one_after_the_other(me, short, 5)
    tried["long files at once"] += N_LONG
    tried["short requests beside them"] += len(beside)
    measured["short ones alone"] = f"{statistics.median(alone):.2f} s"
    measured["short ones beside long ones"] = (
        f"{statistics.median(beside):.2f} s, p95 {_centile(beside, 0.95):.2f} s"
    )
    # The batch that runs, the one whose turn it is, and its own; decodings have turns of 50 ms.
    bound = 3 * LONG_BATCH_SECONDS / LONG_SPEED
    # Behind all that waits it would be four times as much.
    assert _centile(beside, 0.95) < bound + LONG_MARGIN_SECONDS
    assert statistics.median(after) < 2 * statistics.median(alone) + 0.5


async def _one_after_the_other(client: Client, clip: Clip, n: int) -> list[float]:
    """Seconds that each took, none of them refused."""
    answers = [await client.ask("v2_binary", clip) for _ in range(n)]
    assert {answer.outcome for answer in answers} == {OK}
    return [answer.seconds for answer in answers]


@pytest.mark.promise("Thousands of silent connections keep nobody else out")
async def test_silent_connections(
    start_server, random_model_dir, tmp_path, clips, effort, tried, measured
):
    """The server is started with the few descriptors that shells give, and takes as many as it may."""
    n_idle = effort(N_IDLE // 2, N_IDLE)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * N_IDLE:
        pytest.skip(f"only {hard} descriptors may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    server = start_server(random_model_dir, tmp_path / "log")
    served = next(server)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * N_IDLE), hard))
    silent: list[socket.socket] = []
    try:
        address = ("127.0.0.1", int(served.http.rpartition(":")[2]))
        silent += [socket.create_connection(address, timeout=30) for _ in range(n_idle)]
        stopped = asyncio.Event()
        probes = asyncio.create_task(_probe(served.http, stopped))
        async with Client(served.http, served.grpc) as client:
            answers = [await client.ask(each, clips[0]) for each in 3 * client.PROTOCOLS]
        stopped.set()
        probed = await probes
    finally:
        for each in silent:
            each.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        server.close()
    assert Counter(answer.outcome for answer in answers) == {OK: len(answers)}
    assert max(probed) < PROMPT_SECONDS
    tried["silent connections"] += n_idle
    tried["requests beside them"] += len(answers)
    measured["longest probe"] = f"{max(probed):.2f} s"
