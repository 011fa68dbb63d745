"""Processes that are ended while users are being moved, and everything at once at random."""

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pipelines.rollout.rollout import Outcome
from tests.pipelines.rollout.cluster.double import Fault
from tests.reliability.faults import FINAL, PASSING, PROMISE, REFUSING, UNJUDGED
from tests.reliability.rollout_world import FAULTY, HEALTHY, PLAN, STABLE, Killed, World, vector

ROOT = Path(__file__).resolve().parents[2]


PROCESS = """
import sys
from pipelines.rollout.cluster.target import connect
from pipelines.rollout.cluster.prometheus import PrometheusMeter
from pipelines.rollout.ending import terminable
from pipelines.rollout.rollout import roll_out
from tests.reliability.rollout_world import PLAN, TEXTS, Clip, Registry, Utterance
from pipelines.rollout.state import Candidate
from kubernetes import client
url, prometheus = sys.argv[1:]
candidate = Candidate(version="B", storage_uri="pvc://models/bbbb", digest="b" * 64)
clips = [Clip(Utterance(id=t, audio="a.wav", text=t), t.encode()) for t in TEXTS]
plan = PLAN.model_copy(update={"poll_seconds": 0.05, "bake_seconds": 600.0})
with terminable():
    target = connect("voice", "sensevoice", client.Configuration(host=url))
    roll_out(target, PrometheusMeter(prometheus, "voice"), Registry(), candidate, plan, clips)
"""


@pytest.mark.promise(PROMISE)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_is_ended_leaves_what_the_next_one_finishes(number, tried):
    with World() as world:
        reached = threading.Event()

        def disturb(method, body):
            if world.state and world.state.percent == 5:
                reached.set()

        world.kubernetes.disturb = disturb
        command = [sys.executable, "-c", PROCESS, world.kubernetes.url, world.prometheus.url]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
            while not reached.wait(0.1):
                assert process.poll() is None, process.stderr.read()
            process.send_signal(number)
            _, said = process.communicate(timeout=120)
        world.kubernetes.disturb = lambda method, body: None
        told = {event["reason"] for event in world.kubernetes.events.values()}
        if number == signal.SIGTERM:
            assert process.returncode == 128 + number, said
            assert world.users == {"a": 100}
            assert "RolloutInterrupted" in told
        else:
            assert process.returncode == -number
            assert world.users == {"a": 95, "b": 5}
        # Heartbeats of the dead process are of the real time, long before this clock's.
        ended = world.roll_out()
        world.check(ended)
        assert world.users == {"b": 100}
    tried["processes ended"] += 1


# Everything at once


def disorder(world, chance):
    """Faults of all kinds at random requests, for one process: its faults come in bursts."""
    burst = {"left": 0, "fault": None}

    def disturb(method, body):
        if method == "POST":
            return None
        if burst["left"] <= 0 and chance.random() < 0.03:
            burst["left"] = chance.choice([1, 2, 5, 40])
            burst["fault"] = chance.choice([*PASSING.values(), *FINAL.values()])
        if chance.random() < 0.004:
            os.kill(os.getpid(), signal.SIGTERM)
        if burst["left"] <= 0:
            return None
        burst["left"] -= 1
        return Fault(method, **{k: v for k, v in vars(burst["fault"]).items() if k != "method"})

    def script(revision):
        if chance.random() < 0.1:
            return chance.choice([*UNJUDGED.values(), *REFUSING.values()])
        bad = "b" in world.spoilt and revision != STABLE
        return 200, vector(FAULTY if bad else HEALTHY)

    world.kubernetes.disturb = disturb
    world.prometheus.script = script
    world.registry.outages = chance.choice([0, 0, 3, 60])
    world.time.sleeps_left = chance.choice([None, None, chance.randrange(60)])


def calm(world):
    world.kubernetes.disturb = lambda method, body: None
    world.prometheus.script = lambda revision: (
        200,
        vector(FAULTY if "b" in world.spoilt and revision != STABLE else HEALTHY),
    )
    world.registry.outages = 0
    world.time.sleeps_left = None


@pytest.mark.promise(PROMISE)
def test_faults_at_random_over_whole_rollouts(effort, tried):
    former = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # One that comes too late.
    try:
        for seed in range(effort(6, 200)):
            chance = random.Random(seed)  # faults, no secrets
            with World() as world:
                world.spoilt = chance.choice([set(), set(), {"b"}])
                for _ in range(chance.randrange(1, 5)):
                    disorder(world, chance)
                    ended = chance.choice([world.roll_out, world.abandon])()
                    if not isinstance(ended, Killed):
                        world.check(ended)
                    world.time.sleeps_left = None
                    world.time.sleep(chance.choice([0, PLAN.lease_seconds + 1]))
                    tried["processes with faults"] += 1
                calm(world)
                world.time.sleep(PLAN.lease_seconds + 1)
                ended = world.roll_out()
                assert isinstance(ended, Outcome), (seed, ended)
                world.check(ended)
                assert world.users == {"a" if ended.outcome == "rejected" else "b": 100}, seed
                assert not world.spoilt or ended.outcome == "rejected", seed
            tried["random rollouts"] += 1
    finally:
        signal.signal(signal.SIGTERM, former)
