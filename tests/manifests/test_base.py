"""The base by itself."""

import os
import re
from pathlib import Path

import pytest
import yaml

from manifests.predictor_pod import predictor_pod
from manifests.render import README
from manifests.schemas import Schemas
from pipelines.rollout.cluster.events import COMPONENT

FLAGS = {
    "nodeSelector": "kubernetes.podspec-nodeselector",
    "priorityClassName": "kubernetes.podspec-priorityclassname",
    "tolerations": "kubernetes.podspec-tolerations",
    "topologySpreadConstraints": "kubernetes.podspec-topologyspreadconstraints",
}
"""Fields of a pod that Knative takes where its ConfigMap ``config-features`` says so."""

WITHOUT_FLAG = {
    "automountServiceAccountToken",
    "containers",
    "enableServiceLinks",
    "serviceAccountName",
    "volumes",
}


@pytest.fixture
def base(compose):
    return compose()


def in_knative_mode(everything):
    """Name and objects of overlays and scenarios in Knative mode."""
    for name, objects in everything.items():
        [service] = (each for each in objects if each["kind"] == "InferenceService")
        if service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Knative":
            yield name, objects


def test_the_smallest_thing_that_runs(base):
    kinds = {each["kind"] for each in base}
    assert kinds == {
        "ConfigMap",
        "InferenceService",
        "Namespace",
        "NetworkPolicy",
        "PersistentVolumeClaim",
        "ServiceAccount",
        "ServingRuntime",
    }


def test_the_namespace_takes_restricted_pods_only(base, pick):
    labels = pick(base, "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_changed_settings_start_new_pods(compose, pick):
    names = set()
    for objects in (compose(), compose("gpu")):
        [container] = pick(objects, "ServingRuntime")["spec"]["containers"]
        [source] = container["envFrom"]
        name = source["configMapRef"]["name"]
        assert re.fullmatch("sensevoice-settings-[0-9a-z]{10}", name)
        pick(objects, "ConfigMap", name)
        names.add(name)
    assert len(names) == 2


def test_nothing_comes_in_or_goes_out_unless_allowed(base, pick):
    deny = pick(base, "NetworkPolicy", "default-deny")["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    predictor = pick(base, "NetworkPolicy", "predictor")["spec"]
    assert predictor["policyTypes"] == ["Ingress"]


def test_many_nodes_read_the_cache(base, pick):
    assert pick(base, "PersistentVolumeClaim")["spec"]["accessModes"] == ["ReadWriteMany"]


def test_what_is_applied_first_needs_nothing_else(compose):
    first = [
        each
        for each in compose("model-cache")
        if each["metadata"].get("labels", {}).get("sensevoice/apply") == "first"
    ]
    assert {(each["kind"], each["metadata"]["name"]) for each in first} == {
        ("Namespace", "sensevoice"),
        ("PersistentVolumeClaim", "model-cache"),
        ("NetworkPolicy", "default-deny"),
        ("NetworkPolicy", "allow-dns"),
        ("NetworkPolicy", "model-preload"),
        ("ServiceAccount", "model-preload"),
        ("Job", "model-preload"),
    }


def test_knative_takes_the_pods(everything):
    folder = os.environ.get("CRD_SCHEMAS")
    if not folder:
        pytest.skip("CRD_SCHEMAS names no folder with schemas of custom resources")
    schemas = Schemas(Path(folder))
    checked = 0
    for name, objects in in_knative_mode(everything):
        pod = predictor_pod(objects)
        service = {
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"template": {"metadata": pod["metadata"], "spec": pod["spec"]}},
        }
        assert schemas.problems(service) == [], name
        # The schema knows more than Knative's webhook lets through.
        [container] = pod["spec"]["containers"]
        assert len(container["ports"]) == 1, name
        checked += 1
    assert checked >= 3


def test_the_readme_names_the_feature_flags(everything):
    readme = README.read_text()
    used = set()
    for _, objects in in_knative_mode(everything):
        used |= predictor_pod(objects)["spec"].keys() - WITHOUT_FLAG
    assert used
    for field in used:
        assert f"`{FLAGS[field]}`" in readme


def test_the_readme_names_who_else_writes_the_service():
    assert f"`{COMPONENT}`" in README.read_text()


def test_the_pod_is_what_kserve_made_of_a_runtime_and_a_service(base):
    """Fields that KServe and Knative were seen to carry over, under the names that they gave them."""
    folder = os.environ.get("KSERVE_TRACES")
    if not folder:
        pytest.skip("KSERVE_TRACES names no folder with what KServe's controllers made")
    path = Path(folder) / "rendered-knative-service.yaml"
    made = yaml.safe_load(path.read_text())["spec"]["template"]
    ours = predictor_pod(base)
    labels = made["metadata"]["labels"]
    assert ours["metadata"]["labels"] == labels
    [theirs], [container] = made["spec"]["containers"], ours["spec"]["containers"]
    assert container["name"] == theirs["name"]
    assert container["args"] == [theirs["args"][0]]
    assert ours["spec"]["enableServiceLinks"] == made["spec"]["enableServiceLinks"]
