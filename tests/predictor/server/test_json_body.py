"""Long strings are lifted out of a body exactly where JSON has them."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.engine.errors import AudioTooLarge, InvalidRequest
from predictor.server import json_body
from predictor.server.json_body import LONG_BYTES, JsonBody, parse_json

LONG = "QUJD" * (LONG_BYTES // 4 + 1)


def resolved(body: JsonBody, value: object) -> object:
    """``value`` with every stand-in replaced by what it stands for."""
    if isinstance(value, str):
        text = body.text(value)
        return bytes(text).decode() if isinstance(text, memoryview) else text
    if isinstance(value, list):
        return [resolved(body, item) for item in value]
    if isinstance(value, dict):
        return {resolved(body, key): resolved(body, item) for key, item in value.items()}
    return value


def test_long_strings_are_views_of_the_body() -> None:
    body = json.dumps({"a": LONG, "b": [LONG, "short"]}).encode()
    parsed = parse_json(body)
    assert len(parsed.lifted) == 2
    assert all(view.obj is body for view in parsed.lifted.values())
    assert resolved(parsed, parsed.value) == {"a": LONG, "b": [LONG, "short"]}


@pytest.mark.parametrize("end", ["\\", '\\"', '"', "\n", "é", "\\\\"])
def test_escapes_are_left_to_the_parser(end: str) -> None:
    value = {"a": LONG + end, "b": LONG}
    for ensure_ascii in (True, False):
        parsed = parse_json(json.dumps(value, ensure_ascii=ensure_ascii).encode())
        assert resolved(parsed, parsed.value) == value


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=12),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        ),
    )
)
def test_any_json_means_the_same_with_lifting(value: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_body, "LONG_BYTES", 3)
        parsed = parse_json(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    # A stand-in that the client wrote itself is the client's own business.
    if "\x00" not in json.dumps(value, ensure_ascii=False) and "\\u0000" not in json.dumps(value):
        assert resolved(parsed, parsed.value) == value


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"NaN", b'{"a": "' + LONG.encode()])
def test_what_is_not_json_is_refused_without_quoting_it(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="body: not valid JSON") as caught:
        parse_json(body)
    assert "QUJD" not in str(caught.value)


def test_numbers_have_a_limit_of_their_own() -> None:
    with pytest.raises(AudioTooLarge, match="binary"):
        parse_json(b"[" + b"0.125," * 1_500_000 + b"0]")


def test_very_many_strings_and_backslashes_are_given_up_on() -> None:
    many = json.dumps(["x"] * (json_body.MAX_QUOTES // 2 + 1) + [LONG]).encode()
    assert parse_json(many).lifted == {}
    slashes = b'{"a": "' + b"\\" * 100_000 + b'", "b": "' + LONG.encode() + b'"}'
    assert parse_json(slashes).value["b"] == LONG


def test_escaped_quotes_are_not_followed_one_by_one() -> None:
    begun = time.process_time()
    with pytest.raises(AudioTooLarge):
        parse_json(b'{"a": "' + b'\\"' * 25_000_000 + b'"}')
    assert time.process_time() - begun < 5, "it was most of a minute"
