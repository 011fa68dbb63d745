"""``python -m pipelines.rollout.plan_table``: the tables of a rollout's plan, from the plan."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from pipelines.rollout.plan import Plan

README = Path(__file__).resolve().parents[1] / "README.md"
BLOCK = re.compile(r"(<!-- plan:begin -->\n).*?(<!-- plan:end -->)", re.S)


def table() -> str:
    """Markdown: field, default, meaning."""
    rows = [f"| `{name}` | `{value}` | {meaning} |" for name, value, meaning in _fields(Plan())]
    return "\n".join(["| Field | Default | Meaning |", "|---|---|---|", *rows]) + "\n"


def _fields(section: BaseModel, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _fields(value, f"{prefix}{name}.")
        else:
            meaning = " ".join((field.description or "").split()).replace("``", "`")
            yield f"{prefix}{name}", json.dumps(value), meaning


def with_table(text: str) -> str:
    """A README's text with the table between its markers made anew."""
    return BLOCK.sub(lambda match: match[1] + table() + match[2], text)


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
