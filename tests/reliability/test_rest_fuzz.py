"""HTTP that no schema describes, over bare sockets."""

import gzip
import json
import re
import socket
import threading
import time
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import strategies as st

PREDICT = b"POST /v1/models/sensevoice:predict HTTP/1.1\r\nHost: x\r\n"
INFER = b"POST /v2/models/sensevoice/infer HTTP/1.1\r\nHost: x\r\n"
FORM = b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\n"
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n"
REALTIME = b"GET /v1/realtime HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
CLOSE = b"Connection: close\r\n"
V1 = b'{"instances":[{"audio":{"b64":"QUJD"}}]}'
V2 = b'{"inputs":[{"name":"audio","shape":[1],"datatype":"BYTES","data":["QUJD"]}]}'
MULTIPART = b"Content-Type: multipart/form-data; boundary=B\r\n"
MARK = b"QUJD" * 20
"""Stands for audio in the wrong place."""


def sized(head, body, more=b""):
    return head + more + CLOSE + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunked(body, more=b""):
    return PREDICT + CLOSE + b"Transfer-Encoding: chunked\r\n" + more + b"\r\n" + body


def parts(*given, end=b"--B--\r\n"):
    return b"".join(b"--B\r\n" + part for part in given) + end


def part(name, value=b"x", more=b""):
    return more + b'Content-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name, value)


def v1(language):
    return sized(PREDICT, b'{"instances":[{"audio":{"b64":"QUJD"},"language":%s}]}' % language)


def waveform(shape):
    return sized(
        INFER,
        b'{"inputs":[{"name":"waveform","shape":[%s],"datatype":"FP32","data":[]}],'
        b'"parameters":{"sample_rate":16000}}' % shape,
    )


def json_length(value):
    return sized(INFER, V2, b"Inference-Header-Content-Length: %s\r\n" % value)


