"""Bindings as JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykbroker.catalog import bindings
from pykbroker.components import Binding

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
BINDINGS = st.builds(Binding, TEXT.filter(bool), TEXT, st.dictionaries(TEXT, st.none() | TEXT, max_size=3))


@given(st.lists(BINDINGS))
def test_what_is_rendered_is_read_back(given: list[Binding]) -> None:
    unique = tuple(dict.fromkeys(given))
    assert bindings.parse(bindings.render(unique)) == unique


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("  ", ()),
        ("[]", ()),
        ('{"to": "a"}', (Binding("a"),)),
        ('[{"to": "a", "key": ""}, {"to": "a"}, {"arguments": {}, "to": "a"}]', (Binding("a"),)),
        ('[{"to": "b", "key": "k"}, {"to": "a"}]', (Binding("b", "k"), Binding("a"))),
        ('{"to": "a", "arguments": {"x": null, "y": ""}}', (Binding("a", "", {"y": "", "x": None}),)),
    ],
)
def test_read(text: str, expected: tuple[Binding, ...]) -> None:
    assert bindings.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("to: a", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("3", "must be an object with to, key, arguments, not 3"),
        ('["a"]', "must be an object"),
        ("{}", "'to' must name"),
        ('{"to": ""}', "'to' must name"),
        ('{"to": ["a"]}', "'to' must name"),
        ('{"to": "a", "key": 1}', "'key' must be text, not 1"),
        ('{"to": "a", "key": null}', "'key' must be text, not null"),
        ('{"to": "a", "arguments": []}', "'arguments' must be an object"),
        ('{"to": "a", "arguments": {"n": 1}}', "argument 'n' must be text, or null for any value, not 1"),
        ('{"to": "a", "keys": "k"}', "no 'keys', only to, key, arguments; did you mean key"),
        (r'{"to": "a", "key": "\ud800"}', "surrogate"),
    ],
)
def test_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        bindings.parse(text)


def test_what_is_empty_is_left_out() -> None:
    text = bindings.render([Binding("a"), Binding("b", "k"), Binding("c", "", {"ü": None})])
    assert text == '[{"to":"a"},{"to":"b","key":"k"},{"to":"c","arguments":{"ü":null}}]'


def test_a_long_value_is_described_by_its_number_and_read_in_pages() -> None:
    many = [Binding(f"topic-{number}", "ü" * 100) for number in range(1000)]
    assert bindings.described(many) == "@1000"
    assert bindings.is_count("@1000")
    pages = list(bindings.pages(many))
    assert [each for page in pages for each in bindings.parse(page)] == many
    assert all(len(page.encode()) <= bindings.MAX_DESCRIBED_BYTES for page in pages)
    assert len(pages) == 8
    few = many[:100]
    assert bindings.parse(bindings.described(few)) == tuple(few)


def test_a_binding_longer_than_a_page_has_one_of_its_own() -> None:
    long = Binding("a", "x" * 40_000)
    assert [json.loads(page)[0]["to"] for page in bindings.pages([Binding("b"), long, Binding("c")])] == [
        "b", "a", "c",
    ]  # fmt: skip
    assert list(bindings.pages([])) == []


@pytest.mark.parametrize("text", ["", "@", "@x", "5", "[]", "@5x"])
def test_no_number(text: str) -> None:
    assert not bindings.is_count(text)
