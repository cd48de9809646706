"""The due-time index in one SQLite file, for all flows.

One thread at a time works on it, so that nothing holds up the loop; SQLite's cache is small, and the rows
are in the order in which they are asked for.  The file is derived from the held logs: one that is missing,
damaged or of another version is begun anew (:class:`~pykbroker.delivery.index.IndexLost`), and lanes fill
it again.  A power cut may take the last transactions; each holds together, and that is enough.

Python may have been built without sqlite3: then delays wait, and the log says so.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import trio

from pykbroker.delivery.index import Indexed, IndexLost, IndexUnavailable
from pykbroker.delivery.schedule import LOWEST, Released, Row
from pykbroker.forwarding.plan import Place

if TYPE_CHECKING:
    import sqlite3

log = logging.getLogger(__name__)

T = TypeVar("T")

FILE: Final = "pykbroker-held.sqlite"
VERSION: Final = 1
SLICE: Final = 2000
"""Rows removed or looked through in one transaction, a few milliseconds: others have their turn between."""
SCAN: Final = 50_000
"""Rows of which the lowest offset is looked for at once."""

FREE_PAGES: Final = 250
"""Pages of 4 KB that stay in the file for what comes next; with more, the file becomes smaller."""
GIVEN_BACK: Final = 250
"""Pages given back at once, a few milliseconds."""

_SETTINGS: Final = (
    "PRAGMA auto_vacuum = INCREMENTAL",  # before the first table is there, or not at all
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    "PRAGMA cache_size = -2000",
    "PRAGMA mmap_size = 0",
    "PRAGMA journal_size_limit = 8388608",
    "PRAGMA temp_store = MEMORY",
)
_SCHEMA: Final = (
    "CREATE TABLE lanes (lane INTEGER PRIMARY KEY, topic BLOB NOT NULL, "
    "number INTEGER NOT NULL, indexed INTEGER NOT NULL, epoch INTEGER NOT NULL, UNIQUE (topic, number))",
    "CREATE TABLE held (lane INTEGER NOT NULL, due INTEGER NOT NULL, "
    "at INTEGER NOT NULL, PRIMARY KEY (lane, due, at)) WITHOUT ROWID",
)


class _Damaged(Exception):
    """What was read is none of the values that are written."""


class SqliteIndex:
    """An :class:`~pykbroker.delivery.index.Index`.  The file is opened when it is first needed."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE
        self._limiter = trio.CapacityLimiter(1)
        self._connection: sqlite3.Connection | None = None
        self._lanes: dict[Place, int] = {}
        self._begun = 0
        self._seen: dict[Place, int] = {}
        """In which file, of those that were begun one after the other, a lane has last looked how far it is
        indexed: in another one it finds nothing, and must not take that for all there is."""
        self._closed = False

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await trio.to_thread.run_sync(self._guarded, work, limiter=self._limiter)

    async def _run_for(self, lane: Place, work: Callable[[sqlite3.Connection], T]) -> T:
        def checked(connection: sqlite3.Connection) -> T:
            if self._seen.setdefault(lane, self._begun) != self._begun:
                raise IndexLost("it was made anew")
            return work(connection)

        return await self._run(checked)

    # -- in the thread

    def _guarded(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._closed:
            raise IndexUnavailable("the broker stops")
        try:
            import sqlite3  # 2 MB and 10 ms that only delays need
        except ImportError as error:
            raise IndexUnavailable(
                "this Python has no sqlite3 module, which delays and retries need: run pykbroker with a "
                "Python that was built with it"
            ) from error
        try:
            if self._connection is None:
                self._connection = self._opened()
            with self._connection:
                return work(self._connection)
        except sqlite3.OperationalError as error:
            if "no such" not in str(error):
                self._let_go()
                raise IndexUnavailable(f"file={self._path}: {error}; look for a full disk") from error
            self._begin_anew(error)
            raise IndexLost(str(error)) from error
        except (sqlite3.Error, _Damaged) as error:
            self._begin_anew(error)
            raise IndexLost(str(error)) from error

    def _opened(self) -> sqlite3.Connection:
        import sqlite3  # as above

        self._lanes.clear()
        connection = sqlite3.connect(self._path, check_same_thread=False, isolation_level="IMMEDIATE")
        connection.text_factory = bytes  # there is no text: damage is
        try:
            for statement in _SETTINGS:
                connection.execute(statement)
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version not in (0, VERSION):
                raise sqlite3.DatabaseError(f"version {version}, known: {VERSION}")
            if not version:
                with connection:
                    connection.execute("BEGIN IMMEDIATE")
                    for statement in _SCHEMA:
                        connection.execute(statement)
                    connection.execute(f"PRAGMA user_version = {VERSION}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        self._lanes.clear()
        if connection is not None:
            with contextlib.suppress(Exception):  # whatever state it is in
                connection.close()

    def _begin_anew(self, why: Exception) -> None:
        log.error("the due-time index is damaged and made anew: file=%s: %s", self._path, why)
        self._let_go()
        self._begun += 1
        try:
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(FILE + suffix).unlink(missing_ok=True)
        except OSError as error:
            raise IndexUnavailable(f"a damaged file cannot be removed: {error}; remove it") from error

    def _lane(self, connection: sqlite3.Connection, lane: Place) -> int:
        """The number of a lane, -1 if it has none."""
        known = self._lanes.get(lane)
        if known is None:
            row = connection.execute(
                "SELECT lane FROM lanes WHERE topic = ? AND number = ?", (lane.topic_id, lane.partition)
            ).fetchone()
            if row is None:
                return -1
            (known,) = _numbers(row)
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
            self._seen[lane] = self._begun
            return None if row is None else Indexed(*_numbers(row))

        return await self._run(work)

    async def add(self, lane: Place, rows: Sequence[Row], upto: Indexed) -> None:
        """Add rows, in one transaction with the offset up to which that is all."""

        def work(connection: sqlite3.Connection) -> None:
            number = self._note(connection, lane, upto)
            connection.executemany(
                "INSERT OR IGNORE INTO held VALUES (?, ?, ?)", [(number, due, at) for due, at in rows]
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
            return [Row(*_numbers(row)) for row in rows]

        return await self._run_for(lane, work)

    async def late(self, lane: Place, key: Row, limit: int, start: int, end: int) -> Sequence[Row]:
        """The first rows by offset that are not above ``key``."""

        def work(connection: sqlite3.Connection) -> list[Row]:
            rows = connection.execute(
                "SELECT due, at FROM held WHERE lane = ? AND (due, at) <= (?, ?) AND at >= ? AND at < ? "
                "ORDER BY at LIMIT ?",
                (self._lane(connection, lane), *key, start, end, limit),
            )
            return [Row(*_numbers(row)) for row in rows]

        return await self._run_for(lane, work)

    async def purge(self, lane: Place, released: Released) -> int:
        """Remove rows that are released, some at a time."""
        gone = 0
        for horizon, start, end in released.spans():
            below = LOWEST
            while below < horizon:
                removed, below = await self._purge_some(lane, below, horizon, start, end)
                gone += removed
        while await self._run(_shrink):
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
            upto = horizon if row is None else Row(*_numbers(row))
            removed = connection.execute(
                "DELETE FROM held WHERE lane = ? AND (due, at) > (?, ?) AND (due, at) <= (?, ?) "
                "AND at >= ? AND at < ?",
                (number, *below, *upto, start, end),
            )
            return removed.rowcount, upto

        return await self._run_for(lane, work)

    async def floor(self, lane: Place) -> int | None:
        """The lowest offset of a row.  Looks through the whole lane, some rows at a time; rows that are
        added meanwhile lie behind those that are there."""
        lowest: int | None = None
        at = LOWEST
        while True:
            found, last = await self._scan(lane, at)
            if found is not None and (lowest is None or found < lowest):
                lowest = found
            if last is None:
                return lowest
            at = last

    async def _scan(self, lane: Place, above: Row) -> tuple[int | None, Row | None]:
        def work(connection: sqlite3.Connection) -> tuple[int | None, Row | None]:
            number = self._lane(connection, lane)
            last = connection.execute(
                "SELECT due, at FROM held WHERE lane = ? AND (due, at) > (?, ?) "
                "ORDER BY due, at LIMIT 1 OFFSET ?",
                (number, *above, SCAN - 1),
            ).fetchone()
            within, bound = ("", ()) if last is None else (" AND (due, at) <= (?, ?)", tuple(last))
            (lowest,) = connection.execute(
                f"SELECT min(at) FROM held WHERE lane = ? AND (due, at) > (?, ?){within}",
                (number, *above, *bound),
            ).fetchone()
            if lowest is not None:
                (lowest,) = _numbers((lowest,))
            return lowest, None if last is None else Row(*_numbers(last))

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
        if not self._path.exists():
            return
        for lane in await self.lanes():
            if lane.topic_id in topic_ids:
                while await self._run(partial(self._forget_some, lane)):
                    pass
        while await self._run(_shrink):
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
            return [Place(topic, *_numbers((number,))) for topic, number in rows]

        return await self._run(work)

    async def aclose(self) -> None:
        """Let go of the file."""
        self._closed = True
        await trio.to_thread.run_sync(self._let_go, limiter=self._limiter)


def _shrink(connection: sqlite3.Connection) -> bool:
    """Give pages back to the file system; whether there are more."""
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    if free > FREE_PAGES:
        # Each row of the answer is a page.
        connection.execute(f"PRAGMA incremental_vacuum({GIVEN_BACK})").fetchall()
    return int(free) > FREE_PAGES + GIVEN_BACK


def _numbers(row: Sequence[object]) -> Sequence[int]:
    """What is in every column but one, after damage maybe not."""
    found = [value for value in row if isinstance(value, int)]
    if len(found) != len(row):
        raise _Damaged(f"a row that is none: {row!r:.100}")
    return found
