"""What fails under the predictor costs at most its own request, or is told to the kubelet."""

import ast
import asyncio
import base64
import io
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
import soundfile

from predictor.engine.audio import decode
from predictor.engine.transcribe import Engine
from predictor.server.sdk import messages, services
from tests.reliability import faulty_server as faults

REPOSITORY = Path(__file__).resolve().parents[2]
NAME = "sensevoice"
RATE = 16_000
PROBES = (
    "/",
    "/v2/health/live",
    "/v2/health/ready",
    f"/v2/models/{NAME}/ready",
    f"/v1/models/{NAME}",
)
PROTOCOLS = ("v1", "v2", "openai", "grpc")
DEADLINE_SECONDS = 120
"""For what takes a moment on an idle machine."""


def wav(seconds: float, seed: int = 0) -> bytes:
    """A sound that no other seed gives."""
    generator = np.random.default_rng(seed)
    at = np.arange(round(seconds * RATE)) / RATE
    wobble = 3 * np.sin(2 * np.pi * generator.uniform(2, 9) * at)
    sound = 0.3 * np.sin(2 * np.pi * generator.uniform(100, 1000) * at + wobble)
    file = io.BytesIO()
    soundfile.write(file, sound + generator.normal(0, 0.05, len(at)), RATE, format="WAV")
    return file.getvalue()


def joined(files: list[Path]) -> bytes:
    """Opus files, one after the other, as one WAV file."""
    blocks = (block for file in files for block in decode(file.read_bytes(), 60.0))
    whole = io.BytesIO()
    soundfile.write(whole, np.concatenate([block[0] for block in blocks]), RATE, format="WAV")
    return whole.getvalue()


@dataclass
class Faulty:
    """A server process and its clients."""

    process: subprocess.Popen
    http: httpx.AsyncClient
    stub: services.GRPCInferenceServiceStub
    log: Path

    async def ask(self, protocol: str, audio: bytes, **options: str) -> tuple[int | str, str]:
        """Status and text of one audio's transcript; options for v1 alone."""
        match protocol:
            case "v1":
                encoded = {"b64": base64.b64encode(audio).decode()}
                body = {"instances": [{"audio": encoded, **options}]}
                answer = await self.http.post(f"/v1/models/{NAME}:predict", json=body)
                found = answer.is_success and answer.json()["predictions"][0]["text"]
            case "v2":
                answer = await self.http.post(
                    f"/v2/models/{NAME}/infer",
                    content=audio,
                    headers={"inference-header-content-length": "0"},
                )
                found = answer.is_success and answer.json()["outputs"][0]["data"][0]
            case "openai":
                answer = await self.http.post(
                    "/v1/audio/transcriptions", files={"file": audio}, data={"model": NAME}
                )
                found = answer.is_success and answer.json()["text"]
            case "grpc":
                return await self._ask_grpc(audio)
        return answer.status_code, found or answer.text

    async def _ask_grpc(self, audio: bytes) -> tuple[int | str, str]:
        tensor = {"name": "audio", "datatype": "BYTES", "shape": [1]}
        request = messages.ModelInferRequest(
            model_name=NAME,
            inputs=[tensor],
            raw_input_contents=[len(audio).to_bytes(4, "little") + audio],
        )
        try:
            answer = await self.stub.ModelInfer(request)
        except grpc.aio.AioRpcError as error:
            return error.code().name, error.details()
        names = [each.name for each in answer.outputs]
        return 200, answer.raw_output_contents[names.index("text")][4:].decode()

    async def probes(self) -> dict[str, bool]:
        """What every probe there is says."""
        said = {path: (await self.http.get(path)).is_success for path in PROBES}
        said["ServerLive"] = (await self.stub.ServerLive(messages.ServerLiveRequest())).live
        said["ServerReady"] = (await self.stub.ServerReady(messages.ServerReadyRequest())).ready
        said["ModelReady"] = (
            await self.stub.ModelReady(messages.ModelReadyRequest(name=NAME))
        ).ready
        return said

    async def metric(self, name: str) -> float:
        lines = (await self.http.get("/metrics")).text.splitlines()
        return float(next(line for line in lines if line.startswith(f"{name} ")).split()[-1])


