"""The pipeline ``sensevoice-rollback``: all users back to the version that served before."""

from kfp import dsl

from pipelines import components as step
from pipelines.pod import MLFLOW, PROMETHEUS, SERVICE, with_prometheus, with_registry


@dsl.pipeline(name="sensevoice-rollback", display_name="SenseVoice: roll back")
def rollback(
    plan: dict = {},  # noqa: B006  # kfp reads the default, nobody writes it
    tracking_uri: str = MLFLOW,
    service: str = SERVICE,
    prometheus: str = PROMETHEUS,
) -> None:
    """Move all users to the version with the alias 'previous', in one step, and make it the champion again.

    Args:
        plan: Changes to the rollout's plan, such as {"ready_timeout_seconds": 1800}.
        tracking_uri: The MLflow server.
        service: The InferenceService that serves the users, as kserve://namespace/name.
        prometheus: The Prometheus server that counts the users' requests.
    """
    # 1. which version that is, once: when the rollback ends, the aliases are swapped
    former = with_registry(step.former(tracking_uri=tracking_uri)).set_caching_options(False)
    # 2. all users to it, alias champion
    rolled = step.roll_back(
        version=former.output,
        service=service,
        prometheus=prometheus,
        plan=plan,
        tracking_uri=tracking_uri,
    )
    with_registry(with_prometheus(rolled)).set_caching_options(False)
    served = step.stop_if_refused(refusal=rolled.outputs["Output"])
    served.set_caching_options(False).set_display_name("serves all users")
