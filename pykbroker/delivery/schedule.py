"""Which records of a held log are next, by what is released: sans-IO.

What that is in numbers, and what eras are, says :mod:`~pykbroker.delivery.released`.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Protocol

from pykbroker.delivery.released import LOWEST, Era, Released, Row

MAX_ERAS = 8
"""With more set-backs of the clock than that while records wait, some wait for each other."""
KEPT = 50
"""Rows that are kept in memory of an era of which nothing is due: there may be thousands of lanes."""
TOLERATED_MS = 1000
"""A clock that is set back by no more than this begins no era: records wait until it has caught up."""


class LaneIndex(Protocol):
    """What the schedule asks of the due-time index of one lane."""

    async def above(self, key: Row, limit: int, start: int, end: int) -> Sequence[Row]:
        """The first rows above ``key`` with offsets from ``start`` to below ``end``, in order."""
        ...

    async def late(self, key: Row, limit: int, start: int, end: int) -> Sequence[Row]:
        """The first rows by offset that are not above ``key``, with offsets from ``start`` to below
        ``end``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What is released next, and what then is released in all.  ``late`` ones are in order of offsets."""

    rows: tuple[Row, ...]
    end: int
    late: bool
    before: Released

    def first(self, count: int) -> Batch:
        """The same with fewer rows."""
        if count >= len(self.rows):
            return self
        rows = self.rows[:count]
        end = rows[-1].offset + 1 if self.late else self.end
        return Batch(rows=rows, end=end, late=self.late, before=self.before)

    @property
    def in_order(self) -> list[Row]:
        """The rows in the order in which they are released."""
        return sorted(self.rows)

    @property
    def after(self) -> Released:
        """What is released with this."""
        if self.late:
            return self.before._replace(end=self.end)
        eras = list(self.before.eras)
        starts = [era.start for era in eras]
        for row in self.rows:
            at = bisect_right(starts, row.offset) - 1
            eras[at] = eras[at]._replace(horizon=row)
        return Released(self.end, tuple(eras))


@dataclass(slots=True)
class _Ahead:
    """The next rows of an era, from memory: all above its horizon up to the last of them, or, if
    ``whole``, all that there are."""

    rows: list[Row] = field(default_factory=list)
    whole: bool = False

    def add(self, row: Row, most: int) -> None:
        rows = self.rows
        if not self.whole and not (rows and row < rows[-1]):
            return
        insort(rows, row)
        if len(rows) > 2 * most:
            self.trim(most)

    def trim(self, most: int) -> None:
        if len(self.rows) > most:
            self.rows = self.rows[:most]
            self.whole = False


class Schedule:
    """Chooses what is next.  ``indexed_end``: the offset up to which ``index`` knows the rows.

    One call at a time; a batch that :meth:`next` answered is either taken (:meth:`took`) before the next
    call, or was not to be.
    """

    def __init__(self, index: LaneIndex, released: Released, indexed_end: int, *, limit: int = 1000) -> None:
        self.released = released
        self.indexed_end = indexed_end
        self.next_due_ms: int | None = None
        """When :meth:`next` may have something, after it had nothing."""
        self._index = index
        self._limit = limit
        self._maybe_late = True
        self._ahead = [_Ahead() for _ in released.eras]

    @property
    def is_complete(self) -> bool:
        """Whether everything of which something may be released already is indexed again."""
        return self.indexed_end >= self.released.end

    @property
    def is_empty(self) -> bool:
        """Whether, as far as is known, nothing waits; right after :meth:`next` had nothing, it is known."""
        return self.is_complete and self.next_due_ms is None

    def indexed(self, rows: Iterable[Row], end: int) -> None:
        """These rows, none of which is released, are in the index, and with them all below ``end``."""
        released = self.released
        horizon, boundary = released.eras[-1].horizon, released.end
        ahead = self._ahead[-1]
        anew = False
        for row in rows:
            if row.offset < boundary:
                anew = True
            elif row <= horizon:
                self._maybe_late = True
            else:
                ahead.add(row, self._limit)
        if anew:
            self._forget()
        self.indexed_end = max(end, self.indexed_end)

    def _forget(self) -> None:
        self._ahead = [_Ahead() for _ in self.released.eras]
        self._maybe_late = True

    async def next(self, now_ms: int) -> Batch | None:
        """What may be released now; None: nothing before :attr:`next_due_ms`, or before more is indexed."""
        self.next_due_ms = None
        if not self.is_complete:
            return None
        late = await self._late(now_ms)
        return late if late is not None else await self._due(now_ms)

    async def _late(self, now_ms: int) -> Batch | None:
        if not self._maybe_late:
            return None
        end, eras = self.released
        rows = await self._index.late(eras[-1].horizon, self._limit + 1, end, self.indexed_end)
        if not rows:
            self._maybe_late = False
            return None
        due = tuple(takewhile(lambda row: row.due_ms <= now_ms, rows[: self._limit]))
        if due:
            end = self.indexed_end if len(due) == len(rows) else due[-1].offset + 1
            return Batch(rows=due, end=end, late=True, before=self.released)
        if rows[0].due_ms - now_ms <= TOLERATED_MS or len(eras) >= MAX_ERAS:
            self.next_due_ms = rows[0].due_ms
        else:
            self.released = Released(end, (*eras, Era(end, LOWEST)))
            self._forget()
            self._maybe_late = False
        return None

    async def _due(self, now_ms: int) -> Batch | None:
        found: list[Row] = []
        end, pairs = self.indexed_end, list(zip(self._ahead, self.released.spans(), strict=True))
        if self.next_due_ms is not None:
            # Late arrivals wait for the clock; then nothing above the last horizon is due either.
            end = self.released.end
            del pairs[-1]
        else:
            ahead, (horizon, start, _) = pairs[-1]
            pairs[-1] = ahead, (horizon, start, end)
        for ahead, (horizon, start, limit) in pairs:
            if not ahead.whole and (not ahead.rows or ahead.rows[-1].due_ms <= now_ms):
                ahead.rows = list(await self._index.above(horizon, self._limit, start, limit))
                ahead.whole = len(ahead.rows) < self._limit
            if ahead.rows:
                self._wait(ahead.rows[0].due_ms)
            found += takewhile(lambda row: row.due_ms <= now_ms, ahead.rows)
        if not found:
            for ahead in self._ahead:
                ahead.trim(KEPT)
            return None
        found.sort()
        return Batch(rows=tuple(found[: self._limit]), end=end, late=False, before=self.released)

    def _wait(self, due_ms: int) -> None:
        if self.next_due_ms is None or due_ms < self.next_due_ms:
            self.next_due_ms = due_ms

    def took(self, batch: Batch) -> None:
        """The batch is released, durably."""
        assert batch.before == self.released
        self.released = batch.after
        if batch.late:
            self._maybe_late = self.released.end < self.indexed_end
            return
        for ahead, era in zip(self._ahead, self.released.eras, strict=True):
            del ahead.rows[: bisect_right(ahead.rows, era.horizon)]

    def ended(self, floor: int) -> None:
        """No record below offset ``floor`` waits."""
        released = self.released.without_eras_below(floor)
        gone = len(self.released.eras) - len(released.eras)
        self.released = released
        del self._ahead[:gone]
