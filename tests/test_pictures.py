"""docs/img holds what ``python -m tools.pictures`` draws, and one can look at it."""

from __future__ import annotations

import json
import re
from statistics import median
from xml.etree import ElementTree

import pytest

from bench.report import load, markdown, rows
from pykbroker.config import TopicConfig
from tools.pictures import charts, exchanges, policies, rooms
from tools.pictures.album import FOLDER, PICTURES, ROOT
from tools.pictures.svg import Picture

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_up_to_date_and_readable(name: str) -> None:
    picture = PICTURES[name]()
    assert picture.problems() == []
    drawn = picture.svg()
    assert (FOLDER / f"{name}.svg").read_text() == drawn, "run: python -m tools.pictures"
    root = ElementTree.fromstring(drawn)
    assert root.findtext(f"{SVG}title")
    assert root.findtext(f"{SVG}desc")
    assert not list(root.iter(f"{SVG}script"))
    assert "prefers-color-scheme:dark" in root.findtext(f"{SVG}style", "")


def test_every_picture_is_in_a_page_and_has_words_in_its_place() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    shown = {
        (page.parent / path).resolve(): words
        for page in pages
        for words, path in re.findall(r"!\[([^]]*)\]\(([^)]+\.svg)\)", page.read_text())
    }
    assert shown.keys() == set(FOLDER.glob("*.svg")) == {FOLDER / f"{name}.svg" for name in PICTURES}
    assert all(shown.values())


def test_what_would_be_ugly_is_seen() -> None:
    picture = Picture(200, 100, "a", "b")
    picture.box(10, 10, 60, 30)
    picture.text(15, 30, "longer than its box")
    picture.text(100, 30, "over it")
    picture.text(150, 90, "out of the picture")
    picture.box(60, 20, 40, 40)
    picture.text(20, 80, "struck")
    picture.line((10, 76), (60, 76))
    assert {problem.partition(" at ")[0] for problem in picture.problems()} >= {
        "'longer than its box' crosses the edge of the box",
        "'longer than its box' and 'over it'",
        "'out of the picture' runs out of the picture",
        "box",
        "a line runs through 'struck'",
    }


def test_the_rooms_are_those_of_the_package() -> None:
    folder = rooms.PACKAGE
    there = {
        path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert {room for layer in rooms.layers() for room in layer} == there - {"__init__"}
    assert all(rooms.phrase(room) for layer in rooms.layers() for room in layer)


def test_the_times_of_the_policies_are_what_the_page_on_failures_says() -> None:
    found = policies.timelines(TopicConfig())
    assert found["immediate"] == ([0] * 5, [0] * 5)
    assert found["fixed"][0] == [1000, 2000, 3000, 4000, 5000]
    assert found["linear"][0] == [1000, 3000, 6000, 10_000, 15_000]
    earliest, latest = found["exponential"]
    assert latest == [1000, 3000, 7000, 15_000, 31_000]
    assert [2 * each for each in earliest] == latest


def test_the_copies_are_what_the_exchange_types_say() -> None:
    assert exchanges.routed() == {
        "eu.berlin.created": ["eu", "audit"],
        "us.boston.created": ["audit", "us.billing", "us.stock"],
        "us.austin.paid": ["us.billing", "us.stock"],
        "asia.tokyo.paid": ["rest"],
    }


def test_the_tables_of_the_page_on_speed_are_what_was_measured() -> None:
    page = (ROOT / "docs" / "bench.md").read_text()
    assert markdown(rows(load(charts.BENCH / "results.json"))) in page
    rates = json.loads((charts.BENCH / "routing.json").read_text())["rates"]
    for name, each in rates.items():
        assert f"| {name} | {median(each):,.0f} ({min(each):,.0f} to {max(each):,.0f}) |" in page
    for figure in json.loads((charts.BENCH / "delivery.json").read_text())["figures"]:
        if figure["unit"] == "records/s":
            assert f"| {figure['value']:,.0f} a second" in page
