"""Waking a lane when its next record is due."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from pykbroker.clock import Clock

RECHECK_S: Final = 5.0
"""The clock is looked at again after this long: it may have been set."""


class Alarm:
    """Calls ``ring`` when the wall clock has reached the time that was set last."""

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self.due_ms: int | None = None
        """When it rings; None: not at all."""
        self._clock = clock
        self._ring = ring
        self._moved = trio.Event()

    def set(self, due_ms: int | None) -> None:
        """Ring then, and not at the time set before."""
        if due_ms != self.due_ms:
            self.due_ms = due_ms
            self._moved.set()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            self._moved = trio.Event()
            due_ms = self.due_ms
            if due_ms is None:
                await self._moved.wait()
                continue
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._until, due_ms, nursery.cancel_scope)
                with trio.move_on_after(RECHECK_S):
                    await self._moved.wait()
                nursery.cancel_scope.cancel()
            if due_ms == self.due_ms and self._clock.time_ms() >= due_ms:
                self.due_ms = None
                self._ring()

    async def _until(self, due_ms: int, scope: trio.CancelScope) -> None:
        await self._clock.wait_until_ms(due_ms)
        scope.cancel()
