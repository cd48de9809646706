"""Deadlines by key: set, moved and cleared in any order, taken when due."""

from __future__ import annotations

import heapq
import math
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Deadlines(Generic[K]):
    """At most one deadline per key.

    Moving a deadline later, as each heartbeat does, leaves the heap alone: an entry that comes up
    early is pushed again at its true time.  The heap is rebuilt when most of it is stale.
    """

    def __init__(self) -> None:
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._queued: dict[K, float] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._due)

    def get(self, key: K) -> float | None:
        """When ``key`` is due, or None."""
        return self._due.get(key)

    def set(self, key: K, at: float) -> None:
        """Make ``key`` due at ``at``, in place of what it was."""
        self._due[key] = at
        if self._queued.get(key, math.inf) > at:
            self._push(key, at)

    def clear(self, key: K) -> None:
        """Forget ``key``; not having it is fine."""
        self._due.pop(key, None)

    def next(self) -> float:
        """The earliest deadline, ``math.inf`` when there is none."""
        self._tidy()
        return self._heap[0][0] if self._heap else math.inf

    def first_due(self, now: float) -> K | None:
        """The key that is due first, if that is at or before ``now``.  It stays until cleared or moved."""
        self._tidy()
        return self._heap[0][2] if self._heap and self._heap[0][0] <= now else None

    def _push(self, key: K, at: float) -> None:
        self._count += 1
        self._queued[key] = at
        heapq.heappush(self._heap, (at, self._count, key))
        if len(self._heap) > 64 and len(self._heap) > 4 * len(self._due):
            self._rebuild()

    def _rebuild(self) -> None:
        self._queued = dict(self._due)
        self._heap = [(at, number, key) for number, (key, at) in enumerate(self._due.items())]
        self._count = len(self._heap)
        heapq.heapify(self._heap)

    def _tidy(self) -> None:
        """Drop or move what is on top of the heap until it tells the truth."""
        while self._heap:
            at, _, key = self._heap[0]
            due = self._due.get(key)
            if due == at:
                return
            heapq.heappop(self._heap)
            if self._queued.get(key) == at:
                del self._queued[key]
                if due is not None:
                    self._push(key, due)
