"""What runs apart from the server: a fork server, and the workers that it forks, in which FFmpeg decodes.

The fork server imports what decoding needs, once, and lets the server fork workers from it by messages over
a socket. It has one thread and does nothing else. A worker decodes one audio after the other, each sent to
it over a socket of its own, and is confined: it has no other file descriptor and cannot get one, so that no
demuxer opens a file or a connection whatever a file asks for; its memory is bounded; and it ends with the
fork server, which ends with the server.

Nothing that comes from a worker is trusted: it may be in the hands of whoever made the audio.
"""

import ctypes
import gc
import os
import resource
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from traceback import walk_tb
from typing import get_args

from predictor.engine import audio
from predictor.engine.errors import InvalidAudio, SpeechError
from predictor.engine.packets import Encoding, PacketDecoder
from predictor.engine.types import SAMPLE_RATE, Samples

REQUEST = struct.Struct("<q")
"""Server → fork server: 0 and a worker's end of a socket, to fork it; or the process to end and reap."""

REPLY = struct.Struct("<q")
"""Back: a process, or the wait status of one that ended; below 0, an errno."""

FILE, STREAM = b"F", b"S"
"""Server → worker: what comes. A worker that has a stream has nothing else."""

FILE_HEAD = struct.Struct("<Qd?")
"""Before a file: its bytes, the longest audio in seconds, whether channels stay apart."""

STREAM_HEAD = struct.Struct("<BI")
"""Before a live stream: the encoding's place in ENCODINGS, the rate of PCM."""

ENCODINGS = get_args(Encoding)

PACKET_HEAD = struct.Struct("<I")
"""Before a packet of a stream: its bytes. Each is answered like a file."""

FRAME = struct.Struct("<BBI")
"""Worker → server: a kind, of a BLOCK the number of channels, and the bytes that follow."""

BLOCK, END, ERROR, FAULT = range(4)
"""Kinds: float32 [n_channels, n_samples], as often as there is one; the clean end; or an error's class and
text, with a zero byte between; or where an exception that nobody foresaw came from."""

MAX_BLOCK_SAMPLES = 2 * SAMPLE_RATE
"""Of one channel in one frame. Some codecs give minutes at once."""

MAX_TEXT_BYTES = 2000

MEMORY_BYTES = 64 << 20
"""What decoding may take beside the file and one copy of what is in it, such as a picture."""

OPUS_SILENCE = b"\xf8\xff\xfe"
"""A packet of 20 ms."""

OOM_SCORE = Path("/proc/self/oom_score_adj")
"""From -1000 to 1000: of Linux's proc(5). Only upwards is allowed to everyone."""

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
"""Of Linux's prctl(2)."""


def run(control: socket.socket, decode: audio.Decode = audio.decode) -> None:
    """Be the fork server, until the server closes its end.

    Args:
        control: over which the server asks.
        decode: what workers do with an audio, as ``predictor.engine.audio.decode``.
    """
    # They are for the server, which lets running requests finish and then closes its end.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _warm_up()
    libc = ctypes.CDLL(None)
    data_bytes = _data_bytes()
    # Collecting in a worker would write to, and so copy, pages that all share.
    gc.collect()
    gc.freeze()
    # A server that ends while it starts does not wait for the reply.
    with suppress(ConnectionError):
        _fork_on_demand(control, decode, libc, data_bytes)


def _fork_on_demand(
    control: socket.socket, decode: audio.Decode, libc: ctypes.CDLL, data_bytes: int | None
) -> None:
    """Fork and reap workers as the server asks, until it closes its end.

    Raises:
        ConnectionError: it closed it before a reply.
    """
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, REQUEST.size, 1)
        if not message:
            return
        if not descriptors:
            control.sendall(REPLY.pack(_reap(*REQUEST.unpack(message))))
            continue
        try:
            process = os.fork()
        except OSError as error:
            process = -(error.errno or 1)
        if process == 0:
            status = 1
            try:
                _confine(descriptors[0], libc)
                _work(socket.socket(fileno=0), decode, data_bytes)
                status = 0
            finally:
                # Without the fork server's own clean-up.
                os._exit(status)
        os.close(descriptors[0])
        control.sendall(REPLY.pack(process))


def _reap(process: int) -> int:
    try:
        # Where it has ended by itself, that is what the status tells.
        os.kill(process, signal.SIGKILL)
        return os.waitpid(process, 0)[1]
    except OSError as error:
        return -(error.errno or 1)


