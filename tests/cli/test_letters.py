"""What dead letters say, which are meant, and how commits settle them: no broker needed."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykbroker.cli._letters import (
    MAX_METADATA,
    Filter,
    Letter,
    Place,
    Ranges,
    age_text,
    parse_age,
    parse_settled,
    pieces,
    settled_pages,
)
from pykbroker.delivery import letters


def letter(*headers: tuple[str, bytes | None], timestamp: int = 0) -> Letter:
    return Letter(
        topic="t.g.dlq", partition=1, offset=7, timestamp=timestamp, key=b"k", value=b"v", headers=headers
    )


OURS = letter(
    ("pykbroker-source", b"orders/0/17"),
    ("pykbroker-group", b"billing"),
    ("pykbroker-attempt", b"6"),
    ("pykbroker-first-failure-ms", b"1000"),
    ("pykbroker-last-failure-ms", b"5000"),
    ("pykbroker-policy", b"exponential"),
    ("pykbroker-reason", "kein Preis für 17".encode()),
    timestamp=1,
)


def test_the_headers_of_the_broker_are_read() -> None:
    assert OURS.name == "t.g.dlq/1/7"
    assert (OURS.source, OURS.origin, OURS.group, OURS.attempts) == ("orders/0/17", "orders", "billing", 6)
    assert (OURS.reason, OURS.policy) == ("kein Preis für 17", "exponential")
    assert (OURS.first_failure_ms, OURS.last_failure_ms, OURS.failed_ms) == (1000, 5000, 5000)


def test_letters_of_share_groups_are_read_too() -> None:
    said = {"topic": b"orders", "partition": b"2", "offset": b"9", "group": b"g", "delivery.count": b"5"}
    found = letter(*((f"__dlq.errors.{name}", value) for name, value in said.items()))
    assert (found.source, found.origin, found.group, found.attempts) == ("orders/2/9", "orders", "g", 5)
    assert letter(("__dlq.errors.topic", b"orders")).source == "orders"


def test_a_copy_that_an_exchange_could_not_deliver_says_where_it_came_from_but_has_no_origin() -> None:
    found = letter(("pykbroker-routed-from", b"orders/0/3"))
    assert (found.source, found.origin) == ("orders/0/3", None)


def test_a_letter_that_says_nothing_has_the_age_of_the_record() -> None:
    found = letter(("pykbroker-attempt", b"six"), ("pykbroker-reason", None), timestamp=77)
    assert (found.source, found.group, found.attempts, found.reason) == (None, None, None, None)
    assert found.failed_ms == 77


def test_of_a_repeated_header_the_last_counts() -> None:
    assert letter(("pykbroker-reason", b"old"), ("pykbroker-reason", b"new")).reason == "new"


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        (Filter(), True),
        (Filter(group="billing"), True),
        (Filter(group="bill"), False),
        (Filter(reason="PREIS"), True),
        (Filter(reason="price"), False),
        (Filter(older_than_ms=999), True),
        (Filter(older_than_ms=1000), False),
        (Filter(newer_than_ms=1001), True),
        (Filter(newer_than_ms=1000), False),
        (Filter(group="billing", reason="preis", older_than_ms=5000), False),
    ],
)
def test_filters(wanted: Filter, matches: bool) -> None:
    assert wanted.matches(OURS, now_ms=6000) is matches


@pytest.mark.parametrize(
    ("text", "ms"), [("90s", 90_000), ("1h30m", 5_400_000), ("2d", 172_800_000), ("250ms", 250)]
)
def test_ages(text: str, ms: int) -> None:
    assert parse_age(text) == ms


@pytest.mark.parametrize("text", ["", "5", "h", "1.5h", "1h 30m", "-1h", "1w"])
def test_what_is_no_age(text: str) -> None:
    with pytest.raises(ValueError, match="1h30m"):
        parse_age(text)


def test_ages_are_shown_in_their_largest_unit() -> None:
    shown = [age_text(ms) for ms in (-5, 999, 1000, 59_999, 60_000, 3_600_000, 90_000_000)]
    assert shown == ["0s", "0s", "1s", "59s", "1m", "1h", "1d"]


def test_places() -> None:
    assert Place.parse("t.g.dlq/1/7") == Place("t.g.dlq", 1, 7, 7)
    assert Place.parse("t/0/5-9") == Place("t", 0, 5, 9)
    for text in ("t", "t/0", "t/0/x", "t/0/9-5", "/0/1", "t/0/1/2"):
        assert Place.parse(text) is None


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 5))))
def test_ranges_are_a_set_of_offsets(drawn: list[tuple[int, int]]) -> None:
    model = {offset for first, length in drawn for offset in range(first, first + length + 1)}
    ranges = Ranges((first, first + length) for first, length in drawn)
    assert {offset for first, last in ranges for offset in range(first, last + 1)} == model
    assert [offset in ranges for offset in range(70)] == [offset in model for offset in range(70)]
    assert ranges.count() == len(model)
    assert ranges.count(10, 20) == len(model & set(range(10, 20)))
    assert ranges.covers(ranges)
    assert ranges.covers([(0, 0)]) == (0 in model)
    pairs = list(ranges)
    assert all(last + 1 < first for (_, last), (first, _) in pairwise(pairs))


def test_settled_letters_are_read_from_a_setting() -> None:
    found = parse_settled(['{"0": [[3, 5], 9], "12": []}'])
    assert {partition: list(ranges) for partition, ranges in found.items()} == {0: [(3, 5), (9, 9)], 12: []}
    assert parse_settled([""]) == {}


def test_settled_letters_come_in_pages_where_they_are_many() -> None:
    settled = {0: tuple((first, first + 1) for first in range(0, 900, 3)), 2: ((5, 5),)}
    described = dict(letters.described(settled, limit=500))
    whole = described.pop(letters.SETTLED)
    assert settled_pages(whole) == len(described) > 5
    assert settled_pages('{"0":[1]}') == settled_pages("") == 0
    found = parse_settled(described[f"{letters.SETTLED}.{number}"] for number in range(len(described)))
    assert {partition: tuple(ranges) for partition, ranges in found.items()} == settled


@given(
    st.lists(st.tuples(st.integers(0, 10**12), st.integers(0, 3000)), max_size=600),
    st.integers(1, 1500),
    st.sampled_from([{}, {"to": "t" * 249, "rate": 12.5}]),
)
def test_pieces_fit_into_commits_and_say_everything_once(
    drawn: list[tuple[int, int]], most: int, more: dict[str, object]
) -> None:
    ranges = Ranges((first, first + length) for first, length in drawn)
    said = Ranges()
    for piece in pieces("replay", ranges, more, most=most):
        assert len(piece.metadata.encode()) <= MAX_METADATA
        meant = json.loads(piece.metadata)
        part = Ranges(meant.pop("replay"))
        assert meant == more
        assert part.count() == piece.count <= most
        for first, last in part:
            said.add(first, last)
    assert list(said) == list(ranges)


def test_many_single_letters_take_several_commits() -> None:
    ranges = Ranges(range(0, 4000, 2))
    counts = [piece.count for piece in pieces("purge", ranges)]
    assert sum(counts) == 2000
    assert 2 < len(counts) < 6
    (small,) = pieces("purge", Ranges([4, 5, 9]))
    assert small.metadata == '{"purge":[[4,5],9]}'
