"""The files of a compaction: reading segments batch by batch, and writing cleaned ones.

Blocking, for a worker process; what stays in a batch is decided in :mod:`pykbroker.log.retaining`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from pykbroker.log import replacing
from pykbroker.log.files import Files
from pykbroker.log.segment import CLEANED, INDEX, LOG, TIME_INDEX, file_name, write_indexes
from pykbroker.records.batch import HEADER_SIZE, BatchError, BatchHeader, Buffer, crc_ok, read_header
from pykbroker.records.decode import marker_commits

_CHUNK = 1 << 20
_MAX_RELATIVE = 0x7FFF_FFFF


@dataclass(slots=True)
class Source:
    """A segment to read.  ``next_base`` is the base offset of the one behind it."""

    base: int
    next_base: int
    path: Path
    files: Files
    size: int = 0
    last_offset: int = -1
    max_timestamp: int = -1
    intact: bool = True
    wanted: bool = True
    """False: it is not worth while to rewrite it."""

    @property
    def is_rewritten(self) -> bool:
        """Whether what is in it goes into new segments; else it stays where it is."""
        return self.intact and self.wanted

    def verified(self) -> Iterator[tuple[BatchHeader, memoryview]]:
        """The same as :meth:`batches`, each looked at closely.  Raises :class:`BatchError` at damage."""
        expected = self.base
        for header, batch in self.batches():
            if header.base_offset < expected or header.next_offset > self.next_base:
                raise BatchError(f"offsets out of order: offset={header.base_offset}")
            if not crc_ok(batch):
                raise BatchError(f"CRC does not match: offset={header.base_offset}")
            expected = header.next_offset
            self.last_offset = header.last_offset
            self.max_timestamp = max(self.max_timestamp, header.max_timestamp)
            yield header, batch

    def batches(self) -> Iterator[tuple[BatchHeader, memoryview]]:
        """Header and bytes of each batch.  Raises :class:`BatchError` at the first that is not good."""
        fd = self.files.open(self.path, os.O_RDONLY)
        try:
            self.size = self.files.size(fd)
            position = 0
            while position < self.size:
                chunk = memoryview(self.files.read_exactly(fd, _CHUNK, position))
                at = 0
                while len(chunk) - at >= HEADER_SIZE:
                    header = read_header(chunk, at)
                    if header.size > self.size - position - at:
                        raise BatchError(f"batch passes the end of the file: position={position + at}")
                    if header.size > len(chunk) - at:
                        break
                    yield header, chunk[at : at + header.size]
                    at += header.size
                if at == 0:
                    size = read_header(chunk).size  # raises where the file ends inside a header
                    chunk = memoryview(self.files.read_exactly(fd, size, position))
                    yield read_header(chunk), chunk
                    at = size
                position += at
        finally:
            self.files.close(fd)


class Survey:
    """First pass: which segments can be compacted, and what must be known before.

    ``bases``: base offsets of the closed segments, and of the one behind them.  Looked at is what
    ends at or below ``end``; dirty segments with a timestamp above ``youngest_ms`` end it too.
    """

    def __init__(
        self,
        directory: Path,
        bases: Sequence[int],
        files: Files,
        *,
        end: int,
        dirty_start: int,
        youngest_ms: int | None,
    ) -> None:
        self.sources: list[Source] = []
        self.aborted: dict[int, list[tuple[int, int]]] = {}
        """Producer id -> (first offset, offset of the marker) of its aborted transactions."""
        opened: dict[int, int] = {}
        for base, next_base in pairwise(bases):
            if next_base > end:
                break
            source = Source(base, next_base, directory / file_name(base, LOG), files)
            self._look_at(source, opened)
            dirty = next_base > dirty_start
            if dirty and youngest_ms is not None and source.max_timestamp > youngest_ms:
                break
            self.sources.append(source)

    def _look_at(self, source: Source, opened: dict[int, int]) -> None:
        try:
            for header, batch in source.verified():
                if header.is_transactional:
                    self._note_transaction(header, batch, opened)
        except BatchError:
            source.intact = False

    def _note_transaction(self, header: BatchHeader, batch: Buffer, opened: dict[int, int]) -> None:
        if not header.is_control:
            opened.setdefault(header.producer_id, header.base_offset)
            return
        first = opened.pop(header.producer_id, None)
        if first is not None and marker_commits(batch) is False:
            self.aborted.setdefault(header.producer_id, []).append((first, header.base_offset))


class Writer:
    """Writes cleaned segments of up to ``segment_bytes``; what is not kept, is removed on leaving.

    Entering it raises :class:`OSError` where an earlier replacement is not finished.

    A segment begins at the base offset of a source, so that the log's start stays where it is, or
    where the one before it was full.
    """

    def __init__(self, directory: Path, segment_bytes: int, index_interval_bytes: int, files: Files) -> None:
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._interval = index_interval_bytes
        self._files = files
        self._fd = -1
        self._base = -1
        self._size = 0
        self._bases: list[int] = []
        self._pending = bytearray()
        self._keep = False
        self.total = 0

    def __enter__(self) -> Writer:
        if replacing.is_begun(self._directory, self._files):
            # It names files of those that would be written now.
            raise OSError(errno.EBUSY, "replacing segments has failed, the next start finishes that")
        return self

    def __exit__(self, *_: object) -> None:
        if not self._keep:
            self._discard()

    def begin_source(self, base: int) -> None:
        """The batches of the source ``base`` follow."""
        if self._fd < 0:
            self._open(base)

    def append(self, header: BatchHeader, batch: Buffer) -> None:
        """Write what was kept of a batch."""
        full = self._size and self._size + len(batch) > self._segment_bytes
        if full or header.last_offset - self._base > _MAX_RELATIVE:
            self.end_segment()
        if self._fd < 0:
            self._open(header.base_offset)
        self._pending += batch
        self._size += len(batch)
        self.total += len(batch)
        if len(self._pending) >= _CHUNK:
            self._write()

    def end_segment(self) -> None:
        """Finish the segment being written, if any: synced, with indexes."""
        if self._fd < 0:
            return
        self._write()
        self._files.sync_data(self._fd)
        fd, self._fd = self._fd, -1
        self._files.close(fd)
        if self._size:
            write_indexes(self._directory, self._base, suffix=CLEANED, interval=self._interval)
        else:
            # Nothing is left of the sources so far: the segment begins with the next batch.
            self._files.unlink(self._path(self._base, LOG))
            self._bases.pop()

    def finish(self) -> list[int]:
        """End the last segment; base offsets of all that were written."""
        self.end_segment()
        return list(self._bases)

    def keep(self) -> None:
        """The files are wanted."""
        self._keep = True

    def _discard(self) -> None:
        if self._fd >= 0:
            self._files.close(self._fd)
            self._fd = -1
        for base in self._bases:
            for suffix in (LOG, INDEX, TIME_INDEX):
                self._path(base, suffix).unlink(missing_ok=True)

    def _open(self, base: int) -> None:
        self._base, self._size = base, 0
        self._bases.append(base)
        self._fd = self._files.open(self._path(base, LOG), os.O_RDWR | os.O_CREAT | os.O_TRUNC)

    def _write(self) -> None:
        self._files.write_all(self._fd, self._pending, self._size - len(self._pending))
        self._pending = bytearray()

    def _path(self, base: int, suffix: str) -> Path:
        return self._directory / (file_name(base, suffix) + CLEANED)


class Filter(Protocol):
    """Decides what stays, batch by batch, in offset order."""

    def filter(self, header: BatchHeader, batch: Buffer) -> Buffer | None:
        """What stays of ``batch``: itself, a smaller batch, its header alone, or None."""
        ...


def copy(sources: Sequence[Source], retention: Filter, writer: Writer) -> bool:
    """Write what stays of the sources that are rewritten; True if anything went or changed."""
    changed = False
    for source in sources:
        if not source.is_rewritten:
            writer.end_segment()
            continue
        writer.begin_source(source.base)
        for header, batch in source.batches():
            kept = retention.filter(header, batch)
            changed = changed or kept is not batch
            if kept is not None:
                writer.append(header, kept)
    return changed


def last_of_runs(sources: Sequence[Source]) -> frozenset[int]:
    """Last offsets of the batches before each segment that stays as it is, and of the last one.

    Their headers stay, so that what is written has no gap at its end, and never nothing in it.
    """
    behind: list[Source | None] = [*sources[1:], None]
    return frozenset(
        source.last_offset
        for source, following in zip(sources, behind, strict=True)
        if source.is_rewritten and (following is None or not following.is_rewritten)
    )
