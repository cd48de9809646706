"""docs/ and the code say the same."""

from __future__ import annotations

import re
from pathlib import Path

from pykbroker.apis import _registry

ROOT = Path(__file__).parents[1]


def test_the_table_of_apis_is_what_is_served() -> None:
    text = (ROOT / "docs" / "COMPATIBILITY.md").read_text()
    rows = {
        int(key): (name, int(low), int(high))
        for key, name, low, high in re.findall(r"^\| (\d+) \| (\w+) \| (\d+)–(\d+) \|", text, re.MULTILINE)
    }
    assert rows == {key: (api.name, *api.versions) for key, api in _registry.load().items()}


def test_the_file_map_names_every_room() -> None:
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text()
    rooms = {path.stem for path in (ROOT / "pykbroker").iterdir() if not path.name.startswith("__")}
    assert {room for room in rooms if f"`{room}" not in text} == set()
