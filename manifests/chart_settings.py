"""The predictor's settings as values of the chart, described by the settings themselves."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from manifests.chart_values import Place, Value
from predictor.server.settings import ENV_PREFIX, Settings

FIXED = ("model_dir", "model_name", "http_port", "grpc_port")
"""KServe and the probes know these."""

SAMPLES: Mapping[str, Any] = {
    "device": "cuda:1",
    "allowed_url_hosts": "audio.example.com,media.example.com",
    "otlp_endpoint": "http://collector.example.com:4317",
}


def settings() -> Iterator[Value]:
    """One value for each setting that a deployment may choose."""
    properties = Settings.model_json_schema()["properties"]
    for name, field in Settings.model_fields.items():
        if name not in FIXED:
            variable = ENV_PREFIX + name.upper()
            text = " ".join((field.description or "").split())
            # Of a default that depends on the machine the description tells.
            plain = field.default_factory is None and field.default not in (None, "", ())
            default = f" Default: {json.dumps(field.default).strip(chr(34))}." if plain else ""
            yield Value(
                f"settings.{variable}",
                text + ("" if "Default:" in text else default),
                _schema(name, properties[name]),
                (
                    Place(
                        "ConfigMap/sensevoice-settings", f"/data/{variable}", create=True, text=True
                    ),
                ),
            )


def _schema(name: str, field: Mapping[str, Any]) -> dict[str, Any]:
    """A setting's schema, with an example."""
    known = field["anyOf"][0] if "anyOf" in field else field
    schema = {
        key: known[key]
        for key in ("type", "enum", "pattern", "minimum", "maximum", "exclusiveMinimum")
        if key in known
    }
    if schema["type"] == "array":
        # In a variable, names with commas between them.
        schema = {"type": "string", "pattern": r"^[\w.-]+(,\s*[\w.-]+)*$"}
    return schema | {"examples": [SAMPLES[name] if name in SAMPLES else _sample(schema, field)]}


def _sample(schema: Mapping[str, Any], field: Mapping[str, Any]) -> Any:
    default = field.get("default")
    if "enum" in schema:
        return next(each for each in reversed(schema["enum"]) if each != default)
    if schema["type"] == "boolean":
        return not default
    least = schema.get("minimum", schema.get("exclusiveMinimum", 0))
    if "maximum" not in schema:
        return least + 1_000_003
    quarter = schema["maximum"] / 4
    return int(quarter) if quarter.is_integer() else quarter
