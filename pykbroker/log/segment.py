"""One segment: a ``.log`` file, its sparse indexes, and what is known about them in memory.

A segment is named after its base offset, in 20 digits.  Only the last one of a log is written to.
Indexes live in memory once they were needed; new entries reach their files in groups, and all of
them when the segment is rolled or closed.  Losing them costs a rebuild, never data.
"""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from pykbroker.log.descriptors import Descriptor, Descriptors
from pykbroker.log.files import Files
from pykbroker.log.holes import Hole
from pykbroker.log.indexes import ENTRY_SIZE, TIME_ENTRY_SIZE, OffsetIndex, TimeIndex
from pykbroker.records.batch import HEADER_SIZE, LOG_OVERHEAD, MAGIC, MIN_BATCH_LENGTH, BatchHeader

log = logging.getLogger(__name__)

LOG = ".log"
INDEX = ".index"
TIME_INDEX = ".timeindex"
SNAPSHOT = ".snapshot"
DELETED = ".deleted"
CLEANED = ".cleaned"
SWAP = ".swap"

SAVE_EVERY = 64
"""New index entries that are written to the file together: 256 KB of records at Kafka's interval."""

_HEADER = struct.Struct(">qiibIhiqqqhii")
_KEPT_ENTRIES = 64
"""Index entries of an idle log that stay in memory: 1 KB."""
_CHUNK = 64 * 1024
_OVERLAP_READ = 4096 + HEADER_SIZE


def file_name(offset: int, suffix: str) -> str:
    """Name of a segment's file: the base offset in 20 digits, then ``suffix``."""
    return f"{offset:020d}{suffix}"


def offset_of(name: str) -> int | None:
    """The offset that a file is named after; None for other files."""
    stem = name.split(".", 1)[0]
    return int(stem) if len(stem) == 20 and stem.isascii() and stem.isdigit() else None


