"""The file of the due-time index: opened, found damaged, begun anew, made smaller.

Python may have been built without sqlite3: then delays wait, and the log says so.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import trio

from pykbroker.delivery.index import IndexClosed, IndexLost, IndexUnavailable

if TYPE_CHECKING:
    import sqlite3

log = logging.getLogger(__name__)

T = TypeVar("T")

FILE: Final = "pykbroker-held.sqlite"
VERSION: Final = 2

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
    "at INTEGER NOT NULL, size INTEGER NOT NULL, PRIMARY KEY (lane, due, at)) WITHOUT ROWID",
)


class _Damaged(Exception):
    """What was read is none of the values that are written."""


class _OtherVersion(Exception):
    """The file is of an earlier release, or of a later one."""


class SqliteFile:
    """Opened when it is first needed, and again after it was damaged.

    ``on_opened`` is called then, in the thread: nothing that was read before holds any more.
    """

    def __init__(self, directory: Path, *, on_opened: Callable[[], None]) -> None:
        self.path = directory / FILE
        self.begun = 0
        """How often it was begun anew."""
        self._on_opened = on_opened
        self._limiter = trio.CapacityLimiter(1)
        self._connection: sqlite3.Connection | None = None
        self._closed = False

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do ``work`` in a transaction, in the thread.  Raises :class:`IndexLost` and
        :class:`IndexUnavailable`."""
        return await trio.to_thread.run_sync(self._guarded, work, limiter=self._limiter)

    async def aclose(self) -> None:
        """Let go of it for good."""
        self._closed = True
        await trio.to_thread.run_sync(self._let_go, limiter=self._limiter)

    def _guarded(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._closed:
            raise IndexClosed("the broker stops")
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
                raise IndexUnavailable(f"file={self.path}: {error}; look for a full disk") from error
            self._begin_anew(error)
            raise IndexLost(str(error)) from error
        except (sqlite3.Error, _Damaged, _OtherVersion) as error:
            self._begin_anew(error)
            raise IndexLost(str(error)) from error

    def _opened(self) -> sqlite3.Connection:
        import sqlite3  # as above

        self._on_opened()
        connection = sqlite3.connect(self.path, check_same_thread=False, isolation_level="IMMEDIATE")
        connection.text_factory = bytes  # there is no text: damage is
        try:
            for statement in _SETTINGS:
                connection.execute(statement)
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version not in (0, VERSION):
                raise _OtherVersion(f"it is of version {version}, known: {VERSION}")
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
        self._on_opened()
        if connection is not None:
            with contextlib.suppress(Exception):  # whatever state it is in
                connection.close()

    def _begin_anew(self, why: Exception) -> None:
        if isinstance(why, _OtherVersion):
            log.warning("the due-time index is made anew: file=%s: %s", self.path, why)
        else:
            log.error("the due-time index is damaged and made anew: file=%s: %s", self.path, why)
        self._let_go()
        self.begun += 1
        try:
            for suffix in ("", "-wal", "-shm"):
                self.path.with_name(FILE + suffix).unlink(missing_ok=True)
        except OSError as error:
            raise IndexUnavailable(f"a damaged file cannot be removed: {error}; remove it") from error


def shrink(connection: sqlite3.Connection) -> bool:
    """Give pages back to the file system; whether there are more."""
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    if free > FREE_PAGES:
        # Each row of the answer is a page.
        connection.execute(f"PRAGMA incremental_vacuum({GIVEN_BACK})").fetchall()
    return int(free) > FREE_PAGES + GIVEN_BACK


def numbers(row: Sequence[object]) -> Sequence[int]:
    """What is in every column but one, after damage maybe not."""
    found = [value for value in row if isinstance(value, int)]
    if len(found) != len(row):
        raise _Damaged(f"a row that is none: {row!r:.100}")
    return found
