"""Bounds of the namespace."""

from decimal import Decimal

UNITS = {"": Decimal(1), "m": Decimal("0.001"), "Mi": Decimal(2) ** 20, "Gi": Decimal(2) ** 30}


def amount(quantity):
    text = str(quantity)
    digits = text.rstrip("mMGi")
    return Decimal(digits) * UNITS[text[len(digits) :]]


def test_defaults_keep_pods_guaranteed(compose, pick):
    [limit] = pick(compose("quota"), "LimitRange")["spec"]["limits"]
    assert limit["default"] == limit["defaultRequest"]


def test_the_priority_is_that_of_the_pods(compose, pick):
    objects = compose("quota")
    name = pick(objects, "InferenceService")["spec"]["predictor"]["priorityClassName"]
    assert name == pick(objects, "PriorityClass")["metadata"]["name"]


def test_a_rollout_fits_in_all_overlays(overlays, pick):
    """Twice the most pods that the autoscaler may start."""
    checked = 0
    for name, objects in overlays.items():
        if not any(each["kind"] == "ResourceQuota" for each in objects):
            continue
        hard = pick(objects, "ResourceQuota")["spec"]["hard"]
        [container] = pick(objects, "ServingRuntime")["spec"]["containers"]
        pods = 2 * pick(objects, "InferenceService")["spec"]["predictor"]["maxReplicas"]
        for resource, each in container["resources"]["requests"].items():
            assert pods * amount(each) <= amount(hard[f"requests.{resource}"]), (
                f"{name}: {resource}"
            )
        checked += 1
    assert checked