class Faulties:
    """Starts servers, and ends them with the test."""

    def __init__(self, new_port: Callable[[], int], folder: Path) -> None:
        self._new_port = new_port
        self._folder = folder
        self._started: list[subprocess.Popen] = []

    async def __call__(self, model: Path, *flags: str, log: str = "", **how) -> Faulty:
        http_port, grpc_port = self._new_port(), self._new_port()
        command = [sys.executable, "-m", "tests.reliability.faulty_server", "serve"]
        command += [f"--model_dir={model}", f"--http_port={http_port}", f"--grpc_port={grpc_port}"]
        command += ["--grace_period_seconds=5"]
        path = Path(log) if log else self._folder / f"log{len(self._started)}"
        process = self._run([*command, *flags], path, how)
        client = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{http_port}", timeout=DEADLINE_SECONDS
        )
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}")
        served = Faulty(process, client, services.GRPCInferenceServiceStub(channel), path)
        await until(lambda: up(served))
        return served

    def _run(self, command: list[str], log: Path, how: dict) -> subprocess.Popen:
        with log.open("w") as file:
            process = subprocess.Popen(command, stderr=file, **{"stdout": file, **how})
        self._started.append(process)
        return process

    def end(self) -> None:
        for process in self._started:
            process.kill()
            process.wait()


async def up(served: Faulty) -> bool:
    if served.process.poll() is not None:
        said = served.log.read_text() if served.log.is_file() else served.process.returncode
        pytest.fail(f"the server ended: {said}")
    try:
        return (await served.http.get(f"/v2/models/{NAME}/ready")).is_success
    except httpx.TransportError:
        return False


async def until(condition) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not await condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


@pytest.fixture
def start(new_port, tmp_path) -> Iterator[Faulties]:
    made = Faulties(new_port, tmp_path)
    yield made
    made.end()


@pytest.fixture(scope="session")
def alone(random_model_dir) -> Callable[[bytes], str]:
    """The engine's own transcript of an audio."""
    engine = Engine(random_model_dir, threads=1)
    return lambda audio: engine.transcribe(audio).text


MEMORY_SECONDS = 10.0

POISONED = (
    "One clip that breaks the network fails alone: those that shared its batch have their texts"
)
NO_MEMORY = (
    "A batch that the memory does not hold is halved until it fits, and the process survives"
)
STUCK = (
    "A worker that is stuck, has ended, lost its GPU or has no memory left takes readiness and liveness "
    "away"
)


@pytest.mark.promise(POISONED)
async def test_a_poisoned_clip_fails_alone(start, random_model_dir, alone, effort, tried):
    served = await start(random_model_dir, "--network_passes=1", "--batch_wait_ms=1000")
    good = [wav(1 + 0.01 * seed, seed) for seed in range(7)]
    texts = [alone(audio) for audio in good]
    poison = wav(faults.POISON_SECONDS)
    for _ in range(effort(2, 50)):
        for protocol in PROTOCOLS:
            asked = [served.ask(protocol, audio) for audio in [*good, poison]]
            *answers, failed = await asyncio.gather(*asked)
            assert answers == [(200, text) for text in texts]
            assert failed[0] in (500, "INTERNAL")
            assert "poison" not in failed[1]
            tried["poisoned clips"] += 1
            tried["good clips"] += len(answers)
    assert all((await served.probes()).values())
    clips, batches = [await served.metric(f"sensevoice_batch_clips_{x}") for x in ("sum", "count")]
    assert clips > 2 * batches, "they hardly met in a batch"


