"""The predictor's pod, as KServe makes it of a ServingRuntime and an InferenceService.

Tools that check pods know neither kind; given this pod they check what will run. Only what these manifests
use is merged; what Knative adds is left out.
"""

from collections.abc import Sequence

import yaml

from manifests.render import Object

CONTAINER = "kserve-container"

POD_FIELDS = (
    "serviceAccountName",
    "automountServiceAccountToken",
    "priorityClassName",
    "terminationGracePeriodSeconds",
    "topologySpreadConstraints",
)
"""Of ``InferenceService.spec.predictor``, taken as they are."""

RUNTIME_FIELDS = ("nodeSelector", "tolerations", "volumes")
"""Of ``ServingRuntime.spec``."""

REMARKS = {
    "checkov.io/skip1": "CKV_K8S_29=the container has it all; Knative takes a pod's by a flag only",
}
"""For checkov."""

EXTENSION_FIELDS = frozenset(
    {
        "annotations",
        "autoScaling",
        "canaryTrafficPercent",
        "deploymentStrategy",
        "labels",
        "maxReplicas",
        "minReplicas",
        "model",
        "scaleMetric",
        "scaleTarget",
        "timeout",
    }
)
"""Of ``InferenceService.spec.predictor``, about the pods and not in them."""


def predictor_pod(objects: Sequence[Object]) -> Object:
    """The pod of the InferenceService among the objects.

    Raises:
        ValueError: there is no one InferenceService with its runtime, or a field that is not merged here.
    """
    [service] = (each for each in objects if each["kind"] == "InferenceService")
    predictor = service["spec"]["predictor"]
    name = predictor["model"]["runtime"]
    [runtime] = (
        each
        for each in objects
        if each["kind"] == "ServingRuntime" and each["metadata"]["name"] == name
    )
    unknown = predictor.keys() - EXTENSION_FIELDS - set(POD_FIELDS)
    unknown |= runtime["spec"].keys() - set(RUNTIME_FIELDS)
    unknown -= {"annotations", "containers", "labels", "protocolVersions", "supportedModelFormats"}
    if unknown:
        raise ValueError(f"manifests/predictor_pod.py does not merge {sorted(unknown)}: add them")
    text = yaml.safe_dump(runtime["spec"]["containers"])
    containers = yaml.safe_load(text.replace("{{.Name}}", service["metadata"]["name"]))
    for container in containers:
        if container["name"] == CONTAINER:
            _merge(container, predictor["model"])
    spec = {field: runtime["spec"][field] for field in RUNTIME_FIELDS if field in runtime["spec"]}
    spec |= {field: predictor[field] for field in POD_FIELDS if field in predictor}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{service['metadata']['name']}-predictor",
            "namespace": service["metadata"]["namespace"],
            "annotations": {
                **runtime["spec"].get("annotations", {}),
                **predictor.get("annotations", {}),
                **REMARKS,
            },
            "labels": {
                **runtime["spec"].get("labels", {}),
                **predictor.get("labels", {}),
                "component": "predictor",
                "serving.kserve.io/inferenceservice": service["metadata"]["name"],
            },
        },
        "spec": {**spec, "containers": containers, "enableServiceLinks": False},
    }


def _merge(container: Object, model: Object) -> None:
    """The model's own environment comes after the runtime's."""
    for field in ("env", "envFrom"):
        if field in model:
            container[field] = [*container.get(field, []), *model[field]]
