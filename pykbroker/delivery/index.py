"""When what is due: the due-time index of all held logs, derived from them and rebuilt when it is lost.

A row per record that waits, by lane (a partition of a held log), due time and offset, and of each lane the
offset up to which it is indexed.  :class:`SqliteIndex` keeps that in one file, :class:`MemoryIndex` is its
twin for tests.  Rows of what is released stay until whoever released them knows that a power cut cannot
take that back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import repeat
from typing import NamedTuple, Protocol

from pykbroker.delivery.released import Released, Row
from pykbroker.forwarding.plan import Place


class IndexUnavailable(Exception):
    """The index cannot be read or written now; the message says what to do."""


class IndexClosed(IndexUnavailable):
    """The broker stops: nobody needs to hear of it."""


class IndexLost(Exception):
    """The index was damaged and begins anew: lanes must look up what of them is indexed."""


class Indexed(NamedTuple):
    """The offset of a held log up to which it is indexed, in which leader epoch."""

    end: int
    leader_epoch: int


class Extent(NamedTuple):
    """What waits in a lane: the lowest offset (None: nothing waits), and how many records, of how many
    bytes, lie below an offset."""

    floor: int | None
    records: int
    size: int

    def with_more(self, other: Extent) -> Extent:
        """Together with what ``other`` has."""
        floors = [each for each in (self.floor, other.floor) if each is not None]
        return Extent(min(floors, default=None), self.records + other.records, self.size + other.size)


class Index(Protocol):
    """All raise :class:`IndexUnavailable` and :class:`IndexLost`."""

    async def indexed(self, lane: Place) -> Indexed | None:
        """How far a lane is indexed; None: not at all."""
        ...

    async def add(
        self, lane: Place, rows: Sequence[Row], upto: Indexed, sizes: Sequence[int] | None = None
    ) -> None:
        """Add rows (one that is there already counts once), with the offset up to which that is all, and
        the bytes of the records, where they are known."""
        ...

    async def cut(self, lane: Place, upto: Indexed) -> None:
        """Remove the rows from an offset on: the log has lost them."""
        ...

    async def above(self, lane: Place, key: Row, limit: int, start: int, end: int) -> Sequence[Row]:
        """See :class:`~pykbroker.delivery.schedule.LaneIndex`."""
        ...

    async def late(self, lane: Place, key: Row, limit: int, start: int, end: int) -> Sequence[Row]:
        """See :class:`~pykbroker.delivery.schedule.LaneIndex`."""
        ...

    async def purge(self, lane: Place, released: Released) -> int:
        """Remove rows that are released; how many."""
        ...

    async def extent(self, lane: Place, below: int) -> Extent:
        """What there is of a lane: the lowest offset of a row, and the rows of offsets below ``below``."""
        ...

    async def waiting(self, lane: Place, released: Released) -> int:
        """The number of rows that are not released."""
        ...

    async def forget(self, topic_ids: Collection[bytes]) -> None:
        """Remove the lanes of these held logs."""
        ...

    async def lanes(self) -> Sequence[Place]:
        """All lanes that are there."""
        ...

    async def aclose(self) -> None:
        """Let go of the file."""
        ...


class LaneView:
    """The rows of one lane: what a :class:`~pykbroker.delivery.schedule.Schedule` asks."""

    def __init__(self, index: Index, lane: Place) -> None:
        self._index = index
        self._lane = lane

    async def above(self, key: Row, limit: int, start: int, end: int) -> Sequence[Row]:
        """The first rows above ``key``, in order."""
        return await self._index.above(self._lane, key, limit, start, end)

    async def late(self, key: Row, limit: int, start: int, end: int) -> Sequence[Row]:
        """The first rows by offset that are not above ``key``."""
        return await self._index.late(self._lane, key, limit, start, end)


class MemoryIndex:
    """An :class:`Index` in memory."""

    def __init__(self) -> None:
        self.rows: dict[Place, set[Row]] = {}
        self.sizes: dict[tuple[Place, Row], int] = {}
        self.ends: dict[Place, Indexed] = {}

    async def indexed(self, lane: Place) -> Indexed | None:
        """How far."""
        return self.ends.get(lane)

    async def add(
        self, lane: Place, rows: Sequence[Row], upto: Indexed, sizes: Sequence[int] | None = None
    ) -> None:
        """Add rows."""
        known = self.rows.setdefault(lane, set())
        for row, size in zip(rows, repeat(0) if sizes is None else sizes, strict=False):
            if row not in known:
                known.add(row)
                self.sizes[lane, row] = size
        self.ends[lane] = upto

    async def cut(self, lane: Place, upto: Indexed) -> None:
        """Remove rows from an offset on."""
        self.rows[lane] = {row for row in self.rows.get(lane, ()) if row.offset < upto.end}
        self.ends[lane] = upto

    def _within(self, lane: Place, start: int, end: int) -> Iterable[Row]:
        return (row for row in self.rows.get(lane, ()) if start <= row.offset < end)

    async def above(self, lane: Place, key: Row, limit: int, start: int, end: int) -> Sequence[Row]:
        """Rows above ``key``."""
        return sorted(row for row in self._within(lane, start, end) if row > key)[:limit]

    async def late(self, lane: Place, key: Row, limit: int, start: int, end: int) -> Sequence[Row]:
        """Rows not above ``key``."""
        found = [row for row in self._within(lane, start, end) if row <= key]
        return sorted(found, key=lambda row: row.offset)[:limit]

    async def purge(self, lane: Place, released: Released) -> int:
        """Remove what is released."""
        gone = {row for row in self.rows.get(lane, ()) if released.covers(row)}
        self.rows.get(lane, set()).difference_update(gone)
        return len(gone)

    async def extent(self, lane: Place, below: int) -> Extent:
        """What there is."""
        rows = self.rows.get(lane, ())
        sizes = [self.sizes.get((lane, row), 0) for row in rows if row.offset < below]
        return Extent(min((row.offset for row in rows), default=None), len(sizes), sum(sizes))

    async def waiting(self, lane: Place, released: Released) -> int:
        """The number that waits."""
        return sum(not released.covers(row) for row in self.rows.get(lane, ()))

    async def forget(self, topic_ids: Collection[bytes]) -> None:
        """Remove lanes."""
        for lane in [lane for lane in self.ends if lane.topic_id in topic_ids]:
            self.ends.pop(lane)
            self.rows.pop(lane, None)

    async def lanes(self) -> Sequence[Place]:
        """All lanes."""
        return list(self.ends)

    async def aclose(self) -> None:
        """Nothing to do."""
