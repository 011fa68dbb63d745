"""What manifests and code have to agree on."""

import ast
import re

import pytest

from manifests.predictor_pod import CONTAINER, predictor_pod
from pipelines import pod as pipelines_pod
from pipelines.fetching.source import SENSEVOICE_SMALL
from pipelines.rollout.cluster import events, target
from pipelines.rollout.cluster.inference_service import MODE, STATE, STATE_MASK
from pipelines.rollout.cluster.knative import TAG_ROUTING
from predictor.server.settings import ENV_PREFIX, Settings

DEFAULTS = Settings()


@pytest.fixture
def predictor():
    """The function from objects to the predictor's container."""

    def of(objects):
        [container] = (
            each
            for each in predictor_pod(objects)["spec"]["containers"]
            if each["name"] == CONTAINER
        )
        return container

    return of


@pytest.fixture
def settings(predictor, pick, monkeypatch):
    """The function from objects to the settings that the predictor would start with."""

    def of(objects):
        container = predictor(objects)
        variables = {each["name"]: each.get("value") for each in container.get("env", ())}
        for source in container["envFrom"]:
            variables |= pick(objects, "ConfigMap", source["configMapRef"]["name"])["data"]
        ours = {name: value for name, value in variables.items() if name.startswith(ENV_PREFIX)}
        known = {f"{ENV_PREFIX}{field.upper()}" for field in Settings.model_fields}
        assert ours.keys() <= known
        with monkeypatch.context() as environment:
            for name, value in ours.items():
                if value is not None:
                    environment.setenv(name, value)
            return Settings.from_command_line(container["args"])

    return of


@pytest.fixture
def service(pick):
    """The function from objects to the InferenceService."""
    return lambda objects: pick(objects, "InferenceService")


def test_settings_exist_and_hold(everything, settings, service):
    for name, objects in everything.items():
        assert settings(objects).model_name == service(objects)["metadata"]["name"], name


def test_ports_are_those_of_the_settings(everything, predictor, settings):
    for name, objects in everything.items():
        container, chosen = predictor(objects), settings(objects)
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert ports.pop("http1") == chosen.http_port, name
        assert ports in ({}, {"h2c": chosen.grpc_port}), name
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[probe]["httpGet"]["port"] == chosen.http_port, name


def test_network_policies_open_the_ports_of_the_settings(everything, pick):
    for name, objects in everything.items():
        rule = pick(objects, "NetworkPolicy", "predictor")["spec"]["ingress"][0]
        ports = {port["port"] for port in rule["ports"]}
        assert {DEFAULTS.http_port, DEFAULTS.grpc_port} <= ports, name


def test_the_probes_ask_what_they_should(everything, predictor):
    for name, objects in everything.items():
        container = predictor(objects)
        ready = container["readinessProbe"]["httpGet"]["path"]
        assert ready == "/v2/models/sensevoice/ready", name
        for probe in ("startupProbe", "livenessProbe"):
            assert container[probe]["httpGet"]["path"] == "/v2/health/live", name
        startup = container["startupProbe"]
        assert startup["periodSeconds"] * startup["failureThreshold"] >= 300, name


def test_the_service_asks_for_what_the_runtime_serves(everything, service, pick):
    for name, objects in everything.items():
        model = service(objects)["spec"]["predictor"]["model"]
        runtime = pick(objects, "ServingRuntime", model["runtime"])["spec"]
        formats = [(f["name"], f["version"]) for f in runtime["supportedModelFormats"]]
        assert (model["modelFormat"]["name"], model["modelFormat"]["version"]) in formats, name
        assert model["protocolVersion"] in runtime["protocolVersions"], name
        assert runtime["protocolVersions"] == ["v1", "v2", "grpc-v2"], name


def test_names_are_those_that_the_pipelines_use(everything, service, pick):
    for name, objects in everything.items():
        metadata = service(objects)["metadata"]
        address = f"kserve://{metadata['namespace']}/{metadata['name']}"
        assert address == pipelines_pod.SERVICE, name
        uri = service(objects)["spec"]["predictor"]["model"].get("storageUri", "")
        if uri.startswith("pvc://"):
            claim, family, digest = uri.removeprefix("pvc://").split("/")
            assert (claim, family) == (pipelines_pod.CACHE_CLAIM, "sensevoice-small"), name
            assert re.fullmatch("[0-9a-f]{64}", digest), name
            pick(objects, "PersistentVolumeClaim", claim)


