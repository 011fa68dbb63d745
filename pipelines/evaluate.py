"""The pipeline ``sensevoice-evaluate``: a model on labelled audio, beside the champion."""

from dataclasses import dataclass

from kfp import dsl
from kfp.dsl import PipelineTask

from pipelines import components as step
from pipelines.pod import CACHE, MLFLOW, with_cache, with_gpus, with_registry

CHAMPION = "models:/sensevoice-small@champion"


@dataclass(frozen=True, slots=True)
class Measured:
    """Tasks whose outputs others need.

    Attributes:
        dataset: the manifest, and its digest.
        gate: the report, and why the model is refused.
    """

    dataset: PipelineTask
    gate: PipelineTask


def measure(
    model: PipelineTask,
    champion: PipelineTask,
    *,
    data: str,
    data_root: str,
    limit: int,
    rules: dict,
    about: dict,
    parity_clips: int,
    speed_rounds: int,
    gpus: int,
) -> Measured:
    """Add the tasks that judge a model to the pipeline being defined.

    Args:
        model, champion: tasks with the outputs ``path`` and ``digest``; the champion's may be empty.

    What may be taken from an earlier run has digests among its inputs. Speed never may: it is this node's.
    """
    path, digest = model.outputs["path"], model.outputs["digest"]
    data_task = with_cache(step.dataset(data=data, root=data_root, limit=limit))
    data_task.set_caching_options(False)
    manifest = data_task.outputs["manifest"]
    tables = {
        who: with_gpus(
            with_cache(
                step.recognise(
                    model=task.outputs["path"],
                    digest=task.outputs["digest"],
                    data_digest=data_task.outputs["Output"],
                    gpus=gpus,
                    manifest=manifest,
                )
            ),
            gpus,
        ).set_display_name(f"recognise, {who}")
        for who, task in (("candidate", model), ("champion", champion))
    }
    table = tables["candidate"].outputs["table"]
    accuracy = step.evaluate_accuracy(table=table)
    tags = step.evaluate_tags(table=table)
    comparison = step.compare(candidate=table, champion=tables["champion"].outputs["table"])
    parity = with_cache(step.parity(model=path, digest=digest, clips=parity_clips))
    speed = with_cache(
        step.evaluate_speed(
            candidate=path,
            champion=champion.outputs["path"],
            rounds=speed_rounds,
            gpus=gpus,
            manifest=manifest,
        )
    )
    with_gpus(speed, gpus).set_caching_options(False)
    gate = step.gate(
        model=digest,
        champion=champion.outputs["digest"],
        data=data,
        data_digest=data_task.outputs["Output"],
        rules=rules,
        about=about,
        table=table,
        accuracy=accuracy.outputs["result"],
        tags=tags.outputs["result"],
        comparison=comparison.outputs["result"],
        speed=speed.outputs["result"],
        parity=parity.outputs["result"],
    )
    gate.set_caching_options(False)
    return Measured(data_task, gate)


@dsl.pipeline(name="sensevoice-evaluate", display_name="SenseVoice: evaluate")
def evaluate(
    model: str = CHAMPION,
    data: str = "embedded",
    data_root: str = "",
    limit: int = 0,
    rules: dict = {},  # noqa: B006  # kfp reads the default, nobody writes it
    parity_clips: int = 12,
    speed_rounds: int = 3,
    gpus: int = 0,
    cache: str = CACHE,
    tracking_uri: str = MLFLOW,
) -> None:
    """Measure a model's words, tags, speed and parity with FunASR, and compare it with the champion.

    Args:
        model: A registered version (models:/sensevoice-small@champion, models:/sensevoice-small/3), a
            source (modelscope://owner/model@revision, hf://owner/model@revision, pvc://claim/path), or
            'embedded'.
        data: 'embedded', the path of a manifest, or the name of a public set (aishell-1, librispeech, ...).
        data_root: Where a public set was unpacked; empty for the other kinds of data.
        limit: How many utterances, spread over the set; 0 for all.
        rules: Changes to the gate's rules, by name, such as {"words-zh": {"metric": "accuracy/zh/cer",
            "max": 0.05}}; {} as a rule takes it away. The gate is reported and stops nothing here.
        parity_clips: How many clips are compared with FunASR.
        speed_rounds: How often both models are timed, in turn; the medians count.
        gpus: GPUs that recognition and speed run on; 0 for the CPU.
        cache: Folder of the model cache, on the volume that all steps mount.
        tracking_uri: The MLflow server.
    """
    # 1. the model, and the champion to compare it with
    located = with_registry(
        with_cache(step.locate(model=model, tracking_uri=tracking_uri, cache=cache, required=True))
    ).set_caching_options(False)
    champion = with_registry(
        with_cache(
            step.locate(model=CHAMPION, tracking_uri=tracking_uri, cache=cache, required=False)
        )
    )
    champion.set_caching_options(False).set_display_name("champion")
    # 2. measure, judge, report
    measure(
        located,
        champion,
        data=data,
        data_root=data_root,
        limit=limit,
        rules=rules,
        about={"model": model, "pipeline run": dsl.PIPELINE_JOB_ID_PLACEHOLDER},
        parity_clips=parity_clips,
        speed_rounds=speed_rounds,
        gpus=gpus,
    )
