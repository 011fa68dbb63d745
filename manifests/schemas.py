"""The OpenAPI schemas of custom resources, and what of an object they refuse."""

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from manifests.render import Object

Schema = dict[str, Any]

WITHOUT_SCHEMA = frozenset(
    {
        ("gateway.envoyproxy.io", "SecurityPolicy"),
        ("security.istio.io", "AuthorizationPolicy"),
        ("security.istio.io", "PeerAuthentication"),
        ("security.istio.io", "RequestAuthentication"),
        ("serving.kserve.io", "LocalModelCache"),
        ("serving.kserve.io", "LocalModelNodeGroup"),
    }
)
"""Groups and kinds of custom resources that are rendered and not checked: ``CRD_SCHEMAS`` has no schema of
them."""

BUILT_IN_SUFFIX = ".k8s.io"
CUSTOM_GROUPS = ("gateway.networking.k8s.io",)
"""Groups that look built in and are not."""


def is_built_in(each: Object) -> bool:
    """Whether Kubernetes itself knows the kind."""
    group, _, _ = each["apiVersion"].rpartition("/")
    if group in CUSTOM_GROUPS:
        return False
    return "." not in group or group.endswith(BUILT_IN_SUFFIX)


def title(each: Object) -> str:
    """``Kind namespace/name``, as messages call an object."""
    metadata = each["metadata"]
    path = "/".join(filter(None, (metadata.get("namespace"), metadata["name"])))
    return f"{each['kind']} {path}"


def closed(schema: Schema) -> Schema:
    """The schema with unknown fields refused, as the API server refuses them when asked to.

    Objects that keep unknown fields, and maps, stay open; ``int-or-string`` is spelled out.
    """
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    made: Schema = dict(schema)
    # Not allOf, anyOf and oneOf: conditions repeat some of the fields, and closed would refuse the others.
    for key in ("items", "additionalProperties"):
        if isinstance(made.get(key), dict):
            made[key] = closed(made[key])
    if "properties" in schema:
        made["properties"] = {name: closed(part) for name, part in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            made.setdefault("additionalProperties", False)
    if schema.get("nullable") and isinstance(schema.get("type"), str):
        made["type"] = [schema["type"], "null"]
    return made


class Schemas:
    """The schemas in a folder, as ``<group>/<kind>_<version>.json``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._validators: dict[Path, Draft202012Validator] = {}

    def problems(self, each: Object) -> list[str]:
        """What is wrong with a custom resource, a line each; none where its kind is not to be checked."""
        group, _, version = each["apiVersion"].rpartition("/")
        if (group, each["kind"]) in WITHOUT_SCHEMA:
            return []
        path = self._folder / group / f"{each['kind'].lower()}_{version}.json"
        if not path.is_file():
            return [f"{title(each)}: no schema for {each['apiVersion']} in {self._folder}"]
        errors = self._validator(path).iter_errors(each)
        return [f"{title(each)}: {error.json_path[2:]}: {error.message}" for error in errors]

    def _validator(self, path: Path) -> Draft202012Validator:
        if path not in self._validators:
            schema = closed(json.loads(path.read_text()))
            self._validators[path] = Draft202012Validator(schema)
        return self._validators[path]
