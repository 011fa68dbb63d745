"""What was rendered passes all checks, and each check refuses what it is there for."""

import copy
import os
from pathlib import Path

import pytest
import yaml

from manifests import validate
from manifests.predictor_pod import predictor_pod
from manifests.schemas import Schemas, closed, is_built_in
from manifests.tools import ENV


@pytest.fixture(scope="module")
def schemas() -> Schemas:
    folder = os.environ.get("CRD_SCHEMAS")
    if not folder:
        pytest.skip("CRD_SCHEMAS names no folder with schemas of custom resources")
    return Schemas(Path(folder))


@pytest.fixture(scope="module")
def checkers():
    for program in ("checkov", "kubernetes-validate"):
        if not (ENV / program).is_file():
            pytest.skip(f"{program} is not there: run `make tools`")


def test_custom_resources_keep_to_their_schemas(everything, schemas):
    assert validate.custom_problems(validate.distinct(everything), schemas) == []


def test_kinds_of_kubernetes_and_all_pods_pass_the_checkers(everything, checkers):
    assert validate.built_in_problems(validate.distinct(everything)) == []


def test_each_check_refuses_what_it_is_there_for(
    overlays, schemas, checkers, monkeypatch, tmp_path, capsys
):
    objects = copy.deepcopy(overlays["local"])
    misspelt, rooted = predictor_pod(objects), predictor_pod(objects)
    misspelt["metadata"]["name"], rooted["metadata"]["name"] = "misspelt", "rooted"
    misspelt["spec"]["containers"][0]["livenesProbe"] = {}
    del rooted["spec"]["containers"][0]["securityContext"]
    [service] = (each for each in objects if each["kind"] == "InferenceService")
    service["spec"]["predictor"]["model"]["storageUrl"] = "pvc://model-cache/somewhere"
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump_all([*objects, misspelt, rooted]))
    monkeypatch.setattr(validate, "RENDERED", tmp_path)
    monkeypatch.setattr(validate, "BUILT", tmp_path / "none")
    assert validate.main() == 1
    problems = capsys.readouterr().err
    assert "livenesProbe" in problems
    assert "CKV_K8S_23" in problems
    assert "sensevoice.rooted" in problems
    assert "bad: InferenceService sensevoice/sensevoice: spec.predictor.model" in problems
    assert "storageUrl" in problems


def test_schemas_refuse_unknown_fields_and_wrong_types(overlays, schemas, pick):
    service = copy.deepcopy(pick(overlays["local"], "InferenceService"))
    assert schemas.problems(service) == []
    service["spec"]["predictor"]["maxReplica"] = 1
    service["spec"]["predictor"]["timeout"] = "600s"
    first, second = schemas.problems(service)
    assert first.startswith("InferenceService sensevoice/sensevoice: spec.predictor")
    assert "maxReplica" in first + second
    assert "spec.predictor.timeout" in first + second


def test_a_kind_without_a_schema_is_told(schemas):
    unknown = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "one"}}
    [problem] = schemas.problems(unknown)
    assert problem.startswith("Thing one: no schema for example.com/v1")


def test_closed_schemas_leave_open_what_is_open():
    schema = closed(
        {
            "type": "object",
            "properties": {
                "port": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}]},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "free": {
                    "type": "object",
                    "properties": {},
                    "x-kubernetes-preserve-unknown-fields": True,
                },
                "none": {"type": "string", "nullable": True},
            },
        }
    )
    assert schema["additionalProperties"] is False
    assert schema["properties"]["port"] == {"type": ["integer", "string"]}
    assert schema["properties"]["labels"]["additionalProperties"] == {"type": "string"}
    assert "additionalProperties" not in schema["properties"]["free"]
    assert schema["properties"]["none"]["type"] == ["string", "null"]


@pytest.mark.parametrize(
    ("api_version", "expected"),
    [
        ("v1", True),
        ("apps/v1", True),
        ("networking.k8s.io/v1", True),
        ("gateway.networking.k8s.io/v1", False),
        ("serving.kserve.io/v1beta1", False),
    ],
)
def test_who_knows_a_kind(api_version, expected):
    assert is_built_in({"apiVersion": api_version}) is expected


def test_placeholders_are_named_and_harm_nothing(overlays):
    notes = validate.placeholders(overlays)
    assert any("production: registry.example/sensevoice-predictor@sha256:000" in n for n in notes)
    assert any("staging: pvc://model-cache/sensevoice-small/000" in note for note in notes)
    assert not any(note.startswith("local:") for note in notes)


def test_a_field_that_the_pod_would_lose_is_told(overlays):
    objects = copy.deepcopy(overlays["local"])
    service = next(each for each in objects if each["kind"] == "InferenceService")
    service["spec"]["predictor"]["hostNetwork"] = True
    with pytest.raises(ValueError, match="hostNetwork"):
        predictor_pod(objects)


def test_nothing_rendered_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr(validate, "RENDERED", tmp_path)
    monkeypatch.setattr(validate, "BUILT", tmp_path)
    with pytest.raises(FileNotFoundError, match="make manifests"):
        validate.read()
