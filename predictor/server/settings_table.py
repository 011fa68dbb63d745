"""``python -m predictor.server.settings_table``: the README's table of settings, from the settings."""

import re
from pathlib import Path

from predictor.server.settings import ENV_PREFIX, Settings

README = Path(__file__).resolve().parents[2] / "README.md"
BLOCK = re.compile(r"(<!-- settings:begin -->\n).*?(<!-- settings:end -->)", re.S)


def table() -> str:
    """Markdown: flag, environment variable, default, meaning."""
    lines = ["| Flag | Variable | Default | Meaning |", "|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        # A default that depends on the machine is told in the description.
        default = (
            "" if field.default_factory or field.default in ((), None, "") else f"`{field.default}`"
        )
        meaning = " ".join((field.description or "").split())
        lines.append(f"| `--{name}` | `{ENV_PREFIX}{name.upper()}` | {default} | {meaning} |")
    return "\n".join(lines) + "\n"


def with_table(text: str) -> str:
    """A README's text with the table between its markers made anew."""
    return BLOCK.sub(lambda match: match[1] + table() + match[2], text)


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
