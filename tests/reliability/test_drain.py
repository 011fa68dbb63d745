"""A server that is to stop: what its clients see, and when it is gone."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from predictor.engine.types import SAMPLE_RATE
from tests.reliability.servers import family, metrics
from tests.reliability.service_address import ServiceAddress
from tests.reliability.traffic import (
    NAME,
    OK,
    REJECTED,
    TRANSCRIPTION,
    Client,
    Clip,
    LiveSession,
    keep_asking,
    made_clip,
    speech_clip,
)

REPOSITORY = Path(__file__).resolve().parents[2]

N_CLIENTS = 32

GRACE_SECONDS = 180
"""As much as a slow machine may need for what runs."""

END_MARGIN, STARTING_SECONDS = 15, 15
"""Seconds in which a process ends behind its grace period, or while it starts, on a busy machine."""


def slowly(speed: float) -> tuple[str, ...]:
    """What to run for a network of so many seconds of audio a second: requests take as long as wanted."""
    return "tests.reliability.slow_network", str(speed)


READINESS = (f"/v1/models/{NAME}", f"/v2/models/{NAME}/ready", "/v2/health/ready")


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    """2 to 60 seconds."""
    return [made_clip(seed, seconds) for seed, seconds in enumerate((2, 3, 5, 8, 13, 25, 60))]


@pytest.fixture(scope="module")
def speech(demo_model_dir: Path) -> Clip:
    """A minute."""
    return speech_clip(demo_model_dir / "evaluation", 60)


@pytest.fixture
def start(start_server: Any, random_model_dir: Path, tmp_path: Path) -> Iterator[Any]:
    """The function that starts a server of this test; ``start(*flags)``."""
    with ExitStack() as stack:
        n_started = 0

        def one(*flags: str, **options: Any) -> Any:
            nonlocal n_started
            n_started += 1
            log = tmp_path / f"log-{n_started}"
            server = start_server(random_model_dir, log, *flags, **options)
            served = next(server)
            # Ends the process, if the test has not, and looks at its exit status: 0.
            stack.callback(server.close)
            return served

        yield one


@pytest.fixture(scope="module")
def pre_stop_seconds() -> int:
    """Between a pod's leaving the rotation and SIGTERM, as the manifests have it."""
    file = REPOSITORY / "manifests" / "components" / "standard" / "serving-runtime.yaml"
    values = [operation["value"] for operation in yaml.safe_load(file.read_text())]
    return next(each["preStop"]["sleep"]["seconds"] for each in values if "preStop" in each)


def port(address: str) -> int:
    return int(address.rpartition(":")[2])


@pytest.mark.promise(
    "A rolling update loses no request: the old pod leaves the rotation, waits, and ends in order"
)
async def test_rolling_update(start, clips, pre_stop_seconds, effort, tried, measured):
    """As in Standard mode: a pod that is to go is taken out of the rotation while it serves (the delay of
    preStop), and only then told. Clients keep the connections they have, as kube-proxy lets them."""
    flags = (f"--grace_period_seconds={GRACE_SECONDS}", "--max_queue_seconds=10000")
    old = await asyncio.to_thread(start, *flags)
    enough = asyncio.Event()
    async with (
        ServiceAddress([port(old.http)]) as http,
        ServiceAddress([port(old.grpc)]) as over_grpc,
    ):

        async def client(seed: int) -> list[Any]:
            address = f"http://127.0.0.1:{http.port}", f"127.0.0.1:{over_grpc.port}"
            async with Client(*address) as one:
                return await keep_asking(one, clips, seed, enough)

        clients = [asyncio.create_task(client(seed)) for seed in range(N_CLIENTS)]
        longest = 0.0
        for _ in range(effort(1, 5)):
            await asyncio.sleep(2)
            new = await asyncio.to_thread(start, *flags)
            http.rotation, over_grpc.rotation = [port(new.http)], [port(new.grpc)]
            # Here the rotation changes at once; what the manifests wait for is that it may not.
            await asyncio.sleep(effort(3, pre_stop_seconds))
            assert await _n_requests(old) > 0
            told = time.monotonic()
            old.process.terminate()
            assert await asyncio.to_thread(old.process.wait, GRACE_SECONDS + END_MARGIN) == 0
            longest = max(longest, time.monotonic() - told)
            old = new
            tried["pods replaced"] += 1
        await asyncio.sleep(1)
        assert await _n_requests(old) > 0
        enough.set()
        answers = [answer for answers in await asyncio.gather(*clients) for answer in answers]
        assert http.n_refused == over_grpc.n_refused == 0
    failures = Counter((a.protocol, a.outcome) for a in answers if a.outcome != OK)
    assert not failures
    assert {answer.protocol for answer in answers} == set(Client.PROTOCOLS)
    tried["requests"] += len(answers)
    measured["longest answer"] = f"{max(answer.seconds for answer in answers):.1f} s"
    measured["longest end of a pod"] = f"{longest:.1f} s after SIGTERM"


