"""Steps as components: each a few lines around a function of :mod:`pipelines.steps`.

A body runs by itself in the image, so that it imports all it needs. Models stay on the cache volume and
pass by path and digest; everything else passes as artifacts.
"""

from typing import NamedTuple

from kfp.dsl import (
    HTML,
    Artifact,
    ClassificationMetrics,
    Dataset,
    Input,
    Markdown,
    Metrics,
    Output,
    PipelineTaskFinalStatus,
)

from pipelines.pod import step


@step
def fetch(source: str, cache: str) -> str:
    """The model's files, verified → JSON of what was fetched."""
    from pathlib import Path

    from pipelines.steps.fetch import fetch

    return fetch(source, Path(cache)).model_dump_json()


@step
def prepare(fetched: str, cache: str) -> NamedTuple("Model", [("path", str), ("digest", str)]):
    """The prepared directory on the cache volume, named by its digest."""
    from pathlib import Path

    from pipelines.steps.fetch import Fetched
    from pipelines.steps.prepare import prepare

    prepared = prepare(Fetched.model_validate_json(fetched), Path(cache))
    return str(prepared.directory), prepared.digest


@step
def locate(model: str, tracking_uri: str, cache: str, required: bool) -> NamedTuple(
    "Model", [("path", str), ("digest", str)]
):
    """A registered version or any source, prepared; empty where an alias names no version and need not."""
    from pathlib import Path

    from pipelines.steps.locate import locate

    found = locate(model, tracking_uri, Path(cache), required=required)
    return (str(found.directory), found.digest) if found else ("", "")


@step
def dataset(data: str, root: str, limit: int, manifest: Output[Dataset]) -> str:
    """Labelled audio → the digest of its labels and audio."""
    from pathlib import Path

    from pipelines.steps.dataset import dataset

    return dataset(data, Path(root) if root else None, Path(manifest.path), limit)


@step
def recognise(
    model: str,
    digest: str,
    data_digest: str,
    gpus: int,
    manifest: Input[Dataset],
    table: Output[Dataset],
) -> None:
    """What a model makes of every utterance; nothing where there is no model."""
    from pathlib import Path

    from pipelines.steps.recognise import recognise

    if model:
        recognise(Path(model), Path(manifest.path), Path(table.path), "cuda" if gpus else "cpu")
    else:
        Path(table.path).touch()


@step
def evaluate_accuracy(table: Input[Dataset], result: Output[Artifact]) -> None:
    """Error rates by language and slice."""
    from pathlib import Path

    from pipelines.steps.accuracy import accuracy

    Path(result.path).write_text(accuracy(Path(table.path)).model_dump_json())


@step
def evaluate_tags(
    table: Input[Dataset],
    result: Output[Artifact],
    language: Output[ClassificationMetrics],
    emotion: Output[ClassificationMetrics],
    event: Output[ClassificationMetrics],
) -> None:
    """Language, emotion and event."""
    from pathlib import Path

    from pipelines.steps.tags import tags

    found = tags(Path(table.path))
    Path(result.path).write_text(found.model_dump_json())
    shown = ((language, found.language), (emotion, found.emotion_four), (event, found.event))
    for output, kind in shown:
        if kind:
            output.log_confusion_matrix(kind.labels, kind.confusion)


@step
def compare(candidate: Input[Dataset], champion: Input[Dataset], result: Output[Artifact]) -> None:
    """Candidate against champion on the same clips; empty where there is no champion."""
    from pathlib import Path

    from pipelines.steps.compare import compare

    path = Path(result.path)
    if Path(champion.path).stat().st_size:
        path.write_text(compare(Path(candidate.path), Path(champion.path)).model_dump_json())
    else:
        path.touch()


@step
def parity(model: str, digest: str, clips: int, result: Output[Artifact]) -> None:
    """The engine beside FunASR, in float32, on the same weights."""
    from pathlib import Path

    from pipelines.steps.parity import parity

    Path(result.path).write_text(parity(Path(model), clips).model_dump_json())


@step
def evaluate_speed(
    candidate: str,
    champion: str,
    rounds: int,
    gpus: int,
    manifest: Input[Dataset],
    result: Output[Artifact],
) -> None:
    """Both models on this machine, in turn."""
    from pathlib import Path

    from pipelines.steps.speed import speed

    beside = Path(champion) if champion else None
    device = "cuda" if gpus else "cpu"
    found = speed(Path(candidate), beside, Path(manifest.path), rounds=rounds, device=device)
    Path(result.path).write_text(found.model_dump_json())


