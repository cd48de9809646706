"""Many deadlines, one task: cheaper than a cancel scope each, and on the broker's own clock."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from itertools import count

import trio

from pykbroker.clock import Clock


class Timer:
    """One deadline; :meth:`cancel` it when it no longer matters."""

    __slots__ = ("_timers", "callback")

    def __init__(self, timers: Timers, callback: Callable[[], None]) -> None:
        self._timers = timers
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """It will not fire."""
        if self.callback is not None:
            self.callback = None
            self._timers.forget_one()


class Timers:
    """Calls back at deadlines (seconds of ``clock.monotonic``), while :meth:`run` runs."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = count()
        self._cancelled = 0
        self._sleep: trio.CancelScope | None = None

    def __len__(self) -> int:
        """Timers held, cancelled ones that are still to be thrown away included."""
        return len(self._heap)

    def at(self, deadline: float, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` (which must not raise) when ``deadline`` has come."""
        timer = Timer(self, callback)
        heapq.heappush(self._heap, (deadline, next(self._order), timer))
        if self._heap[0][2] is timer and self._sleep is not None:
            self._sleep.cancel()
        return timer

    def forget_one(self) -> None:
        """A timer was cancelled; the heap is rebuilt when most of it is dead (a long poll is nearly always
        answered before its deadline)."""
        self._cancelled += 1
        if self._cancelled > 64 and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].callback is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    async def run(self) -> None:
        """Sleep until the next deadline, over and over, until cancelled."""
        while True:
            self._fire()
            deadline = self._heap[0][0] if self._heap else math.inf
            with trio.CancelScope() as self._sleep:
                if deadline == math.inf:
                    await trio.sleep_forever()
                await self._clock.wait_until(deadline)
            self._sleep = None

    def _fire(self) -> None:
        now = self._clock.monotonic()
        while self._heap and (self._heap[0][0] <= now or self._heap[0][2].callback is None):
            timer = heapq.heappop(self._heap)[2]
            if timer.callback is None:
                self._cancelled = max(0, self._cancelled - 1)
            else:
                callback, timer.callback = timer.callback, None
                callback()
