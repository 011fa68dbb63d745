# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 4 · Call the service
#
# With the project's client, with KServe's over gRPC, and with OpenAI's SDK. `SENSEVOICE_URL` and
# `SENSEVOICE_GRPC` name a service that runs already, such as
# `http://sensevoice.default.example.com`; without them this notebook starts one on the embedded model.

# %%
import atexit
import io
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import soundfile
from kserve import InferenceGRPCClient, InferInput, InferRequest
from openai import OpenAI

import predictor
from predictor.client import AsyncClient, Client, Patience, Refused, Wait
from predictor.engine.audio import decode
from predictor.engine.types import SAMPLE_RATE

MODEL = Path(predictor.__file__).parent / "demo_model"
CLIPS = MODEL / "evaluation"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


url, grpc = os.environ.get("SENSEVOICE_URL"), os.environ.get("SENSEVOICE_GRPC")
if not url:
    http_port, grpc_port = free_port(), free_port()
    url, grpc = f"http://127.0.0.1:{http_port}", f"127.0.0.1:{grpc_port}"
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "predictor", "serve", f"--model_dir={MODEL}"),
            *(f"--http_port={http_port}", f"--grpc_port={grpc_port}"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    atexit.register(server.terminate)

# %% [markdown]
# ## The client
#
# It waits for a service that is starting, on this machine or from zero on Knative, and obeys `Retry-After`
# of one that has too much to do.


# %%
def say(wait: Wait) -> None:
    print(f"waking up, {wait.waited:.0f} s so far: again in {wait.seconds:.1f} s")


client = Client(url, patience=Patience(seconds=120, on_wait=say))
transcript = client.transcribe(CLIPS / "ja-003.opus", timestamps="word")
print(transcript.text, transcript.language.label, transcript.emotion.label, sep="  ")


# %% [markdown]
# Samples go as they are, here cut out of a clip and made quieter.


# %%
def samples(clip: Path) -> np.ndarray:
    """float32 [n_samples] at 16 kHz."""
    return np.concatenate([block[0] for block in decode(clip.read_bytes(), 60)])


quiet = 0.3 * samples(CLIPS / "en-016.opus")
print(client.transcribe(quiet, sample_rate=SAMPLE_RATE, language="en").text)

# %% [markdown]
# What is wrong is said in a sentence, and not tried again.

# %%
try:
    client.transcribe(b"no audio at all", language="en")
except Refused as error:
    print(error)

# %% [markdown]
# ## Many files
#
# In the order they were given; one that fails has its error in its place. The service makes batches of what
# comes together. How many at once pay depends on model and machine; beyond that they wait in the queue.

# %%
files = sorted(CLIPS.glob("[a-z][a-z]-00*.opus")) + sorted(CLIPS.glob("yue-00*.opus"))
rates = {}
for concurrency in (1, 4, 16):
    began = time.perf_counter()
    outcomes = client.transcribe_all(files, concurrency=concurrency, progress=concurrency == 16)
    seconds = time.perf_counter() - began
    rates[concurrency] = sum(outcome.duration for outcome in outcomes) / seconds

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3), layout="constrained")
left.bar([str(one) for one in rates], list(rates.values()), color="#0072B2")
left.set(xlabel="requests at once", ylabel="seconds of audio a second", title="Throughput")
stages = ("decode", "segment", "queue", "features", "encoder", "decoding")
means = [1000 * np.mean([getattr(one.times, stage) for one in outcomes]) for stage in stages]
right.barh(stages, means, color="#E69F00")
right.set(xlabel="milliseconds a file, 16 at once", title="Where the time goes")
right.invert_yaxis()
plt.show()

# %% [markdown]
# The same in an event loop:

# %%
async with AsyncClient(url) as asynchronous:
    outcomes = await asynchronous.transcribe_all(files[:4])
for file, outcome in zip(files, outcomes, strict=False):
    print(file.name, outcome.text, sep="  ")

# %% [markdown]
# ## gRPC
#
# KServe's own client and protocol: the file's bytes as a tensor.

# %%
if grpc:
    tensor = InferInput("audio", [1], "BYTES")
    audio = (CLIPS / "ko-004.opus").read_bytes()
    tensor.set_data_from_numpy(np.array([audio], dtype=object), binary_data=True)
    stub = InferenceGRPCClient(grpc)
    answer = await stub.infer(InferRequest(model_name="sensevoice", infer_inputs=[tensor]))
    for output in answer.outputs:
        print(f"{output.name:<12}{output.as_numpy()[0].decode()}")
    await stub.close()

# %% [markdown]
# ## OpenAI's SDK
#
# The same service under `/v1`. What SenseVoice hears beside words stands next to OpenAI's fields.

# %%
openai = OpenAI(base_url=f"{url}/v1", api_key="none")
answer = openai.audio.transcriptions.create(
    model="sensevoice",
    file=CLIPS / "zh-010.opus",
    response_format="verbose_json",
    timestamp_granularities=["segment", "word"],
)
print(answer.text, answer.language, answer.emotion, answer.event, sep="  ")
for word in answer.words:
    print(f"{word.start:5.2f} to {word.end:4.2f} s  {word.word}")

# %% [markdown]
# `stream=True` gives a long recording's segments while the rest is still being transcribed.

# %%
scene = ["en-008", "zh-010", "laughter-001", "ja-003", "yue-021", "applause-001"]
scene += ["ko-004", "en-020", "zh-013", "bgm-001", "ja-010", "en-016"]
pause = np.zeros(int(0.7 * SAMPLE_RATE), np.float32)
recording = np.concatenate(
    [part for clip in scene for part in (samples(CLIPS / f"{clip}.opus"), pause)]
)
buffer = io.BytesIO()
soundfile.write(buffer, recording, SAMPLE_RATE, format="FLAC")

stream = openai.audio.transcriptions.create(
    model="sensevoice", file=("scene.flac", buffer.getvalue()), stream=True
)
for event in stream:
    if event.type == "transcript.text.segment":
        print(f"{event.start:6.1f} to {event.end:4.1f} s  {event.event['label']:<10} {event.text}")

# %%
client.close()

# %% [markdown]
# curl, and every field and error: [the README](../README.md#calling-it).
