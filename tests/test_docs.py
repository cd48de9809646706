"""docs/ and the code say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pykbroker.apis import _registry
from tests.strangers import run_strangers_tests

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
    assert {room for room in rooms if f"`pykbroker/{room}" not in text} == set()


def test_what_the_page_on_operating_quotes_from_the_log_is_logged() -> None:
    text = (ROOT / "docs" / "operating.md").read_text()
    code = " ".join(
        path.read_text() for room in ("pykbroker", "plugins") for path in (ROOT / room).rglob("*.py")
    )
    code = re.sub(r'"\s*\n\s*f?"', "", code)  # a message in pieces is one
    tables = re.findall(r"^\| it says \| do \|\n((?:\|.*\n)+)", text, re.MULTILINE)
    quoted = [
        message.partition(":")[0].split("=")[0].removesuffix(" NAME")
        for row in "".join(tables).splitlines()[1:]
        for message in re.findall(r"`([^`]+)`", row.split("|")[1])
    ]
    assert len(quoted) > 15
    assert [message for message in quoted if message not in code] == []


def test_the_programs_of_the_page_on_testing_work(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "testing.md").read_text()
    tests, program = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    as_test = "def test_program():\n" + "".join(f"    {line}\n" for line in program.splitlines())
    run_strangers_tests(pytester, monkeypatch, f"{tests}\n\n{as_test}").assert_outcomes(passed=4)
