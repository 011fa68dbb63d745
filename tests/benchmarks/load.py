"""Load on a server, made by locust in the rivals' environment, and what came of it."""

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.models import REPOSITORY
from tests.benchmarks.servers import Server
from tests.benchmarks.spread import percentile

LOCUSTFILE = Path(__file__).parent / "workers" / "locustfile.py"

OPEN_LOOP_PERIOD = 20.0
"""Seconds between two requests of one user at a constant rate: the answer time up to which arrivals do
not depend on answers."""

DRAIN_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Request:
    """One answered request: Unix time of its start, seconds to its answer, what went wrong if anything
    did."""

    start: float
    seconds: float
    failure: str

    @property
    def end(self) -> float:
        return self.start + self.seconds


@dataclass(frozen=True, slots=True)
class Load:
    """What a server did under load.

    Attributes:
        requests: all of them, those after the end of the load too.
        cpu_s: CPU seconds of the server's process tree meanwhile.
        load_s: how long requests were made.
        resident_mb: memory of the server's process tree afterwards.
    """

    requests: Sequence[Request]
    cpu_s: float
    load_s: float
    resident_mb: float


def make_load(
    server: Server,
    clips: Sequence[Path],
    seconds: float,
    folder: Path,
    locust_python: Path,
    *,
    users: int = 0,
    rate: float | None = None,
) -> Load:
    """Post clips for a time and wait for the last answers.

    Args:
        server: ready.
        clips: WAV files, sent in turn.
        seconds: how long.
        folder: for bodies and records.
        locust_python: interpreter of the environment with locust.
        users: that each ask as soon as they are answered; or
        rate: requests per second, whether answers come or not.
    """
    if rate:
        users = max(1, round(rate * OPEN_LOOP_PERIOD))
    bodies = []
    for clip in clips:
        body = folder / f"{clip.stem}.body"
        body.write_bytes(server.api.body(clip.read_bytes()))
        bodies.append(str(body))
    record = folder / "requests.jsonl"
    plan = {
        "path": server.api.path,
        "headers": server.api.headers,
        "bodies": bodies,
        "record": str(record),
        "rate": rate,
        "users": users,
    }
    command = [locust_python, "-m", "locust", "--locustfile", LOCUSTFILE, "--headless"]
    command += ["--host", server.url, "--users", str(users), "--spawn-rate", str(users)]
    command += ["--run-time", f"{round(seconds)}s", "--stop-timeout", str(DRAIN_SECONDS)]
    command += ["--only-summary", "--exit-code-on-error", "0", "--loglevel", "WARNING"]
    cpu = server.cpu_seconds()
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env={**os.environ, "BENCHMARK_LOAD": json.dumps(plan)},
        capture_output=True,
        text=True,
        timeout=seconds + DRAIN_SECONDS + 60,
        check=False,
    )
    cpu = server.cpu_seconds() - cpu
    if done.returncode:
        raise RuntimeError(f"locust failed:\n{done.stderr[-4000:]}")
    requests = [Request(**json.loads(line)) for line in record.open()]
    if not requests:
        raise RuntimeError(f"locust made no request:\n{done.stderr[-4000:]}")
    return Load(requests, cpu, seconds, server.resident_mb())


def summary(load: Load, clip_s: float) -> dict[str, Any]:
    """Rates, latencies in seconds, failures and CPU time of one load.

    The rate leaves the beginning out; latencies and CPU time are those of all requests.
    """
    good = [request for request in load.requests if not request.failure]
    failures = [request.failure for request in load.requests if request.failure]
    begin = min(request.start for request in load.requests)
    latencies = [request.seconds for request in good]
    figures: dict[str, Any] = {
        "requests": len(load.requests),
        "failures": len(failures),
        "first_failures": sorted(set(failures))[:3],
        "cpu_s_per_request": load.cpu_s / max(len(good), 1),
        "cpu_s_per_audio_s": load.cpu_s / max(len(good), 1) / clip_s,
        "rss_mb": load.resident_mb,
    }
    if good:
        rate = steady_rate(good, begin, load.load_s)
        figures |= {
            "requests_per_s": rate,
            "audio_s_per_s": rate * clip_s,
            "p50_s": percentile(latencies, 0.50),
            "p95_s": percentile(latencies, 0.95),
            "p99_s": percentile(latencies, 0.99),
            "max_s": max(latencies),
        }
    return figures


def steady_rate(good: Sequence[Request], begin: float, seconds: float) -> float:
    """Answers per second from a fifth of the way through the load to the last answer: the server is busy
    until then."""
    warm = begin + 0.2 * seconds
    ends = [request.end for request in good]
    return sum(end > warm for end in ends) / max(max(ends) - warm, 1e-9)
