"""Files made to cost much, or to make FFmpeg open something else."""

import io
import os
import socket
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import closing
from functools import cache

import av
import numpy as np
import pytest
from av.format import ContainerFormat

from predictor.engine import audio
from tests.reliability.hostile import bombs, boxes, formats, references, trials

CPU_SECONDS = 8
"""What a bomb may take: less than the server gives a decoder for a second of audio."""

GROWN_BYTES = 400 << 20
SMALL, LARGE = 40_000, 200_000
"""Bytes of a costly file, in the short form and in the long, which tries both."""

MINUTES, HOUR = 300, 3600
"""Seconds of an endless one."""

OPENING = {
    "concat",
    "concatf",
    "dash",
    "hls",
    "imf",
    "image2",
    "lavfi",
    "rtp",
    "rtsp",
    "sap",
    "sdp",
    "vobsub",
}
"""FFmpeg's demuxers that open other files, addresses or devices by what a file or its name says."""


def _endless(index: int) -> tuple[str, bytes]:
    name, bomb = list(bombs.ENDLESS.items())[index]
    return name, bomb(HOUR if trials.STRESS else MINUTES)


def _costly(index: int) -> tuple[str, bytes]:
    name, bomb = list(bombs.COSTLY.items())[index // 2]
    return name, bomb(LARGE if index % 2 else SMALL)


def _report(outcome: trials.Outcome, measured: dict[str, str], what: str) -> None:
    measured[f"slowest {what}"] = f"{outcome.slowest.seconds:.1f} s ({outcome.slowest.name})"
    measured[f"largest {what}"] = f"{outcome.largest.grown >> 20} MiB ({outcome.largest.name})"
    assert not outcome.broken, outcome.broken
    assert outcome.largest.grown <= GROWN_BYTES, outcome.largest


@pytest.mark.promise("Small files that decode to hours are stopped by counting samples")
def test_endless_sound(tried, measured):
    outcome = trials.decode_all(_endless, range(len(bombs.ENDLESS)), CPU_SECONDS)
    tried["files"] += len(outcome.trials)
    _report(outcome, measured, "endless file")
    assert {each.name: each.ended for each in outcome.trials} == dict.fromkeys(
        bombs.ENDLESS, "AudioTooLong"
    )


@pytest.mark.promise(
    "Files that would cost much and hold little are given up soon, in little memory"
)
def test_costly_files(effort, tried, measured):
    both = range(len(bombs.COSTLY) * 2)
    outcome = trials.decode_all(_costly, both[:: effort(2, 1)], CPU_SECONDS)
    tried["files"] += len(outcome.trials)
    # So is a file that the server's decoders run out of time with; in the short form there is none.
    late = [each for each in outcome.broken if each.ended == trials.TIME_LIMIT]
    assert len(late) <= effort(0, 2), late
    tried["of them at the time limit"] += len(late)
    outcome.trials = [each for each in outcome.trials if each not in late]
    _report(outcome, measured, "costly file")


@pytest.fixture
def listener() -> Iterator[tuple[int, list[str]]]:
    """A port, and who has connected to it."""
    connected: list[str] = []
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def accept() -> None:
            while True:
                try:
                    connection, address = server.accept()
                except OSError:
                    return
                connected.append(str(address))
                connection.close()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1], connected
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.mark.promise("No file makes the service open another file, an address or a device")
def test_references_are_not_followed(tmp_path, listener, tried, monkeypatch):
    port, connected = listener
    canary = tmp_path / "canary.wav"
    canary.write_bytes(formats.encode("wav", "pcm_s16le", formats.sound(1, 16_000), 16_000))
    # Linux writes down when a file was read if its last reading is older than its last change.
    os.utime(canary, (1, canary.stat().st_mtime))
    # FFmpeg follows a bare name more readily than a path.
    monkeypatch.chdir(tmp_path)
    asked = []
    opened = av.open

    def watched(*args, **kwargs):
        # FFmpeg asks here for whatever it would open; the protocols' list is behind it.
        return opened(*args, **kwargs, io_open=lambda url, flags, options: asked.append(url))

    for watch in (False, True):
        if watch:
            monkeypatch.setattr(av, "open", watched)
        for name, data in references.files(canary, f"http://127.0.0.1:{port}/canary.wav"):
            tried["attempts"] += 1
            ended = trials.verdict(data, 60.0)
            # FFmpeg does not even look at these, and takes bytes of the file itself for samples.
            assert ended == "InvalidAudio" or name.startswith("MOV by URL"), name
            assert not asked
            assert not connected
            assert canary.stat().st_atime == 1, name