JSON = {
    "deep list": sized(PREDICT, b"[" * 100_000 + b"]" * 100_000),
    "deep object": sized(PREDICT, b'{"instances":' * 2000 + b"1" + b"}" * 2000),
    "as deep as is parsed": v1(b"[" * 900 + b"]" * 900),
    "deep, without an end": sized(INFER, b'{"inputs":' + b"[" * 900),
    "number of 5,000 digits": v1(b"9" * 5000),
    "1e999": v1(b"1e999"),
    "NaN": v1(b"NaN"),
    "key twice": sized(PREDICT, b'{"instances":1,"instances":[{"audio":{"b64":"QUJD"}}]}'),
    "lone surrogate": v1(b'"\\ud800"'),
    "surrogate bytes": v1(b'"\xed\xa0\x80"'),
    "NUL": v1(b'"\\u0000"'),
    "raw NUL": v1(b'"\x00"'),
    "UTF-16": sized(PREDICT, V1.decode().encode("utf-16")),
    "byte order mark": sized(PREDICT, b"\xef\xbb\xbf" + V1),
    "empty": sized(PREDICT, b""),
    "audio as an option's name": sized(PREDICT, V1[:-4] + b',"%s":1}]}' % MARK),
    "audio as an option": v1(b'"%s"' % MARK),
    "audio as a tensor's name": sized(INFER, V2.replace(b'"audio"', b'"%s"' % MARK)),
    "shape beyond 64 bits": sized(INFER, V2.replace(b"[1]", b"[%d,%d]" % (2**64, 2**64))),
    "negative shape": sized(INFER, V2.replace(b"[1]", b"[-1]")),
    "waveforms of no samples": waveform(b"9223372036854775807,0"),
    "samples of no waveform": waveform(b"0,9223372036854775807"),
    "number beyond a byte": sized(
        INFER, V2.replace(b"BYTES", b"UINT8").replace(b'"QUJD"', b"%d" % 2**63)
    ),
}
LENGTHS = {
    f"JSON length {name}": json_length(value)
    for name, value in {
        "negative": b"-1",
        "beyond the body": b"99999",
        "no number": b"abc",
        "of 5,000 digits": b"9" * 5000,
        "of 30 digits": b"9" * 30,
        "empty": b"",
        "superscript": b"\xb2",
        "twice": b"40\r\nInference-Header-Content-Length: 3",
    }.items()
}
FORMS = {
    "no form": sized(FORM, b"abc"),
    "no boundary": sized(FORM, b"abc", b"Content-Type: multipart/form-data\r\n"),
    "long boundary": sized(FORM, b"abc", MULTIPART.replace(b"=B", b"=" + b"B" * 5000)),
    "boundary of other letters": sized(FORM, b"abc", MULTIPART.replace(b"=B", b"=\xff\xfe")),
    "coded boundary": sized(FORM, b"abc", MULTIPART.replace(b"=B", b"*=evil'x'%zz")),
    "5,000 parts": sized(FORM, parts(*(part(b"a%d" % i) for i in range(5000))), MULTIPART),
    "long part header": sized(
        FORM, parts(part(b"a", more=b"X: " + b"y" * 2**21 + b"\r\n")), MULTIPART
    ),
    "many part headers": sized(FORM, parts(part(b"a", more=b"X: y\r\n" * 200_000)), MULTIPART),
    "long name": sized(FORM, parts(part(b"m" * 2**21)), MULTIPART),
    "audio as a name": sized(FORM, parts(part(MARK)), MULTIPART),
    "audio as a value": sized(FORM, parts(part(b"model", MARK), part(b"file")), MULTIPART),
    "no name": sized(FORM, parts(b"\r\nabc\r\n"), MULTIPART),
    "coded name": sized(
        FORM, parts(b"Content-Disposition: form-data; name*=x''%ff%00\r\n\r\nx\r\n"), MULTIPART
    ),
    "form in a form": sized(
        FORM, parts(part(b"file", parts(part(b"x"))), part(b"model")), MULTIPART
    ),
    "no end": sized(FORM, parts(part(b"model"), end=b""), MULTIPART),
    "lines of another kind": sized(FORM, parts(part(b"model")).replace(b"\r\n", b"\n"), MULTIPART),
    "two files": sized(FORM, parts(part(b"file"), part(b"file")), MULTIPART),
    "empty file": sized(FORM, parts(part(b"file", b""), part(b"model", b"sensevoice")), MULTIPART),
}
HTTP = {
    "gzip": sized(PREDICT, gzip.compress(V1), b"Content-Encoding: gzip\r\n"),
    "negative length": PREDICT + b"Content-Length: -5\r\n\r\n" + V1,
    "length that is no number": PREDICT + b"Content-Length: abc\r\n\r\n" + V1,
    "length beyond 64 bits": PREDICT + b"Content-Length: %s\r\n\r\n" % (b"9" * 26) + V1,
    "length beyond the limit": PREDICT + b"Content-Length: 9999999999\r\n\r\n",
    "length with a sign": PREDICT + b"Content-Length: +40\r\n\r\n" + V1,
    "two lengths": PREDICT + b"Content-Length: 40\r\nContent-Length: 41\r\n\r\n" + V1,
    "list of lengths": PREDICT + b"Content-Length: 40, 40\r\n\r\n" + V1,
    "length and chunks": chunked(b"28\r\n%s\r\n0\r\n\r\n" % V1, b"Content-Length: 4\r\n"),
    "unknown transfer coding": PREDICT + b"Transfer-Encoding: xchunked\r\n\r\n28\r\n" + V1,
    "two transfer codings": chunked(
        b"28\r\n%s\r\n0\r\n\r\n" % V1, b"Transfer-Encoding: identity\r\n"
    ),
    "chunk of no length": chunked(b"zz\r\n%s\r\n0\r\n\r\n" % V1),
    "chunk beyond 64 bits": chunked(b"%s\r\n%s" % (b"f" * 20, V1)),
    "100,000 trailers": chunked(b"28\r\n%s\r\n0\r\n%s\r\n" % (V1, b"X: y\r\n" * 100_000)),
    "trailer without an end": chunked(b"28\r\n%s\r\n0\r\nX: %s" % (V1, b"y" * 2**20)),
    "5,000 headers": PREDICT + b"".join(b"X-%d: y\r\n" % i for i in range(5000)) + b"\r\n",
    "header of a mebibyte": PREDICT + b"X: " + b"y" * 2**20 + b"\r\n\r\n",
    "path of a mebibyte": b"GET /" + b"a" * 2**20 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "path of 60,000": b"GET /" + b"a" * 60_000 + b" HTTP/1.1\r\nHost: x\r\n" + CLOSE + b"\r\n",
    "model of 60,000": b"GET /v2/models/"
    + b"a" * 60_000
    + b" HTTP/1.1\r\nHost: x\r\n"
    + CLOSE
    + b"\r\n",
    "codes in the path": b"GET /v2/models/%ff%00%0d%0aX:y HTTP/1.1\r\nHost: x\r\n"
    + CLOSE
    + b"\r\n",
    "path out of the root": b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n" + CLOSE + b"\r\n",
    "request id of two lines": sized(FORM, b"", b"X-Request-Id: a\x01b\r\n"),
    "another expectation": sized(PREDICT, V1, b"Expect: more\r\n"),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/9.9": b"GET / HTTP/9.9\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "any bytes": bytes(range(256)),
    "folded header": LIVE + b"X: a\r\n b\r\n" + CLOSE + b"\r\n",
    "space in front of a colon": b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
    "lines of another kind": (LIVE + CLOSE + b"\r\n").replace(b"\r\n", b"\n"),
    "unknown method": LIVE.replace(b"GET", b"GOT") + CLOSE + b"\r\n",
    "CONNECT": b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "TRACE": LIVE.replace(b"GET", b"TRACE") + CLOSE + b"\r\n",
    "websocket without a key": REALTIME + b"\r\n",
    "websocket with a bad key": REALTIME
    + b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\r\n",
    "websocket on a REST path": REALTIME.replace(b"GET /v1/realtime", b"POST /v1/models/m:predict")
    + b"\r\n",
    "no websocket": b"GET /v1/realtime HTTP/1.1\r\nHost: x\r\n" + CLOSE + b"\r\n",
}
FINE = {
    "HTTP/1.0": b"GET /v2/health/live HTTP/1.0\r\n\r\n",
    "absolute address": LIVE.replace(b"GET ", b"GET http://other") + CLOSE + b"\r\n",
    "pipelined": (LIVE + b"\r\n") * 20 + LIVE + CLOSE + b"\r\n",
    "another protocol offered": LIVE + b"Connection: upgrade, close\r\nUpgrade: h2c\r\n\r\n",
}
REFUSALS = (400, 403, 404, 405, 408, 413, 426, 431)
SENTENCE = re.compile(r"[^\r\n]{5,401}")

