# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 3 · Release and roll out
#
# A model's way to its users: measure, gate, register, then move the users to it step by step, and back
# where a bound breaks. These are the functions that are the steps of the pipeline `sensevoice-release`,
# which moves an InferenceService on a cluster, and here a service on this machine. `make release MODEL=DIR`
# runs the whole pipeline here, with speed and parity to FunASR.

# %%
import atexit
import itertools
import json
import logging
import threading
import time
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown

from pipelines.data.manifest import read_audio, read_manifest
from pipelines.demo_model.variant import write_variant
from pipelines.evaluation.results import Evaluation
from pipelines.local.mlflow_server import mlflow_server
from pipelines.rollout.local.daemon import local_service
from pipelines.steps.accuracy import accuracy
from pipelines.steps.compare import compare
from pipelines.steps.dataset import EMBEDDED, dataset
from pipelines.steps.fetch import fetch
from pipelines.steps.gate import gate, require
from pipelines.steps.prepare import prepare
from pipelines.steps.recognise import recognise
from pipelines.steps.register import register
from pipelines.steps.report import report
from pipelines.steps.rollout import LOCAL, former, markdown, roll_back, roll_out
from pipelines.steps.tags import tags
from pipelines.tracking.registry import ModelRegistry
from predictor.client import Client

logging.getLogger("mlflow").setLevel(logging.WARNING)

# %% [markdown]
# ## What runs beside it
#
# A real MLflow server and a real service: one predictor process a revision, behind a proxy that shares the
# users' requests out by weight. All of it ends with this notebook.

# %%
running = ExitStack()
atexit.register(running.close)
work = Path(running.enter_context(TemporaryDirectory()))
registry_uri = running.enter_context(mlflow_server(work / "mlflow"))
url = running.enter_context(local_service(work / "service"))

data_digest = dataset(EMBEDDED, None, work / "data", limit=40)

SERVICE = f"{LOCAL}{work / 'service'}"
PLAN = {
    "steps": [0, 25, 50, 100],
    "bake_seconds": 3,
    "interval_seconds": 1.5,
    "min_requests": 8,
    # Two revisions and their users on the cores of one machine, and few requests to judge by.
    "max_p95_ratio": 4,
    "max_p99_ratio": 6,
    "ready_timeout_seconds": 180,
    "request_timeout_seconds": 10,
    "lease_seconds": 20,
    "poll_seconds": 0.5,
    "replay": {"clips": 10, "max_latency_ratio": 3},
}
"""Days on a cluster, seconds here."""

# %% [markdown]
# ## Measure and judge
#
# The first version has no champion to be compared with. Speed and parity are left to the whole pipeline,
# and the rule that asks for parity is taken away.


# %%
RULES = {"parity": {}}


def table(model) -> Path:
    return work / f"{model.digest}.jsonl"


def measure(source: str, champion=None):
    """A source → its files, the prepared model, and its evaluation beside the champion's."""
    fetched = fetch(source, work / "cache")
    model = prepare(fetched, work / "cache")
    recognise(model.directory, work / "data", table(model))
    return (
        fetched,
        model,
        Evaluation(
            model=model.digest,
            champion=champion.digest if champion else "",
            data=data_digest,
            accuracy=accuracy(table(model)),
            tags=tags(table(model)),
            comparison=compare(table(model), table(champion)) if champion else None,
        ),
    )


fetched, champion, evaluation = measure(EMBEDDED)
gated = gate(evaluation, RULES)
require(gated.refusal)  # raises Refused where there is one

# %% [markdown]
# ## Register and serve
#
# A version of the registry has the model's files, digests, metrics and report. Nothing serves yet, so it
# gets the service at once: ready, answering with the right digest, and right about the clips.


# %%
def release(fetched, model, evaluation, gated, name: str) -> str:
    """The registry's version."""
    folder = work / "reports" / name
    report(evaluation, folder, table=table(model), about={"source": name}, gated=gated)
    return register(
        model.directory,
        fetched,
        report=folder,
        tracking_uri=registry_uri,
        image="",
        data_name=EMBEDDED,
        data_digest=data_digest,
        pipeline_run=name,
    )


def move_users(version: str, decisions: Path):
    return roll_out(
        version,
        SERVICE,
        prometheus="",  # the local service counts its requests itself
        plan=PLAN,
        tracking_uri=registry_uri,
        manifest=work / "data",
        decisions=decisions,
    )


