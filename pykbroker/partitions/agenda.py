"""Things that are due at some time of the wall clock, and waiting for the first of them."""

from __future__ import annotations

import heapq
import itertools
from typing import Generic, TypeVar

import trio

from pykbroker.clock import Clock

T = TypeVar("T")


class Agenda(Generic[T]):
    """A queue ordered by due time; one task takes, any function of the loop's thread adds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: list[tuple[int, int, T]] = []
        self._order = itertools.count()
        self._sooner = trio.Event()

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, item: T, due_ms: int) -> None:
        """Have ``item`` taken at ``due_ms``."""
        if not self._entries or due_ms < self._entries[0][0]:
            self._sooner.set()
        heapq.heappush(self._entries, (due_ms, next(self._order), item))

    async def take_due(self) -> list[T]:
        """Wait until something is due, and return all that is."""
        while not (due := self._pop_due()):
            self._sooner = trio.Event()
            if not self._entries:
                await self._sooner.wait()
                continue
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._end_when_due, self._entries[0][0], nursery.cancel_scope)
                await self._sooner.wait()
                nursery.cancel_scope.cancel()
        return due

    def _pop_due(self) -> list[T]:
        now_ms = self._clock.time_ms()
        due: list[T] = []
        while self._entries and self._entries[0][0] <= now_ms:
            due.append(heapq.heappop(self._entries)[2])
        return due

    async def _end_when_due(self, due_ms: int, scope: trio.CancelScope) -> None:
        await self._clock.wait_until_ms(due_ms)
        scope.cancel()