LONGEST_SECONDS = 60
"""For what takes milliseconds on an idle machine."""


def exchange(address, data, patience=LONGEST_SECONDS):
    """What the server says until it closes the connection, or waits for what does not come."""
    answer = b""
    with socket.create_connection(address, timeout=LONGEST_SECONDS) as connection:
        try:
            connection.sendall(data)
            connection.settimeout(patience)
            while block := connection.recv(65536):
                answer += block
                connection.settimeout(1)
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            pass  # It need not read on once it has refused.
    return answer


def check(answer):
    """Of what is refused. An answer may be lost with the connection, where more was sent than read."""
    if not answer:
        return
    head, _, body = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").partition(b"\r\n\r\n")
    assert int(head.split()[1]) in REFUSALS, answer[:500]
    assert b"Traceback" not in body
    assert MARK not in answer
    if b"application/json" in head:
        error = json.loads(body)["error"]
        assert SENTENCE.fullmatch(error if isinstance(error, str) else error["message"]), error


@pytest.fixture
def address(demo_served):
    split = urlsplit(demo_served.http)
    return split.hostname, split.port


@pytest.fixture
def works(demo_served, demo_model_dir):
    """The function that asks for a transcript, and must get it."""
    clip = (demo_model_dir / "evaluation" / "en-001.opus").read_bytes()

    def asked():
        answer = httpx.post(
            f"{demo_served.http}/v2/models/sensevoice/infer",
            content=clip,
            headers={"inference-header-content-length": "0"},
            timeout=LONGEST_SECONDS,
        )
        assert answer.json()["outputs"][0]["data"] == ["I want 8 blue phones."]

    return asked


