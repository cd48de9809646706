"""What is released, and when: against a model, with crashes and clocks that are set."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pykbroker.delivery.index import Indexed, LaneView, MemoryIndex
from pykbroker.delivery.released import LOWEST, Era, Released, Row
from pykbroker.delivery.schedule import MAX_ERAS, TOLERATED_MS, Batch, Schedule
from pykbroker.forwarding.plan import Place

T = TypeVar("T")
LANE = Place(b"h" * 16, 0)


def now(awaitable: Awaitable[T]) -> T:
    """The result of something that waits for nothing."""
    try:
        awaitable.__await__().__next__()
    except StopIteration as done:
        value: T = done.value
        return value
    raise AssertionError("it waits")


def schedule(rows: list[Row], released: Released | None = None, *, limit: int = 1000) -> Schedule:
    index = MemoryIndex()
    end = max((row.offset + 1 for row in rows), default=0)
    now(index.add(LANE, rows, Indexed(end, 0)))
    return Schedule(LaneView(index, LANE), released or Released.nothing(0), end, limit=limit)


def take(schedule: Schedule, now_ms: int) -> list[Row]:
    """Everything that is released at ``now_ms``."""
    found: list[Row] = []
    while (batch := now(schedule.next(now_ms))) is not None:
        found += batch.in_order
        schedule.took(batch)
    return found


def test_records_are_released_in_the_order_of_their_times_and_not_before() -> None:
    rows = [Row(30, 0), Row(10, 1), Row(20, 2), Row(10, 3)]
    plan = schedule(rows)
    assert take(plan, 9) == []
    assert plan.next_due_ms == 10
    assert take(plan, 20) == [Row(10, 1), Row(10, 3), Row(20, 2)]
    assert plan.next_due_ms == 30
    assert not plan.is_empty
    assert take(plan, 30) == [Row(30, 0)]
    assert plan.is_empty
    assert plan.released == Released(4, (Era(0, Row(30, 0)),))


def test_a_late_arrival_is_released_although_the_horizon_is_above_it() -> None:
    plan = schedule([Row(50, 0)])
    assert take(plan, 60) == [Row(50, 0)]
    index = plan._index
    assert isinstance(index, LaneView)
    rows = [Row(40, 1), Row(90, 2), Row(10, 3)]
    now(index._index.add(LANE, rows, Indexed(4, 0)))
    plan.indexed(rows, 4)
    assert take(plan, 60) == [Row(10, 3), Row(40, 1)]
    assert plan.released == Released(4, (Era(0, Row(50, 0)),))
    assert take(plan, 90) == [Row(90, 2)]


def test_steps_are_bounded_and_may_be_made_smaller() -> None:
    plan = schedule([Row(number // 3, number) for number in range(10)], limit=4)
    batch = now(plan.next(100))
    assert batch is not None
    assert len(batch.rows) == 4
    plan.took(batch.first(2))
    assert plan.released == Released(10, (Era(0, Row(0, 1)),))
    assert [row.offset for row in take(plan, 100)] == list(range(2, 10))


def test_late_arrivals_that_do_not_fit_leave_the_end_behind_the_last_that_does() -> None:
    plan = schedule([Row(9, number) for number in range(5)], Released(0, (Era(0, Row(50, 0)),)), limit=2)
    batch = now(plan.next(100))
    assert batch is not None
    assert (batch.late, batch.end, len(batch.rows)) == (True, 2, 2)
    plan.took(batch.first(1))
    assert plan.released.end == 1
    assert [row.offset for row in take(plan, 100)] == [1, 2, 3, 4]


def test_a_clock_that_is_set_back_makes_nobody_wait_for_others() -> None:
    plan = schedule([Row(1_000_000, 0)])
    take(plan, 1_000_000)
    index = plan._index
    assert isinstance(index, LaneView)
    rows = [Row(900_000, 1), Row(10_500, 2), Row(990_000, 3)]
    now(index._index.add(LANE, rows, Indexed(4, 0)))
    plan.indexed(rows, 4)
    assert take(plan, 10_000) == []
    assert plan.next_due_ms == 10_500
    assert take(plan, 10_500) == [Row(10_500, 2)]
    assert len(plan.released.eras) == 2
    plan.ended(1)
    assert plan.released == Released(4, (Era(1, Row(10_500, 2)),))
    assert take(plan, 1_000_000) == [Row(900_000, 1), Row(990_000, 3)]


def test_a_small_set_back_only_makes_records_wait() -> None:
    plan = schedule([Row(5000, 0)], Released(0, (Era(0, Row(5500, 9)),)))
    assert now(plan.next(5000 - TOLERATED_MS)) is None
    assert plan.next_due_ms == 5000
    assert len(plan.released.eras) == 1
    assert take(plan, 5000) == [Row(5000, 0)]


def more(plan: Schedule, *rows: Row) -> None:
    """These are indexed."""
    index = plan._index
    assert isinstance(index, LaneView)
    end = max(row.offset for row in rows) + 1
    now(index._index.add(LANE, rows, Indexed(end, 0)))
    plan.indexed(rows, end)


def test_a_late_arrival_that_is_not_due_is_not_passed_over_by_one_that_is() -> None:
    plan = schedule([Row(100, 0), Row(4000, 1), Row(100, 2)], Released(0, (Era(0, Row(5000, 9)),)))
    assert take(plan, 100) == [Row(100, 0), Row(100, 2)]
    assert take(plan, 4000) == [Row(4000, 1)]


def test_an_era_does_not_end_while_something_of_it_waits() -> None:
    plan = schedule([Row(90, 1)], Released(3, (Era(0, Row(50, 0)), Era(2, Row(10, 2)))))
    plan.indexed_end = 3
    plan.ended(1)
    assert take(plan, 90) == [Row(90, 1)]


def test_what_an_old_era_releases_says_nothing_of_late_arrivals_that_wait() -> None:
    released = Released(3, (Era(0, Row(100, 0)), Era(2, Row(5000, 2))))
    plan = schedule([Row(300, 1), Row(1200, 3)], released)
    assert take(plan, 300) == [Row(300, 1)]
    assert plan.next_due_ms == 1200
    assert take(plan, 1200) == [Row(1200, 3)]


def test_what_is_not_kept_in_memory_is_looked_up() -> None:
    plan = schedule([], limit=1)
    assert take(plan, 0) == []
    rows = [Row(10, 0), Row(20, 1), Row(30, 2)]
    for row in rows:
        more(plan, row)
    assert take(plan, 99) == rows


def test_what_comes_behind_what_is_kept_in_memory_hides_nothing_between() -> None:
    rows = [Row(10, 0), Row(20, 1), Row(30, 2), Row(40, 3)]
    plan = schedule(rows, limit=2)
    assert take(plan, 0) == []
    more(plan, Row(100, 4))
    assert take(plan, 50) == rows
    assert plan.next_due_ms == 100


def test_late_arrivals_are_released_in_the_order_of_their_times() -> None:
    plan = schedule([Row(70, 0), Row(60, 1)], Released(0, (Era(0, Row(80, 9)),)))
    batch = now(plan.next(75))
    assert batch is not None
    assert (batch.late, batch.in_order) == (True, [Row(60, 1), Row(70, 0)])


def test_nothing_is_released_before_all_that_may_have_been_is_indexed_again() -> None:
    plan = schedule([Row(10, 0)], Released(5, (Era(0, LOWEST),)))
    assert now(plan.next(99)) is None
    assert plan.next_due_ms is None
    assert not plan.is_empty


def test_what_is_released_survives_encoding() -> None:
    released = Released(9, (Era(2, Row(100, 7)), Era(8, LOWEST)))
    assert Released.decode(released.encode()) == released
    for broken in (b"", b"\x01", released.encode()[:-1], b"\x00\x02\x00"):
        with pytest.raises(ValueError, match=r"version|cut short|no era"):
            Released.decode(broken)


def test_a_log_that_lost_its_end_is_released_up_to_there() -> None:
    released = Released(9, (Era(2, Row(100, 7)), Era(8, LOWEST)))
    assert released.cut(9) is released
    assert released.cut(5) == Released(5, (Era(2, Row(100, 7)),))
    assert released.cut(1) == Released(1, (Era(1, Row(100, 7)),))


class Machine(RuleBasedStateMachine):
    """Records arrive, time goes, the clock is set, the broker crashes; released must be each once.

    A crash takes what was not durable: steps that were chosen and not taken.  A power cut may take the
    index back, or all of it, and it is filled again; never what is released.
    """

    @initialize(limit=st.integers(1, 5))
    def begin(self, limit: int) -> None:
        self.limit = limit
        self.now_ms = 100_000
        self.log: list[int] = []  # due times by offset
        self.index = MemoryIndex()
        self.durable = Released.nothing(0)
        self.times: dict[int, int] = {}  # of release
        self.start()

    def start(self) -> None:
        indexed = now(self.index.indexed(LANE))
        self.plan = Schedule(
            LaneView(self.index, LANE), self.durable, 0 if indexed is None else indexed.end, limit=self.limit
        )

    @rule(delays=st.lists(st.one_of(st.integers(0, 40), st.integers(0, 50_000)), max_size=6))
    def arrive(self, delays: list[int]) -> None:
        self.log += [self.now_ms + delay for delay in delays]

    @rule(count=st.integers(1, 8))
    def look(self, count: int) -> None:
        begin = self.plan.indexed_end
        end = min(begin + count, len(self.log))
        rows = [Row(self.log[offset], offset) for offset in range(begin, end)]
        rows = [row for row in rows if not self.plan.released.covers(row)]
        now(self.index.add(LANE, rows, Indexed(end, 0)))
        self.plan.indexed(rows, end)

    @rule(ms=st.one_of(st.integers(1, 50), st.integers(1, 60_000)))
    def wait(self, ms: int) -> None:
        self.now_ms += ms

    @rule(ms=st.integers(1, 60_000))
    def set_back(self, ms: int) -> None:
        self.now_ms = max(0, self.now_ms - ms)

    @rule(some=st.integers(1, 5))
    def step(self, some: int) -> None:
        batch = now(self.plan.next(self.now_ms))
        if batch is not None:
            self.release(batch.first(some))

    def release(self, batch: Batch) -> None:
        assert 0 < len(batch.rows) <= self.limit
        keys = batch.in_order
        for due_ms, offset in keys:
            assert due_ms == self.log[offset] <= self.now_ms, "before its time"
            assert offset not in self.times, "twice"
            self.times[offset] = self.now_ms
        self.plan.took(batch)
        self.durable = Released.decode(self.plan.released.encode())

    @rule()
    def everything(self) -> None:
        self.look(len(self.log) + 1)
        if len(self.durable.eras) >= MAX_ERAS:
            return
        before: list[Row] = []
        steps = 0
        while (batch := now(self.plan.next(self.now_ms))) is not None:
            if not batch.late:
                before += batch.in_order
            self.release(batch)
            steps += 1
            assert steps < 1000
        assert before == sorted(before)
        if len(self.plan.released.eras) < MAX_ERAS:
            waiting = [due for offset, due in enumerate(self.log) if offset not in self.times]
            if waiting:
                assert self.plan.next_due_ms is not None
                assert self.plan.next_due_ms > self.now_ms
            if any(due <= self.now_ms for due in waiting):
                # A clock that was set back a little makes records wait for it.
                assert self.plan.next_due_ms is not None
                assert self.plan.next_due_ms - self.now_ms <= TOLERATED_MS

    @rule(purge=st.booleans())
    def crash(self, purge: bool) -> None:
        if purge:
            now(self.index.purge(LANE, self.durable))
        self.start()

    @rule(lost=st.booleans())
    def power_cut(self, lost: bool) -> None:
        if lost:
            self.index = MemoryIndex()
        self.start()

    @rule()
    def tidy(self) -> None:
        now(self.index.purge(LANE, self.durable))
        floor = now(self.index.extent(LANE, 0)).floor
        if self.plan.is_complete:
            self.plan.ended(self.plan.indexed_end if floor is None else min(floor, self.plan.indexed_end))

    @invariant()
    def agrees(self) -> None:
        for offset, due_ms in enumerate(getattr(self, "log", ())):
            row = Row(due_ms, offset)
            assert self.durable.covers(row) == (offset in self.times)
            assert self.plan.released.covers(row) == (offset in self.times)


TestMachine = Machine.TestCase
