"""The due-time index in one SQLite file, for all flows: what is asked of it.

One thread at a time works on it, so that nothing holds up the loop; SQLite's cache is small, and the rows
are in the order in which they are asked for.  The file (:mod:`~pykbroker.delivery.sqlite_file`) is derived
from the held logs: one that is missing, damaged or of another version is begun anew
(:class:`~pykbroker.delivery.index.IndexLost`), and lanes fill it again.  A power cut may take the last
transactions; each holds together, and that is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from pykbroker.delivery.index import Extent, Indexed, IndexLost
from pykbroker.delivery.released import LOWEST, Released, Row
from pykbroker.delivery.sqlite_file import FILE, SqliteFile, numbers, shrink
from pykbroker.forwarding.plan import Place

if TYPE_CHECKING:
    import sqlite3

__all__ = ["FILE", "SqliteIndex"]

T = TypeVar("T")

SLICE: Final = 2000
"""Rows removed or looked through in one transaction, a few milliseconds: others have their turn between."""
SCAN: Final = 50_000
"""Rows of which the lowest offset is looked for at once."""


class SqliteIndex:
    """An :class:`~pykbroker.delivery.index.Index`.  The file is opened when it is first needed."""

    def __init__(self, directory: Path) -> None:
        self._lanes: dict[Place, int] = {}
        self._file = SqliteFile(directory, on_opened=self._lanes.clear)
        self._seen: dict[Place, int] = {}
        """In which file, of those that were begun one after the other, a lane has last looked how far it is
        indexed: in another one it finds nothing, and must not take that for all there is."""

    async def _run_for(self, lane: Place, work: Callable[[sqlite3.Connection], T]) -> T:
        def checked(connection: sqlite3.Connection) -> T:
            begun = self._file.begun
            if self._seen.setdefault(lane, begun) != begun:
                raise IndexLost("it was made anew")
            return work(connection)

        return await self._file.run(checked)

    # -- in the thread

    def _lane(self, connection: sqlite3.Connection, lane: Place) -> int:
        """The number of a lane, -1 if it has none."""
        known = self._lanes.get(lane)
        if known is None:
            row = connection.execute(
                "SELECT lane FROM lanes WHERE topic = ? AND number = ?", (lane.topic_id, lane.partition)
            ).fetchone()
            if row is None:
                return -1
            (known,) = numbers(row)
            self._lanes[lane] = known
        return known

    def _note(self, connection: sqlite3.Connection, lane: Place, upto: Indexed) -> int:
        number = self._lane(connection, lane)
        if number >= 0:
            changed = connection.execute(
                "UPDATE lanes SET indexed = ?, epoch = ? WHERE lane = ?", (*upto, number)
            )
            if changed.rowcount == 1:
                return number
        # Not remembered before it is committed.
        self._lanes.pop(lane, None)
        cursor = connection.execute(
            "INSERT INTO lanes (topic, number, indexed, epoch) VALUES (?, ?, ?, ?)", (*lane, *upto)
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    # -- what is asked

    async def indexed(self, lane: Place) -> Indexed | None:
        """How far a lane is indexed."""

        def work(connection: sqlite3.Connection) -> Indexed | None:
            row = connection.execute(
                "SELECT indexed, epoch FROM lanes WHERE topic = ? AND number = ?", tuple(lane)
            ).fetchone()
            self._seen[lane] = self._file.begun
            return None if row is None else Indexed(*numbers(row))

        return await self._file.run(work)

    async def add(
        self, lane: Place, rows: Sequence[Row], upto: Indexed, sizes: Sequence[int] | None = None
    ) -> None:
        """Add rows, in one transaction with the offset up to which that is all."""
        known = repeat(0) if sizes is None else sizes

        def work(connection: sqlite3.Connection) -> None:
            number = self._note(connection, lane, upto)
            connection.executemany(
                "INSERT OR IGNORE INTO held VALUES (?, ?, ?, ?)",
                [(number, due, at, size) for (due, at), size in zip(rows, known, strict=False)],
            )

        await self._run_for(lane, work)

    async def cut(self, lane: Place, upto: Indexed) -> None:
        """Remove the rows from an offset on; looks through the whole lane."""

        def work(connection: sqlite3.Connection) -> None:
            number = self._note(connection, lane, upto)
            connection.execute("DELETE FROM held WHERE lane = ? AND at >= ?", (number, upto.end))

        await self._run_for(lane, work)

    async def above(self, lane: Place, key: Row, limit: int, start: int, end: int) -> Sequence[Row]:
        """The first rows above ``key``, in order."""

        def work(connection: sqlite3.Connection) -> list[Row]:
            rows = connection.execute(
                "SELECT due, at FROM held WHERE lane = ? AND (due, at) > (?, ?) AND at >= ? AND at < ? "
                "ORDER BY due, at LIMIT ?",
                (self._lane(connection, lane), *key, start, end, limit),
            )
            return [Row(*numbers(row)) for row in rows]

        return await self._run_for(lane, work)

    async def late(self, lane: Place, key: Row, limit: int, start: int, end: int) -> Sequence[Row]:
        """The first rows by offset that are not above ``key``."""

        def work(connection: sqlite3.Connection) -> list[Row]:
            rows = connection.execute(
                "SELECT due, at FROM held WHERE lane = ? AND (due, at) <= (?, ?) AND at >= ? AND at < ? "
                "ORDER BY at LIMIT ?",
                (self._lane(connection, lane), *key, start, end, limit),
            )
            return [Row(*numbers(row)) for row in rows]

        return await self._run_for(lane, work)

    async def purge(self, lane: Place, released: Released) -> int:
        """Remove rows that are released, some at a time."""
        gone = 0
        for horizon, start, end in released.spans():
            below = LOWEST
            while below < horizon:
                removed, below = await self._purge_some(lane, below, horizon, start, end)
                gone += removed
        while await self._file.run(shrink):
            pass
        return gone

    async def _purge_some(
        self, lane: Place, below: Row, horizon: Row, start: int, end: int
    ) -> tuple[int, Row]:
        """Look at some rows above ``below`` and remove what is released; how many, and where that ended."""

        def work(connection: sqlite3.Connection) -> tuple[int, Row]:
            number = self._lane(connection, lane)
            row = connection.execute(
                "SELECT due, at FROM held WHERE lane = ? AND (due, at) > (?, ?) AND (due, at) <= (?, ?) "
                "ORDER BY due, at LIMIT 1 OFFSET ?",
                (number, *below, *horizon, SLICE - 1),
            ).fetchone()
            upto = horizon if row is None else Row(*numbers(row))
            removed = connection.execute(
                "DELETE FROM held WHERE lane = ? AND (due, at) > (?, ?) AND (due, at) <= (?, ?) "
                "AND at >= ? AND at < ?",
                (number, *below, *upto, start, end),
            )
            return removed.rowcount, upto

        return await self._run_for(lane, work)

    async def extent(self, lane: Place, below: int) -> Extent:
        """Looks through the whole lane, some rows at a time; rows that are added meanwhile lie behind those
        that are there."""
        extent, at = Extent(None, 0, 0), LOWEST
        while True:
            found, last = await self._scan(lane, at, below)
            extent = extent.with_more(found)
            if last is None:
                return extent
            at = last

    async def _scan(self, lane: Place, above: Row, below: int) -> tuple[Extent, Row | None]:
        def work(connection: sqlite3.Connection) -> tuple[Extent, Row | None]:
            number = self._lane(connection, lane)
            last = connection.execute(
                "SELECT due, at FROM held WHERE lane = ? AND (due, at) > (?, ?) "
                "ORDER BY due, at LIMIT 1 OFFSET ?",
                (number, *above, SCAN - 1),
            ).fetchone()
            within, bound = ("", ()) if last is None else (" AND (due, at) <= (?, ?)", tuple(last))
            lowest, records, size = connection.execute(
                "SELECT min(at), total(at < ?), total((at < ?) * size) "
                f"FROM held WHERE lane = ? AND (due, at) > (?, ?){within}",
                (below, below, number, *above, *bound),
            ).fetchone()
            if lowest is not None:
                (lowest,) = numbers((lowest,))
            return Extent(lowest, int(records), int(size)), None if last is None else Row(*numbers(last))

        return await self._run_for(lane, work)

    async def waiting(self, lane: Place, released: Released) -> int:
        """The number of rows that are not released.  Looks through all of them."""

        def work(connection: sqlite3.Connection) -> int:
            gone, bound = "at < ?", [released.eras[0].start]
            for horizon, start, end in released.spans():
                gone += " OR ((due, at) <= (?, ?) AND at >= ? AND at < ?)"
                bound += [*horizon, start, end]
            (rows,) = connection.execute(
                f"SELECT count(*) FROM held WHERE lane = ? AND NOT (at < ? AND ({gone}))",
                (self._lane(connection, lane), released.end, *bound),
            ).fetchone()
            return int(rows)

        return await self._run_for(lane, work)

    async def forget(self, topic_ids: Collection[bytes]) -> None:
        """Remove the lanes of these held logs, some rows at a time."""
        if not self._file.path.exists():
            return
        for lane in await self.lanes():
            if lane.topic_id in topic_ids:
                while await self._file.run(partial(self._forget_some, lane)):
                    pass
        while await self._file.run(shrink):
            pass

    def _forget_some(self, lane: Place, connection: sqlite3.Connection) -> bool:
        number = self._lane(connection, lane)
        row = connection.execute(
            "SELECT due, at FROM held WHERE lane = ? ORDER BY due, at LIMIT 1 OFFSET ?", (number, SLICE - 1)
        ).fetchone()
        if row is not None:
            connection.execute("DELETE FROM held WHERE lane = ? AND (due, at) <= (?, ?)", (number, *row))
            return True
        connection.execute("DELETE FROM held WHERE lane = ?", (number,))
        connection.execute("DELETE FROM lanes WHERE lane = ?", (number,))
        self._lanes.pop(lane, None)
        self._seen.pop(lane, None)
        return False

    async def lanes(self) -> list[Place]:
        """All lanes that are there."""

        def work(connection: sqlite3.Connection) -> list[Place]:
            rows = connection.execute("SELECT topic, number FROM lanes")
            return [Place(topic, *numbers((number,))) for topic, number in rows]

        return await self._file.run(work)

    async def aclose(self) -> None:
        """Let go of the file."""
        await self._file.aclose()