REFUSED = pytest.mark.promise(
    "Broken HTTP, JSON and forms are refused in a sentence, without a 5xx, a crash or a hang"
)


@REFUSED
@pytest.mark.parametrize(
    "kind", [JSON, LENGTHS, FORMS, HTTP], ids=["json", "lengths", "forms", "http"]
)
def test_broken_requests(address, works, tried, kind):
    for name, data in kind.items():
        tried["requests"] += 1
        answer = exchange(address, data)
        assert answer or len(data) > 2**16, name
        check(answer)
    works()


@REFUSED
def test_unusual_requests_are_served(address, tried):
    for name, data in FINE.items():
        tried["requests"] += 1
        answer = exchange(address, data)
        assert answer.count(b"HTTP/1.1 200 OK") == data.count(b"HTTP/1."), name


SAMPLES = [
    sized(PREDICT, V1),
    sized(INFER, V2),
    sized(FORM, parts(part(b"model"), part(b"file")), MULTIPART),
]
SAMPLES += [
    json_length(b"%d" % len(V2)),
    chunked(b"28\r\n%s\r\n0\r\n\r\n" % V1),
    LIVE + CLOSE + b"\r\n",
]


@st.composite
def damaged(draw):
    """A request of which some bytes are others, more or fewer."""
    request = bytearray(draw(st.sampled_from(SAMPLES)))
    pieces = st.binary(max_size=4) | st.sampled_from(
        [b"\r\n", b"\r\n\r\n", b"0", b"-", b"--B", b'"', b"["]
    )
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, len(request)))
        request[at : at + draw(st.integers(0, 4))] = draw(pieces)
    return bytes(request)


@REFUSED
def test_damaged_requests(address, works, tried, search, effort):
    def attempt(data):
        tried["requests"] += 1
        answer = exchange(address, data, patience=0.2)
        assert b"HTTP/1.1 5" not in answer, answer[:500]
        assert b"Traceback" not in answer

    search(damaged(), effort(200, 10_000), attempt)
    works()


class Probe(threading.Thread):
    """Asks whether the server lives, again and again, and remembers the longest answer."""

    def __init__(self, url):
        super().__init__(daemon=True)
        self.url = url
        self.done = threading.Event()
        self.longest = 0.0

    def run(self):
        with httpx.Client(timeout=LONGEST_SECONDS) as client:
            while not self.done.wait(0.01):
                begun = time.monotonic()
                client.get(self.url).raise_for_status()
                self.longest = max(self.longest, time.monotonic() - begun)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.join()


def repeated(item, n):
    return b",".join([item] * n)


def keys(n):
    return b"{" + b",".join(b'"%d":1' % i for i in range(n)) + b"}"


COSTLY = {
    "options": lambda: sized(
        PREDICT, b'{"instances":[{"audio":{"b64":"QUJD"}}],"parameters":%s}' % keys(500_000)
    ),
    "languages": lambda: v1(b"[%s]" % repeated(b"1", 1_900_000)),
    "tensors": lambda: sized(INFER, b'{"inputs":[%s]}' % repeated(V2[11:-2], 100_000)),
    "dimensions": lambda: sized(INFER, V2.replace(b"[1]", b"[%s]" % repeated(b"1", 1_900_000))),
    "escaped quotes": lambda: sized(PREDICT, b'{"a":"%s"}' % (b'\\"' * 25_000_000)),
    "nesting": lambda: sized(PREDICT, b"[" * 50_000_000),
    "elements of no bytes": lambda: json_length_of_zeros(10_000_000),
    "headers": lambda: LIVE + b"".join(b"X-%d: y\r\n" % i for i in range(20_000)) + b"\r\n",
}


