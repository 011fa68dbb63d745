"""Files that name another file or an address, for a reader that would open it."""

import struct
from collections.abc import Iterator
from pathlib import Path

from tests.reliability.hostile import boxes

TEXTS = {
    "HLS": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{url}\n#EXT-X-ENDLIST\n",
    "HLS of a key": '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{url}"\n#EXTINF:9,\n{url}\n#EXT-X-ENDLIST\n',
    "HLS of streams": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{url}\n",
    "M3U": "{url}\n",
    "PLS": "[playlist]\nFile1={url}\nNumberOfEntries=1\n",
    "ASX": '<asx version="3.0"><entry><ref href="{url}"/></entry></asx>',
    "SMIL": '<smil><body><audio src="{url}"/></body></smil>',
    "ASF redirection": "[Reference]\nRef1={url}\n",
    "RealAudio": "rtsp://127.0.0.1/{url}\n",
    "concat": "ffconcat version 1.0\nfile '{url}'\n",
    "concat with options": "ffconcat version 1.0\nfile '{url}'\noption safe 0\nduration 9\n",
    "DASH": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><AdaptationSet '
    'mimeType="audio/wav"><Representation id="0"><BaseURL>{url}</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>",
    "smooth streaming": '<SmoothStreamingMedia MajorVersion="2"><StreamIndex Type="audio" Url="{url}"/>'
    "</SmoothStreamingMedia>",
    "IMF": '<CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016"><Id>{url}</Id>'
    "</CompositionPlaylist>",
    "SDP": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n"
    "a=control:{url}\n",
    "FFmpeg's metadata": ";FFMETADATA1\ntitle={url}\n",
    "SubRip": "1\n00:00:00,000 --> 00:00:09,000\n{url}\n",
    "ASS": "[Script Info]\n[Events]\nDialogue: 0,0:00:00.00,0:00:09.00,Default,,0,0,0,,{url}\n",
    "VobSub": "# VobSub index file, v7 (do not modify this line!)\n# {url}\nid: en, index: 0\n",
    "SVG": '<svg xmlns="http://www.w3.org/2000/svg"><image href="{url}"/></svg>',
    "lavfi": "amovie={url}",
    "an address": "{url}",
}
"""Formats of text, with what they name."""

LETTERS = "XBIN\x1a" + "A" * 2000
"""Text as pictures."""


def files(path: Path, http: str) -> Iterator[tuple[str, bytes]]:
    """Every format with every way to name ``path`` or the address ``http``."""
    urls = (
        str(path),
        path.name,
        f"file:{path}",
        f"file://{path}",
        f"concat:{path}|{path}",
        f"subfile,,start,0,end,0,,:{path}",
        f"async:file:{path}",
        f"cache:{http}",
        f"crypto:{path}",
        "data:audio/wav;base64,UklGRiQAAABXQVZF",
        "/dev/zero",
        "fd:0",
        "pipe:0",
        http,
        http.replace("http:", "tcp:"),
        http.replace("http:", "ftp:"),
        http.replace("http:", "rtmp:"),
    )
    for url in urls:
        for name, text in TEXTS.items():
            yield f"{name}: {url}", text.format(url=url).encode()
        yield f"MOV by alias: {url}", _movie(url.encode())
        yield f"MOV by URL: {url}", _movie(url.encode(), by_url=True)
        yield f"MOV to another movie: {url}", _reference_movie(url.encode())
        yield f"Matroska: {url}", _linked_matroska(url.encode())
        yield f"MXF: {url}", b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02\x01\x01" + url.encode()
    yield "numbered pictures", b"%03d.png"
    yield "text as a picture", LETTERS.encode()


def _movie(url: bytes, by_url: bool = False) -> bytes:
    """Its samples are said to lie in another file."""
    name = url.rsplit(b"/", 1)[-1][:63]
    alias = struct.pack(">4sHHH", bytes(4), 150, 2, 0) + bytes([4]) + b"disk".ljust(27, b"\0")
    alias += bytes(4) + b"H+" + bytes(6) + bytes([len(name)]) + name.ljust(63, b"\0") + bytes(16)
    alias += struct.pack(">HH", 0, 0) + bytes(16)
    alias += struct.pack(">hH", 2, len(url)) + url + bytes(len(url) % 2)
    alias += (
        struct.pack(">hH", 18, len(url)) + url + bytes(len(url) % 2) + struct.pack(">hH", -1, 0)
    )
    reference = boxes.full_box(b"url ", url + b"\0") if by_url else boxes.full_box(b"alis", alias)
    local = boxes.full_box(b"url ", flags=1)
    data = boxes.movie(boxes.track(boxes.pcm_table(1, 1000)))
    # The sizes of all boxes around it grow with it.
    return _replaced(data, local, reference)


def _replaced(data: bytes, old: bytes, new: bytes) -> bytes:
    at = data.index(old)
    changed = bytearray(data[:at] + new + data[at + len(old) :])
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        start = data.index(kind) - 4
        size = struct.unpack_from(">I", data, start)[0] + len(new) - len(old)
        struct.pack_into(">I", changed, start, size)
    return bytes(changed)


def _reference_movie(url: bytes) -> bytes:
    data = boxes.full_box(b"rdrf", b"url " + struct.pack(">I", len(url) + 1) + url + b"\0")
    return boxes.box(b"ftyp", b"qt  ", bytes(4)) + boxes.box(
        b"moov", boxes.box(b"rmra", boxes.box(b"rmda", data))
    )


def _linked_matroska(url: bytes) -> bytes:
    """A segment without sound that names the files before and after it."""
    info = boxes.element(
        0x1549A966,
        boxes.element(0x3CB923, bytes(16)),
        boxes.element(0x3C83AB, url),
        boxes.element(0x3EB923, bytes(16)),
        boxes.element(0x3E83BB, url),
    )
    return boxes.matroska([], more=info)
