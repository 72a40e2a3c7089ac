"""What a benchmark imports is there, also where it imports it in a function: nobody runs all of them each day."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = ("agent", "benchmarks", "build", "calibration", "cloud", "engines", "tests", "training")


def place(module: str) -> Path | None:
    """The file of a module of ours."""
    path = ROOT.joinpath(*module.split("."))
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


@cache
def names(file: Path) -> frozenset[str]:
    """What a module's text binds at its top, conditions included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return frozenset(found)


def missing(source: str) -> list[str]:
    """What the text imports of ours that is not there."""
    wrong: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            wrong += [alias.name for alias in node.names if alias.name.split(".")[0] in OURS and not place(alias.name)]
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in OURS:
            file = place(node.module)
            for alias in node.names:
                inside = file is not None and (alias.name in names(file) or alias.name == "*")
                if not inside and place(f"{node.module}.{alias.name}") is None:
                    wrong.append(f"{node.module}.{alias.name}")
    return wrong


@pytest.mark.parametrize("file", sorted(ROOT.glob("benchmarks/**/*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_benchmark_imports_is_there(file: Path) -> None:
    assert not missing(file.read_text())


def test_what_is_not_there_is_found() -> None:
    lazy = "def run():\n    from benchmarks import sync_network as net\n    from agent.memory import tidy, tidier\n"
    assert missing(lazy) == ["benchmarks.sync_network", "agent.memory.tidier"]
    assert missing("import benchmarks.nothing, benchmarks.sync.run") == ["benchmarks.nothing"]