def json_length_of_zeros(n):
    head = V2.replace(b"[1]", b"[%d]" % n).replace(
        b'"data":["QUJD"]', b'"parameters":{"binary_data_size":%d}' % (4 * n)
    )
    return sized(INFER, head + bytes(4 * n), b"Inference-Header-Content-Length: %d\r\n" % len(head))


@pytest.mark.promise("A body made to be costly is refused, and delays nobody else's answer")
def test_costly_requests(address, demo_served, works, resident, tried, measured, effort):
    works()
    before = resident()
    with Probe(f"{demo_served.http}/v2/health/live") as probe:
        for make in COSTLY.values():
            data = make()
            for _ in range(effort(1, 10)):
                tried["requests"] += 1
                check(exchange(address, data))
    measured["longest answer to a probe meanwhile"] = f"{probe.longest:.2f} s"
    measured["memory afterwards"] = f"{resident() - before:+.0f} MiB"
    assert probe.longest < 5
    assert resident() - before < 600, "MiB"
    works()


ENDLESS = {
    "header": PREDICT + b"X: ",
    "headers": PREDICT + b"X: y\r\n" * 10_000,
    "path": b"GET /",
    "trailer": chunked(b"28\r\n%s\r\n0\r\nX: " % V1),
}


@pytest.mark.promise("What never ends is cut off, and holds little memory")
@pytest.mark.parametrize("begin", ENDLESS.values(), ids=ENDLESS)
def test_endless_requests(address, works, resident, tried, effort, begin):
    works()
    before = resident()
    for _ in range(effort(2, 20)):
        tried["connections"] += 1
        n_sent = 0
        with socket.create_connection(address, timeout=LONGEST_SECONDS) as connection:
            try:
                connection.sendall(begin)
                while n_sent < 64 * 2**20:
                    n_sent += connection.send(b"y" * 65536)
            except (BrokenPipeError, ConnectionResetError):
                pass
        assert n_sent < 64 * 2**20, "all of it was taken"
    assert resident() - before < 100, "MiB"
    works()


BEGUN = [
    b"",
    b"GET /v2/hea",
    PREDICT,
    sized(PREDICT, V1)[:-10],
    chunked(b"28\r\n" + V1[:10]),
    sized(FORM, parts(part(b"model"), part(b"file", bytes(100_000))), MULTIPART)[:-50_000],
]


def whole_answer(connection):
    """Head and body may come apart."""
    answer = b""
    while not answer.endswith(b"}"):
        received = connection.recv(65536)
        assert received, answer
        answer += received
    return answer


@pytest.mark.promise("Clients that send slowly, or stop, hold up only themselves")
def test_slow_clients(address, works, tried, measured, effort, request):
    connections = [
        socket.create_connection(address, timeout=LONGEST_SECONDS) for _ in range(effort(60, 600))
    ]
    request.addfinalizer(lambda: [each.close() for each in connections])
    for i, connection in enumerate(connections):
        connection.sendall(BEGUN[i % len(BEGUN)])
        tried["stalled connections"] += 1
    slow = connections[3]
    for byte in sized(PREDICT, V1)[-10:-1]:
        begun = time.monotonic()
        slow.sendall(bytes([byte]))
        works()
        took = time.monotonic() - begun
    measured["answer beside them"] = f"{took:.2f} s"
    slow.sendall(sized(PREDICT, V1)[-1:])
    check(whole_answer(slow))
    if effort(0, 1):
        for connection in connections[4:]:
            answer = whole_answer(connection)
            assert answer.startswith(b"HTTP/1.1 408"), answer
            check(answer)
        measured["stalled connections closed after"] = "30 s"