def test_the_canary_is_heard_of_when_it_is_read(tmp_path, listener):
    """Else the test above would prove nothing: without our lists FFmpeg does follow."""
    port, connected = listener
    canary = tmp_path / "canary.wav"
    canary.write_bytes(formats.encode("wav", "pcm_s16le", formats.sound(1, 16_000), 16_000))
    if os.statvfs(canary).f_flag & os.ST_NOATIME:
        pytest.skip("this disk does not write down when a file was read")
    os.utime(canary, (1, canary.stat().st_mtime))
    playlist = f"ffconcat version 1.0\nfile '{canary}'\n".encode()
    with av.open(io.BytesIO(playlist), options={"safe": "0"}) as container:
        assert container.streams.audio
    assert canary.stat().st_atime != 1
    url = f"ffconcat version 1.0\nfile 'http://127.0.0.1:{port}/canary.wav'\n".encode()
    with pytest.raises(av.FFmpegError):
        av.open(io.BytesIO(url), options={"safe": "0", "protocol_whitelist": "http,tcp"}).close()
    assert connected


@pytest.mark.promise("Only containers of audio are opened, none that opens further files")
def test_demuxers_that_open_others_are_not_taken(tried):
    allowed = set(audio.DEMUXERS.split(","))
    readable = {}
    for name in av.formats_available:
        form = ContainerFormat(name)
        if form.is_input:
            readable[name] = set(form.name.split(","))
    tried["demuxers of this FFmpeg"] += len(readable)
    assert allowed <= set().union(*readable.values())
    for names in readable.values():
        taken = bool(names & allowed)
        assert not (taken and names & OPENING), names
        # Demuxers of devices, and of numbered files, have no file at all.
        if taken:
            assert not ContainerFormat(next(iter(names & allowed)), "r").no_file, names


@cache
def _picture_bomb() -> bytes:
    """A PNG of 10,000 by 10,000 pixels, 300 MB when decoded, from one small run of zeros."""

    def part(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 2, 0, 0, 0)
    lines = zlib.compressobj(9)
    rows = b"".join(lines.compress(bytes(30_001)) for _ in range(10_000)) + lines.flush()
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", rows) + part(b"IEND", b"")


def _with_picture(index: int) -> tuple[str, bytes]:
    picture = _picture_bomb()
    body = b"\0image/png\0\3\0" + picture
    tag = boxes.id3(b"APIC" + boxes.synchsafe(len(body)) + b"\0\0" + body)
    mp3 = tag + formats.encode("mp3", "libmp3lame", formats.sound(1, 16_000), 16_000)
    cover = boxes.box(b"covr", boxes.box(b"data", struct.pack(">II", 14, 0), picture))
    hdlr = boxes.full_box(b"hdlr", struct.pack(">4s4s12x", bytes(4), b"mdir"), b"\0")
    meta = boxes.box(b"udta", boxes.full_box(b"meta", hdlr, boxes.box(b"ilst", cover)))
    m4a = boxes.movie(boxes.track(boxes.pcm_table(1, 1000)), media=bytes(2000), more=meta)
    return (("picture in ID3", mp3), ("picture in MP4", m4a))[index]


@pytest.mark.promise("Pictures and films in a file are never decoded")
def test_pictures_are_never_decoded(tried, measured):
    """A cover of 100 million pixels changes nothing: its 300 MB would show."""
    outcome = trials.decode_all(_with_picture, range(2), CPU_SECONDS, processes=1)
    tried["covers of 100 million pixels"] += len(outcome.trials)
    measured["memory with such a cover"] = f"{outcome.largest.grown >> 20} MiB"
    assert [each.ended for each in outcome.trials] == ["decoded", "decoded"]
    assert outcome.largest.grown < 50 << 20


def test_no_codec_of_pictures_is_allowed(tried):
    for name in audio.audio_codecs().split(","):
        assert av.Codec(name, "r").type == "audio"
    assert {"aac", "flac", "mp3float", "opus", "pcm_s16le", "vorbis"} <= set(
        audio.audio_codecs().split(",")
    )


@pytest.mark.promise("Pictures and films in a file are never decoded")
def test_a_film_is_opened_without_its_codec(tmp_path, tried):
    """FFmpeg knows a picture's form only after it has decoded one."""
    path = tmp_path / "film.mkv"
    with av.open(path, mode="w") as output:
        video = output.add_stream("mpeg4", rate=10)
        video.width = video.height = 64
        sound = output.add_stream("pcm_s16le", rate=16_000, layout="mono")
        picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        for _ in range(10):
            output.mux(video.encode(picture))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.int16), "s16", "mono")
        frame.sample_rate = 16_000
        output.mux(sound.encode(frame))
        output.mux(video.encode(None))
    tried["films"] += 1
    with audio._open(path.read_bytes()) as container:
        assert container.streams[0].type == "video"
        assert container.streams[0].codec_context.pix_fmt is None
    assert sum(block.shape[1] for block in audio.decode(path.read_bytes(), 60.0)) == 16_000
