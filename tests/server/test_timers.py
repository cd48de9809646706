"""Many deadlines in one task."""

from __future__ import annotations

import trio
import trio.testing

from pykbroker.clock import MovableClock
from pykbroker.server.timers import Timers


async def test_in_order_of_deadlines_whatever_the_order_of_calls() -> None:
    clock = MovableClock()
    timers, fired = Timers(clock), []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        await trio.testing.wait_all_tasks_blocked()
        now = clock.monotonic()
        for delay in (300, 100, 200):
            timers.at(now + delay, lambda delay=delay: fired.append(delay))  # type: ignore[misc]
            await trio.testing.wait_all_tasks_blocked()
        assert fired == []
        clock.advance(201, sessions=True)
        await trio.testing.wait_all_tasks_blocked()
        assert fired == [100, 200]
        timers.at(now, lambda: fired.append(0))  # already due
        await trio.testing.wait_all_tasks_blocked()
        assert fired == [100, 200, 0]
        nursery.cancel_scope.cancel()


async def test_cancelled_ones_do_not_fire_and_do_not_pile_up() -> None:
    """A long poll is nearly always answered before its deadline."""
    clock = MovableClock()
    timers, fired = Timers(clock), []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        kept = timers.at(clock.monotonic() + 1, lambda: fired.append("kept"))
        for _ in range(10_000):
            timer = timers.at(clock.monotonic() + 1, lambda: fired.append("cancelled"))
            timer.cancel()
            timer.cancel()
        assert len(timers) < 200
        clock.advance(2, sessions=True)
        await trio.testing.wait_all_tasks_blocked()
        assert fired == ["kept"]
        kept.cancel()
        assert len(timers) == 0
        nursery.cancel_scope.cancel()