def test_the_preload_job_fills_the_cache_that_is_served(compose, pick):
    [container] = pick(compose("model-cache"), "Job")["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["python", "-m", "pipelines.fetching"]
    assert container["args"] == [SENSEVOICE_SMALL, f"--cache={pipelines_pod.CACHE}"]
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert pipelines_pod.CACHE in mounts
    keys = {each["name"]: each["valueFrom"]["secretKeyRef"] for each in container["env"]}
    assert {ref["name"] for ref in keys.values()} == {pipelines_pod.HUB_SECRET}
    assert all(ref["optional"] for ref in keys.values())


def test_the_service_can_be_rolled_out(everything, service):
    for name, objects in everything.items():
        document = service(objects)
        annotations = document["metadata"]["annotations"]
        assert annotations[MODE] in ("Knative", "Standard"), name
        assert (annotations.get(TAG_ROUTING) == "true") is (annotations[MODE] == "Knative"), name
        assert document["spec"]["predictor"]["annotations"][STATE] == STATE_MASK, name


def test_requests_may_finish_before_a_pod_is_killed(everything, service, settings, predictor):
    for name, objects in everything.items():
        spec = service(objects)["spec"]["predictor"]
        grace = settings(objects).grace_period_seconds
        lifecycle = predictor(objects).get("lifecycle")
        if service(objects)["metadata"]["annotations"][MODE] == "Knative":
            # Knative's queue-proxy drains, and a pod's grace period is the timeout.
            assert lifecycle is None, name
            assert grace < spec["timeout"] <= 600, name
        else:
            delay = lifecycle["preStop"]["sleep"]["seconds"]
            assert delay >= 5, name
            assert delay + grace < spec["terminationGracePeriodSeconds"], name


def test_replicas_and_what_moves_them(everything, service, pick):
    for name, objects in everything.items():
        spec = service(objects)["spec"]["predictor"]
        assert 0 <= spec["minReplicas"] <= spec["maxReplicas"], name
        assert spec.get("scaleMetric") != "cpu", name
        metrics = spec.get("autoScaling", {}).get("metrics", ())
        assert all(metric["type"] != "Resource" for metric in metrics), name
        assert bool(metrics) is ("scaleMetric" not in spec), name
        if spec["minReplicas"] >= 2:
            budget = pick(objects, "PodDisruptionBudget", "sensevoice-predictor")["spec"]
            labels = predictor_pod(objects)["metadata"]["labels"].items()
            assert budget["selector"]["matchLabels"].items() <= labels, name


def test_no_object_has_a_secret(everything):
    for name, objects in everything.items():
        assert not [each for each in objects if each["kind"] == "Secret"], name


def test_everything_says_its_namespace(everything):
    cluster_wide = {"Namespace", "PriorityClass", "LocalModelCache", "LocalModelNodeGroup"}
    elsewhere = {"istio-system"}  # What is Istio's own.
    for name, objects in everything.items():
        namespaces = {each["metadata"]["name"] for each in objects if each["kind"] == "Namespace"}
        for each in objects:
            if each["kind"] in cluster_wide or each["kind"].startswith("Cluster"):
                continue
            where = each["metadata"].get("namespace")
            assert where in namespaces | elsewhere, (
                f"{name}: {each['kind']} {each['metadata']['name']}: {where}"
            )


def test_references_lead_to_objects(everything, pods, pick):
    for name, objects in everything.items():
        there = {
            (each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"])
            for each in objects
        }
        for title, pod in pods(objects).items():
            namespace = title.split()[1].split("/")[0]
            for kind, reference in references(pod):
                assert (kind, namespace, reference) in there, f"{name}: {title}: {kind} {reference}"


def references(pod):
    """Kinds and names of what a pod cannot start without, Secrets left to the operator."""
    if "serviceAccountName" in pod:
        yield "ServiceAccount", pod["serviceAccountName"]
    if "priorityClassName" in pod:
        assert pod["priorityClassName"].startswith("sensevoice-")
    for volume in pod.get("volumes", ()):
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
        if "configMap" in volume and not volume["configMap"].get("optional"):
            yield "ConfigMap", volume["configMap"]["name"]
    for container in (*pod.get("initContainers", ()), *pod["containers"]):
        for source in container.get("envFrom", ()):
            if "configMapRef" in source:
                yield "ConfigMap", source["configMapRef"]["name"]


def test_the_rollout_may_do_what_its_code_does_and_no_more(compose):
    objects = compose("pipelines")
    granted = {
        (group, resource, verb)
        for each in objects
        if each["kind"] == "Role" and "inferenceservices" in str(each["rules"])
        for rule in each["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert granted == set(calls())


def calls():
    """Group, resource and verb of each call that the rollout's target makes to the API."""
    tree = ast.parse(target.__loader__.get_source(target.__name__))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            verb, found, _ = node.func.attr.partition("_namespaced_custom_object")
            if found and node.args:
                assert ast.unparse(node.args[0]) == "GROUP"
                yield events.GROUP, ast.literal_eval(node.args[3]), verb
            elif found:
                yield target.KIND["group"], target.KIND["plural"], verb
