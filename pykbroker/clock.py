"""Time: one clock, injected everywhere.

``time_ms`` is the wall clock (record timestamps, retention, expiry, delays); ``monotonic`` is what a
live client answers to (sessions, rebalances, long polls, idle connections).  Cores take the time as
an argument; only drivers hold a clock.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

import trio


class Clock(Protocol):
    """What drivers ask for the time."""

    def time_ms(self) -> int:
        """Milliseconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...

    async def wait_until(self, deadline: float) -> None:
        """Return when ``monotonic()`` has reached ``deadline`` (seconds)."""
        ...

    async def wait_until_ms(self, deadline_ms: int) -> None:
        """Return when ``time_ms()`` has reached ``deadline_ms``."""
        ...


class SystemClock:
    """The machine's clocks."""

    def time_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    async def wait_until(self, deadline: float) -> None:
        if deadline == math.inf:
            await trio.sleep_forever()
        await trio.sleep(max(0.0, deadline - self.monotonic()))

    async def wait_until_ms(self, deadline_ms: int) -> None:
        while (left := deadline_ms - self.time_ms()) > 0:  # noqa: ASYNC110  # may be set back
            await trio.sleep(left / 1000)


class MovableClock(SystemClock):
    """The machine's clocks plus a shift that a test moves forward with :meth:`advance`.

    ``advance`` must run in the trio thread of the broker; waits that became due return at once.
    """

    def __init__(self) -> None:
        self._shift_ms = 0
        self._session_shift = 0.0
        self._moved: trio.Event | None = None

    def time_ms(self) -> int:
        return super().time_ms() + self._shift_ms

    def monotonic(self) -> float:
        return super().monotonic() + self._session_shift

    def advance(self, seconds: float, *, sessions: bool = False) -> None:
        """Move ``time_ms`` by ``seconds``; ``monotonic`` too when ``sessions`` is true."""
        if seconds < 0:
            raise ValueError(f"a clock moves forward only: seconds={seconds!r}, allowed: 0 or more")
        self._shift_ms += round(seconds * 1000)
        if sessions:
            self._session_shift += seconds
        if self._moved is not None:
            self._moved.set()
            self._moved = None

    async def wait_until(self, deadline: float) -> None:
        while (left := deadline - self.monotonic()) > 0:
            await self._wait_moved(left)

    async def wait_until_ms(self, deadline_ms: int) -> None:
        while (left := deadline_ms - self.time_ms()) > 0:
            await self._wait_moved(left / 1000)

    async def _wait_moved(self, seconds: float) -> None:
        if self._moved is None:
            self._moved = trio.Event()
        with trio.move_on_after(seconds):
            await self._moved.wait()


async def pause(clock: Clock, ms: int) -> None:
    """Return when ``ms`` have passed on either clock: tests move only the wall clock, and where that is set
    back by a day, a day without the work that was to come after the pause must not follow."""
    async with trio.open_nursery() as nursery:

        async def end(wait: Callable[[], Awaitable[None]]) -> None:
            await wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(end, partial(clock.wait_until_ms, clock.time_ms() + ms))
        nursery.start_soon(end, partial(clock.wait_until, clock.monotonic() + ms / 1000))
