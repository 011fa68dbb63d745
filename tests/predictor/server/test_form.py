"""Multipart forms, whole and broken, in blocks of any size."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.engine.errors import AudioTooLarge, InvalidRequest
from predictor.server.form import MAX_FIELD_BYTES, MAX_FIELDS, read_form

TYPE = "multipart/form-data; boundary=XX"


def part(name, value, filename=None):
    where = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename else "")
    return b"--XX\r\nContent-Disposition: " + where.encode() + b"\r\n\r\n" + value + b"\r\n"


async def read(body, content_type=TYPE, block=7):
    async def blocks():
        for at in range(0, len(body), block):
            yield body[at : at + block]

    return await read_form(content_type, blocks(), "file")


@pytest.mark.parametrize("block", [1, 5, 64, 100_000])
@given(data=st.binary(max_size=300), text=st.text(max_size=40))
async def test_what_was_put_in_comes_out(block, data, text):
    value = text.encode("utf-8", "replace")
    if b"\r\n--XX" in b"\r\n" + data + value:
        return
    body = part("file", data, "clip.wav") + part("a[]", value) + part("a[]", b"2") + b"--XX--\r\n"
    form = await read(body, block=block)
    assert form.files == {"file": data}
    assert form.fields == {"a": [value.decode(), "2"]}


async def test_a_file_need_not_say_that_it_is_one():
    assert (await read(part("file", b"\x00\xff") + b"--XX--")).files == {"file": b"\x00\xff"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "ends before"),
        (part("file", b"data", "a.wav"), "ends before"),
        (part("file", b"data", "a.wav")[:-9], "ends before"),
        (b"nonsense", "not a valid multipart form"),
        (b"--XX\r\nContent-Disposition: form-data\r\n\r\nx\r\n--XX--", "has no name"),
        (part("other", b"x", "a.wav") + b"--XX--", "'other' is a file; only 'file'"),
        (part("file", b"x", "a") + part("file", b"y", "b") + b"--XX--", "given twice"),
        (part("n", b"1") * (MAX_FIELDS + 1) + b"--XX--", f"more than {MAX_FIELDS} fields"),
        (b"--XX\r\nX: " + b"y" * 100_000 + b"\r\n\r\n--XX--", "not a valid multipart form"),
    ],
)
async def test_broken_forms(body, words):
    with pytest.raises(InvalidRequest, match=words):
        await read(body, block=1000)


@pytest.mark.parametrize("kind", ["", "application/json", "multipart/form-data", "\x00; boundary"])
async def test_other_bodies(kind):
    with pytest.raises(InvalidRequest, match="Content-Type: must be multipart/form-data"):
        await read(b"{}", kind)


async def test_long_fields_are_refused_before_their_end():
    body = part("prompt", b"x" * (MAX_FIELD_BYTES + 1))
    with pytest.raises(AudioTooLarge, match=f"prompt: the limit is {MAX_FIELD_BYTES} bytes"):
        await read(body, block=4096)
