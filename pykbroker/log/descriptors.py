"""A bounded number of open files, and of index entries in memory.

Segment files are opened when they are needed and closed when others need their place: least
recently used first.  Who is still using one (an answer on its way out, a sync in a thread) keeps a
reference to the :class:`Descriptor`; the file is closed with the last reference, so that a number
can never be reused under somebody's hands.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import Protocol

from pykbroker.log.files import Files

DEFAULT_LIMIT = 512
"""Descriptors per process for segments, when nobody says otherwise: half of the usual soft limit of
1024, the rest being left to connections."""
DEFAULT_ENTRY_LIMIT = 1_000_000
"""Index entries of finished segments in memory: 20 MB, the indexes of 4 GB of records."""


class Descriptor:
    """One open file.  ``fd`` is valid as long as this object lives and :meth:`close` was not called."""

    __slots__ = ("_files", "fd")

    def __init__(self, fd: int, files: Files) -> None:
        self.fd = fd
        self._files = files

    def close(self) -> None:
        """Close now, whoever holds a reference."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            self._files.close(fd)

    def __del__(self) -> None:
        self.close()


class Indexed(Protocol):
    """A finished segment whose indexes are in memory, and can be dropped from it."""

    def forget_indexes(self) -> None: ...


class Descriptors:
    """Open descriptors by path, at most ``limit`` of them, and the finished segments whose indexes
    are loaded, at most ``entry_limit`` entries in all.  Safe for threads: logs are opened in some."""

    def __init__(
        self, files: Files, limit: int = DEFAULT_LIMIT, entry_limit: int = DEFAULT_ENTRY_LIMIT
    ) -> None:
        if limit < 1:
            raise ValueError(f"a log needs at least one descriptor: limit={limit}")
        self._files = files
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Descriptor] = OrderedDict()
        self._indexed: OrderedDict[Indexed, int] = OrderedDict()
        self._entries = 0
        self.limit = limit
        self.entry_limit = entry_limit

    def __len__(self) -> int:
        return len(self._open)

    def get(self, path: str) -> Descriptor:
        """The descriptor of ``path`` for reading and writing, opened if it is not.

        Raises :class:`OSError`.
        """
        with self._lock:
            found = self._open.get(path)
            if found is not None:
                self._open.move_to_end(path)
                return found
        return self._add(path, self._files.open(path, os.O_RDWR))

    def create(self, path: str) -> Descriptor:
        """Create ``path``, or empty it, and open it.  Raises :class:`OSError`."""
        self.forget(path)
        return self._add(path, self._files.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC))

    def _add(self, path: str, fd: int) -> Descriptor:
        descriptor = Descriptor(fd, self._files)
        closing = []  # outside the lock: the last reference may go here
        with self._lock:
            self._open[path] = descriptor
            while len(self._open) > self.limit:
                closing.append(self._open.popitem(last=False))
        return descriptor

    def forget(self, path: str) -> None:
        """Let go of ``path`` (before it is renamed or removed); closed once nobody uses it."""
        with self._lock:
            gone = self._open.pop(path, None)
        del gone

    def indexes_loaded(self, segment: Indexed, entries: int) -> None:
        """Note that a finished segment's indexes are in memory; the oldest ones may have to go."""
        too_many = []
        with self._lock:
            self._entries += entries - self._indexed.pop(segment, 0)
            self._indexed[segment] = entries
            while self._entries > self.entry_limit and len(self._indexed) > 1:
                oldest, count = self._indexed.popitem(last=False)
                self._entries -= count
                too_many.append(oldest)
        for oldest in too_many:
            oldest.forget_indexes()

    def indexes_dropped(self, segment: Indexed) -> None:
        """Note that they are not any more."""
        with self._lock:
            self._entries -= self._indexed.pop(segment, 0)


_shared: Descriptors | None = None


def shared() -> Descriptors:
    """The descriptors of this process, on the real file system."""
    global _shared
    if _shared is None:
        _shared = Descriptors(Files(), default_limit())
    return _shared


def set_limit(limit: int) -> None:
    """Set how many segment files this process holds open."""
    pool = shared()
    if limit < 1:
        raise ValueError(f"a log needs at least one descriptor: limit={limit}")
    pool.limit = limit


def default_limit() -> int:
    """Half of the process's soft limit of open files, at most 16,384."""
    try:
        import resource
    except ImportError:  # not a Unix
        return DEFAULT_LIMIT
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 16_384
    return max(16, min(soft // 2, 16_384))
