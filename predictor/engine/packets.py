"""Live audio as it comes off a wire, packet by packet → 16 kHz float32."""

from typing import Literal, TypeAlias, cast

import av
import numpy as np
from av.audio.frame import AudioFrame

from predictor.engine.errors import InvalidAudio
from predictor.engine.resampler import Resampler
from predictor.engine.types import Samples

Encoding: TypeAlias = Literal["audio/pcm", "audio/pcmu", "audio/pcma", "audio/opus"]

SAMPLE_BYTES = 2
"""PCM is 16 bits, little endian."""

TELEPHONE_RATE = 8_000
"""G.711's only rate, in hertz."""

OPUS_RATE = 48_000
"""What Opus decodes to, whatever it was made from."""

CODECS = {"audio/pcmu": "pcm_mulaw", "audio/pcma": "pcm_alaw", "audio/opus": "opus"}


def rate_of(encoding: Encoding, rate: int) -> int:
    """Hertz of an encoding; ``rate`` is that of PCM."""
    return {"audio/pcm": rate, "audio/opus": OPUS_RATE}.get(encoding, TELEPHONE_RATE)


def bytes_per_second(encoding: Encoding, rate: int) -> int | None:
    """None for Opus, whose packets must stay whole: each holds 120 ms at most."""
    if encoding == "audio/opus":
        return None
    return rate_of(encoding, rate) * (SAMPLE_BYTES if encoding == "audio/pcm" else 1)


class PacketDecoder:
    """Decodes and resamples one live stream of one channel.

    Args:
        encoding: 16-bit PCM, G.711 (mu-law or A-law), or Opus packets without a container.
        rate: hertz of PCM; the other encodings have their own.

    Attributes:
        rate: hertz of the stream.
        bytes_per_second: of the stream; None where packets must stay whole.
    """

    def __init__(self, encoding: Encoding, rate: int) -> None:
        self._encoding = encoding
        self.rate = rate_of(encoding, rate)
        self.bytes_per_second = bytes_per_second(encoding, rate)
        self._codec: av.AudioCodecContext | None = None
        if encoding in CODECS:
            codec = cast(av.AudioCodecContext, av.CodecContext.create(CODECS[encoding], "r"))
            codec.sample_rate, codec.layout = self.rate, "mono"
            self._codec = codec
        self._resampler = Resampler()

    def decode(self, data: bytes) -> Samples:
        """Bytes of any number of samples, or one Opus packet → float32 [n_samples]. Resampling keeps
        some samples back for the next call.

        Raises:
            InvalidAudio: half a sample, or a packet that is damaged.
        """
        if not data:
            raise InvalidAudio("audio: empty, 0 bytes")
        frames = self._frames(data)
        pieces = []
        for frame in frames:
            frame.pts = None
            pieces += [out.to_ndarray()[0] for out in self._resampler.resample(frame)]
        samples: Samples = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
        return samples

    def _frames(self, data: bytes) -> list[AudioFrame]:
        if self._codec is not None:
            try:
                return self._codec.decode(av.Packet(data))
            except av.FFmpegError:
                kind = self._encoding.removeprefix("audio/")
                raise InvalidAudio(f"audio: not an {kind} packet, or damaged") from None
        if len(data) % SAMPLE_BYTES:
            raise InvalidAudio(f"audio: {len(data)} bytes are no whole number of 16-bit samples")
        frame = AudioFrame.from_ndarray(
            np.frombuffer(data, "<i2")[None, :], format="s16", layout="mono"
        )
        frame.sample_rate = self.rate
        return [frame]
