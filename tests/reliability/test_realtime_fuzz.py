"""Live audio's websocket, with events that no client of good will sends."""

import base64
import json
import os
from contextlib import ExitStack

import pytest
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

MARK = "QUJD" * 20
"""Stands for audio in the wrong place."""

BUFFER = "input_audio_buffer"
LONGEST_SECONDS = 60

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(
        ["audio/pcm", "audio/opus", "server_vad", "en", "transcription", "pcm16", MARK]
    )
    | st.text(max_size=10)
)
NAMES = st.sampled_from(
    """audio input format type rate transcription language languages prompt keywords turn_detection
    threshold silence_duration_ms include session input_audio_format noise_reduction""".split()  # noqa: SIM905
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(NAMES | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)
KINDS = st.sampled_from(
    [
        "session.update",
        "transcription_session.update",
        f"{BUFFER}.append",
        f"{BUFFER}.commit",
        f"{BUFFER}.clear",
        "response.create",
    ]
)
SETTINGS = st.fixed_dictionaries({"input": VALUES}) | st.fixed_dictionaries(
    {
        "input": st.fixed_dictionaries(
            {},
            optional={
                "format": st.sampled_from([{"type": kind} for kind in ("audio/pcmu", "audio/opus")])
                | VALUES,
                "turn_detection": VALUES,
                "transcription": VALUES,
            },
        )
    }
)
EVENTS = st.fixed_dictionaries(
    {"type": KINDS},
    optional={
        "session": VALUES | st.fixed_dictionaries({"audio": SETTINGS}),
        "audio": st.binary(max_size=2000).map(lambda data: base64.b64encode(data).decode())
        | SCALARS,
        "event_id": SCALARS,
    },
)
MESSAGES = (
    EVENTS.map(json.dumps)
    | VALUES.map(json.dumps)
    | st.text(max_size=50)
    | st.binary(max_size=3000)
    | st.binary(max_size=3000).map(lambda data: b"OggS" + data)
)


def url(served):
    return f"{served.http.replace('http', 'ws')}/v1/realtime"


def open_session(served):
    return connect(url(served), max_size=None, open_timeout=LONGEST_SECONDS)


def survives(socket):
    """Whether the session answers on, after nothing but errors of its client's."""
    socket.send(json.dumps({"type": "nothing", "event_id": "the last"}))
    while True:
        event = json.loads(socket.recv(LONGEST_SECONDS))
        if event["type"] == "error":
            error = event["error"]
            assert error["type"] != "server_error", error
            assert len(error["message"]) <= 400
            assert MARK not in error["message"]
            if error["event_id"] == "the last":
                return True


def closing_code(socket, act=lambda _: None):
    """The code that the server closes a session with, once something is done to it."""
    try:
        act(socket)
        while True:
            socket.recv(LONGEST_SECONDS)
    except ConnectionClosed as closed:
        return closed.rcvd and closed.rcvd.code


PROMISE = pytest.mark.promise(
    "Live sessions answer what they cannot read with an error event, or close with a proper code"
)


@PROMISE
def test_any_events(demo_served, search, tried, effort):
    def attempt(messages):
        tried["live sessions"] += 1
        with open_session(demo_served) as socket:
            for message in messages:
                tried["live messages"] += 1
                socket.send(message)
            assert survives(socket)

    search(st.lists(MESSAGES, min_size=1, max_size=12), effort(40, 2000), attempt)


def update(**session):
    return json.dumps({"type": "session.update", "session": session})


def append(audio):
    return json.dumps({"type": f"{BUFFER}.append", "audio": audio})


def of(n):
    return ",".join(["1"] * n)


SURVIVED = {
    "deep": ["[" * 100_000, f'{{"type":{"[" * 900 + "]" * 900}}}'],
    "base64": [
        append(text) for text in ("!", "QUI", "QU\nI=", "QUI=QUI=", "data:,", "", "-_-_", "é")
    ],
    "audio of other types": [append(value) for value in (5, None, [], {}, True)],
    "old formats": [
        json.dumps(
            {"type": "transcription_session.update", "session": {"input_audio_format": value}}
        )
        for value in ([], {}, 1, MARK)
    ],
    "long lists": [f'{{"type":"session.update","session":{{"include":[{of(1_900_000)}]}}}}'],
    "long words": [update(audio={"input": {"transcription": {"prompt": "p" * 3_000_000}}})],
    "long ids": [json.dumps({"type": "x", "event_id": "e" * 60_000})],
    "audio without a turn": [os.urandom(10_000)] * 20,
    "a piece of audio that is long": [os.urandom(1_000_000)],
    "damaged Opus": [
        update(audio={"input": {"format": {"type": "audio/opus"}}}),
        *(os.urandom(n) for n in (0, 1, 2, 100, 2000)),
        b"OggS" + os.urandom(100),
        append(base64.b64encode(os.urandom(500)).decode()),
    ],
    "formats in turn": [
        update(audio={"input": {"format": {"type": "audio/pcm", "rate": rate}}})
        for rate in (8000, 16000, 24000, 48000)
    ]
    * 50,
    "commits of nothing": [json.dumps({"type": f"{BUFFER}.commit"})] * 500,
    "clears": [json.dumps({"type": f"{BUFFER}.clear"})] * 500,
    "events of no type": ["{}", "[]", "null", "1", '"x"', "{", "", '{"type":null}'] * 50,
}


@PROMISE
@pytest.mark.parametrize("name", SURVIVED)
def test_a_session_survives(demo_served, resident, tried, measured, effort, name):
    before = resident()
    for _ in range(effort(1, 20)):
        tried["live sessions"] += 1
        with open_session(demo_served) as socket:
            for message in SURVIVED[name]:
                tried["live messages"] += 1
                socket.send(message)
            assert survives(socket)
    assert resident() - before < 300, "MiB"


CLOSED = {
    "a message over the limit": (lambda socket: socket.send(bytes(5 * 2**20)), 1009),
    "text that is not UTF-8": (lambda socket: socket.send(b"\xff\xfe", text=True), 1007),
    "fragments over the limit": (lambda socket: socket.send([bytes(2**20)] * 5), 1009),
    "a frame without a mask": (lambda socket: socket.socket.sendall(b"\x81\x02{}"), 1002),
    "a reserved kind of frame": (
        lambda socket: socket.socket.sendall(b"\x83\x80" + bytes(4)),
        1002,
    ),
    "a ping in fragments": (lambda socket: socket.socket.sendall(b"\x09\x80" + bytes(4)), 1002),
    "a long ping": (lambda socket: socket.socket.sendall(b"\x89\xfe\x01\x00" + bytes(260)), 1002),
    "a frame of 2 to the 62 bytes": (
        lambda socket: socket.socket.sendall(b"\x82\xff" + (2**62).to_bytes(8, "big") + bytes(4)),
        1009,
    ),
}


@PROMISE
@pytest.mark.parametrize("name", CLOSED)
def test_a_session_is_closed(demo_served, tried, name):
    tried["live sessions"] += 1
    act, code = CLOSED[name]
    with open_session(demo_served) as socket:
        assert closing_code(socket, act) == code
    with open_session(demo_served) as socket:
        assert survives(socket)


@PROMISE
def test_pings_and_fragments_are_served(demo_served, tried):
    with open_session(demo_served) as socket:
        for _ in range(200):
            tried["live messages"] += 1
            assert socket.ping().wait(LONGEST_SECONDS)
        socket.send(["{", '"type"', ":", '"x"', "}"])
        assert survives(socket)


@pytest.mark.promise(
    "No more live sessions are open than the limit, and each that leaves makes room"
)
def test_the_limit_of_sessions(start_server, random_model_dir, tmp_path, tried, effort):
    limit = 3
    flags = ["--max_realtime_connections=3"]
    for served in start_server(random_model_dir, tmp_path / "log", *flags):
        for _ in range(effort(3, 100)):
            with ExitStack() as stack:
                sockets = [stack.enter_context(open_session(served)) for _ in range(3 * limit)]
                tried["live sessions"] += len(sockets)
                first = [json.loads(each.recv(LONGEST_SECONDS)) for each in sockets]
                kinds = [event["type"] for event in first]
                assert kinds == ["session.created"] * limit + ["error"] * 2 * limit
                assert [closing_code(each) for each in sockets[limit:]] == [1013] * 2 * limit
                assert all(survives(each) for each in sockets[:limit])
