"""What holds for every pod of every overlay and scenario."""

import re

import pytest

ROOT = ("DaemonSet gpu-monitoring/dcgm-exporter", "DaemonSet logging/log-shipper")
"""Pods that read what is root's on their node; their components say why."""

OURS = "sensevoice-"
"""What the names of this project's images begin with."""

SERVES = ("DaemonSet", "Deployment", "Pod", "StatefulSet")


def merged(pod, container, field):
    """A field of the security context: the container's own, else the pod's."""
    own = container.get("securityContext", {}).get(field)
    return pod.get("securityContext", {}).get(field) if own is None else own


def image_name(image):
    return re.split(r"[:@]", image.rpartition("/")[2])[0]


@pytest.fixture
def every(everything, containers):
    """Title, pod and container of all."""
    return [
        (f"{place}: {title}", pod, container)
        for place, objects in everything.items()
        for title, (pod, container) in containers(objects).items()
    ]


def test_pods_are_not_root(every):
    for title, pod, container in every:
        if any(name in title for name in ROOT):
            continue
        assert merged(pod, container, "runAsNonRoot") is True, title
        assert merged(pod, container, "seccompProfile") == {"type": "RuntimeDefault"}, title


def test_our_images_run_as_the_user_they_are_built_for(every):
    ours = [each for each in every if image_name(each[2]["image"]).startswith(OURS)]
    assert {image_name(container["image"]) for _, _, container in ours} >= {
        "sensevoice-predictor",
        "sensevoice-pipelines",
    }
    for title, pod, container in ours:
        assert merged(pod, container, "runAsUser") == 65532, title
        assert merged(pod, container, "runAsGroup") == 65532, title
        assert container["securityContext"]["readOnlyRootFilesystem"] is True, title


def test_containers_have_no_capabilities_and_cannot_gain_any(every):
    for title, _, container in every:
        context = container["securityContext"]
        assert context["capabilities"] == {"drop": ["ALL"]}, title
        assert context["allowPrivilegeEscalation"] is False, title
        assert not context.get("privileged"), title


def test_pods_are_of_the_class_guaranteed(every):
    for title, _, container in every:
        resources = container["resources"]
        assert resources["requests"] == resources["limits"], title
        assert {"cpu", "memory"} <= resources["limits"].keys(), title


def test_scratch_space_is_bounded(every):
    """By the volume's own limit, or by that of the whole container."""
    for title, pod, container in every:
        if "ephemeral-storage" in container["resources"]["limits"]:
            continue
        for volume in pod.get("volumes", ()):
            if "emptyDir" in volume:
                assert volume["emptyDir"].get("sizeLimit"), f"{title}: {volume['name']}"


def test_what_serves_has_probes_and_each_asks_another_thing(every):
    for title, pod, container in every:
        if title.split(": ")[1].split()[0] not in SERVES or container not in pod["containers"]:
            continue
        assert {"readinessProbe", "livenessProbe"} <= container.keys(), title
        readiness, liveness = container["readinessProbe"], container["livenessProbe"]
        if "httpGet" in readiness and "httpGet" in liveness:
            assert readiness["httpGet"]["path"] != liveness["httpGet"]["path"], title


def test_images_have_a_version_that_stays(every):
    for title, _, container in every:
        image = container["image"]
        _, _, version = image.rpartition("/")[2].partition(":")
        assert version, f"{title}: {image}"
        assert not version.startswith("latest"), f"{title}: {image}"


def test_production_goes_by_digests(overlays, containers):
    production = [name for name in overlays if name.startswith("production")]
    assert len(production) == 2
    for name in production:
        for title, (_, container) in containers(overlays[name]).items():
            image = container["image"]
            assert re.search(r"@sha256:[0-9a-f]{64}$", image), f"{name}: {title}: {image}"


def test_tokens_of_the_kubernetes_api_only_where_they_are_used(everything, pods):
    for place, objects in everything.items():
        unmounted = {
            (each["metadata"]["namespace"], each["metadata"]["name"])
            for each in objects
            if each["kind"] == "ServiceAccount"
            and not each.get("automountServiceAccountToken", True)
        }
        bound = {
            subject["name"]
            for each in objects
            if each["kind"] in ("RoleBinding", "ClusterRoleBinding")
            for subject in each["subjects"]
        }
        for title, pod in pods(objects).items():
            if pod.get("serviceAccountName") in bound:
                continue
            namespace = title.split()[1].split("/")[0]
            off = pod.get("automountServiceAccountToken") is False
            assert off or (namespace, pod.get("serviceAccountName")) in unmounted, (
                f"{place}: {title}"
            )
