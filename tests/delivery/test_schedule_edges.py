"""Eras, where a little less would not do."""

from __future__ import annotations

from pykbroker.delivery.index import Indexed, LaneView
from pykbroker.delivery.released import Row
from pykbroker.delivery.schedule import MAX_ERAS, Schedule
from tests.delivery.test_schedule import LANE, now, schedule


def take(plan: Schedule, now_ms: int) -> list[Row]:
    """Everything that is released at ``now_ms``, and nothing twice."""
    found: list[Row] = []
    while (batch := now(plan.next(now_ms))) is not None:
        found += batch.in_order
        assert len(found) == len(set(found))
        plan.took(batch)
    return found


def add(plan: Schedule, *rows: Row) -> None:
    """These come behind what is there."""
    index, end = plan._index, rows[-1].offset + 1
    assert isinstance(index, LaneView)
    now(index._index.add(LANE, rows, Indexed(end, 0)))
    plan.indexed(rows, end)


def test_a_record_of_a_new_era_is_not_released_by_the_one_before_too() -> None:
    plan = schedule([Row(50_000, 0)])
    assert take(plan, 60_000) == [Row(50_000, 0)]
    assert take(plan, 60_000) == [], "what comes is kept in memory from now on"
    add(plan, Row(90_000, 1), Row(40_000, 2))
    assert take(plan, 10_000) == []
    assert len(plan.released.eras) == 2
    assert take(plan, 100_000) == [Row(40_000, 2), Row(90_000, 1)]


def test_there_are_no_more_eras_than_that_and_what_waits_is_released_all_the_same() -> None:
    plan = schedule([Row(1_000_000, 0)])
    released = take(plan, 1_000_000)
    for offset in range(1, 3 * MAX_ERAS):
        # One that is released, and before it one that waits for the clock that was set back.
        due_ms = 1_000_000 - 20_000 * offset
        add(plan, Row(due_ms + 10_000, 2 * offset - 1), Row(due_ms, 2 * offset))
        released += take(plan, due_ms)
        assert len(plan.released.eras) <= MAX_ERAS
    released += take(plan, 1_000_000)
    assert sorted(row.offset for row in released) == list(range(6 * MAX_ERAS - 1))
