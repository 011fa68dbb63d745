import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from pipelines.tracking.connection import RegistryError
from pipelines.tracking.registry import MAX_DESCRIPTION, ModelRegistry
from pipelines.tracking.version import FAMILY, Version


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_release_becomes_a_version(
    registry, make_release, small_model, client, report_dir, aliases
):
    release = make_release(small_model, "run-1", revision="v1.0")
    version = registry.register(release)
    assert version == Version(
        version="1",
        digest=release.digest,
        storage_uri=release.storage_uri,
        image=release.image,
        source="embedded",
        revision="v1.0",
        run_id=version.run_id,
    )
    entity = client.get_model_version(registry.name, "1")
    assert entity.tags == release.tags
    assert entity.description == (report_dir / "summary.md").read_text()
    assert aliases(registry) == {"challenger": "1"}
    run = client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == release.metrics
    assert run.data.params == release.tags
    assert run.data.tags["pipeline_run"] == "run-1"
    shown = {file.path for file in client.list_artifacts(version.run_id, "report")}
    assert shown == {"report/report.html", "report/summary.md"}
    (model,) = client.search_logged_models([run.info.experiment_id])
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
    assert {metric.key: metric.value for metric in model.metrics} == release.metrics


def test_a_step_that_is_run_again_finds_its_version(registry, make_release, small_model, client):
    release = make_release(small_model)
    first = registry.register(release)
    assert registry.register(release) == first
    assert len(client.search_model_versions(f"name = '{registry.name}'")) == 1
    experiment = client.get_experiment_by_name(registry.name).experiment_id
    assert len(client.search_runs([experiment])) == 1


def test_another_run_makes_another_version(registry, make_release, small_model, aliases):
    first = registry.register(make_release(small_model, "run-1"))
    second = registry.register(make_release(small_model, "run-2", image=None))
    assert (first.version, second.version, second.image) == ("1", "2", None)
    assert aliases(registry) == {"challenger": "2"}
    assert registry.of_run("run-1") == first
    assert registry.of_run("run-2") == second
    # The older one's step, tried again, does not take the alias back.
    registry.register(make_release(small_model, "run-1"))
    assert aliases(registry) == {"challenger": "2"}


@pytest.mark.parametrize("outcome", ["promoted", "rejected"])
def test_what_was_rolled_out_is_no_challenger_again(
    registry, make_release, small_model, aliases, outcome
):
    release = make_release(small_model)
    version = registry.register(release).version
    if outcome == "promoted":
        registry.promoted(version)
    else:
        registry.rejected(version, "too slow")
    assert registry.register(release).version == version
    assert "challenger" not in aliases(registry)


def test_a_long_summary_is_continued_in_the_report(
    registry, make_release, small_model, client, tmp_path
):
    (tmp_path / "summary.md").write_text("字" * (MAX_DESCRIPTION + 1))
    registry.register(make_release(small_model, report=tmp_path))
    description = client.get_model_version(registry.name, "1").description
    assert len(description) == MAX_DESCRIPTION
    assert description.endswith("字\n\n… continued in the run's artifact report/summary.md")


def test_versions_are_found_by_number_and_alias(registry, versions, client):
    versions(registry, 2)
    registry.promoted("1")
    registry.promoted("2")
    assert registry.find("1").version == "1"
    assert registry.find("@champion").version == "2"
    assert registry.find("@previous").version == "1"
    assert registry.find("@challenger") is None
    assert registry.find("3") is None
    assert registry.of_run("none") is None


def test_nothing_is_found_where_nothing_was_registered(registry):
    assert registry.find("1") is None
    assert registry.find("@champion") is None
    assert registry.of_run("run-1") is None


@pytest.mark.parametrize("selector", ["champion", "", "-1", "1.0", "latest", "²"])
def test_a_selector_is_a_number_or_an_alias(registry, selector):
    with pytest.raises(RegistryError, match="neither a version's number nor an @alias"):
        registry.find(selector)


def test_versions_are_text_without_a_server_too(registry, versions, mlflow_server):
    versions(registry, 1)
    registry.promoted("1")
    local = ModelRegistry(f"sqlite:///{mlflow_server.folder}/mlflow.db", registry.name)
    assert local.find("@champion") == registry.find("1")
    assert local.url(local.find("1")) == f"models:/{registry.name}/1"


def test_a_version_of_other_making_is_named(registry, client):
    client.create_registered_model(registry.name)
    client.create_model_version(registry.name, "pvc://claim/folder", tags={"digest": "0"})
    with pytest.raises(RegistryError, match=r"version 1 has no tag 'storage_uri'"):
        registry.find("1")


def test_a_prepared_directory_comes_back_as_it_was(
    registry, make_release, prepared_model, tmp_path
):
    version = registry.register(make_release(prepared_model))
    restored = registry.download(version, tmp_path / "new")
    assert restored.is_relative_to(tmp_path / "new")
    assert files(restored) == files(prepared_model)


def test_files_that_are_gone_are_named(
    registry, make_release, small_model, mlflow_server, client, tmp_path
):
    version = registry.register(make_release(small_model))
    uri = client.get_model_version_download_uri(registry.name, version.version)
    shutil.rmtree(mlflow_server.folder / "artifacts" / uri.removeprefix("mlflow-artifacts:/"))
    with pytest.raises(RegistryError, match="version 1 are gone from mlflow-artifacts:/"):
        registry.download(version, tmp_path)


def test_a_version_has_a_page(registry, versions, mlflow_server):
    versions(registry, 1)
    url = registry.url(registry.find("1"))
    assert url == f"{mlflow_server.uri}/#/models/{registry.name}/versions/1"
    assert "<html" in httpx.get(url).text
    named = ModelRegistry("https://user:word@mlflow.example/base/").url(registry.find("1"))
    assert named == f"https://mlflow.example/base/#/models/{FAMILY}/versions/1"


