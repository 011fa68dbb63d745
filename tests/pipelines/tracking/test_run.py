import shutil

import pytest

from pipelines.tracking.connection import RegistryError
from pipelines.tracking.registry import ModelRegistry
from predictor.engine.errors import InvalidModel


def test_registering_survives_every_kill(
    mlflow_server, make_release, small_model, client, survives_kills, aliases
):
    release = make_release(small_model)

    def arrange(write: int) -> ModelRegistry:
        return ModelRegistry(mlflow_server.uri, f"killed-register-{write}")

    def check(registry: ModelRegistry) -> None:
        version = registry.register(release)
        assert version.version == "1"
        assert aliases(registry) == {"challenger": "1"}
        experiment = client.get_experiment_by_name(registry.name).experiment_id
        (run,) = client.search_runs([experiment])
        assert run.info.status == "FINISHED"
        assert len(client.search_logged_models([experiment])) == 1
        history = client.get_metric_history(run.info.run_id, "accuracy/zh/cer")
        assert len(history) == 1

    assert survives_kills(arrange, lambda registry: registry.register(release), check) >= 10


def test_a_failed_run_says_so_and_is_finished_later(registry, make_release, small_model, client):
    with pytest.raises(RegistryError, match="what!"):
        registry.register(make_release(small_model, metrics={"what!": 1.0}))
    experiment = client.get_experiment_by_name(registry.name).experiment_id
    (run,) = client.search_runs([experiment])
    assert run.info.status == "FAILED"
    assert registry.of_run("run-1") is None
    assert registry.register(make_release(small_model)).run_id == run.info.run_id
    assert client.get_run(run.info.run_id).info.status == "FINISHED"


def test_what_is_not_there_is_not_registered(registry, make_release, small_model, tmp_path):
    with pytest.raises(OSError, match=r"nowhere.summary\.md"):
        registry.register(make_release(small_model, report=tmp_path / "nowhere"))
    with pytest.raises(InvalidModel, match=f"the release says {'0' * 64}"):
        registry.register(make_release(small_model, digest="0" * 64))
    damaged = shutil.copytree(small_model, tmp_path / "damaged")
    (damaged / "am.mvn").write_bytes(b"")
    with pytest.raises(InvalidModel, match=r"am\.mvn: sha256"):
        registry.register(make_release(damaged))
    assert registry.find("1") is None
