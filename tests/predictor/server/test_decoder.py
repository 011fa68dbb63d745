"""Decoding apart: the same samples and errors as in the process, whatever becomes of a worker."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest

from predictor.engine import audio
from predictor.engine.errors import AudioTooLong, InvalidAudio, Overloaded, SpeechError
from predictor.engine.packets import Encoding, PacketDecoder
from predictor.server.decoder import MAX_IDLE, MAX_LONG, MAX_SHORT, Decoders, Decoding
from predictor.server.decoder_process import MAX_BLOCK_SAMPLES, REQUEST
from predictor.server.decoder_worker import DecoderFault
from predictor.server.fork_server import ForkServer
from predictor.server.packet_decoding import PacketDecoding

TIMEOUT_SECONDS = 2.0

PROGRAM = """
import ctypes, os, socket, struct, sys, time
import numpy as np
from predictor.engine import audio
from predictor.server import decoder_process


def decode(data, max_seconds, split):
    silence = np.zeros((1, 16_000), np.float32)
    match data:
        case b"crash":
            yield silence
            ctypes.string_at(0)
        case b"abort":
            os.abort()
        case b"hang":
            yield silence
            while True:
                pass
        case b"endless":
            while True:
                yield silence
        case b"fault":
            raise KeyError("secret of the audio")
        case b"nan":
            yield np.full((1, 10), np.nan, np.float32)
        case b"two channels":
            yield np.zeros((2, 10), np.float32)
        case b"longer":
            for _ in range(int(max_seconds) + 1):
                yield silence
        case b"large frame":
            os.write(0, decoder_process.FRAME.pack(decoder_process.BLOCK, 1, 1 << 30))
            time.sleep(60)
        case b"nonsense":
            os.write(0, b"\\xff" * 1000)
            time.sleep(60)
        case b"foreign error":
            os.write(0, decoder_process.FRAME.pack(decoder_process.ERROR, 0, 14) + b"SystemExit\\0bye")
            time.sleep(60)
        case b"wide":
            yield np.tile(np.arange(100_000, dtype=np.float32) / 100_000, (3, 1))
        case b"environment":
            raise audio.InvalidAudio(" ".join(os.environ))
        case _:
            yield from audio.decode(data, max_seconds, split)


