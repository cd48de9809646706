"""Plans as bytes, and back."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykbroker.forwarding import plan as form
from pykbroker.forwarding.plan import Key, LaneValue, Move, Place, Plan, PlanError

PLACES = st.builds(Place, st.binary(min_size=16, max_size=16), st.integers(0, 2**31 - 1))


OFFSETS = st.lists(st.integers(0, 2**40), min_size=1, max_size=20, unique=True)
RUNS = st.builds(
    lambda first, count: list(range(first, first + count)), st.integers(0, 2**40), st.integers(1, 300)
)
MOVES = st.builds(
    Move,
    target=PLACES,
    offsets=st.lists(st.one_of(OFFSETS, RUNS), min_size=1, max_size=4).map(lambda each: tuple(chain(*each))),
    since=st.integers(0, 2**40),
    base_sequence=st.integers(0, 2**31 - 1),
    source=st.none() | PLACES,
    note=st.binary(max_size=50),
)
"""Offsets in any order, also more than once."""


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    first, length = draw(st.integers(0, 2**40)), draw(st.integers(0, 300))
    return Plan(
        slot=draw(st.integers(0, 1000)),
        first_offset=first,
        next_offset=first + length,
        moves=tuple(draw(st.lists(MOVES, max_size=4))),
    )


@given(plans())
def test_a_plan_comes_back(plan: Plan) -> None:
    assert form.decode_plan(plan.slot, form.encode_plan(plan)) == plan


def test_plans_of_before_sources_and_notes_are_read() -> None:
    """Version 0: place, base sequence, since, runs."""
    data = bytes([0, 20, 12, 2]) + b"t" * 16 + bytes([0, 0, 0, 1, 14, 8, 4, 0, 4, 2, 2])
    move = Move(target=Place(b"t" * 16, 1), offsets=(10, 11, 13), since=4, base_sequence=7)
    assert form.decode_plan(3, data) == Plan(slot=3, first_offset=10, next_offset=16, moves=(move,))


def test_a_run_that_no_plan_has_is_refused() -> None:
    with pytest.raises(PlanError, match="offsets"):
        form.decode_plan(0, bytes([1, 0, 0, 2]) + bytes(20) + bytes([0, 0, 0, 2, 0]) + b"\xfe" * 4 + b"\x0f")


def test_a_fanout_takes_as_many_bytes_however_many_records_it_has() -> None:
    def size(count: int) -> int:
        move = Move(target=Place(b"t" * 16, 0), offsets=tuple(range(count)), since=0, base_sequence=0)
        return len(form.encode_plan(Plan(slot=0, first_offset=0, next_offset=count, moves=(move,))))

    assert size(1000) <= size(1) + 4


@given(PLACES, PLACES, st.integers(0, 2**31 - 1))
def test_keys_come_back(ingress: Place, target: Place, slot: int) -> None:
    assert form.decode_key(form.lane_key(ingress)) == Key(b"L", ingress)
    assert form.decode_key(form.extra_key(ingress, b"name")) == Key(b"X", ingress, name=b"name")
    assert form.decode_key(form.plan_key(ingress, slot)) == Key(b"P", ingress, slot=slot)
    assert form.decode_key(form.sequence_key(ingress, target)) == Key(b"S", ingress, target=target)


def test_numbers_come_back() -> None:
    value = LaneValue(2**62, 3, 2**61, 17)
    assert form.decode_lane(form.encode_numbers(*value)) == value
    assert form.decode_sequence(form.encode_numbers(2**31 - 1)) == 2**31 - 1


@pytest.mark.parametrize(
    "key", [b"", b"L", b"Y" + bytes(20), b"L" + bytes(21), b"P" + bytes(20), b"S" + bytes(30)]
)
def test_what_is_no_key_is_refused(key: bytes) -> None:
    with pytest.raises(PlanError):
        form.decode_key(key)


@given(st.binary(max_size=60))
def test_what_is_no_value_is_refused_or_read(data: bytes) -> None:
    for decode in (form.decode_lane, form.decode_sequence, lambda data: form.decode_plan(0, data)):
        try:
            decode(data)
        except PlanError:
            pass


@given(plans(), st.integers(0, 200))
def test_a_plan_cut_short_is_refused(plan: Plan, cut: int) -> None:
    data = form.encode_plan(plan)
    with pytest.raises(PlanError):
        form.decode_plan(0, data[: min(cut, len(data) - 1)])
