"""What can fail during a rollout, and when."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from tests.pipelines.rollout.cluster.double import Fault
from tests.reliability.rollout_world import HEALTHY, STABLE, during, vector, writes

T = TypeVar("T")

PROMISE = (
    "Whatever fails during a rollout, it goes on afterwards, or all users go back to the stable version, "
    "or it says who serves them and which command finishes it; running it again is safe"
)

PASSING = {
    "409": Fault("", 409),
    "410": Fault("", 410),
    "429": Fault("", 429, headers={"Retry-After": "0"}),
    "500": Fault("", 500),
    "502": Fault("", 502, body=b"<html>bad gateway</html>"),
    "503": Fault("", 503),
    "504, carried out": Fault("", 504, applied=True),
    "401": Fault("", 401),
    "no answer": Fault("", None),
    "lost answer": Fault("", None, applied=True),
    "half an answer": Fault("", 200, body=b'{"metadata": {"na'),
    "a login page": Fault("", 200, body=b"<html>log in</html>"),
}
"""Faults of the API server that another try may not meet."""

FINAL = {"403": Fault("", 403), "404": Fault("", 404), "422": Fault("", 422)}
"""Those that a rollout ends with."""

MOMENTS = {
    "first look": lambda world, method, body: method == "GET" and world.state is None,
    "the candidate's patch": lambda world, method, body: method == "PATCH" and world.state is None,
    "at 0 %": during(phase="rolling", percent=0),
    "patch to 5 %": writes(phase="rolling", percent=5, revision=f"{STABLE[:-1]}2"),
    "at 5 %": during(phase="rolling", percent=5),
    "patch to 50 %": writes(phase="rolling", percent=50),
    "at 50 %": during(phase="rolling", percent=50),
    "patch of the promotion": writes(phase="promoting"),
    "promoting": during(phase="promoting"),
    "patch of the end": writes(phase="promoted"),
}

ROLLBACK = {
    "patch of the rollback": writes(phase="rolling_back"),
    "rolling back": during(phase="rolling_back"),
    "patch of the rejection": writes(phase="rejected"),
}

UNJUDGED = {
    "down": (None, b""),
    "500": (500, b"{}"),
    "503": (503, b"{}"),
    "nothing counted": (200, vector({})),
    "counts that are no numbers": (200, vector({**HEALTHY, "requests": "NaN"})),
    "no latencies": (200, vector({**HEALTHY, "p95": "NaN", "p99": "NaN"})),
    "stale": (200, vector({**HEALTHY, "age": "600"})),
    "no pod is scraped": (200, vector({k: v for k, v in HEALTHY.items() if k != "age"})),
    "a part is missing": (200, vector(HEALTHY, warnings=["store 2 does not answer"])),
}
REFUSING = {"400": (400, b"{}"), "401": (401, b"{}"), "a login page": (200, b"<html>log in</html>")}
"""Prometheus's answers that prove nothing, and those that are refusals."""


def sample(effort: Callable[[int, int], int], table: Iterable[T], short: int) -> list[T]:
    """Of a table all rows in the stress form, else so many, spread over it."""
    rows = list(table)
    chosen = effort(short, len(rows))
    return [rows[int(number * len(rows) / chosen)] for number in range(chosen)]
