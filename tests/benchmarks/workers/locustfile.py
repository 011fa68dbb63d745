"""What locust sends: recorded bodies, in turn, as fast as answers come or at a constant rate.

Locust's own statistics round response times to two digits; each one is also written down as it is, a line
of JSON a request: ``start`` (Unix time), ``seconds``, ``failure``.
"""

import json
import os
import time
from itertools import count
from pathlib import Path

import gevent
from locust import FastHttpUser, events, task

PLAN = json.loads(os.environ["BENCHMARK_LOAD"])
"""``path``, ``headers``, ``bodies`` (files), ``record`` (file), and ``rate``: requests per second that
come whether answers do or not, or None: each user asks again as soon as it is answered."""

BODIES = [Path(body).read_bytes() for body in PLAN["bodies"]]
RATE = PLAN["rate"]
USERS, REQUESTS = count(), count()
BEGUN = time.monotonic()
answers = []


@events.request.add_listener
def keep(start_time, response_time, exception, **_):
    failure = repr(exception)[:200] if exception else ""
    answers.append({"start": start_time, "seconds": response_time / 1000, "failure": failure})


@events.quit.add_listener
def write_down(**_):
    lines = [json.dumps(answer) + "\n" for answer in answers]
    Path(PLAN["record"]).write_text("".join(lines))


class Speaker(FastHttpUser):
    # At a constant rate each of n users asks every n / rate seconds, all evenly out of step. Arrivals
    # then wait for no answer that takes less than that period. Locust's constant_pacing counts from where
    # all users are made, and so brings them into step after one period.
    period = PLAN["users"] / RATE if RATE else 0.0
    due = 0.0

    def on_start(self):
        if RATE:
            self.due = BEGUN + next(USERS) / RATE
            gevent.sleep(max(0.0, self.due - time.monotonic()))

    def wait_time(self):
        self.due += self.period
        return max(0.0, self.due - time.monotonic()) if RATE else 0.0

    @task
    def transcribe(self):
        body = BODIES[next(REQUESTS) % len(BODIES)]
        self.client.post(PLAN["path"], data=body, headers=PLAN["headers"])
