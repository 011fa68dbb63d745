"""The pipeline ``sensevoice-release``: from a model's source to all users, or a refusal with reasons."""

from kfp import dsl

from pipelines import components as step
from pipelines.evaluate import CHAMPION, measure
from pipelines.fetching.source import SENSEVOICE_SMALL
from pipelines.pod import (
    CACHE,
    MLFLOW,
    PROMETHEUS,
    SERVICE,
    patient,
    with_cache,
    with_hub,
    with_prometheus,
    with_registry,
)


@dsl.pipeline(name="sensevoice-release", display_name="SenseVoice: release")
def release(
    source: str = SENSEVOICE_SMALL,
    image: str = "",
    data: str = "embedded",
    data_root: str = "",
    limit: int = 0,
    rules: dict = {},  # noqa: B006  # kfp reads the default, nobody writes it
    plan: dict = {},  # noqa: B006
    parity_clips: int = 12,
    speed_rounds: int = 3,
    gpus: int = 0,
    cache: str = CACHE,
    tracking_uri: str = MLFLOW,
    service: str = SERVICE,
    prometheus: str = PROMETHEUS,
) -> None:
    """Fetch a model, measure it, register it and roll it out step by step, or back where a bound is broken.

    Args:
        source: modelscope://owner/model@revision, hf://owner/model@revision, pvc://claim/path, or
            'embedded'.
        image: The predictor's image to roll out with the model; empty leaves the service's own.
        data: 'embedded', the path of a manifest, or the name of a public set (aishell-1, librispeech, ...).
        data_root: Where a public set was unpacked; empty for the other kinds of data.
        limit: How many utterances, spread over the set; 0 for all.
        rules: Changes to the gate's rules, by name, such as {"words-zh": {"metric": "accuracy/zh/cer",
            "max": 0.05}}; {} as a rule takes it away.
        plan: Changes to the rollout's plan, such as {"steps": [0, 10, 100], "bake_seconds": 600}.
        parity_clips: How many clips are compared with FunASR.
        speed_rounds: How often both models are timed, in turn; the medians count.
        gpus: GPUs that recognition and speed run on; 0 for the CPU.
        cache: Folder of the model cache, on the volume that all steps mount.
        tracking_uri: The MLflow server.
        service: The InferenceService that serves the users, as kserve://namespace/name.
        prometheus: The Prometheus server that counts the users' requests.
    """
    run = dsl.PIPELINE_JOB_ID_PLACEHOLDER
    concluded = step.conclude(
        service=service,
        prometheus=prometheus,
        plan=plan,
        tracking_uri=tracking_uri,
        pipeline_run=run,
    )
    with_registry(with_prometheus(concluded)).set_caching_options(False)
    with dsl.ExitHandler(concluded, name="release"):
        # 1. the model's files, verified, and the directory that is served
        fetched = patient(with_hub(with_cache(step.fetch(source=source, cache=cache))))
        fetched.set_caching_options(False)
        prepared = with_cache(step.prepare(fetched=fetched.output, cache=cache))
        prepared.set_caching_options(False)
        # 2. the champion to compare it with
        champion = step.locate(
            model=CHAMPION, tracking_uri=tracking_uri, cache=cache, required=False
        )
        with_registry(with_cache(champion)).set_caching_options(False)
        champion.set_display_name("champion")
        # 3. measure, judge, report; refused models end here
        measured = measure(
            prepared,
            champion,
            data=data,
            data_root=data_root,
            limit=limit,
            rules=rules,
            about={"source": source, "pipeline run": run},
            parity_clips=parity_clips,
            speed_rounds=speed_rounds,
            gpus=gpus,
        )
        admitted = step.stop_if_refused(refusal=measured.gate.outputs["Output"])
        admitted.set_caching_options(False).set_display_name("gate passed")
        # 4. a version of the registry, alias challenger
        registered = step.register(
            model=prepared.outputs["path"],
            fetched=fetched.output,
            image=image,
            data=data,
            data_digest=measured.dataset.outputs["Output"],
            pipeline_run=run,
            tracking_uri=tracking_uri,
            report=measured.gate.outputs["report"],
        )
        with_registry(with_cache(registered)).set_caching_options(False).after(admitted)
        # 5. from 0 to 100 % of the users, alias champion, or back
        rolled = step.roll_out(
            version=registered.output,
            service=service,
            prometheus=prometheus,
            plan=plan,
            tracking_uri=tracking_uri,
            manifest=measured.dataset.outputs["manifest"],
        )
        with_registry(with_prometheus(with_cache(rolled))).set_caching_options(False)
        served = step.stop_if_refused(refusal=rolled.outputs["Output"])
        served.set_caching_options(False).set_display_name("serves all users")
