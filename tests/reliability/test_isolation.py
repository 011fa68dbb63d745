"""What crashes or hangs FFmpeg costs one request, not the server; and nothing of it stays behind."""

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import psutil
import pytest
import soundfile
import websockets

from predictor.engine.errors import InvalidAudio
from predictor.server.decoder import MAX_IDLE, Decoders
from predictor.server.decoder_process import MEMORY_BYTES
from predictor.server.fork_server import ForkServer

RATE = 16_000
INFER = "/v2/models/sensevoice/infer"
RAW = {"inference-header-content-length": "0"}

TIMEOUT_SECONDS = 5
DEADLINE_SECONDS = 60
"""For what takes a moment on an idle machine."""

HOSTILE = """
import ctypes, os, socket, sys
from predictor.engine.errors import InvalidAudio
from predictor.server import decoder_process

ATTEMPTS = {
    "read a file": lambda: open("/etc/hostname"),
    "write a file": lambda: open("/tmp/written-by-a-decoder", "w"),
    "read its own environment": lambda: open("/proc/self/environ"),
    "list a folder": lambda: os.open("/", os.O_DIRECTORY),
    "connect": lambda: socket.create_connection(("127.0.0.1", int(os.environ["LC_PORT"]))),
    "listen": lambda: socket.create_server(("127.0.0.1", 0)),
    "a socket of the machine": lambda: socket.socket(socket.AF_UNIX),
    "a pipe": lambda: os.pipe(),
    "a second name of its socket": lambda: os.dup(0),
    "memory as a file": lambda: os.memfd_create("x"),
    "start a program": lambda: os.posix_spawn("/bin/true", ["true"], {}) and os.wait()[1] and 1 / 0,
    "raise its limits": lambda: __import__("resource").setrlimit(7, (9, 9)),
}


def tried():
    for name, attempt in ATTEMPTS.items():
        try:
            attempt()
        except (OSError, ValueError, ZeroDivisionError):
            continue
        yield name
    for descriptor in range(1, 1024):
        try:
            os.fstat(descriptor)
        except OSError:
            continue
        yield f"descriptor {descriptor}"


def decode(data, max_seconds, split):
    if data == b"attempts":
        raise InvalidAudio(f"{len(ATTEMPTS)} attempts: " + ", ".join(tried()))
    held = []
    while data == b"Python":
        held.append(b"x" * (1 << 20))
    while data == b"one piece":
        held.append(bytes(8 << 30))
    while data == b"C":
        size = 1 << 20
        address = ctypes.CDLL(None).malloc
        address.restype = ctypes.c_void_p
        ctypes.memset(address(size), 1, size)
    yield


decoder_process.run(socket.socket(fileno=int(sys.argv[1])), decode)
"""


def tone(seconds: float, container: str = "WAV") -> bytes:
    generator = np.random.default_rng(7)
    samples = 0.3 * np.sin(2 * np.pi * 220 * np.arange(int(seconds * RATE)) / RATE)
    samples += generator.normal(0, 0.05, len(samples))
    file = io.BytesIO()
    soundfile.write(file, samples.astype(np.float32), RATE, format=container)
    return file.getvalue()


@pytest.fixture(scope="module")
def clip() -> bytes:
    return tone(1.0, "FLAC")


@pytest.fixture(scope="module")
def long_file() -> bytes:
    """Twenty minutes: what holds a worker for seconds, and more memory than any other."""
    return tone(1200)


@pytest.fixture(scope="module")
def minute() -> bytes:
    return tone(60)


