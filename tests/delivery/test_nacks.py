"""What commit metadata asks for, and the arithmetic of ranges."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykbroker.delivery.nacks import (
    MAX_OFFSET,
    Asked,
    Nack,
    Purge,
    Range,
    Replay,
    WrongShape,
    clipped,
    difference,
    may_ask,
    merged,
    parse,
    parsed,
    shown,
)

RANGES = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 8)).map(lambda each: (each[0], sum(each))), max_size=8
)


def offsets(ranges: list[Range] | tuple[Range, ...]) -> set[int]:
    return {offset for first, last in ranges for offset in range(first, last + 1)}


@pytest.mark.parametrize(
    ("metadata", "asked"),
    [
        ('{"nack": [5, [7, 9]], "reason": "no such customer"}', Nack(((5, 5), (7, 9)), "no such customer")),
        (' \n{"nack":[9,8,[3,7],3]}', Nack(((3, 9),))),
        ('{"nack": [], "more": 1}', Nack(())),
        ('{"nack": [1], "reason": {"code": 7}}', Nack(((1, 1),), '{"code": 7}')),
        ('{"nack": [[0, 9223372036854775807]]}', Nack(((0, MAX_OFFSET),))),
        ('{"replay": [[0, 99]], "to": "orders", "rate": 50}', Replay(((0, 99),), "orders", 50.0)),
        ('{"replay": [1], "to": null}', Replay(((1, 1),))),
        ('{"purge": [3]}', Purge(((3, 3),))),
    ],
)
def test_what_asks(metadata: str, asked: Asked) -> None:
    assert may_ask(metadata)
    assert parse(metadata) == asked


@pytest.mark.parametrize(
    "metadata",
    [
        "",
        "nack",
        "[5]",
        '"nack"',
        '["nack"]',
        "{'other': 5}",
        '{"other": {"nack": [5]}}',
        "{" * 3000,
        '{"x": "\\"nack\\""}',
        "consumer-1-b4f2",
    ],
)
def test_metadata_like_any_other(metadata: str) -> None:
    assert parse(metadata) is None


@pytest.mark.parametrize(
    "metadata",
    [
        '{"nack": 5}',
        '{"nack": null}',
        '{"nack": "5"}',
        '{"nack": [-1]}',
        '{"nack": [[2, 1]]}',
        '{"nack": [[1, 2, 3]]}',
        '{"nack": [[1]]}',
        '{"nack": [1.0]}',
        '{"nack": [true]}',
        '{"nack": ["5"]}',
        '{"nack": [9223372036854775808]}',
        '{"nack": [1], "purge": [1]}',
        '{"replay": [1], "to": 5}',
        '{"replay": [1], "to": ""}',
        '{"replay": [1], "rate": 0}',
        '{"replay": [1], "rate": -1}',
        '{"replay": [1], "rate": "fast"}',
        '{"nack": [5',
        '{"nack":' + "[" * 30_000,
        "{'nack': [5]}",
        '{"replay": [1], "rate": true}',
        '{"replay": [1], "rate": NaN}',
        '{"replay": [1], "rate": Infinity}',
        '{"replay": [1], "rate": ' + "9" * 400 + "}",
    ],
)
def test_a_wrong_shape(metadata: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(WrongShape):
        parse(metadata)
    assert parsed(metadata, "billing") is None
    assert "group=billing" in caplog.text


def test_ordinary_metadata_is_told_apart_by_its_first_character() -> None:
    assert not may_ask('x{"nack": [1]}')
    assert not may_ask('{"neck": [1]}')


@given(RANGES)
def test_any_list_of_ranges_is_read(ranges: list[Range]) -> None:
    asked = parse(json.dumps({"nack": [first if first == last else [first, last] for first, last in ranges]}))
    assert isinstance(asked, Nack)
    assert asked.ranges == merged(ranges)
    assert offsets(asked.ranges) == offsets(ranges)
    assert all(before[1] + 1 < after[0] for before, after in pairwise(asked.ranges))


@given(RANGES, RANGES, st.integers(0, 70), st.integers(0, 70))
def test_parts_of_ranges(ranges: list[Range], others: list[Range], start: int, end: int) -> None:
    these, those = merged(ranges), merged(others)
    assert offsets(clipped(these, start, end)) == offsets(these) & set(range(start, end))
    assert offsets(difference(these, those)) == offsets(these) - offsets(those)


def test_ranges_in_a_log_line() -> None:
    assert shown([(5, 5), (7, 9)]) == "5,7-9"
    assert shown([(each, each) for each in range(0, 60, 2)], 3) == "0,2,4 and 27 more ranges"
