"""All that the page says, in one file for each language."""

import json
from pathlib import Path
from typing import Any

LANGUAGES = ("en", "zh")
"""The first is spoken where the browser asks for none of them."""


def read(language: str) -> dict[str, Any]:
    """Name of a text → the text, with ``{names}`` to be filled in by the browser; ``languages``,
    ``emotions`` and ``events`` hold the names of labels."""
    found: dict[str, Any] = json.loads(
        (Path(__file__).parent / f"{language}.json").read_text("utf-8")
    )
    return found