decoder_process.run(socket.socket(fileno=int(sys.argv[1])), decode)
"""


@dataclass
class Setup:
    """Decoders whose workers do as the audio says, and what was lost of them."""

    forks: ForkServer
    lost: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.decoders = Decoders(self.forks, TIMEOUT_SECONDS, self.lost.append)

    @property
    def workers(self) -> list[psutil.Process]:
        return self.server.children()

    @property
    def server(self) -> psutil.Process:
        return psutil.Process(self.forks._process.pid)

    async def decode(self, data: bytes, max_seconds: float = 60, split: bool = False) -> np.ndarray:
        """All samples of a file."""
        decoding = self.decoders.decoding(1.0)
        try:
            blocks = decoding.decode(data, max_seconds, split)
            return np.concatenate([each async for each in taken(decoding, blocks)], axis=1)
        finally:
            decoding.close()


async def taken(decoding: Decoding, blocks: Iterator[np.ndarray]) -> AsyncIterator[np.ndarray]:
    """Blocks as the server takes them: read in a thread, waited for in the event loop."""
    while True:
        await decoding.ready()
        block = await asyncio.to_thread(next, blocks, None)
        if block is None:
            return
        if block.size:
            yield block


@pytest.fixture(scope="module")
def forks() -> Iterator[ForkServer]:
    """One for all tests: it takes some tenths of a second to start."""
    forks = ForkServer(("-c", PROGRAM))
    yield forks
    forks.close()


@pytest.fixture
async def setup(forks: ForkServer) -> AsyncIterator[Setup]:
    made = Setup(forks)
    yield made
    # Without the fork server, which the next test uses.
    for worker in made.decoders._idle:
        forks.end(worker)


@pytest.mark.parametrize("split", [False, True])
async def test_the_samples_are_those_of_the_engine(setup: Setup, tone_file: bytes, split) -> None:
    samples = await setup.decode(tone_file, 3600, split)
    np.testing.assert_array_equal(
        samples, np.concatenate(list(audio.decode(tone_file, 3600, split)), axis=1)
    )


async def test_channels_stay_apart_in_blocks_of_any_size(setup: Setup) -> None:
    samples = await setup.decode(b"wide", split=True)
    assert samples.shape == (3, 100_000)
    assert samples.shape[1] > MAX_BLOCK_SAMPLES
    np.testing.assert_array_equal(samples[2], np.arange(100_000, dtype=np.float32) / 100_000)


def packets_of(encoding: Encoding) -> list[bytes]:
    """A second of noise in live packets of 20 ms."""
    if encoding != "audio/opus":
        return [bytes(np.random.default_rng(n).integers(0, 256, 160, np.uint8)) for n in range(50)]
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = 48_000, "mono", "s16"
    encoder.open()
    noise = np.random.default_rng(1).integers(-9000, 9000, (1, 48_000), np.int16)
    packets: list[bytes] = []
    for at in range(0, 48_000, encoder.frame_size):
        frame = av.AudioFrame.from_ndarray(noise[:, at : at + encoder.frame_size], "s16", "mono")
        frame.sample_rate, frame.pts = 48_000, at
        packets += map(bytes, encoder.encode(frame))
    return packets


async def decoded(stream: PacketDecoding, packet: bytes) -> np.ndarray:
    await stream.ready(packet)
    return await asyncio.to_thread(stream.decode, packet)


@pytest.mark.parametrize("encoding", ["audio/opus", "audio/pcmu", "audio/pcma"])
async def test_a_live_stream_is_decoded_as_by_the_engine(
    setup: Setup, encoding: Encoding, until: Any
) -> None:
    engine = PacketDecoder(encoding, 0)
    stream = PacketDecoding(setup.decoders, encoding, 0)
    assert stream.bytes_per_second == engine.bytes_per_second
    for packet in packets_of(encoding):
        np.testing.assert_array_equal(await decoded(stream, packet), engine.decode(packet))
    with pytest.raises(InvalidAudio, match="empty"):
        await decoded(stream, b"")
    stream.close()
    await until(lambda: not setup.workers)


async def test_a_damaged_packet_is_told_and_the_stream_goes_on(setup: Setup) -> None:
    packets = packets_of("audio/opus")
    stream = PacketDecoding(setup.decoders, "audio/opus", 0)
    await decoded(stream, packets[0])
    before = setup.workers
    with pytest.raises(InvalidAudio, match="not an opus packet, or damaged"):
        await decoded(stream, b"\xff")
    assert len(await decoded(stream, packets[1])) > 200
    assert setup.workers == before
    stream.close()


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGSTOP])
async def test_a_stream_whose_worker_is_lost_goes_on_with_a_new_one(
    setup: Setup, number: signal.Signals
) -> None:
    packets = packets_of("audio/opus")
    stream = PacketDecoding(setup.decoders, "audio/opus", 0)
    await decoded(stream, packets[0])
    setup.workers[0].send_signal(number)
    with pytest.raises(InvalidAudio, match="audio: cannot be decoded, "):
        await decoded(stream, packets[1])
    assert len(await decoded(stream, packets[2])) > 200
    assert setup.lost == ["timeout" if number == signal.SIGSTOP else "crash"]
    stream.close()


@pytest.mark.parametrize(("cut", "max_seconds"), [(400, 60), (-20_000, 60), (None, 1)])
async def test_errors_are_those_of_the_engine(
    setup: Setup, clips: list[bytes], cut: int | None, max_seconds: float
) -> None:
    data = clips[9][:cut]
    with pytest.raises(SpeechError) as theirs:
        list(audio.decode(data, max_seconds))
    with pytest.raises(SpeechError) as ours:
        await setup.decode(data, max_seconds)
    assert (type(ours.value), str(ours.value)) == (type(theirs.value), str(theirs.value))
    assert isinstance(ours.value, AudioTooLong if cut is None else InvalidAudio)
    assert not setup.lost


async def test_a_worker_is_used_again_after_a_file_that_ended_well(
    setup: Setup, clips: list[bytes]
) -> None:
    await setup.decode(clips[0])
    before = setup.workers
    await setup.decode(clips[1])
    assert setup.workers == before
    with pytest.raises(InvalidAudio):
        await setup.decode(b"no audio")
    await setup.decode(clips[2])
    assert setup.workers != before


@pytest.mark.parametrize(
    ("how", "name"), [(b"crash", "SIGSEGV"), (b"abort", "SIGABRT"), (b"hang", "2 seconds")]
)
async def test_only_the_file_fails_that_a_worker_is_lost_on(
    setup: Setup, clips: list[bytes], caplog: pytest.LogCaptureFixture, how: bytes, name: str
) -> None:
    others = [setup.decode(clip) for clip in clips[:8]]
    lost, *outcomes = await asyncio.gather(setup.decode(how), *others, return_exceptions=True)
    assert isinstance(lost, InvalidAudio)
    assert str(lost).startswith("audio: cannot be decoded, ")
    assert all(isinstance(outcome, np.ndarray) for outcome in outcomes)
    assert setup.lost == ["timeout" if how == b"hang" else "crash"]
    assert name in caplog.text


@pytest.mark.parametrize("how", [b"nan", b"two channels", b"longer", b"large frame", b"nonsense"])
async def test_nothing_is_taken_that_no_decoder_gives(setup: Setup, how: bytes) -> None:
    with pytest.raises(DecoderFault):
        await setup.decode(how, max_seconds=3)


async def test_errors_of_other_kinds_are_not_taken(setup: Setup) -> None:
    with pytest.raises(InvalidAudio, match="bye"):
        await setup.decode(b"foreign error")


async def test_an_unforeseen_error_is_told_without_its_text(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(DecoderFault):
        await setup.decode(b"fault")
    assert "KeyError at " in caplog.text
    assert "secret" not in caplog.text


async def test_a_worker_does_not_run_ahead(setup: Setup, until: Any) -> None:
    decoding = setup.decoders.decoding(1.0)
    blocks = taken(decoding, decoding.decode(b"endless", 10**6, False))
    await anext(blocks)
    (worker,) = setup.workers
    await until(lambda: worker.status() == psutil.STATUS_SLEEPING)
    spent = worker.cpu_times()
    await asyncio.sleep(0.2)
    assert worker.cpu_times() == spent
    decoding.close()
    await until(lambda: not worker.is_running())


async def test_an_abandoned_file_ends_its_worker_at_any_moment(
    setup: Setup, clips: list[bytes], until: Any
) -> None:
    for n_steps in range(12):
        task = asyncio.create_task(setup.decode(b"hang"))
        for _ in range(n_steps):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    decoding = setup.decoders.decoding(1.0)
    await anext(taken(decoding, decoding.decode(b"hang", 60.0, False)))
    decoding.close()
    await setup.decode(clips[0])
    await until(lambda: len(setup.workers) == 1)
    assert not setup.lost


async def test_who_died_while_idle_is_not_asked(
    setup: Setup, clips: list[bytes], until: Any
) -> None:
    await asyncio.gather(*[setup.decode(clip) for clip in clips[:4]])
    assert len(setup.workers) > 1
    for worker in setup.workers:
        worker.kill()
    await until(lambda: {each.status() for each in setup.workers} == {psutil.STATUS_ZOMBIE})
    await setup.decode(clips[0])
    await until(lambda: len(setup.workers) == 1)


async def test_few_workers_are_kept(setup: Setup, clips: list[bytes], until: Any) -> None:
    await asyncio.gather(*[setup.decode(clip) for clip in clips[:MAX_SHORT]])
    await until(lambda: len(setup.workers) <= MAX_IDLE)


async def test_short_files_never_wait_for_long_ones(setup: Setup, clips: list[bytes]) -> None:
    long = [setup.decoders.decoding(3600.0) for _ in range(MAX_LONG)]
    for decoding in long:
        await anext(taken(decoding, decoding.decode(b"endless", 10**6, False)))
    one_more = setup.decoders.decoding(3600.0)
    one_more.decode(b"endless", 10**6, False)
    waits = asyncio.create_task(one_more.ready())
    await setup.decode(clips[0])
    assert not waits.done()
    long[0].close()
    await waits
    for decoding in (*long, one_more):
        decoding.close()


async def test_when_the_fork_server_dies_another_worker_goes_on(
    setup: Setup, tone_file: bytes
) -> None:
    decoding = setup.decoders.decoding(1.0)
    blocks = taken(decoding, decoding.decode(tone_file, 3600, False))
    begin = [await anext(blocks) for _ in range(3)]
    setup.server.kill()
    samples = np.concatenate([*begin, *[block async for block in blocks]], axis=1)
    decoding.close()
    np.testing.assert_array_equal(
        samples, np.concatenate(list(audio.decode(tone_file, 3600)), axis=1)
    )
    assert not setup.lost


def test_a_server_that_ends_before_a_reply_is_no_error_to_the_fork_server() -> None:
    ours, theirs = socket.socketpair()
    workers = socket.socketpair()
    socket.send_fds(ours, [REQUEST.pack(0)], [workers[1].fileno()])
    ours.close()
    command = [sys.executable, "-m", "predictor.server.decoder_process", str(theirs.fileno())]
    done = subprocess.run(
        command, pass_fds=[theirs.fileno()], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    for each in (theirs, *workers):
        each.close()


async def test_without_processes_audio_is_refused_for_now(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more() -> None:
        raise BlockingIOError(11, os.strerror(11))

    monkeypatch.setattr(setup.forks, "fork", no_more)
    with pytest.raises(Overloaded, match="no process for decoding"):
        await setup.decode(b"endless")


async def test_signals_to_the_server_are_not_for_the_workers(
    setup: Setup, clips: list[bytes]
) -> None:
    await setup.decode(clips[0])
    for process in (setup.server, *setup.workers):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            process.send_signal(number)
    before = setup.workers
    await setup.decode(clips[0])
    assert setup.workers == before
    assert os.getpgid(setup.server.pid) != os.getpgid(0)


async def test_workers_know_nothing_of_the_servers_environment(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    setup.forks.close()
    with pytest.raises(InvalidAudio) as seen:
        await setup.decode(b"environment")
    assert "PATH" in str(seen.value).split()
    assert not {"AWS_SECRET_ACCESS_KEY", "HOME"} & set(str(seen.value).split())


async def test_a_worker_has_one_thread_and_is_the_first_that_the_machine_ends(
    forks: ForkServer, until: Any
) -> None:
    worker = forks.fork()
    process = psutil.Process(worker.process)
    score = Path(f"/proc/{worker.process}/oom_score_adj")
    await until(lambda: score.read_text() == "1000\n")
    assert process.num_threads() == process.parent().num_threads() == 1
    # Killed, unless it has seen before that its socket was closed.
    assert forks.end(worker) in (0, signal.SIGKILL)
    assert forks.end(worker) is None
