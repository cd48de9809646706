"""The one door to the file system for everything in this room, and a twin that fails on demand.

:class:`Files` is the operating system's calls, nothing added: ``append`` and ``read`` call them
directly.  :class:`FaultyFiles` makes the Nth operation fail, once or for good, or cuts a write
short, so that a test can walk through every way in which a step may break off.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

Buffer = bytes | bytearray | memoryview
PathLike = str | Path

_FDATASYNC: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)  # macOS has fsync only


class Files:
    """Calls to the file system; each raises :class:`OSError` as the system does."""

    def open(self, path: PathLike, flags: int) -> int:
        """A descriptor, closed on exec."""
        return os.open(path, flags | os.O_CLOEXEC, 0o644)

    def close(self, fd: int) -> None:
        os.close(fd)

    def pread(self, fd: int, size: int, position: int) -> bytes:
        """Up to ``size`` bytes; fewer only at the end of the file."""
        return os.pread(fd, size, position)

    def pwrite(self, fd: int, data: Buffer, position: int) -> int:
        """Bytes written, which may be fewer than given."""
        return os.pwrite(fd, data, position)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def sync_data(self, fd: int) -> None:
        """Wait until the file's bytes are on the disk.  Blocks for milliseconds: never on the loop."""
        _FDATASYNC(fd)

    def sync_directory(self, path: PathLike) -> None:
        """Wait until created, renamed and removed names are on the disk."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def stat(self, path: PathLike) -> os.stat_result:
        return os.stat(path)

    def listing(self, path: PathLike) -> dict[str, int]:
        """File names and sizes of a directory, without its subdirectories."""
        with os.scandir(path) as entries:
            return {e.name: e.stat().st_size for e in entries if e.is_file(follow_symlinks=False)}

    def rename(self, old: PathLike, new: PathLike) -> None:
        os.replace(old, new)

    def unlink(self, path: PathLike) -> None:
        os.unlink(path)

    def make_directory(self, path: PathLike) -> None:
        os.makedirs(path, exist_ok=True)

    def read_all(self, path: PathLike) -> bytes:
        fd = self.open(path, os.O_RDONLY)
        try:
            return self.read_exactly(fd, self.size(fd), 0)
        finally:
            self.close(fd)

    def read_exactly(self, fd: int, size: int, position: int) -> bytes:
        """``size`` bytes, or fewer at the end of the file (``pread`` alone stops at 2 GB)."""
        data = self.pread(fd, size, position)
        if len(data) == size or not data:
            return data
        parts = [data]
        got = len(data)
        while got < size and (data := self.pread(fd, size - got, position + got)):
            parts.append(data)
            got += len(data)
        return b"".join(parts)

    def write_all(self, fd: int, data: Buffer, position: int) -> None:
        """Write everything; a disk that takes part and then nothing raises ENOSPC."""
        view = memoryview(data)
        while view:
            written = self.pwrite(fd, view, position)
            if written == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            view = view[written:]
            position += written

    def replace(self, path: PathLike, data: bytes, *, sync: bool) -> None:
        """Put ``data`` in place of the file's content, all or nothing.

        With ``sync``, content and name are on the disk on return.  A leftover ``.tmp`` is harmless.
        """
        temporary = f"{path}.tmp"
        fd = self.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            self.write_all(fd, data, 0)
            if sync:
                self.sync_data(fd)
        finally:
            self.close(fd)
        self.rename(temporary, path)
        if sync:
            self.sync_directory(os.path.dirname(path) or ".")


class FaultyFiles(Files):
    """Fails the operation number ``fail_at`` (from 1; and all later ones if ``for_good``).

    ``short`` lets the first failing write put down that many of its bytes, as a full disk does.
    ``count`` is the number of operations so far, ``failed`` whether one has failed.
    Closing always works, or a test would leak descriptors.
    """

    def __init__(
        self, fail_at: int = 0, *, for_good: bool = False, short: int = 0, code: int = errno.ENOSPC
    ) -> None:
        self.fail_at = fail_at
        self.for_good = for_good
        self.short = short
        self.code = code
        self.count = 0
        self.failed = False
        self._shortened = False

    def _due(self) -> bool:
        self.count += 1
        due = self.fail_at > 0 and (
            self.count == self.fail_at or (self.for_good and self.count > self.fail_at)
        )
        self.failed = self.failed or due
        return due

    def _run(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        if self._due():
            raise OSError(self.code, os.strerror(self.code))
        return call(*args, **kwargs)

    def open(self, path: PathLike, flags: int) -> int:
        return self._run(super().open, path, flags)

    def pread(self, fd: int, size: int, position: int) -> bytes:
        return self._run(super().pread, fd, size, position)

    def pwrite(self, fd: int, data: Buffer, position: int) -> int:
        if self._due():
            if self.short and not self._shortened:
                self._shortened = True
                return super().pwrite(fd, memoryview(data)[: self.short], position)
            raise OSError(self.code, os.strerror(self.code))
        return super().pwrite(fd, data, position)

    def truncate(self, fd: int, size: int) -> None:
        self._run(super().truncate, fd, size)

    def sync_data(self, fd: int) -> None:
        self._run(super().sync_data, fd)

    def sync_directory(self, path: PathLike) -> None:
        self._run(super().sync_directory, path)

    def listing(self, path: PathLike) -> dict[str, int]:
        return self._run(super().listing, path)

    def rename(self, old: PathLike, new: PathLike) -> None:
        self._run(super().rename, old, new)

    def unlink(self, path: PathLike) -> None:
        self._run(super().unlink, path)
