"""Which records of a held log are released, and which are next: sans-IO.

Mostly that is two numbers, ``end`` and a ``horizon``: released are the records below offset ``end`` whose
key (due time, offset) is not above the horizon.  A step either raises the horizon over everything that is
indexed, or raises ``end`` over late arrivals, whose keys lie below the horizon.  Both lie in the log of
plans, in the batch of the plan that follows from them.

A clock that is set back leaves the horizon in the future, and records that are due before it would stand in
each other's way.  Then a new *era* begins: from that offset on there is a horizon of its own.  There is
nearly always one era, and an old one ends when nothing of it waits.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import NamedTuple, Protocol

from pykbroker.records.varint import append_varint, read_varint

VERSION = 0
MAX_ERAS = 8
"""With more set-backs of the clock than that while records wait, some wait for each other."""
KEPT = 50
"""Rows that are kept in memory of an era of which nothing is due: there may be thousands of lanes."""
TOLERATED_MS = 1000
"""A clock that is set back by no more than this begins no era: records wait until it has caught up."""


class Row(NamedTuple):
    """The key of a held record.  Rows are released in their order."""

    due_ms: int
    offset: int


LOWEST = Row(-1, -1)
"""Below all rows."""


class Era(NamedTuple):
    """The records from offset ``start`` to the next era's start, and up to which key they are released."""

    start: int
    horizon: Row


class Released(NamedTuple):
    """What is released: everything below the first era, and what the eras say, all below ``end``."""

    end: int
    eras: tuple[Era, ...]

    @classmethod
    def nothing(cls, start: int) -> Released:
        """Nothing of a log that begins at ``start``."""
        return cls(start, (Era(start, LOWEST),))

    def covers(self, row: Row) -> bool:
        """Whether the record of ``row`` is released."""
        if row.offset >= self.end:
            return False
        for era in reversed(self.eras):
            if row.offset >= era.start:
                return row <= era.horizon
        return True

    def cut(self, end: int) -> Released:
        """What holds when the log has lost everything from offset ``end`` on."""
        if end >= self.end:
            return self
        eras = [era for era in self.eras if era.start <= end]
        return Released(end, tuple(eras) or (Era(end, self.eras[0].horizon),))

    def without_eras_below(self, floor: int) -> Released:
        """The same, when no record below ``floor`` waits any more."""
        eras = self.eras
        while len(eras) > 1 and eras[1].start <= floor:
            eras = eras[1:]
        return self if eras is self.eras else Released(self.end, eras)

    def spans(self) -> list[tuple[Row, int, int]]:
        """Of each era: its horizon, where it begins, and where it ends."""
        ends = [era.start for era in self.eras[1:]] + [self.end]
        return [(era.horizon, era.start, end) for era, end in zip(self.eras, ends, strict=True)]

    def encode(self) -> bytes:
        """As a small value of a lane."""
        out = bytearray((VERSION,))
        append_varint(out, self.end)
        append_varint(out, len(self.eras))
        for start, (due_ms, offset) in self.eras:
            append_varint(out, start)
            append_varint(out, due_ms)
            append_varint(out, offset)
        return bytes(out)

    @classmethod
    def decode(cls, data: bytes) -> Released:
        """Raises ValueError."""
        if data[:1] != bytes((VERSION,)):
            raise ValueError(f"version not known: {data[:1]!r}, known: {VERSION}")
        try:
            end, at = read_varint(data, 1)
            count, at = read_varint(data, at)
            eras = []
            for _ in range(count):
                start, at = read_varint(data, at)
                due_ms, at = read_varint(data, at)
                offset, at = read_varint(data, at)
                eras.append(Era(start, Row(due_ms, offset)))
        except IndexError as error:
            raise ValueError(f"cut short: {data!r:.80}") from error
        if not eras:
            raise ValueError(f"no era: {data!r:.80}")
        return cls(end, tuple(eras))


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
