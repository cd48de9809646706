"""The sets of offsets that count already, against plain sets; what is durable is all there is."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from pykbroker.delivery.counted import CHUNK, Changes, Counted, Holder
from pykbroker.delivery.nacks import Range, merged

HOLDERS = [Holder("billing", b"a" * 16, 0), Holder("billing", b"a" * 16, 7), Holder("ü" * 30, b"b" * 16, 0)]

OFFSET = st.one_of(st.integers(0, 40), st.integers(CHUNK - 20, CHUNK + 20), st.integers(0, 5 * CHUNK))
RANGE = st.tuples(OFFSET, st.one_of(st.integers(0, 5), st.integers(0, 2 * CHUNK))).map(
    lambda each: (each[0], each[0] + each[1])
)
OPERATION = st.one_of(
    st.tuples(st.just("add"), st.lists(RANGE, max_size=6)),
    st.tuples(st.just("sparse"), st.lists(OFFSET, max_size=40)),
    st.tuples(st.just("rewind"), OFFSET),
    st.tuples(st.just("forget"), st.none()),
    st.tuples(st.just("again"), st.none()),
)


def offsets(ranges: tuple[Range, ...]) -> set[int]:
    return {offset for first, last in ranges for offset in range(first, last + 1)}


@given(st.lists(st.tuples(st.sampled_from(HOLDERS), OPERATION), max_size=15), RANGE)
def test_sets(operations: list[tuple[Holder, tuple[str, object]]], looked: Range) -> None:
    durable: dict[bytes, bytes] = {}
    counted = Counted(durable)
    model: dict[Holder, set[int]] = {holder: set() for holder in HOLDERS}
    for holder, (what, argument) in operations:
        changes: Changes = {}
        mine = model[holder]
        match what, argument:
            case "add", list(ranges):
                counted.add(holder, merged(ranges), changes)
                mine |= offsets(merged(ranges))
            case "sparse", list(each):
                counted.add(holder, [(offset, offset) for offset in each], changes)
                mine |= set(each)
            case "rewind", int(offset):
                counted.rewind(holder, offset, changes)
                mine -= {each for each in mine if each >= offset}
            case "forget", _:
                counted.forget(holder, changes)
                mine.clear()
            case _:
                counted = Counted(durable)
        for name, value in changes.items():
            if value is None:
                durable.pop(name)
            else:
                durable[name] = value
    for state in (counted, Counted(durable)):
        for holder, mine in model.items():
            assert offsets(state.ranges(holder)) == mine
            assert state.top(holder) == max(mine, default=-1)
            assert (holder in state) == bool(mine)
            gaps = list(state.gaps(holder, *looked))
            assert offsets(tuple(gaps)) == set(range(looked[0], looked[1] + 1)) - mine
            assert gaps == sorted(gaps)
            assert merged(gaps) == tuple(gaps)
    assert all(len(value) <= 1 + CHUNK // 8 for value in durable.values())


def changed(change: Callable[[Counted, Changes], None], durable: dict[bytes, bytes]) -> Changes:
    changes: Changes = {}
    change(Counted(durable), changes)
    return changes


def test_nothing_is_written_for_what_counts_already() -> None:
    durable = {
        name: value
        for name, value in changed(lambda c, to: c.add(HOLDERS[0], [(5, 9)], to), {}).items()
        if value is not None
    }
    assert changed(lambda c, to: c.add(HOLDERS[0], [(6, 7)], to), durable) == {}
    assert changed(lambda c, to: c.rewind(HOLDERS[0], 10, to), durable) == {}


def test_what_lies_below_the_start_of_the_log_goes_in_whole_pieces() -> None:
    changes: Changes = {}
    counted = Counted()
    counted.add(HOLDERS[0], [(0, 3 * CHUNK)], changes)
    counted.prune(HOLDERS[0], 2 * CHUNK + 1, changes)
    assert counted.ranges(HOLDERS[0]) == ((2 * CHUNK, 3 * CHUNK),)
    assert list(changes.values()).count(None) == 2
    counted.prune(HOLDERS[0], 5 * CHUNK, changes)
    assert HOLDERS[0] not in counted
    assert set(changes.values()) == {None}


def test_a_long_run_is_short() -> None:
    changes: Changes = {}
    Counted().add(HOLDERS[0], [(0, 1_000_000)], changes)
    assert sum(len(value or b"") for value in changes.values()) < 5 * len(changes)


def test_an_open_range_costs_nothing() -> None:
    counted = Counted()
    counted.add(HOLDERS[0], [(10, 10)], {})
    assert list(counted.gaps(HOLDERS[0], 0, 10**15)) == [(0, 9), (11, 10**15)]