@step
def gate(
    model: str,
    champion: str,
    data: str,
    data_digest: str,
    rules: dict,
    about: dict,
    table: Input[Dataset],
    accuracy: Input[Artifact],
    tags: Input[Artifact],
    comparison: Input[Artifact],
    speed: Input[Artifact],
    parity: Input[Artifact],
    report: Output[Artifact],
    page: Output[HTML],
    summary: Output[Markdown],
    figures: Output[Metrics],
) -> str:
    """Verdicts and report → why the model is refused; empty where it is not."""
    from pathlib import Path

    from pipelines.evaluation.summary import metrics
    from pipelines.steps.gate import gate
    from pipelines.steps.report import collect
    from pipelines.steps.report import report as write_report

    inputs = (accuracy, tags, comparison, speed, parity)
    evaluation = collect(model, champion, data_digest, *(Path(one.path) for one in inputs))
    gated = gate(evaluation, rules)
    written = write_report(
        evaluation,
        Path(report.path),
        table=Path(table.path),
        about=about,
        gated=gated,
        data_name=data,
    )
    Path(page.path).write_text(written.html)
    Path(summary.path).write_text(written.markdown)
    for name, value in metrics(evaluation).items():
        figures.log_metric(name, value)
    return gated.refusal


@step
def stop_if_refused(refusal: str) -> None:
    """Stop the run here, with the reasons, where there are any."""
    from pipelines.steps.gate import require

    require(refusal)


@step
def register(
    model: str,
    fetched: str,
    image: str,
    data: str,
    data_digest: str,
    pipeline_run: str,
    tracking_uri: str,
    report: Input[Artifact],
) -> str:
    """The model as a version of the registry, alias ``challenger`` → the version."""
    from pathlib import Path

    from pipelines.steps.fetch import Fetched
    from pipelines.steps.register import register

    return register(
        Path(model),
        Fetched.model_validate_json(fetched),
        report=Path(report.path),
        tracking_uri=tracking_uri,
        image=image,
        data_name=data,
        data_digest=data_digest,
        pipeline_run=pipeline_run,
    )


@step
def roll_out(
    version: str,
    service: str,
    prometheus: str,
    plan: dict,
    tracking_uri: str,
    manifest: Input[Dataset],
    decisions: Output[Artifact],
    log: Output[Markdown],
) -> str:
    """From 0 to 100 % of the users, or back → why it was rolled back; empty where it was not."""
    from pathlib import Path

    from pipelines.steps.rollout import markdown, roll_out

    outcome = roll_out(
        version,
        service,
        prometheus=prometheus,
        plan=plan,
        tracking_uri=tracking_uri,
        manifest=Path(manifest.path),
        decisions=Path(decisions.path),
    )
    Path(log.path).write_text(markdown(outcome))
    return outcome.reason if outcome.outcome == "rejected" else ""


@step
def former(tracking_uri: str) -> str:
    """The version that served before the champion."""
    from pipelines.steps.rollout import former

    return former(tracking_uri)


@step
def roll_back(
    version: str,
    service: str,
    prometheus: str,
    plan: dict,
    tracking_uri: str,
    log: Output[Markdown],
) -> str:
    """All users to a version that served before → why not; empty where they have it."""
    from pathlib import Path

    from pipelines.steps.rollout import markdown, roll_back

    outcome = roll_back(
        version, service, prometheus=prometheus, plan=plan, tracking_uri=tracking_uri
    )
    Path(log.path).write_text(markdown(outcome))
    return outcome.reason if outcome.outcome == "rejected" else ""


@step
def conclude(
    status: PipelineTaskFinalStatus,
    service: str,
    prometheus: str,
    plan: dict,
    tracking_uri: str,
    pipeline_run: str,
    summary: Output[Markdown],
) -> None:
    """Whatever became of the run: no rollout is left half done, and a person reads how it ended."""
    from pathlib import Path

    from pipelines.steps.conclude import conclude

    text = conclude(
        status.state,
        status.error_message,
        service=service,
        prometheus=prometheus,
        plan=plan,
        tracking_uri=tracking_uri,
        pipeline_run=pipeline_run,
    )
    Path(summary.path).write_text(text)
