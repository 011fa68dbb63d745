"""A short intact file of every container and codec that FFmpeg's encoders or libsndfile can write.

Of the demuxers that the service has, APE, raw GSM, AMR-WB and OMA have no encoder here: their files are
headers by hand before bytes that mean nothing, which reach the demuxer but rarely its decoder.
"""

import io
import struct
from collections.abc import Mapping

import av
import numpy as np
import soundfile
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

SECONDS = 0.4

WRITERS = {
    "wav": ("pcm_s16le pcm_u8 pcm_s24le pcm_f32le pcm_f64le pcm_alaw pcm_mulaw adpcm_ms adpcm_ima_wav "
            "adpcm_yamaha g726 libmp3lame mp2 ac3 wmav2"),
    "w64": "pcm_s16le pcm_f32le pcm_mulaw",
    "aiff": "pcm_s16be pcm_s24be pcm_alaw adpcm_ima_qt",
    "au": "pcm_s16be pcm_f32be pcm_mulaw",
    "caf": "pcm_s16be pcm_f32le alac adpcm_ima_qt",
    "voc": "pcm_u8 pcm_s16le pcm_alaw",
    "flac": "flac",
    "wv": "wavpack",
    "tta": "tta",
    "mp3": "libmp3lame",
    "mp2": "mp2",
    "adts": "aac",
    "amr": "libopencore_amrnb",
    "ac3": "ac3",
    "eac3": "eac3",
    "ipod": "aac alac",
    "mp4": "aac flac libopus libmp3lame ac3 eac3 vorbis",
    "mov": "pcm_s16be pcm_f32le alac adpcm_ima_qt pcm_mulaw aac",
    "3gp": "libopencore_amrnb aac",
    "ogg": "libopus vorbis flac",
    "webm": "libopus vorbis",
    "matroska": ("pcm_s16le pcm_f32le flac libopus vorbis aac alac libmp3lame mp2 ac3 eac3 wavpack "
                 "tta"),
    "asf": "wmav1 wmav2 libmp3lame",
    "mpegts": "aac mp2 libmp3lame ac3 eac3 libopus",
    "vob": "mp2 ac3 pcm_dvd libmp3lame",
}  # fmt: skip
"""Muxers and the encoders whose packets they take, by FFmpeg's names."""

RATES = {
    "libopencore_amrnb": 8_000,
    "g726": 8_000,
    "libopus": 48_000,
    "pcm_dvd": 48_000,
    "ac3": 48_000,
    "eac3": 48_000,
}
"""Hertz, where an encoder takes no other."""

BIT_RATES = {"mp2": 32_000, "g726": 32_000, "wmav1": 32_000, "wmav2": 32_000}
"""Bits a second, where an encoder has no default or a high one."""

SNDFILE = {
    "wav gsm610": ("WAV", "GSM610"),
    "wavex": ("WAVEX", "PCM_24"),
    "rf64": ("RF64", "PCM_16"),
    "aiff-c ima": ("AIFF", "IMA_ADPCM"),
    "au g721": ("AU", "G721_32"),
    "caf alac by libsndfile": ("CAF", "ALAC_24"),
    "ogg vorbis by libsndfile": ("OGG", "VORBIS"),
    "ogg opus by libsndfile": ("OGG", "OPUS"),
    "mp3 by libsndfile": ("MP3", "MPEG_LAYER_III"),
}


def sound(seconds: float, rate: int) -> np.ndarray:
    """float32 [n_samples]: a tone with noise, so that no codec finds it trivial."""
    n = round(seconds * rate)
    tone = 0.4 * np.sin(2 * np.pi * 440 * np.arange(n) / rate)
    return (tone + 0.1 * np.random.default_rng(n).standard_normal(n)).clip(-1, 1).astype(np.float32)


def encode(
    muxer: str,
    encoder: str,
    samples: np.ndarray,
    rate: int,
    options: Mapping[str, str] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """float32 [n_samples] → a whole mono file."""
    file = io.BytesIO()
    with av.open(
        file, mode="w", format=muxer, options={"strict": "-2"} | dict(options or {})
    ) as output:
        output.metadata.update(metadata or {})
        stream = output.add_stream(encoder, rate=rate, layout="mono", options={"strict": "-2"})
        if encoder in BIT_RATES:
            stream.codec_context.bit_rate = BIT_RATES[encoder]
        if encoder == "vorbis":
            # FFmpeg's own encoder knows no other layout.
            stream.codec_context.layout = "stereo"
        stream.codec_context.open()
        resampler = AudioResampler(
            format=stream.codec_context.format,
            layout=stream.codec_context.layout,
            rate=rate,
            frame_size=stream.codec_context.frame_size or None,
        )
        frame = AudioFrame.from_ndarray(samples[None], "fltp", "mono")
        frame.sample_rate = rate
        for source in (frame, None):
            for piece in resampler.resample(source):
                output.mux(stream.encode(piece))
        # FLAC's encoder ends with an empty packet, which only some muxers take.
        output.mux([packet for packet in stream.encode(None) if packet.size])
    return file.getvalue()


def by_hand() -> dict[str, bytes]:
    """Headers of the containers that nothing here writes, before bytes that mean nothing."""
    noise = np.random.default_rng(0).bytes(6000)
    gsm = bytearray(noise[: 33 * 150])
    gsm[::33] = bytes(0xD0 | byte & 15 for byte in gsm[::33])
    amr_nb, amr_wb = (
        b"".join(b"\x04" + noise[at : at + size] for at in range(0, 200 * size, size))
        for size in (12, 17)
    )
    ape = struct.pack("<4sHHIIIIIII", b"MAC ", 3990, 0, 52, 24, 8, 44, 0, 6000, 0) + bytes(16)
    ape += struct.pack("<HHIIIHHI", 2000, 0, 73728, 4000, 2, 16, 1, 16000)
    ape += struct.pack("<2I", 84, 3084)
    oma = b"EA3\x01\x00\x60\xff\xff" + bytes(24)
    return {
        "gsm": bytes(gsm),
        "amr-wb": b"#!AMR-WB\n" + amr_wb,
        "amr-nb without a header": amr_nb,
        "amr-wb without a header": amr_wb,
        "ape": ape + noise,
        "oma atrac3": oma + b"\x00\x00\x20\x2f" + bytes(60) + noise,
        "oma atrac3+": oma + b"\x01\x00\x20\x2f" + bytes(60) + noise,
        "oma lpcm": oma + b"\x04\x00\x20\x2f" + bytes(60) + noise,
    }


def intact() -> dict[str, bytes]:
    """Name → a whole file of SECONDS, some kilobytes."""
    files = {}
    for muxer, encoders in WRITERS.items():
        for encoder in encoders.split():
            rate = RATES.get(encoder, 16_000)
            files[f"{muxer} {encoder}"] = encode(muxer, encoder, sound(SECONDS, rate), rate)
    for name, (container, subtype) in SNDFILE.items():
        file = io.BytesIO()
        soundfile.write(file, sound(SECONDS, 16_000), 16_000, format=container, subtype=subtype)
        files[name] = file.getvalue()
    fragments = {"movflags": "frag_every_frame+empty_moov+default_base_moof"}
    files["mp4 in fragments"] = encode("mp4", "aac", sound(SECONDS, 16_000), 16_000, fragments)
    return files | by_hand()