version = release(fetched, champion, evaluation, gated, "first")
outcome = move_users(version, work / "first.jsonl")
Markdown(markdown(outcome))

# %% [markdown]
# ## A candidate
#
# The same model with a little noise on its weights stands in for one that was trained again. It is measured
# beside the champion, on the same clips.

# %%
source = write_variant(champion.directory, work / "candidate", noise=0.02)
fetched, candidate, evaluation = measure(str(source), champion)
gated = gate(evaluation, RULES)
require(gated.refusal)
version = release(fetched, candidate, evaluation, gated, "second")

# %% [markdown]
# ## The canary
#
# Users go on sending requests all the while; each answer names the revision that gave it.

# %%
answers: list[tuple[float, str, bool]] = []
"""Of each: when it came, who gave it, whether it succeeded."""

ended = threading.Event()


def note(response) -> None:
    revision = response.headers.get("x-revision", "none")
    answers.append((time.time(), revision, response.is_success))


def use(clips: list[bytes]) -> None:
    with Client(url, event_hooks={"response": [note]}) as client:
        for clip in itertools.cycle(clips):
            if ended.wait(0.03):
                return
            client.transcribe(clip)


clips = [read_audio(work / "data", one) for one in read_manifest(work / "data")]
users = threading.Thread(target=use, args=(clips,), daemon=True)
users.start()
outcome = move_users(version, work / "second.jsonl")
ended.wait(1)
ended.set()
users.join()
print(f"{len(answers)} requests, {sum(not succeeded for *_, succeeded in answers)} failed")
Markdown(markdown(outcome))

# %% [markdown]
# Who answered, and what the rollout decided. In the first seconds the candidate has 0 %: the clips are
# replayed on it, and no user meets it.

# %%
decisions = [json.loads(line) for line in (work / "second.jsonl").read_text().splitlines()]
began = answers[0][0]
times = np.array([at - began for at, *_ in answers])
revisions = np.array([revision for _, revision, _ in answers])


def seconds(decision) -> float:
    return datetime.fromisoformat(decision["time"]).timestamp() - began


decided = [(0.0, 1.0)]
for before, one in itertools.pairwise(decisions):
    if one["reason"] == "RolloutStepStarted":
        decided.append((seconds(one), 1 - one["percent"] / 100))
    elif one["reason"] == "RolloutPromoted":
        decided.append((seconds(before), 0.0))
decided.append((times[-1], decided[-1][1]))

BIN = 0.5  # seconds
figure, axes = plt.subplots(figsize=(10, 3.6), layout="constrained")
edges = np.arange(0, times[-1] + BIN, BIN)
every, bottom = np.histogram(times, edges)[0], 0
for name, colour in zip(sorted(set(revisions)), ("#0072B2", "#E69F00"), strict=False):
    share = np.histogram(times[revisions == name], edges)[0] / np.maximum(every, 1)
    axes.bar(edges[:-1], share, BIN, bottom, align="edge", color=colour, alpha=0.75, label=name)
    bottom += share
axes.step(*zip(*decided, strict=True), where="post", color="black", label="decided")
axes.set(xlim=(0, edges[-1]), ylim=(0, 1), xlabel="seconds", ylabel="share of the answers")
axes.yaxis.set_major_formatter("{x:.0%}")
figure.legend(loc="outside right upper")
plt.show()

# %% [markdown]
# ## A damaged model
#
# It ends at the gate: no version, no user.

# %%
source = write_variant(champion.directory, work / "damaged", noise=0.7)
_, _, evaluation = measure(str(source), candidate)
print(gate(evaluation, RULES).refusal)

# %% [markdown]
# ## Back
#
# The version that served before takes over in one step, as `make rollback` does.

# %%
back = former(registry_uri)
outcome = roll_back(back, SERVICE, prometheus="", plan=PLAN, tracking_uri=registry_uri)
print(outcome.outcome, outcome.reason, sep=": ")

registry = ModelRegistry(registry_uri)
for alias in ("champion", "previous"):
    found = registry.find(f"@{alias}")
    print(f"{alias:<10}version {found.version}  {found.digest[:12]}")

# %%
running.close()

# %% [markdown]
# Next: [call the service](04_call_the_service.ipynb)