def _confine(descriptor: int, libc: ctypes.CDLL) -> None:
    """Leave this process nothing but its socket, as descriptor 0."""
    with suppress(OSError):
        # Where the machine is out of memory, it ends a decoder and not the server.
        OOM_SCORE.write_text("1000", encoding="ascii")
    os.dup2(descriptor, 0, inheritable=False)
    os.closerange(1, os.sysconf("SC_OPEN_MAX"))
    if sys.platform == "linux":
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE):
        resource.setrlimit(limit, (0, 0))


def _work(server: socket.socket, decode: audio.Decode, data_bytes: int | None) -> None:
    """Decode what comes, until the server closes its end."""
    while kind := _received(server, 1):
        if kind == STREAM:
            encoding, rate = STREAM_HEAD.unpack(_received(server, STREAM_HEAD.size))
            _bound_memory(data_bytes, 0)
            _follow(server, PacketDecoder(ENCODINGS[encoding], rate))
            return
        n_bytes, max_seconds, split = FILE_HEAD.unpack(_received(server, FILE_HEAD.size))
        _bound_memory(data_bytes, n_bytes)
        _answer(server, decode(_received(server, n_bytes), max_seconds, split))


def _follow(server: socket.socket, decoder: PacketDecoder) -> None:
    while head := _received(server, PACKET_HEAD.size):
        packet = _received(server, *PACKET_HEAD.unpack(head))
        # Decoded where it is taken, for its errors.
        _answer(server, (decoder.decode(each)[None] for each in (packet,)))


def _bound_memory(data_bytes: int | None, n_bytes: int) -> None:
    if data_bytes is None:
        return
    bound = data_bytes + 2 * n_bytes + MEMORY_BYTES
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hard == resource.RLIM_INFINITY or bound < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (bound, hard))


def _answer(server: socket.socket, blocks: Iterator[Samples]) -> None:
    for kind, n_channels, payload in _frames(blocks):
        server.sendall(FRAME.pack(kind, n_channels, len(payload)) + payload)


def _received(server: socket.socket, n_bytes: int) -> bytes:
    """So many bytes in one piece; none where the server has closed its end."""
    pieces = []
    while n_bytes and (piece := server.recv(n_bytes, socket.MSG_WAITALL)):
        pieces.append(piece)
        n_bytes -= len(piece)
    return b"" if n_bytes else b"".join(pieces)


def _frames(blocks: Iterator[Samples]) -> Iterator[tuple[int, int, bytes]]:
    try:
        for block in blocks:
            for at in range(0, block.shape[1], MAX_BLOCK_SAMPLES):
                yield BLOCK, len(block), block[:, at : at + MAX_BLOCK_SAMPLES].tobytes()
        yield END, 0, b""
    except SpeechError as error:
        yield ERROR, 0, _error(type(error), error.message)
    except MemoryError:
        limit = f"{MEMORY_BYTES >> 20} MiB beside the file"
        yield (
            ERROR,
            0,
            _error(InvalidAudio, f"audio: decoding takes more memory than the limit of {limit}"),
        )
    except Exception as error:
        # Not its text, which may quote the audio.
        places = (f"{f.f_code.co_filename}:{line}" for f, line in walk_tb(error.__traceback__))
        text = f"{type(error).__name__} at {', '.join(places)}"
        yield FAULT, 0, text.encode()[:MAX_TEXT_BYTES]


def _error(kind: type[SpeechError], text: str) -> bytes:
    return f"{kind.__name__}\0{text}".encode()[:MAX_TEXT_BYTES]


def _warm_up() -> None:
    """Decode something, and fail to: what is imported or made only then could not be in a worker."""
    n_bytes = 64_000
    # Two seconds of 16-bit stereo at 8 kHz.
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 2, 8000, 32_000, 4, 16)
    wav = b"RIFF" + struct.pack("<I", 36 + n_bytes) + b"WAVE" + form
    wav += struct.pack("<4sI", b"data", n_bytes) + bytes(n_bytes)
    for data in (wav, wav[:-n_bytes], wav[:-100], b"no audio"):
        for split in (False, True):
            with suppress(SpeechError):
                for block in audio.decode(data, max_seconds=3, split=split):
                    block.tobytes()
    for encoding in ENCODINGS:
        for packet in (OPUS_SILENCE, b"\xff"):
            with suppress(SpeechError):
                PacketDecoder(encoding, SAMPLE_RATE).decode(packet)


def _data_bytes() -> int | None:
    """What counts for RLIMIT_DATA, and is here before any audio; None outside Linux."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
    except OSError:
        return None
    return pages * resource.getpagesize()


if __name__ == "__main__":
    run(socket.socket(fileno=int(sys.argv[1])))