@pytest.mark.promise(NO_MEMORY)
async def test_out_of_memory(start, random_model_dir, alone, effort, tried, measured):
    environment = {**os.environ, faults.MEMORY: str(MEMORY_SECONDS)}
    flags = ("--network_passes=1", "--batch_wait_ms=1000")
    served = await start(random_model_dir, *flags, env=environment)
    audios = [wav(3 + 0.01 * seed, seed) for seed in range(9)]
    texts = [alone(audio) for audio in audios]
    for _ in range(effort(1, 50)):
        for protocol in PROTOCOLS:
            answers = await asyncio.gather(*(served.ask(protocol, audio) for audio in audios))
            assert answers == [(200, text) for text in texts]
            # What does not fit alone is told so, and takes nobody with it.
            status, said = await served.ask(protocol, wav(MEMORY_SECONDS + 1))
            assert status in (503, "UNAVAILABLE")
            assert "memory" in said
            tried["clips"] += len(answers) + 1
    assert all((await served.probes()).values())
    limit = await served.metric("sensevoice_batch_limit_seconds")
    assert limit <= MEMORY_SECONDS
    # The size that failed was remembered: batches of it were tried a few times, not each time.
    n_failed = served.log.read_text().count("out of memory in a batch")
    assert 1 <= n_failed <= 4
    measured["batches that did not fit"] = str(n_failed)


SCARCE = """
import asyncio, os, resource, sys
os.environ["OPENBLAS_NUM_THREADS"] = "1"
from pathlib import Path
import numpy as np
from predictor.engine.errors import OutOfMemory
from predictor.engine.recording import Clip
from predictor.engine.segment import Span
from predictor.engine.transcribe import Engine
from predictor.engine.types import TranscribeOptions
from predictor.server.batching import Batcher

engine = Engine(Path(sys.argv[1]), threads=1)
noise = np.random.default_rng(0)
clips = [
    Clip(Span(0, noise.normal(0, 0.1, int(16_000 * s)).astype(np.float32)), TranscribeOptions())
    for s in np.linspace(12, 20, 12)
]
ids = lambda hypothesis: [token.id for token in hypothesis.tokens]
expected = [ids(engine.recognize([clip])[0]) for clip in clips[::-1]][::-1]
data = next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1]

async def words():
    batcher = Batcher(
        engine.recognize, max_batch_clips=64, max_batch_seconds=600, max_queue_seconds=600
    )
    with batcher.lane() as lane:
        done = await asyncio.gather(*map(lane.put, clips), return_exceptions=True)
    batcher.close()
    return done

limit = int(data) * 1024 + (int(sys.argv[2]) << 20)
resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))
found = asyncio.run(words())
resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
for done, right in zip(found, expected):
    if isinstance(done, BaseException):
        assert isinstance(done, OutOfMemory), repr(done)
        print("refused")
    else:
        assert ids(done.result) == right, "another clip's words"
        print("right")

def again():
    return [ids(each.result) for each in asyncio.run(words()) if not isinstance(each, OutOfMemory)]

# What the want of memory has spoilt is found, told and made anew piece by piece.
assert any(again() == expected for _ in range(10)), "it does not recover"
"""