class Segment:
    """See the module.  Offsets are absolute, positions and sizes bytes, timestamps ms."""

    __slots__ = (
        "_index", "_stem", "_suffix", "_time_index", "base_offset", "created_ms", "descriptors",
        "files", "first_timestamp", "holes", "max_timestamp", "max_timestamp_offset", "path", "sealed",
        "since_index", "size", "walked",
    )  # fmt: skip

    def __init__(
        self,
        directory: Path,
        base_offset: int,
        size: int,
        files: Files,
        descriptors: Descriptors,
        suffix: str = "",
    ) -> None:
        self.base_offset = base_offset
        self.size = size
        """Bytes of intact content; the file may be longer after a write that failed."""
        self.files = files
        self.descriptors = descriptors
        self._stem = f"{directory}/{base_offset:020d}"
        self._suffix = suffix
        self.path = f"{self._stem}{LOG}{suffix}"
        """The ``.log`` file."""
        self._index: OffsetIndex | None = None
        self._time_index: TimeIndex | None = None
        self.since_index = 0
        """Bytes since the last index entry."""
        self.max_timestamp = -1
        self.max_timestamp_offset = base_offset
        """Last offset of the first batch with ``max_timestamp``."""
        self.first_timestamp: int | None = None
        """Largest timestamp of the first batch; None when not known yet, or when there is none."""
        self.created_ms = 0
        self.sealed = False
        """Not written to any more: its indexes may leave memory when others need the room."""
        self.holes: Sequence[Hole] = ()
        """Damage in this file, sorted."""
        self.walked = bytearray()
        """One flag per index interval: its headers were walked since the log was opened."""

    def __repr__(self) -> str:
        return f"Segment({self.base_offset}, size={self.size})"

    def file(self, suffix: str) -> str:
        """Path of the segment's file with ``suffix``."""
        return self._stem + suffix + self._suffix

    def descriptor(self) -> Descriptor:
        """The open ``.log`` file.  Raises :class:`OSError`."""
        return self.descriptors.get(self.path)

    # -- indexes

    @property
    def index(self) -> OffsetIndex:
        """The offset index, loaded (or rebuilt with both) when first used.  Raises :class:`OSError`."""
        found = self._index
        return found if found is not None else self._load_indexes()[0]

    @property
    def time_index(self) -> TimeIndex:
        """The time index, loaded (or rebuilt with both) when first used.  Raises :class:`OSError`."""
        found = self._time_index
        return found if found is not None else self._load_indexes()[1]

    def start_fresh(self) -> tuple[OffsetIndex, TimeIndex]:
        """Begin with empty indexes (a new segment, or before a rebuild)."""
        index, time_index = self._index, self._time_index = OffsetIndex(), TimeIndex()
        self.walked = bytearray()
        self.since_index = 0
        self.max_timestamp, self.max_timestamp_offset = -1, self.base_offset
        self.first_timestamp = None
        return index, time_index

    def forget_indexes(self) -> None:
        """Drop the indexes from memory; the files are up to date or will be found wanting."""
        if self._index is not None and self._time_index is not None:
            self.save_indexes()
        self._index = self._time_index = None
        self.walked = bytearray()

    def _load_indexes(self) -> tuple[OffsetIndex, TimeIndex]:
        index = time_index = None
        try:
            index = OffsetIndex.decode(self.files.read_all(self.file(INDEX)), self.size)
            time_index = TimeIndex.decode(self.files.read_all(self.file(TIME_INDEX)))
        except FileNotFoundError:
            pass
        if index is None or time_index is None or not self._fit(index, time_index):
            if self.size:
                log.warning("indexes rebuilt: missing or not sound: file=%s", self.path)
            index, time_index = self.rebuild_indexes()
        else:
            self._index, self._time_index = index, time_index
        if self.sealed:
            self.descriptors.indexes_loaded(self, len(index))
        return index, time_index

    def _fit(self, index: OffsetIndex, time_index: TimeIndex) -> bool:
        """Whether the last entries agree with the records, and nothing newer lies behind them."""
        tail = index.positions[-1] if len(index) else 0
        largest = time_index.timestamps[-1] if len(time_index) else -1
        for position, header in self.headers(tail):
            if position == tail and tail and header.last_offset != self.base_offset + index.offsets[-1]:
                return False
            if header.max_timestamp > largest:
                return False
        if not len(time_index):
            return True
        relative = time_index.offsets[-1]
        offset = self.base_offset + relative
        if any(hole.first_offset <= offset < hole.next_offset for hole in self.holes):
            return True
        for _position, header in self.headers(index.position_for(relative)):
            if header.last_offset >= offset:
                return header.last_offset == offset and header.max_timestamp == largest
        return False

    def rebuild_indexes(self) -> tuple[OffsetIndex, TimeIndex]:
        """Make both indexes anew from the headers of the ``.log`` file.  Raises :class:`OSError`.

        Stops at the first header that makes no sense: what is behind it has no entries, and reads
        find it by walking.
        """
        index, time_index = self.start_fresh()
        interval = _DEFAULT_INTERVAL
        for position, header in self.headers(0):
            self.note(position, header, interval)
        time_index.maybe_add(self.max_timestamp, self.max_timestamp_offset - self.base_offset)
        self.save_indexes()
        return index, time_index

    def note(self, position: int, header: BatchHeader, interval: int) -> None:
        """Take in the batch at ``position`` (the next one): indexes, largest timestamp."""
        timestamp = header.max_timestamp
        last = header.base_offset + header.last_offset_delta
        if self.first_timestamp is None:
            self.first_timestamp = timestamp
        if timestamp > self.max_timestamp:
            self.max_timestamp, self.max_timestamp_offset = timestamp, last
        if self.since_index > interval:
            self.index.add(last - self.base_offset, position)
            self.time_index.maybe_add(self.max_timestamp, self.max_timestamp_offset - self.base_offset)
            self.since_index = 0
        self.since_index += header.batch_length + LOG_OVERHEAD

    def finish(self) -> None:
        """The segment will not grow any more (rolled, or the log is closed): complete its indexes."""
        self.time_index.maybe_add(self.max_timestamp, self.max_timestamp_offset - self.base_offset)
        self.save_indexes()

    def finish_if_loaded(self) -> None:
        """:meth:`finish`, unless the indexes were not needed: then their files are as they were."""
        if self._index is not None:
            self.finish()

    def save_indexes(self) -> None:
        """Write index entries that the files lack.  Failure is logged: indexes are a cache."""
        if self._index is None or self._time_index is None:
            return
        try:
            index, time_index = self._index, self._time_index
            self._save(INDEX, index.encode(index.saved), index.saved * ENTRY_SIZE)
            index.saved = len(index)
            self._save(TIME_INDEX, time_index.encode(time_index.saved), time_index.saved * TIME_ENTRY_SIZE)
            time_index.saved = len(time_index)
        except OSError as e:
            log.warning("index entries not saved: file=%s error=%s", self.path, e)

    def _save(self, suffix: str, data: bytes, position: int) -> None:
        fd = self.files.open(self.file(suffix), os.O_RDWR | os.O_CREAT)
        try:
            self.files.truncate(fd, position)
            if data:
                self.files.write_all(fd, data, position)
        finally:
            self.files.close(fd)

    def largest_timestamp(self) -> int:
        """The largest timestamp in the segment; -1 when no record has one."""
        if self.max_timestamp < 0 and self.size and len(self.time_index):
            self.max_timestamp = self.time_index.timestamps[-1]
            self.max_timestamp_offset = self.base_offset + self.time_index.offsets[-1]
        return self.max_timestamp

    def release_large_indexes(self) -> None:
        """Drop indexes of some size from memory until they are needed; the files have all of it."""
        if self._index is not None and len(self._index) > _KEPT_ENTRIES:
            self._index = self._time_index = None

    # -- reading

    def headers(self, position: int, end: int | None = None) -> Iterator[tuple[int, BatchHeader]]:
        """(position, header) of the batches from the edge ``position`` on, up to ``end``.

        Passes over known holes; otherwise checks nothing but magic and length, and ends where they
        make no sense.
        """
        for hole in self.holes:
            if position <= hole.position and hole.position < hole.end_position:
                yield from self._headers(position, hole.position)
            if position < hole.end_position:
                position = hole.end_position
        yield from self._headers(position, end)

    def _headers(self, position: int, end: int | None) -> Iterator[tuple[int, BatchHeader]]:
        fd = self.descriptor()
        size = self.size if end is None else end
        start, data = position, b""
        while size - position >= HEADER_SIZE:
            if position - start + HEADER_SIZE > len(data):
                wanted = _CHUNK if position == start + len(data) else _OVERLAP_READ
                start, data = position, self.files.pread(fd.fd, min(wanted, size - position), position)
                if len(data) < HEADER_SIZE:
                    return
            header = BatchHeader(*_HEADER.unpack_from(data, position - start))
            following = position + header.batch_length + LOG_OVERHEAD
            if header.magic != MAGIC or header.batch_length < MIN_BATCH_LENGTH or following > size:
                return
            yield position, header
            position = following

    def header_at(self, position: int) -> BatchHeader | None:
        """The header at ``position``, unchecked; None where fewer than 61 bytes are left."""
        if position + HEADER_SIZE > self.size:
            return None
        data = self.files.pread(self.descriptor().fd, HEADER_SIZE, position)
        return BatchHeader(*_HEADER.unpack(data)) if len(data) == HEADER_SIZE else None

    def load_first_timestamp(self) -> int:
        """``first_timestamp``, read from the file if need be; -1 for an empty segment."""
        if self.first_timestamp is None:
            header = self.header_at(0)
            if header is None:
                return -1
            self.first_timestamp = header.max_timestamp
        return self.first_timestamp

    # -- changing

    def cut(self, size: int) -> None:
        """Shorten the ``.log`` file to ``size``.  Raises :class:`OSError`."""
        self.files.truncate(self.descriptor().fd, size)
        self.size = size

    def rename(self, suffix: str) -> list[str]:
        """Take the files out of the log by appending ``suffix``; returns the new paths."""
        self.descriptors.forget(self.path)
        renamed = []
        for own in (LOG, INDEX, TIME_INDEX):
            try:
                self.files.rename(self._stem + own, self._stem + own + suffix)
            except FileNotFoundError:
                continue
            renamed.append(self._stem + own + suffix)
        return renamed


_DEFAULT_INTERVAL = 4096
"""Index interval of a rebuild, when no config is at hand."""


def write_indexes(directory: Path, base_offset: int, *, suffix: str, interval: int) -> None:
    """Make the index files of the finished file ``<base>.log<suffix>``, with the same suffix, synced.

    Files in, files out: for any process.  Raises :class:`OSError`.
    """
    files = Files()
    path = directory / (file_name(base_offset, LOG) + suffix)
    size = files.stat(path).st_size
    segment = Segment(directory, base_offset, size, files, Descriptors(files, 4), suffix)
    segment.start_fresh()
    for position, header in segment.headers(0):
        segment.note(position, header, interval)
    segment.time_index.maybe_add(segment.max_timestamp, segment.max_timestamp_offset - base_offset)
    files.replace(segment.file(INDEX), segment.index.encode(), sync=True)
    files.replace(segment.file(TIME_INDEX), segment.time_index.encode(), sync=True)