@pytest.fixture(scope="module")
def isolated(
    random_model_dir: Path, start_server: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """A server with a single thread for decoding, which nothing may hold up."""
    log = tmp_path_factory.mktemp("isolated") / "log"
    flags = ("--decode_threads=1", f"--decode_timeout_seconds={TIMEOUT_SECONDS}")
    yield from start_server(random_model_dir, log, *flags)


@pytest.fixture
async def rest(isolated: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=isolated.http, timeout=120) as client:
        yield client


@pytest.fixture
def fork_server(isolated: Any) -> Callable[[], psutil.Process]:
    """The function that finds the process that workers come from."""
    return lambda: _fork_server(psutil.Process(isolated.process.pid))


def _fork_server(server: psutil.Process) -> psutil.Process:
    (found,) = _fork_servers(server)
    return found


def _fork_servers(server: psutil.Process) -> list[psutil.Process]:
    """One, or none while nobody has asked for it again."""
    return list(filter(_decodes, server.children()))


def _decodes(process: psutil.Process) -> bool:
    # Or a zombie: one that was killed, and nobody missed yet.
    with suppress(psutil.NoSuchProcess):
        return "decoder_process" in " ".join(process.cmdline())
    return False


def _is_zombie(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_ZOMBIE
    return False


async def until(condition: Callable[[], Any]) -> Any:
    """What ``condition`` returns, once it is true."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    return found


def infer(rest: httpx.AsyncClient, audio: bytes) -> Awaitable[httpx.Response]:
    return rest.post(INFER, content=audio, headers=RAW)


def worker_with(forks: psutil.Process, n_bytes: int) -> psutil.Process | None:
    """The worker that decodes a file of so many bytes, if one does."""
    for worker in forks.children():
        with suppress(psutil.NoSuchProcess):
            # Of its own: the rest it shares with the fork server.
            if worker.memory_full_info().uss > n_bytes:
                return worker
    return None


def _has_died(worker: psutil.Process) -> bool:
    """Or is a zombie, which the fork server is still to ask about."""
    try:
        return worker.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.promise(
    "What crashes or hangs the decoder fails its own request with a 400 that says so; all others are "
    "answered meanwhile, and the server stays ready"
)
@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGSTOP])
async def test_one_request_fails(
    isolated, rest, fork_server, clip, long_file, number, effort, tried, measured
):
    longest = 0.0
    for _ in range(effort(1, 20)):
        lost = asyncio.create_task(infer(rest, long_file))
        worker = await until(lambda: worker_with(fork_server(), len(long_file)))
        worker.send_signal(number)
        while not lost.done():
            started = time.monotonic()
            others = await asyncio.gather(*[infer(rest, clip) for _ in range(8)])
            longest = max(longest, time.monotonic() - started)
            assert [other.status_code for other in others] == [200] * 8
            assert (await rest.get("/v2/models/sensevoice/ready")).status_code == 200
            tried["other requests"] += 8
        answer = await lost
        assert answer.status_code == 400
        assert "audio: cannot be decoded, " in answer.json()["error"]
        tried["decoders lost"] += 1
        await until(lambda lost=worker: not lost.is_running())
    assert longest < TIMEOUT_SECONDS, "others waited for the one that failed"
    measured[f"longest answer to others, {number.name}"] = f"{longest:.2f} s"
    metrics = (await rest.get("/metrics")).text
    assert 'sensevoice_decoders_lost_total{cause="crash"}' in metrics


def opus_packets(seconds: int) -> list[bytes]:
    """Noise in packets of 20 ms."""
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = 48_000, "mono", "s16"
    encoder.open()
    noise = np.random.default_rng(1).integers(-9000, 9000, (1, seconds * 48_000), np.int16)
    packets: list[bytes] = []
    for at in range(0, noise.shape[1], encoder.frame_size):
        frame = av.AudioFrame.from_ndarray(noise[:, at : at + encoder.frame_size], "s16", "mono")
        frame.sample_rate, frame.pts = 48_000, at
        packets += map(bytes, encoder.encode(frame))
    return packets


@pytest.mark.promise(
    "A live session whose decoder crashes is told so, and what is said afterwards is transcribed"
)
async def test_a_live_session_goes_on(isolated, fork_server, effort, tried):
    url = isolated.http.replace("http", "ws") + "/v1/realtime"
    packets = opus_packets(1)
    async with websockets.connect(url, max_size=None) as client:

        async def heard(*kinds: str) -> dict[str, Any]:
            while True:
                event = json.loads(await asyncio.wait_for(client.recv(), DEADLINE_SECONDS))
                if event["type"].rpartition(".")[2] in kinds:
                    return event

        audio_input = {"format": {"type": "audio/opus"}, "turn_detection": None}
        update = {"type": "session.update", "session": {"audio": {"input": audio_input}}}
        await client.send(json.dumps(update))
        await heard("updated")
        for _ in range(effort(2, 50)):
            for packet in packets:
                await client.send(packet)
            await client.send(json.dumps({"type": "input_audio_buffer.commit"}))
            event = await heard("completed", "error", "failed")
            assert event["type"].endswith(".completed"), event
            tried["turns"] += 1
            # Whichever it is: the others are idle.
            signalled = fork_server().children()
            for worker in signalled:
                worker.send_signal(signal.SIGSEGV)
            await until(lambda all_=signalled: all(map(_has_died, all_)))
            await client.send(packets[0])
            event = await heard("error")
            assert "audio: cannot be decoded, " in event["error"]["message"]
            tried["decoders lost"] += 1


@pytest.mark.promise(
    "When the process dies that decoders come from, the next request has a new one, and the server was "
    "ready all the time"
)
async def test_the_fork_server_dies(isolated, rest, fork_server, clip, effort, tried):
    server = psutil.Process(isolated.process.pid)
    for _ in range(effort(2, 50)):
        fork_server().kill()
        assert (await rest.get("/v2/models/sensevoice/ready")).status_code == 200
        assert (await rest.get("/v2/health/live")).status_code == 200
        assert (await infer(rest, clip)).status_code == 200
        # Where a worker outlived it by one answer.
        while not _fork_servers(server):
            assert (await infer(rest, clip)).status_code == 200
        tried["fork servers killed"] += 1


@pytest.mark.promise(
    "SIGTERM and SIGINT to all processes of a container end no decoder while requests run"
)
async def test_signals_of_a_container(rest, fork_server, minute, effort, tried):
    for _ in range(effort(1, 20)):
        running = asyncio.create_task(infer(rest, minute))
        while not running.done():
            await asyncio.sleep(0.02)
            for process in (fork_server(), *fork_server().children()):
                with suppress(psutil.NoSuchProcess):
                    for number in (signal.SIGTERM, signal.SIGINT):
                        process.send_signal(number)
                        tried["signals"] += 1
        assert (await running).status_code == 200


@pytest.mark.promise(
    "Requests that succeed, fail or are abandoned leave nothing behind: no process, no zombie, no file "
    "descriptor"
)
async def test_nothing_is_left_behind(isolated, fork_server, clip, minute, effort, tried, measured):
    server = psutil.Process(isolated.process.pid)

    async def round_of_requests(n_requests: int) -> None:
        async with httpx.AsyncClient(base_url=isolated.http, timeout=120) as client:
            for at in range(0, n_requests, 10):
                good = [infer(client, clip) for _ in range(7)]
                bad = [infer(client, clip[: 100 + at % 1000]), infer(client, b"no audio")]
                statuses = [answer.status_code for answer in await asyncio.gather(*good, *bad)]
                assert statuses == [200] * 7 + [400] * 2
                with suppress(TimeoutError):
                    await asyncio.wait_for(infer(client, minute), 0.01 + at % 100 / 1000)
                    tried["answered before they were abandoned"] += 1
                tried["requests"] += 10

    await round_of_requests(20)
    await until(lambda: len(fork_server().children()) <= MAX_IDLE)
    n_before = server.num_fds(), fork_server().num_fds()
    await round_of_requests(effort(60, 10_000))
    await until(lambda: len(fork_server().children()) <= MAX_IDLE)
    # Idle workers have a descriptor each.
    await until(lambda: server.num_fds() <= n_before[0] + MAX_IDLE)
    assert fork_server().num_fds() == n_before[1]
    family = server.children(recursive=True)
    await until(lambda: not any(map(_is_zombie, family)))
    measured["processes at the end"] = str(1 + len(family))


@contextmanager
def own_server(
    model_dir: Path, http_port: int, grpc_port: int
) -> Iterator["subprocess.Popen[str]"]:
    """A server that may end as it likes."""
    command = [sys.executable, "-m", "predictor", "serve", f"--model_dir={model_dir}"]
    command += [f"--http_port={http_port}", f"--grpc_port={grpc_port}"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert any("ready:" in line for line in process.stdout)
            yield process
        finally:
            process.kill()


@pytest.mark.promise("A server that is killed leaves no process behind")
async def test_a_killed_server(random_model_dir, new_port, long_file, effort, tried, measured):
    slowest = 0.0
    for _ in range(effort(1, 10)):
        port = new_port()
        with own_server(random_model_dir, port, new_port()) as process:
            server = psutil.Process(process.pid)
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                running = asyncio.create_task(infer(client, long_file))
                worker = await until(
                    lambda server=server: worker_with(_fork_server(server), len(long_file))
                )
                # As one that hangs: it does not see by itself that the server is gone.
                worker.suspend()
                family = server.children(recursive=True)
                assert len(family) >= 2
                started = time.monotonic()
                server.kill()
                process.wait()
                with pytest.raises(httpx.TransportError):
                    await running
                _, left = await asyncio.to_thread(psutil.wait_procs, family, 10)
        assert not left
        slowest = max(slowest, time.monotonic() - started)
        tried["servers killed"] += 1
        tried["processes"] += len(family)
    measured["last process gone after"] = f"{slowest:.2f} s"


@pytest.fixture(scope="module")
def hostile(new_port: Callable[[], int]) -> Iterator[Decoders]:
    """Decoders in which whoever made the audio has taken over."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LC_PORT", str(new_port()))
        decoders = Decoders(ForkServer(("-c", HOSTILE)), DEADLINE_SECONDS, lambda cause: None)
        decoders.start()
        yield decoders
        decoders.close()


async def refusal(decoders: Decoders, data: bytes) -> str:
    """What is said of an audio that is not decoded."""
    decoding = decoders.decoding(1.0)
    blocks = decoding.decode(data, 60.0, False)

    async def take() -> None:
        while True:
            await decoding.ready()
            assert not (await asyncio.to_thread(next, blocks)).size

    try:
        with pytest.raises(InvalidAudio) as refused:
            await take()
        return str(refused.value)
    finally:
        decoding.close()


@pytest.mark.promise(
    "A decoder cannot open a file, a socket or anything else, whatever the audio asks"
)
async def test_a_decoder_opens_nothing(hostile, tried):
    said = await refusal(hostile, b"attempts")
    number, _, opened = said.partition(" attempts: ")
    tried["attempts"] += int(number)
    assert int(number) == 12
    # The superuser of a test may raise its own limits; the images' user may not.
    allowed = {"raise its limits"} if os.geteuid() == 0 else set()
    assert set(filter(None, opened.split(", "))) <= allowed


@pytest.mark.promise("A decoder that takes too much memory is stopped; its request is refused")
@pytest.mark.parametrize("how", [b"Python", b"one piece", b"C"])
async def test_a_decoder_takes_no_more_memory_than_it_may(hostile, how, tried, measured):
    used = [0]

    async def watch() -> None:
        while True:
            with suppress(psutil.NoSuchProcess):
                for worker in psutil.Process(hostile.forks._process.pid).children():
                    used[0] = max(used[0], worker.memory_info().rss)
            await asyncio.sleep(0.002)

    watching = asyncio.create_task(watch())
    said = await refusal(hostile, how)
    watching.cancel()
    tried["memory bombs"] += 1
    if how == b"C":
        assert "the decoder crashed on it" in said
    else:
        assert said.startswith("audio: ")
        assert f"the limit of {MEMORY_BYTES >> 20} MiB" in said
    base = psutil.Process(hostile.forks._process.pid).memory_info().rss
    assert used[0] < base + MEMORY_BYTES + (8 << 20)
