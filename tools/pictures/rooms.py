"""The rooms of pykbroker as layers: read from the import contract, the docstrings and the imports."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tools.pictures.measuring import wrapped
from tools.pictures.svg import Picture

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pykbroker"

WIDTH: Final = 900
MARGIN: Final = 24
GAP: Final = 10
LINE: Final = 16
HEAD: Final = 19


def layers() -> list[list[str]]:
    """The rooms from top to bottom, as the contract in pyproject.toml has them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    (contract,) = [each for each in contracts if each["type"] == "layers"]
    return [[room.strip(" ()") for room in layer.split("|")] for layer in contract["layers"]]


def sources(room: str) -> list[Path]:
    """The modules of a room."""
    folder = PACKAGE / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{room}.py"]


def phrase(room: str) -> str:
    """The first sentence of the room's docstring."""
    folder = PACKAGE / room
    text = (folder / "__init__.py" if folder.is_dir() else PACKAGE / f"{room}.py").read_text()
    first = (ast.get_docstring(ast.parse(text)) or "").split("\n\n")[0]
    plain = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"\1", " ".join(first.split())).replace("``", "")
    return re.split(r"(?<=[\w)]\.)\s", plain)[0].rstrip(".")


def waits(room: str) -> bool:
    """Whether anything in the room imports trio when the program runs."""
    return any("trio" in _imported(ast.parse(path.read_text())) for path in sources(room))


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.Import():
                yield from (name.name.partition(".")[0] for name in node.names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module.partition(".")[0]
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                continue
            case _:
                yield from _imported(node)


def draw() -> Picture:
    """The picture."""
    rows = [(layer, _cell_width(len(layer))) for layer in layers()]
    heights = [max(_height(room, width) for room in layer) for layer, width in rows]
    top = 84
    height = top + sum(heights) + GAP * (len(rows) - 1) + MARGIN
    picture = Picture(
        WIDTH,
        height,
        "The rooms of pykbroker, as layers",
        "From top to bottom; a room imports only from the rooms below it. "
        + " ".join(f"{' beside '.join(layer)}." for layer, _ in rows),
    )
    picture.text(MARGIN, 34, "The rooms of pykbroker", size=18, bold=True)
    picture.text(MARGIN, 58, "A room imports only from rooms below it.", tone="quiet")
    _legend(picture)
    for (layer, width), tall in zip(rows, heights, strict=True):
        for index, room in enumerate(layer):
            _room(picture, room, MARGIN + index * (width + GAP), top, width, tall)
        top += tall + GAP
    return picture


def _legend(picture: Picture) -> None:
    picture.box(378, 46, 16, 16, tone="user", radius=3)
    picture.text(400, 58, "some of it runs in trio, and may wait", tone="quiet")
    picture.box(664, 46, 16, 16, tone="plain", radius=3)
    picture.text(686, 58, "plain Python: never waits", tone="quiet")


def _cell_width(count: int) -> float:
    return (WIDTH - 2 * MARGIN - GAP * (count - 1)) / count


def _name_width(width: float) -> float:
    return 130 if width > 600 else 0


def _lines(room: str, width: float) -> list[str]:
    return wrapped(phrase(room), width - 28 - _name_width(width), 12.5)


def _height(room: str, width: float) -> int:
    beside = _name_width(width) > 0
    return 18 + LINE * len(_lines(room, width)) + (0 if beside else HEAD)


def _room(picture: Picture, room: str, x: float, y: float, width: float, height: float) -> None:
    picture.box(x, y, width, height, tone="user" if waits(room) else "plain")
    picture.text(x + 14, y + 21, room, mono=True, size=13)
    aside = _name_width(width)
    base = y + 21 + (0 if aside else HEAD)
    for line in _lines(room, width):
        picture.text(x + 14 + aside, base, line, size=12.5, tone="quiet")
        base += LINE
