# SPDX-License-Identifier: Apache-2.0
"""Benchmarks run by hand and seldom: what they take from the code must still be there."""

import ast
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = sorted((Path(__file__).resolve().parents[2] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: str(path.stem))
def test_every_name_that_a_benchmark_imports_exists(path: Path) -> None:
    missing = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ("volact", "support"):
            module = importlib.import_module(node.module)
            missing += [f"{node.module}.{one.name}" for one in node.names if not _has(module, one.name)]
    assert missing == []


def _has(module: ModuleType, name: str) -> bool:
    """As an attribute, or as a module below it."""
    if hasattr(module, name):
        return True
    return importlib.util.find_spec(f"{module.__name__}.{name}") is not None
