"""docs/reliability.md tells of every promise that is proved, and of no other."""

import ast
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def constants(nodes: list[ast.AST]) -> dict[str, ast.expr]:
    return {
        ast.unparse(node.targets[0]): node.value for node in nodes if isinstance(node, ast.Assign)
    }


def proved() -> Iterator[str]:
    """The sentences of all ``promise`` markers, as they stand there or in a constant."""
    folder = REPOSITORY / "tests" / "reliability"
    modules = {
        path.stem: list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        for path in folder.glob("*.py")
    }
    shared = [constants(nodes) for name, nodes in modules.items() if not name.startswith("test_")]
    for nodes in [nodes for name, nodes in modules.items() if name.startswith("test_")]:
        known = {name: value for each in shared for name, value in each.items()} | constants(nodes)
        for node in nodes:
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("mark.promise"):
                sentence = known.get(ast.unparse(node.args[0]), node.args[0])
                yield " ".join(ast.literal_eval(sentence).split())


def told() -> Iterator[str]:
    """The first columns of the tables."""
    text = (REPOSITORY / "docs" / "reliability.md").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line.startswith("| ") and not line.startswith("| promise"):
            yield line.split(" | ")[0].removeprefix("| ")


def test_every_promise_is_told() -> None:
    assert set(told()) == set(proved())