async def _n_requests(served: Any) -> float:
    found = await metrics(served.http)
    return sum(value for name, value in found.items() if "requests_total" in name)


@pytest.mark.promise("What has begun when a server is told to stop is answered before it ends")
async def test_what_runs_is_answered(start, speech, tried, measured):
    """Without any delay before: all requests run, and none is cut off. Live audio gets its last words."""
    flags = (f"--grace_period_seconds={GRACE_SECONDS}", "--max_queue_seconds=100000")
    served = start(*flags, module=slowly(200))
    protocols = [name for name in Client.PROTOCOLS if name != "websocket"]
    async with (
        Client(served.http, served.grpc) as client,
        Client(served.http, served.grpc) as probe,
    ):
        asked = [
            asyncio.create_task(client.ask(protocols[n % len(protocols)], speech))
            for n in range(N_CLIENTS - 2)
        ]
        heard = [asyncio.Event() for _ in range(2)]
        live = [asyncio.create_task(_speak(served.http, speech, each)) for each in heard]
        await _running(served, N_CLIENTS, asked)
        for each in heard:
            await asyncio.wait_for(each.wait(), GRACE_SECONDS)
        # Connections of their own, which then wait for the next probe.
        await asyncio.gather(*(probe.http.get(path) for path in READINESS))
        served.process.terminate()
        statuses = await asyncio.gather(*(_until_not_ready(probe, path) for path in READINESS))
        served.process.terminate()  # A second one changes nothing.
        answers = await asyncio.gather(*asked)
        sessions = await asyncio.gather(*live)
    assert statuses == [(503, "close")] * len(READINESS)
    assert Counter(answer.outcome for answer in answers) == {OK: len(asked)}
    for n_answered, code in sessions:
        assert (n_answered > 0, code) == (True, 1001)
    assert await asyncio.to_thread(served.process.wait, GRACE_SECONDS + END_MARGIN) == 0
    tried["requests"] += len(answers)
    tried["live sessions"] += len(sessions)
    measured["longest answer"] = f"{max(answer.seconds for answer in answers):.1f} s"


async def _running(served: Any, n_requests: int, asked: list[asyncio.Task[Any]]) -> None:
    """Until so many run at once."""
    while (await metrics(served.http))["sensevoice_requests_running"] < n_requests:
        assert not any(task.done() for task in asked), "some were done before all had begun"
        await asyncio.sleep(0.1)


async def _until_not_ready(probe: Client, path: str) -> tuple[int, str]:
    """Status, and what the client is told about its connection."""
    while (answer := await probe.http.get(path)).is_success:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    return answer.status_code, answer.headers.get("connection", "")


