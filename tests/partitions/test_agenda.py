"""Things that are due: in order, on a clock that is moved."""

from __future__ import annotations

import trio
import trio.testing

from pykbroker.clock import MovableClock
from pykbroker.partitions.agenda import Agenda


async def test_due_things_come_in_order() -> None:
    clock = MovableClock()
    agenda: Agenda[str] = Agenda(clock)
    now = clock.time_ms()
    for item, due in [("c", now + 60_000), ("b", now - 1), ("a", now - 2)]:
        agenda.add(item, due)
    assert await agenda.take_due() == ["a", "b"]
    assert len(agenda) == 1
    clock.advance(61)
    assert await agenda.take_due() == ["c"]


async def test_a_waiter_hears_of_what_is_due_sooner() -> None:
    clock = MovableClock()
    agenda: Agenda[str] = Agenda(clock)
    taken: list[str] = []

    async def take() -> None:
        taken.extend(await agenda.take_due())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await trio.testing.wait_all_tasks_blocked()
        agenda.add("late", clock.time_ms() + 60_000)
        await trio.testing.wait_all_tasks_blocked()
        agenda.add("soon", clock.time_ms() + 10_000)
        await trio.testing.wait_all_tasks_blocked()
        clock.advance(11)
    assert taken == ["soon"]


async def test_a_moved_clock_wakes_the_waiter() -> None:
    clock = MovableClock()
    agenda: Agenda[str] = Agenda(clock)
    agenda.add("late", clock.time_ms() + 3_600_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(agenda.take_due)
        await trio.testing.wait_all_tasks_blocked()
        clock.advance(3601)
