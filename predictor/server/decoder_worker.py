"""One process that decodes, as the server sees it: what is sent to it, and what it answers."""

import asyncio
import logging
import select
import socket
from contextlib import suppress

import numpy as np

from predictor.engine.audio import MAX_CHANNELS, MAX_PEAK
from predictor.engine.errors import AudioTooLong, InvalidAudio, SpeechError
from predictor.engine.packets import Encoding
from predictor.engine.types import Samples
from predictor.server import decoder_process as wire

logger = logging.getLogger("kserve.predictor")

PATIENCE_MS = 10
"""Longest time that a thread waits for the next second of audio, before others have their turn."""

READ_BYTES = 1 << 18

PAUSE: Samples = np.zeros((1, 0), np.float32)

ERRORS = {kind.__name__: kind for kind in (InvalidAudio, AudioTooLong)}
"""Those that a worker may answer with."""


class DecoderFault(Exception):
    """A worker met an error that nobody foresaw, or sent what no worker sends."""


class Worker:
    """A worker of a fork server. Waited for in the event loop, read in one thread at a time.

    Args:
        process: its id.
        server: the server's end of the socket between them.

    Attributes:
        n_jobs: files it has been given.
    """

    def __init__(self, process: int, server: socket.socket) -> None:
        self.process = process
        self.n_jobs = 0
        self._socket = server
        self._buffer = bytearray()
        server.setblocking(False)

    @property
    def is_idle(self) -> bool:
        """Whether it lives and has nothing to say."""
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return not self._buffer
        except OSError:
            return False
        return False

    async def send(self, data: bytes, max_seconds: float, split: bool) -> None:
        """Give it a file to decode.

        Raises:
            OSError: it has ended.
        """
        self.n_jobs += 1
        head = wire.FILE_HEAD.pack(len(data), max_seconds, split)
        await self._send(wire.FILE + head, data)

    async def follow(self, encoding: Encoding, rate: int) -> None:
        """Give it a live stream to decode: only packets from now on.

        Raises:
            OSError: it has ended.
        """
        head = wire.STREAM_HEAD.pack(wire.ENCODINGS.index(encoding), rate)
        await self._send(wire.STREAM + head)

    async def send_packet(self, data: bytes) -> None:
        """Give it the stream's next packet, once the last has been answered.

        Raises:
            OSError: it has ended.
        """
        await self._send(wire.PACKET_HEAD.pack(len(data)), data)

    async def speaks(self) -> None:
        """Until it has said something that nobody has read, or has ended."""
        if self._frame_bytes() is not None:
            return
        loop = asyncio.get_running_loop()
        there = asyncio.Event()
        loop.add_reader(self._socket, there.set)
        try:
            await there.wait()
        finally:
            loop.remove_reader(self._socket)

    def block(self) -> Samples | None:
        """What was decoded next.

        Returns:
            float32 [n_channels, n_samples] at 16 kHz, without samples where nothing comes within a moment;
            None at the end of the file or packet.

        Raises:
            InvalidAudio, AudioTooLong: it cannot be decoded.
            EOFError: the worker has ended.
            DecoderFault: it met an error that nobody foresaw, or sent what no worker sends.
        """
        while (n_bytes := self._frame_bytes()) is None:
            if not self._receive():
                return PAUSE
        kind, n_channels, _ = wire.FRAME.unpack_from(self._buffer)
        payload = bytes(self._buffer[wire.FRAME.size : n_bytes])
        del self._buffer[:n_bytes]
        if kind == wire.END:
            return None
        if kind == wire.ERROR:
            raise _error(payload)
        if kind == wire.FAULT:
            logger.error("decoding failed: %s", ascii(payload.decode(errors="replace")))
        if kind != wire.BLOCK or not 1 <= n_channels <= MAX_CHANNELS:
            raise DecoderFault
        block: Samples = np.frombuffer(payload, np.float32).reshape(n_channels, -1)
        # Not "above", because it may be NaN.
        if not np.abs(block).max(initial=0.0) <= MAX_PEAK:
            raise DecoderFault
        return block

    def shut(self) -> None:
        """Whoever reads sees its end from now on, and it sees the server's."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Nobody reads any more."""
        self._socket.close()

    async def _send(self, *pieces: bytes) -> None:
        for piece in pieces:
            await asyncio.get_running_loop().sock_sendall(self._socket, piece)

    def _frame_bytes(self) -> int | None:
        """Bytes of the frame at the buffer's beginning; None while it is not whole."""
        if len(self._buffer) < wire.FRAME.size:
            return None
        kind, n_channels, n_bytes = wire.FRAME.unpack_from(self._buffer)
        most = wire.MAX_TEXT_BYTES
        if kind == wire.BLOCK:
            most = 4 * n_channels * wire.MAX_BLOCK_SAMPLES
        if n_bytes > most:
            raise DecoderFault
        whole: int = wire.FRAME.size + n_bytes
        return whole if len(self._buffer) >= whole else None

    def _receive(self) -> bool:
        """Whether something came within a moment."""
        try:
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            if not poll.poll(PATIENCE_MS):
                return False
            received = self._socket.recv(READ_BYTES)
        except (OSError, ValueError):
            # It died, or was closed because nobody wants more of it.
            raise EOFError from None
        if not received:
            raise EOFError
        self._buffer += received
        return True


def _error(payload: bytes) -> SpeechError:
    kind, _, text = payload.decode(errors="replace").partition("\0")
    return ERRORS.get(kind, InvalidAudio)(text)
