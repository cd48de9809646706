"""The public names: all that a plugin needs, cheap to import, and all that our own plugins use."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pykbroker

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for path in (ROOT / "plugins").glob("pykbroker_*/**/*.py") if "tests" not in path.parts)
HEAVY = {"asyncio", "click", "cramjam", "crc32c", "importlib.metadata", "pykbroker.broker", "rich", "trio"}


@pytest.mark.parametrize("name", pykbroker.__all__)
def test_every_name_is_there_and_documented(name: str) -> None:
    value: object = getattr(pykbroker, name)
    assert name in dir(pykbroker)
    if isinstance(value, type):
        assert value.__doc__, f"{name} has no docstring"


def test_no_other_name_is_made_up() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Borker'"):
        pykbroker.Borker  # noqa: B018


def test_what_a_plugin_imports_loads_little() -> None:
    script = (
        "import sys; from pykbroker import Binding, Component, Kind, PartitionContext, hookimpl\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & HEAVY == set()


def imported(path: Path) -> Iterator[str]:
    """What ``path`` imports of pykbroker, as ``module`` or ``module.name``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "pykbroker")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "pykbroker":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "plugins")))
def test_our_plugins_import_only_public_names(path: Path) -> None:
    allowed = {"pykbroker", *(f"pykbroker.{name}" for name in pykbroker.__all__)}
    assert set(imported(path)) <= allowed
