"""Packets of one live stream → samples, decoded in a process apart."""

import asyncio
import time

import numpy as np

from predictor.engine.errors import InvalidAudio
from predictor.engine.packets import Encoding, bytes_per_second
from predictor.engine.types import Samples
from predictor.server.decoder import Decoders
from predictor.server.decoder_worker import DecoderFault, Worker
from predictor.server.errors import NotReady

MOMENT_SECONDS = 1.0
"""For the rest of an answer that has begun."""


class PacketDecoding:
    """As ``predictor.engine.packets.PacketDecoder``, but that each packet is first waited for in the event
    loop. Where a worker is lost, the stream goes on with a new one.

    Args:
        decoders: whose workers decode.
        encoding: G.711 or Opus; PCM needs no codec.
        rate: as there.
    """

    def __init__(self, decoders: Decoders, encoding: Encoding, rate: int) -> None:
        self.bytes_per_second = bytes_per_second(encoding, rate)
        self._decoders = decoders
        self._stream = encoding, rate
        self._worker: Worker | None = None
        self._late = False

    async def ready(self, data: bytes) -> None:
        """Until a packet is decoded, or the time for it is over.

        Raises:
            Overloaded: there is no worker.
        """
        self._late = False
        try:
            if self._worker is None:
                self._worker = await self._decoders.take()
                await self._worker.follow(*self._stream)
            async with asyncio.timeout(self._decoders.timeout_seconds):
                await self._worker.send_packet(data)
                await self._worker.speaks()
        except TimeoutError:
            self._late = True
        except OSError:
            return  # It has ended; whoever reads will see that.

    def decode(self, data: bytes) -> Samples:
        """The packet that is ready → float32 [n_samples]. In a thread.

        Raises:
            InvalidAudio: it is damaged, or the decoder crashed on it or took too long.
            NotReady: the worker was ended by something else.
        """
        worker = self._worker
        if worker is None:
            raise InvalidAudio("audio: the stream has ended")
        pieces = [np.zeros(0, np.float32)]
        until = time.monotonic() + MOMENT_SECONDS
        try:
            while (block := worker.block()) is not None:
                if not block.size and (self._late or time.monotonic() > until):
                    self._worker = None
                    raise self._decoders.too_slow(worker, len(data))
                if len(block) > 1:
                    raise DecoderFault
                pieces.append(block[0])
        except EOFError:
            self._worker = None
            interrupted = NotReady("decoding was interrupted; send the audio again")
            raise self._decoders.lost(worker, len(data)) or interrupted from None
        samples: Samples = np.concatenate(pieces)
        return samples

    def close(self) -> None:
        """The stream has ended."""
        if self._worker is not None:
            self._decoders.end(self._worker)
            self._worker = None
