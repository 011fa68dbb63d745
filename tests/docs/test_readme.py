"""Every command of the READMEs that is marked as runnable runs, and answers what is printed below it.

A block marked ``<!-- run: json -->`` must print JSON, one marked ``<!-- run: text -->`` text. A fenced
block after it, if it follows at once, is what must come out, times and probabilities aside.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
RUNNABLE = re.compile(
    r"<!-- run: (json|text) -->\n```bash\n(.*?)```\n(?:\n```(?:json|text)\n(.*?)```)?", re.S
)
MEASURED = {"times", "confidence", "id"}


def blocks() -> list[Any]:
    return [
        pytest.param(*match.groups(), id=f"{name}:{text[: match.start()].count(chr(10)) + 1}")
        for name in ("README.md", "README.zh.md")
        for text in [(REPOSITORY / name).read_text(encoding="utf-8")]
        for match in RUNNABLE.finditer(text)
    ]


def without_measured(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_measured(v) for k, v in value.items() if k not in MEASURED}
    return [without_measured(v) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("form", "command", "printed"), blocks())
def test_command(form: str, command: str, printed: str | None, demo_served: Any) -> None:
    command = command.replace("http://localhost:8080", demo_served.http)
    command = command.replace("ws://localhost:8080", demo_served.http.replace("http", "ws"))
    command = command.replace("localhost:8081", demo_served.grpc)
    command = command.replace(".venv/bin/python", sys.executable)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    if form == "text":
        assert done.stdout.strip()
        assert printed is None or re.sub(r"\d+%", "", printed) == re.sub(r"\d+%", "", done.stdout)
        return
    answer = json.loads(done.stdout)
    assert "error" not in answer
    if printed:
        assert without_measured(answer) == without_measured(json.loads(printed))


def test_the_readmes_show_the_same_commands() -> None:
    texts = [
        (REPOSITORY / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh.md")
    ]
    english, chinese = ({m.group(2) for m in RUNNABLE.finditer(text)} for text in texts)
    assert chinese <= english


def test_every_make_target_named_exists() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    for name in ("README.md", "README.zh.md", "CONTRIBUTING.md"):
        for target in re.findall(
            r"`make ([a-z-]+)", (REPOSITORY / name).read_text(encoding="utf-8")
        ):
            assert re.search(rf"^{target}:", makefile, re.M), f"{name} names make {target}"
