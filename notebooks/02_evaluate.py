# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 2 · Evaluate
#
# Words, tags, their calibration, and the difference to another model: the functions that are the steps of
# the pipeline `sensevoice-evaluate`, called one after the other. `make evaluate MODEL=DIR` runs the
# pipeline itself, with speed and parity to FunASR.

# %%
import tempfile
from pathlib import Path

from IPython.display import HTML, Markdown, display

import predictor
from pipelines.demo_model.variant import write_variant
from pipelines.evaluation.results import Evaluation
from pipelines.steps.accuracy import accuracy
from pipelines.steps.compare import compare
from pipelines.steps.dataset import dataset
from pipelines.steps.gate import gate
from pipelines.steps.recognise import recognise
from pipelines.steps.report import report
from pipelines.steps.tags import tags
from predictor.engine.checkpoint import read_manifest

MODEL = Path(predictor.__file__).parent / "demo_model"
DATA = "embedded"  # or a manifest of your own, or a public set: python -m pipelines.data
LIMIT = 50  # utterances, spread evenly over the set; 0 for all

folder = tempfile.TemporaryDirectory()
work = Path(folder.name)

# %% [markdown]
# ## Data and answers
#
# A data set is a manifest: a line a clip, with what is known of it. Recognition writes a table with a line
# a clip, too, and every measure reads that table.

# %%
digest = dataset(DATA, None, work / "data", LIMIT)
table = work / "candidate.jsonl"
recognise(MODEL, work / "data", table)

words = accuracy(table)
for language, rate in words.languages.items():
    interval = f"{rate.rate.low:.1%} to {rate.rate.high:.1%}"
    print(f"{language:<4}{rate.metric} {rate.rate.value:6.1%}  (95 %: {interval})")

# %% [markdown]
# The utterances with most errors tell why.

# %%
for worst in words.worst[:5]:
    print(f"{worst.id}, errors: {worst.errors}")
    print(f"  said   {worst.reference}\n  heard  {worst.hypothesis}")

# %% [markdown]
# ## Beside another model
#
# Here the same model with noise on its weights. Both hear the same clips, so differences are paired, and
# their intervals tell a regression from chance.

# %%
other = write_variant(MODEL, work / "other", noise=0.3)
other_table = work / "other.jsonl"
recognise(other, work / "data", other_table)

comparison = compare(table, other_table)
for language, difference in comparison.error_rates.items():
    print(f"{language:<4}{difference.champion:6.1%} → {difference.candidate:6.1%}")
print(f"{comparison.changed_texts:.0%} of the texts differ, {len(comparison.flips)} tags")

# %% [markdown]
# ## The gate
#
# Rules bound figures; a rule whose whole interval breaks its bound refuses the model. Speed and parity are
# not measured here: that takes minutes, and the rule that needs parity is taken away.

# %%
evaluation = Evaluation(
    model=read_manifest(MODEL).digest,
    champion=read_manifest(other).digest,
    data=digest,
    accuracy=words,
    tags=tags(table),
    comparison=comparison,
)
gated = gate(evaluation, {"parity": {}})
written = report(evaluation, work / "report", table=table, about={}, gated=gated)
Markdown(written.markdown)

# %% [markdown]
# ## The report's plots
#
# Error rates with intervals, what the errors are, differences to the other model, confusions, and
# reliability: does a tag with confidence 90 % hold nine times out of ten? `report.html` in the folder
# `report` has all of it and needs nothing else.

# %%
for title, plots in written.sections.items():
    display(Markdown(f"### {title}"))
    shown = (
        f"<figure style='margin: 0'><b>{plot.title}</b><br><img src='{plot.uri}' width='440' "
        f"alt='{plot.title}'><figcaption>{plot.note}</figcaption></figure>"
        for plot in plots
    )
    display(HTML(f"<div style='display: flex; flex-wrap: wrap; gap: 24px'>{''.join(shown)}</div>"))

# %%
folder.cleanup()

# %% [markdown]
# Next: [let it serve](03_release_and_roll_out.ipynb)