async def _speak(url: str, speech: Clip, heard: asyncio.Event) -> tuple[int, int]:
    """How many turns were answered, and the code with which the server closed. Sets ``heard`` once the
    server hears somebody speak."""
    n_answered = 0
    async with LiveSession(url, type="server_vad") as socket:
        # Nobody ends the last turn but the end of the session.
        await socket.send(speech.pcm[: 10 * 2 * SAMPLE_RATE])
        async for message in socket:
            event = json.loads(message)["type"]
            n_answered += event == f"{TRANSCRIPTION}.completed"
            if event == "input_audio_buffer.speech_started":
                heard.set()
        return n_answered, int(socket.close_code)


@pytest.mark.promise(
    "A server that is told to stop ends within its grace period, whatever its clients do"
)
async def test_clients_that_hang(start, speech, tried, measured):
    """What cannot be done in time is told so, in every protocol's own form."""
    grace_seconds = 4
    flags = (f"--grace_period_seconds={grace_seconds}", "--max_queue_seconds=100000")
    served = start(*flags, "--max_batch_seconds=10", module=slowly(20))
    address = ("127.0.0.1", port(served.http))
    head = f"POST /v2/models/{NAME}/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n"
    nothing = b""
    half = head.encode() + b"x"
    deaf = b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n" * 1000
    hanging = []
    for said in (nothing, half, deaf):
        hanging.append(socket.create_connection(address))
        hanging[-1].setblocking(False)
        hanging[-1].send(said)
    async with Client(served.http, served.grpc) as client:
        asked = [
            asyncio.create_task(client.ask(protocol, speech))
            for protocol in ("v1", "v2_binary", "openai", "grpc", "sse") * 8
        ]
        await _running(served, len(asked), asked)
        began = time.monotonic()
        served.process.terminate()
        assert await asyncio.to_thread(served.process.wait, grace_seconds + END_MARGIN) == 0
        took = time.monotonic() - began
        answers = await asyncio.gather(*asked)
    for each in hanging:
        each.close()
    assert {answer.outcome for answer in answers} <= {OK, REJECTED}
    assert {answer.protocol for answer in answers if answer.outcome == REJECTED} == {
        answer.protocol for answer in answers
    }
    tried["clients that hang"] += len(hanging)
    tried["requests that take longer"] += len(answers)
    measured["exit"] = f"{took:.1f} s after SIGTERM, with a grace period of {grace_seconds} s"


@pytest.mark.promise("A server that is told to stop while it starts ends at once")
@pytest.mark.parametrize(
    "is_first", [False, True], ids=["a process", "a container's first process"]
)
def test_stop_while_starting(random_model_dir, new_port, is_first, effort, tried, measured):
    """The kernel keeps SIGTERM from the first process of a container until that has a handler."""
    first = ["unshare", "--map-root-user", "--pid", "--fork", "--kill-child"] if is_first else []
    if is_first and subprocess.run([*first, "true"], capture_output=True).returncode:
        pytest.skip("no process namespaces can be made here")
    longest = 0.0
    for n in range(effort(2, 20)):
        command = [*first, sys.executable, "-m", "predictor", "serve"]
        command += [f"--model_dir={random_model_dir}"]
        command += [f"--http_port={new_port()}", f"--grpc_port={new_port()}"]
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY
        ) as process:
            server = _server_pid(process.pid, is_first)
            while not _catches_sigterm(server):
                assert process.poll() is None
            # A different moment of the start each time.
            time.sleep(effort(1, 4) * n / effort(2, 20))
            told = time.monotonic()
            os.kill(server, signal.SIGTERM)
            status = process.wait(STARTING_SECONDS)
            longest = max(longest, time.monotonic() - told)
            assert process.stderr is not None
            assert (status, "Traceback" in process.stderr.read()) == (0, False)
        tried["starts"] += 1
    measured["longest until its end"] = f"{longest:.1f} s"


def _server_pid(pid: int, is_first: bool) -> int:
    if not is_first:
        return pid
    while len(found := family(pid)) < 2:
        pass
    return found[1]


def _catches_sigterm(pid: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = next(line.split()[1] for line in lines if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)
