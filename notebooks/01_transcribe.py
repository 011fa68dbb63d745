# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 1 · Transcribe
#
# The model in this process, without a service: text, language, emotion and audio events, each with its
# probability, and times from the CTC path.
#
# The embedded model stands in here: it was trained on synthetic voices and a small grammar. For real speech
# set `MODEL` to what `python -m predictor prepare` has made of SenseVoiceSmall; everything below stays.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Audio

import predictor
from predictor.engine.audio import decode
from predictor.engine.transcribe import Engine
from predictor.engine.types import SAMPLE_RATE, TranscribeOptions, Waveform

MODEL = Path(predictor.__file__).parent / "demo_model"
CLIPS = Path(predictor.__file__).parent / "demo_model" / "evaluation"

engine = Engine(MODEL)
print(engine.model.name, engine.model.version, engine.precision)
print(engine.model.notice)

# %% [markdown]
# ## One file
#
# Bytes of any file that FFmpeg decodes go in, a `Transcript` comes out.

# %%
transcript = engine.transcribe((CLIPS / "en-001.opus").read_bytes())

print(transcript.text)
for tag in (transcript.language, transcript.emotion, transcript.event):
    print(f"{tag.label:<10}{tag.confidence:.1%}")

# %% [markdown]
# ## A recording, segment by segment
#
# Clips joined to one recording, longer than the 30 s that the network hears at once: voice activity
# detection cuts it, and each segment has tags of its own. What is taken for no voice, like the applause and
# the music here, is left out. Samples go in this time, a `Waveform` with its rate.


# %%
def samples(clip: str) -> np.ndarray:
    """float32 [n_samples] at 16 kHz."""
    return np.concatenate([block[0] for block in decode((CLIPS / clip).read_bytes(), 60)])


scene = ["en-008", "zh-010", "laughter-001", "ja-003", "yue-021", "applause-001"]
scene += ["ko-004", "en-020", "zh-013", "bgm-001", "ja-010", "en-016"]
pause = np.zeros(int(0.7 * SAMPLE_RATE), np.float32)
recording = np.concatenate([part for clip in scene for part in (samples(f"{clip}.opus"), pause)])

transcript = engine.transcribe(Waveform(recording), TranscribeOptions(timestamps="word"))
for segment in transcript.segments:
    tags = f"{segment.language.label:<9}{segment.emotion.label:<12}{segment.event.label:<10}"
    print(f"{segment.start:6.1f} to {segment.end:4.1f} s  {tags} {segment.text}")

Audio(recording, rate=SAMPLE_RATE)

# %% [markdown]
# The same as a picture. The paler a span, the less sure the model is of it.

# %%
LANES = {
    "language": engine.model.languages,
    "emotion": engine.model.emotions,
    "event": engine.model.events,
}


def plot_timeline(recording: np.ndarray, segments) -> None:
    _, (wave, lanes) = plt.subplots(2, figsize=(11, 4), sharex=True, layout="constrained")
    seconds = np.arange(len(recording)) / SAMPLE_RATE
    wave.plot(seconds, recording, color="#6B7280", linewidth=0.3)
    wave.set_ylabel("amplitude")
    colours = plt.color_sequences["tab20"]
    for y, (kind, labels) in enumerate(LANES.items()):
        for segment in segments:
            tag, length = getattr(segment, kind), segment.end - segment.start
            colour = colours[labels.index(tag.label) % len(colours)]
            lanes.barh(y, length, 0.8, segment.start, color=colour, alpha=tag.confidence)
            middle = (segment.start + segment.end) / 2
            lanes.text(middle, y, tag.label, ha="center", va="center", fontsize=6)
            if kind == "event":
                wave.axvspan(segment.start, segment.end, color=colour, alpha=0.2, linewidth=0)
    lanes.set_yticks(range(len(LANES)), LANES)
    lanes.invert_yaxis()
    lanes.set_xlabel("seconds")
    lanes.set_xlim(0, seconds[-1])
    plt.show()


plot_timeline(recording, transcript.segments)

# %% [markdown]
# ## Words
#
# A time that the CTC path does not tell is `None`, never made up; the confidence is the geometric mean of
# the word's tokens.

# %%
for word in transcript.segments[0].words:
    place = "" if word.start is None else f"{word.start:5.2f} to {word.end:4.2f} s"
    print(f"{word.text:<12}{place:<18}{word.confidence:6.1%}")

# %% [markdown]
# ## Options
#
# `language` forces a language, or names those to choose from; `use_itn=False` leaves numbers and
# punctuation as spoken; `distributions=True` adds the probability of every label.

# %%
options = TranscribeOptions(language="zh,yue", use_itn=False, distributions=True)
transcript = engine.transcribe((CLIPS / "yue-021.opus").read_bytes(), options)
print(transcript.text)

figure, panels = plt.subplots(1, 3, figsize=(11, 2.6), layout="constrained")
for axes, kind in zip(panels, LANES, strict=True):
    distribution = getattr(transcript, kind).distribution
    axes.barh(list(distribution), list(distribution.values()), color="#0072B2")
    axes.set(title=kind, xlim=(0, 1), xlabel="probability")
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=7)
plt.show()

# %% [markdown]
# Next: [how good is it?](02_evaluate.ipynb)
