"""Writes ``components/monitoring/dashboard.json``, Grafana's dashboard of the service: ``python -m
manifests.build_dashboard``.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from manifests.dashboard_panels import ROWS, Panel

OUTPUT = Path(__file__).resolve().parent / "components" / "monitoring" / "dashboard.json"

ROW_UNITS = 24
PANEL_HEIGHT = 8
"""Grafana's grid is 24 units wide."""

DATA_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def dashboard() -> dict[str, Any]:
    """The document that Grafana imports."""
    return {
        "uid": "sensevoice",
        "title": "SenseVoice",
        "tags": ["sensevoice", "kserve"],
        "schemaVersion": 41,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": _variables()},
        "panels": list(_panels()),
    }


def _variables() -> list[dict[str, Any]]:
    query = "label_values(sensevoice_model_info, namespace)"
    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
        {
            "name": "namespace",
            "label": "Namespace",
            "type": "query",
            "datasource": DATA_SOURCE,
            "query": {"query": query, "refId": "namespace"},
            "definition": query,
            "refresh": 2,
            "sort": 1,
        },
    ]


def _panels() -> Iterator[dict[str, Any]]:
    number, top = 1, 0
    for row, panels in ROWS.items():
        place = {"x": 0, "y": top, "w": ROW_UNITS, "h": 1}
        yield {"id": number, "type": "row", "title": row, "gridPos": place, "panels": []}
        number, top = number + 1, top + 1
        in_line = 2 if len(panels) in (2, 4) else 3
        width = ROW_UNITS // in_line
        for i, panel in enumerate(panels):
            x, y = i % in_line * width, top + i // in_line * PANEL_HEIGHT
            place = {"x": x, "y": y, "w": width, "h": PANEL_HEIGHT}
            yield {"id": number, "gridPos": place, **_panel(panel)}
            number += 1
        top += -(-len(panels) // in_line) * PANEL_HEIGHT


def _panel(panel: Panel) -> dict[str, Any]:
    table = panel.kind == "table"
    lines: dict[str, Any] = {"fillOpacity": 30, "stacking": {"mode": "normal"}}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.note,
        "datasource": DATA_SOURCE,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "custom": lines if panel.stacked else {}},
            "overrides": [],
        },
        "targets": [
            {
                "refId": chr(ord("A") + i),
                "datasource": DATA_SOURCE,
                "expr": expression,
                "legendFormat": legend,
                **({"instant": True, "format": "table"} if table else {}),
            }
            for i, (legend, expression) in enumerate(panel.queries.items())
        ],
    }


if __name__ == "__main__":
    OUTPUT.write_text(json.dumps(dashboard(), indent=2) + "\n", encoding="utf-8")