@pytest.mark.promise(
    "Where the process has hardly any memory left, a clip has its own words or a clear error"
)
def test_real_want_of_memory(demo_model_dir, effort, tried):
    outcomes: Counter[str] = Counter()
    for mebibytes in range(8, effort(80, 160), effort(40, 4)):
        # Each in a process of its own: dozens of such moments in one are what OpenVINO does not survive.
        command = [sys.executable, "-c", SCARCE, str(demo_model_dir), str(mebibytes)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
        assert done.returncode == 0, (mebibytes, done.stderr[-2000:])
        outcomes.update(done.stdout.split())
        tried["limits"] += 1
    assert set(outcomes) == {"right", "refused"}, "too much memory, or too little, to tell"
    tried.update({f"clips {outcome}": number for outcome, number in outcomes.items()})


@pytest.mark.promise(STUCK)
async def test_a_stuck_worker(start, random_model_dir, effort, tried, measured):
    broken = {
        "hangs": wav(faults.HANG_SECONDS),
        "pool hangs": wav(faults.POOL_SECONDS),
        "ends": wav(faults.END_SECONDS),
        "GPU lost": wav(faults.LOST_SECONDS),
        "memory lost": wav(faults.LEAK_SECONDS),
    }
    for fault, audio in list(broken.items())[: effort(1, 5)]:
        flags = ("--stuck_seconds=1", "--grace_period_seconds=1", "--decode_threads=1")
        served = await start(random_model_dir, *flags)
        assert all((await served.probes()).values())

        async def keep_asking(served=served, audio=audio) -> None:
            while True:
                await served.ask("v1", audio, segmentation="overlap")
                await asyncio.sleep(0.1)

        asking = asyncio.ensure_future(keep_asking())

        async def not_ready(served=served) -> bool:
            return not (await served.http.get(f"/v2/models/{NAME}/ready")).is_success

        started = time.monotonic()
        await until(not_ready)
        measured[f"seconds until unready, {fault}"] = f"{time.monotonic() - started:.1f}"
        assert not any((await served.probes()).values())
        # Who asks now is told at once, and goes to another replica.
        for protocol in PROTOCOLS:
            status, _ = await asyncio.wait_for(served.ask(protocol, wav(1)), 30)
            assert status in (503, "UNAVAILABLE")
            tried["requests turned away"] += 1
        # The kubelet's signal ends it, though a thread never will.
        served.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(served.process.wait, 60) == 1
        assert served.log.read_text().count("not live: ") == 1
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        tried["faults"] += 1


def full_disk() -> None:
    """Every write to a file fails from here on, as on a disk without room."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


@pytest.mark.promise(
    "With no disk to write to, a log that takes nothing, a wall clock that jumps by a day and a model "
    "directory that is gone, every protocol answers as ever"
)
async def test_a_hostile_machine(start, demo_model_dir, tmp_path, effort, tried):
    model = shutil.copytree(demo_model_dir, tmp_path / "model")
    environment = {
        **os.environ,
        "TMPDIR": "/nonexistent",
        "HOME": "/nonexistent",
        faults.CLOCK: "86400",
    }
    served = await start(
        model,
        log="/dev/full",
        stdout=subprocess.PIPE,
        env=environment,
        preexec_fn=full_disk,
    )
    # Nobody reads what it says from now on, and its model is gone.
    served.process.stdout.close()
    shutil.rmtree(model)
    # The second is more than starlette keeps in memory of a form's file, and is cut by voice activity.
    clips = sorted(demo_model_dir.glob("evaluation/en-*.opus"))[:20]
    audios = [clips[0].read_bytes(), joined(clips)]
    engine = Engine(demo_model_dir, threads=1)
    texts = [engine.transcribe(audio).text for audio in audios]
    assert all(texts)
    assert len(audios[1]) > 1 << 20
    for _ in range(effort(1, 20)):
        for protocol in PROTOCOLS:
            for audio, text in zip(audios, texts, strict=True):
                assert await served.ask(protocol, audio) == (200, text)
                tried["requests"] += 1
    assert all((await served.probes()).values())
    n_slow = await served.metric('sensevoice_request_seconds_bucket{le="300.0",protocol="rest_v2"}')
    assert n_slow == await served.metric('sensevoice_request_seconds_count{protocol="rest_v2"}')
    served.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(served.process.wait, 60) == 0


WALL_CLOCK = {"time.time", "time.localtime", "time.ctime", "datetime.now", "datetime.utcnow"}
TOLD = {"predictor/server/openai_api.py": 1}
"""Where the wall clock is told to a client, and nothing is decided by it: the field ``created``."""


@pytest.mark.promise("No limit and no duration of the predictor is taken from the wall clock")
def test_clocks(tried):
    found: Counter[str] = Counter()
    for folder in ("server", "engine"):
        for path in REPOSITORY.glob(f"predictor/{folder}/**/*.py"):
            tried["source files"] += 1
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in WALL_CLOCK:
                    found[path.relative_to(REPOSITORY).as_posix()] += 1
    assert found == TOLD