@pytest.mark.parametrize(
    ("uri", "message"),
    [("", "tracking_uri is empty"), ("htp://mlflow:5000", "tracking_uri 'htp://mlflow:5000': ")],
)
def test_a_tracking_uri_must_name_a_server(uri, message):
    with pytest.raises(RegistryError, match=message):
        ModelRegistry(uri)


PROMOTIONS = {
    "first": ([], "1", {"champion": "1"}),
    "second": (["1"], "2", {"champion": "2", "previous": "1"}),
    "third": (["1", "2"], "3", {"champion": "3", "previous": "2"}),
    "rollback": (["1", "2"], "1", {"champion": "1", "previous": "2"}),
    "rollback of a rollback": (["1", "2", "1"], "2", {"champion": "2", "previous": "1"}),
}


@pytest.mark.parametrize("name", PROMOTIONS)
def test_promoting_survives_every_kill(
    name, mlflow_server, versions, client, survives_kills, aliases
):
    before, version, after = PROMOTIONS[name]

    def arrange(write: int) -> ModelRegistry:
        registry = ModelRegistry(mlflow_server.uri, f"killed-{name}-{write}".replace(" ", "-"))
        versions(registry, 3)
        for one in before:
            registry.promoted(one)
        client.set_registered_model_alias(registry.name, "challenger", version)
        return registry

    def check(registry: ModelRegistry) -> None:
        left = aliases(registry)
        if before:
            assert left["champion"] in (before[-1], version)
        if name.startswith("rollback"):
            # The rollback that is run again goes the same way.
            assert left["previous"] == version
        for _ in range(2):
            registry.promoted(version)
            assert aliases(registry) == after

    assert survives_kills(arrange, lambda registry: registry.promoted(version), check) >= 2


def test_promoting_again_does_not_miss_a_deleted_version(registry, versions, client, aliases):
    versions(registry, 2)
    registry.promoted("1")
    registry.promoted("2")
    client.delete_model_version(registry.name, "1")
    registry.promoted("2")
    assert aliases(registry) == {"champion": "2"}


def test_champion_and_previous_are_two(registry, versions, client, aliases):
    versions(registry, 1)
    client.set_registered_model_alias(registry.name, "previous", "1")
    registry.promoted("1")
    assert aliases(registry) == {"champion": "1"}


def test_the_same_model_again_goes_back_to_what_served_before_it(
    registry, versions, client, aliases
):
    """Not to itself: a rollback would change nothing."""
    versions(registry, 2)
    for number in ("1", "2"):
        registry.promoted(number)
    tags = client.get_model_version(registry.name, "2").tags
    again = {name: tags[name] for name in ("digest", "storage_uri")}
    client.create_model_version(
        registry.name, tags["storage_uri"], tags=again, await_creation_for=0
    )
    for _ in range(2):
        registry.promoted("3")
        assert aliases(registry) == {"champion": "3", "previous": "1"}


def test_the_first_model_again_has_nothing_before_it(registry, versions, client, aliases):
    versions(registry, 1)
    registry.promoted("1")
    tags = client.get_model_version(registry.name, "1").tags
    again = {name: tags[name] for name in ("digest", "storage_uri")}
    client.create_model_version(
        registry.name, tags["storage_uri"], tags=again, await_creation_for=0
    )
    registry.promoted("2")
    assert aliases(registry) == {"champion": "2"}


def test_a_newer_challenger_stays_one(registry, versions, client, aliases):
    versions(registry, 3)
    client.set_registered_model_alias(registry.name, "challenger", "3")
    registry.promoted("2")
    registry.rejected("1", "too slow")
    assert aliases(registry) == {"champion": "2", "challenger": "3"}


def test_a_rejected_version_tells_why_and_when(registry, versions, client, aliases):
    versions(registry, 2)
    registry.promoted("1")
    client.set_registered_model_alias(registry.name, "challenger", "2")
    reason = "at 25 %: error rate 3.1 %, at most 1 %"
    began = datetime.now(UTC).replace(microsecond=0)
    for _ in range(2):
        registry.rejected("2", reason)
    tags = client.get_model_version(registry.name, "2").tags
    assert tags["rejected"] == reason
    at = datetime.fromisoformat(tags["rejected_at"])
    assert began <= at <= began + timedelta(hours=1)
    assert aliases(registry) == {"champion": "1"}
    # Rolled out once more, and this time for good.
    registry.promoted("2")
    assert not {"rejected", "rejected_at"} & set(client.get_model_version(registry.name, "2").tags)


def test_rejecting_survives_every_kill(mlflow_server, versions, client, survives_kills, aliases):
    def arrange(write: int) -> ModelRegistry:
        registry = ModelRegistry(mlflow_server.uri, f"killed-reject-{write}")
        versions(registry, 1)
        client.set_registered_model_alias(registry.name, "challenger", "1")
        return registry

    def check(registry: ModelRegistry) -> None:
        registry.rejected("1", "too slow")
        tags = client.get_model_version(registry.name, "1").tags
        assert {"rejected", "rejected_at"} <= set(tags)
        assert aliases(registry) == {}

    assert survives_kills(arrange, lambda it: it.rejected("1", "too slow"), check) == 3


@pytest.mark.parametrize(
    "tell",
    [lambda registry: registry.promoted("7"), lambda registry: registry.rejected("7", "slow")],
    ids=["promoted", "rejected"],
)
def test_outcomes_of_an_unknown_version_are_refused(
    registry, versions, tell: Callable[[ModelRegistry], None]
):
    versions(registry, 1)
    with pytest.raises(RegistryError, match="has no version 7"):
        tell(registry)
