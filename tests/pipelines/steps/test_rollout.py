"""A registered version onto a local service, and what a release's exit handler makes of a dead rollout."""

import json
import re

import pytest

from pipelines.demo_model.variant import write_variant
from pipelines.rollout.cluster.target import ClusterTarget
from pipelines.rollout.local.daemon import local_service
from pipelines.rollout.local.target import LocalTarget
from pipelines.rollout.plan import InvalidPlan
from pipelines.rollout.state import Candidate, RolloutState
from pipelines.rollout.target import ServedModel, Unavailable
from pipelines.steps.conclude import conclude
from pipelines.steps.dataset import dataset
from pipelines.steps.fetch import fetch
from pipelines.steps.prepare import prepare
from pipelines.steps.register import register
from pipelines.steps.rollout import (
    InvalidService,
    NoSuchVersion,
    connect,
    former,
    markdown,
    roll_out,
)
from pipelines.tracking.registry import ModelRegistry

PLAN = {
    "steps": [0, 100],
    "poll_seconds": 0.2,
    "lease_seconds": 2,
    "request_timeout_seconds": 30,
    "ready_timeout_seconds": 120,
    "replay": {"clips": 4},
}


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    directory = tmp_path_factory.mktemp("service")
    with local_service(directory):
        yield f"local://{directory}"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    dataset("embedded", None, folder, 4)
    return folder


@pytest.fixture(scope="module")
def promoted(registered, registry_uri, service, manifest, tmp_path_factory):
    """Version 1, rolled out on an empty service."""
    decisions = tmp_path_factory.mktemp("decisions") / "decisions.jsonl"
    outcome = roll_out(
        "1",
        service,
        prometheus="",
        plan=PLAN,
        tracking_uri=registry_uri,
        manifest=manifest,
        decisions=decisions,
    )
    return outcome, decisions


def test_a_version_reaches_all_users_and_is_the_champion(promoted, registry_uri, service):
    outcome, decisions = promoted
    assert outcome.outcome == "promoted"
    champion = ModelRegistry(registry_uri).find("@champion")
    assert champion is not None
    assert champion.version == "1"
    target, _ = connect(service, "")
    seen = target.observe()
    assert seen.stable is not None
    assert (seen.stable.percent, seen.candidate) == (100, None)
    reasons = [json.loads(line)["reason"] for line in decisions.read_text().splitlines()]
    assert reasons == [line["reason"] for line in outcome.lines]
    assert reasons[-1] == "RolloutPromoted"


def test_the_log_is_a_table_of_decisions(promoted):
    outcome, _ = promoted
    text = markdown(outcome)
    assert text.startswith("# Version 1: promoted\n")
    assert text.count("\n| 20") == len(outcome.lines)


@pytest.fixture
def half_done(promoted, report_folder, registry_uri, service, cache, demo_model_dir, tmp_path):
    """A candidate, registered by the run ``run-dead``, whose rollout died at 0 %."""
    fetched = fetch(str(write_variant(demo_model_dir, tmp_path / "variant", 0.02)), cache)
    prepared = prepare(fetched, cache)
    version = register(
        prepared.directory,
        fetched,
        report=report_folder,
        tracking_uri=registry_uri,
        image="",
        data_name="embedded",
        data_digest="d" * 64,
        pipeline_run="run-dead",
    )
    target = connect(service, "")[0]
    seen = target.observe()
    assert seen.stable is not None
    state = RolloutState(
        rollout="dead",
        owner="nobody/1",
        heartbeat=0.0,
        lease=1.0,
        candidate=Candidate(
            version=version, storage_uri=prepared.storage_uri, digest=prepared.digest
        ),
        phase="rolling",
        percent=0,
        stable=seen.stable.name,
    )
    model = ServedModel(prepared.storage_uri, prepared.digest)
    target.write(seen, state=state.model_dump_json(), percent=0, model=model)
    return version


def concluded(state, error, registry_uri, service, run, plan=PLAN):
    return conclude(
        state,
        error,
        service=service,
        prometheus="",
        plan=plan,
        tracking_uri=registry_uri,
        pipeline_run=run,
    )


def test_a_rollout_that_died_is_rolled_back(half_done, registry_uri, service):
    text = concluded("FAILED", "the pod was evicted", registry_uri, service, "run-dead")
    assert "# Release failed" in text
    assert "the pod was evicted" in text
    assert f"# Version {half_done}: rejected" in text
    registry = ModelRegistry(registry_uri)
    champion = registry.find("@champion")
    assert champion is not None
    assert champion.version == "1"
    seen = connect(service, "")[0].observe()
    assert seen.stable is not None
    assert seen.stable.percent == 100
    again = concluded("FAILED", "the pod was evicted", registry_uri, service, "run-dead")
    assert "No rollout was left half done." in again


def test_users_are_brought_back_while_mlflow_is_away(
    half_done, registry_uri, service, new_port, monkeypatch
):
    """It is not known whose rollout was left half done then."""
    nobody = f"http://127.0.0.1:{new_port()}"
    plan = {**PLAN, "unavailable_timeout_seconds": 1}
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(Unavailable) as told:
        concluded("FAILED", "the pod was evicted", nobody, service, "run-dead", plan)
    assert "were given back to" in told.value.__notes__[0]
    seen = connect(service, "")[0].observe()
    state = RolloutState.model_validate_json(seen.state)
    assert (state.candidate.version, state.phase) == (half_done, "rolling_back")
    assert seen.stable.percent == 100
    # And MLflow is told once it is back.
    text = concluded("FAILED", "the pod was evicted", registry_uri, service, "run-dead")
    assert f"# Version {half_done}: rejected" in text


def test_a_release_that_ended_well_is_told_with_its_version(promoted, registry_uri, service):
    text = concluded("SUCCEEDED", "", registry_uri, service, "run-1")
    assert "# Release succeeded" in text
    assert f"Version 1: {registry_uri}/#/models/sensevoice-small/versions/1" in text


def test_a_run_that_registered_nothing_says_so(registered, registry_uri):
    # No service is asked.
    text = concluded("FAILED", "no such model", registry_uri, "kserve://a/b", "run-unknown")
    assert "no such model" in text
    assert "No version was registered." in text


def test_what_is_wrong_is_told_before_anything_is_touched(registry_uri, registered, tmp_path):
    def attempt(version="1", service="local:///nowhere", plan=PLAN):
        roll_out(
            version,
            service,
            prometheus="",
            plan=plan,
            tracking_uri=registry_uri,
            manifest=tmp_path,
            decisions=tmp_path / "decisions",
        )

    with pytest.raises(InvalidPlan, match=re.escape("plan.bake: Extra inputs")):
        attempt(plan={"bake": 1})
    with pytest.raises(NoSuchVersion, match="has no version 999"):
        attempt(version="999")
    with pytest.raises(InvalidService, match="neither kserve://namespace/name nor local://"):
        attempt(service="sensevoice")


def test_an_inference_service_is_driven_in_its_cluster(monkeypatch, tmp_path):
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(
        json.dumps(
            {
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
                "users": [{"name": "u", "user": {}}],
            }
        )
    )
    monkeypatch.setattr(
        "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig)
    )
    target, meter = connect("kserve://voice/sensevoice", "http://prometheus:9090")
    assert isinstance(target, ClusterTarget)
    assert (target.namespace, target.name) == ("voice", "sensevoice")
    assert not isinstance(meter, LocalTarget)


def test_a_rollback_needs_a_former_version(promoted, registry_uri):
    with pytest.raises(NoSuchVersion, match="has no version @previous"):
        former(registry_uri)
