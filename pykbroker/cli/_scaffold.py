"""The package that ``pykbroker plugins new`` writes: it installs, its tests pass, and it does something.

A template in ``templates/`` is a file's text with ``$name`` (as given), and ``$module`` and ``$Class``
made of it.
"""

from __future__ import annotations

import re
from pathlib import Path
from string import Template

import pykbroker

NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")

_TEMPLATES = Path(__file__).parent / "templates"

NEXT = """
Next:
  pip install -e {folder}
  pytest {folder}
  pykbroker plugins
A broker loads it when it is started (again); {folder}/README.md says what it does."""


def write(home: Path, name: str, kind: str) -> list[Path]:
    """Write the package for a plugin ``name`` below ``home``; returns the files.

    Raises FileExistsError if its folder is there already, and OSError.
    """
    module = "pykbroker_" + name.replace("-", "_")
    names = {
        "name": name,
        "module": module,
        "Class": _class_name(name),
    }
    folder = home / name
    home.mkdir(parents=True, exist_ok=True)
    folder.mkdir()
    files = {
        "pyproject.toml": "pyproject.toml",
        "README.md": f"{kind}.md",
        f"{module}/__init__.py": f"{kind}.py",
        f"tests/test_{module}.py": f"{kind}_test.py",
    }
    written = [folder / module / "py.typed"]
    for path, template in files.items():
        file = folder / path
        file.parent.mkdir(exist_ok=True)
        text = (_TEMPLATES / f"{template}.txt").read_text(encoding="utf-8")
        file.write_text(Template(text).substitute(names), encoding="utf-8")
        written.append(file)
    written[0].touch()
    return sorted(written)


def _class_name(name: str) -> str:
    """``ByRegion`` for ``by-region``; not one of the names that the templates import or define."""
    made = "".join(part.capitalize() for part in name.split("-"))
    return (
        f"{made}Plugin" if hasattr(pykbroker, made) or made in ("Iterable", "Prefixes", "Sequence") else made
    )
