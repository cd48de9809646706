"""Reading a log: by offset, and by timestamp."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from pykbroker.log import timestamps
from pykbroker.log.errors import CorruptRange, OffsetOutOfRange
from pykbroker.log.examining import Examining
from pykbroker.log.holes import find
from pykbroker.log.reading import SMALL, Cursor, Suspicious, read_first, read_large, read_small, region
from pykbroker.log.segment import (
    Segment,
)
from pykbroker.protocol.schema import FileRegion

_MAX_HINTS = 256


@dataclass(slots=True)
class LogRead:
    """Whole batches from ``first_offset`` (the base offset of the first, which may lie below what was
    asked for) up to ``next_offset``, where the next read goes on.

    ``records`` are bytes for small answers and a region of a file for large ones; empty bytes when
    there is nothing (then ``first_offset == next_offset`` == the offset asked for).
    """

    records: bytes | FileRegion
    size: int
    first_offset: int
    next_offset: int


class Serving(Examining):
    """The operations that read."""

    def read(self, offset: int, max_bytes: int, end_offset: int, *, first_whole: bool = True) -> LogRead:
        """Whole batches from the one with ``offset`` on, up to ``max_bytes``, all below ``end_offset``.

        ``first_whole``: the first batch comes whole, however large.  Raises
        :class:`OffsetOutOfRange`, :class:`CorruptRange`, :class:`StorageError`.
        """
        log_end = self.log_end_offset
        if offset >= end_offset or offset >= log_end:
            if offset > log_end or offset < self.log_start_offset:
                raise OffsetOutOfRange(offset, self.log_start_offset, log_end)
            return LogRead(b"", 0, offset, offset)
        if offset < self.log_start_offset:
            raise OffsetOutOfRange(offset, self.log_start_offset, log_end)
        return self._looking_closely(
            lambda strict: self._read(offset, max_bytes, end_offset, first_whole, strict)
        )

    def _read(self, offset: int, max_bytes: int, end_offset: int, first_whole: bool, strict: bool) -> LogRead:
        hint = self._hints.get(offset)
        i = len(self._bases) - 1
        if offset < self._bases[i]:
            i = bisect_right(self._bases, offset) - 1
        while True:
            segment = self._segments[i]
            upper = self._bases[i + 1] if i + 1 < len(self._bases) else self.log_end_offset
            limit, limit_offset = segment.size, upper
            if self.damage:
                hole = find(self.damage, offset)
                if hole is not None:
                    raise CorruptRange(hole)
                for hole in segment.holes:
                    if hole.first_offset > offset:
                        limit, limit_offset = hole.position, hole.first_offset
                        break
            cursor = self._cursor(segment, limit, limit_offset, upper, strict)
            if hint is not None and hint[0] is segment and hint[1] <= limit:
                cursor.position = cursor.previous = hint[1]
                cursor.expected = offset
            elif offset > segment.base_offset:
                cursor.locate(offset)
            if cursor.position < limit:
                break
            if segment is self._active and limit == segment.size and strict:
                raise Suspicious(segment, limit, cursor.previous)
            # Nothing at or behind the offset in this segment: compaction took it.
            if limit < segment.size:
                hole = find(self.damage, limit_offset)
                assert hole is not None
                raise CorruptRange(hole)
            i += 1
            if i == len(self._segments):
                return LogRead(b"", 0, offset, offset)
        return self._take(cursor, offset, max_bytes, min(end_offset, self.log_end_offset), first_whole)

    def _cursor(self, segment: Segment, limit: int, limit_offset: int, upper: int, strict: bool) -> Cursor:
        """A cursor at the segment's start."""
        epochs = self.epochs if self._epochs_trusted else None
        accepted = None if self.gaps_are_usual else self._accepted
        return Cursor(segment, epochs, 0, segment.base_offset, limit, limit_offset, upper, accepted, strict)

    def _take(
        self, cursor: Cursor, offset: int, max_bytes: int, end_offset: int, first_whole: bool
    ) -> LogRead:
        segment, start = cursor.segment, cursor.position
        records: bytes | FileRegion = b""
        available = cursor.limit - start
        if available <= SMALL or max_bytes <= SMALL:
            records = read_small(cursor, max_bytes, end_offset)
            size = len(records)
        else:
            whole = cursor.limit, cursor.limit_offset
            if end_offset < cursor.limit_offset:
                cursor.limit, cursor.limit_offset = self._position_of(cursor, end_offset), end_offset
            size = read_large(cursor, max_bytes, end_offset)
            cursor.limit, cursor.limit_offset = whole
            if 0 < size <= SMALL:
                records = self._files.pread(segment.descriptor().fd, size, start)
            elif size:
                records = region(segment, start, size)
        if not size and first_whole:
            size = read_first(cursor, end_offset)
            if 0 < size <= SMALL:
                records = self._files.pread(segment.descriptor().fd, size, start)
            elif size:
                records = region(segment, start, size)
        if not size:
            return LogRead(b"", 0, offset, offset)
        if cursor.position >= cursor.limit and cursor.expected != cursor.limit_offset:
            if not segment.sealed and cursor.strict:  # compaction takes no batch from the active one
                raise Suspicious(segment, cursor.position, cursor.previous)
            cursor.expected = cursor.limit_offset
        self._hint(cursor.expected, segment, cursor.position)
        if isinstance(records, bytes):
            first = int.from_bytes(records[:8], "big")
        else:
            header = segment.header_at(start)
            first = header.base_offset if header is not None else offset
        return LogRead(records, size, first, cursor.expected)

    def _position_of(self, cursor: Cursor, offset: int) -> int:
        """Where the batches below ``offset`` end in the cursor's segment."""
        hint = self._hints.get(offset)
        if hint is not None and hint[0] is cursor.segment:
            return hint[1]
        other = self._cursor(cursor.segment, cursor.limit, cursor.limit_offset, cursor.upper, cursor.strict)
        other.locate(offset)
        self._hint(offset, cursor.segment, other.position)
        return max(other.position, cursor.position)

    def _hint(self, offset: int, segment: Segment, position: int) -> None:
        """Remember where a batch begins: the next read usually goes on where this one ends."""
        hints = self._hints
        if len(hints) >= _MAX_HINTS and offset not in hints:
            del hints[next(iter(hints))]
        hints[offset] = segment, position

    def offset_for_timestamp(self, timestamp_ms: int, end_offset: int) -> tuple[int, int] | None:
        """(offset, timestamp) of the first record below ``end_offset`` with a timestamp not below
        ``timestamp_ms``; None if there is none.

        Reads headers, normally of one index interval, and decodes one batch.  Raises
        :class:`StorageError`.
        """
        return self._looking_closely(lambda _strict: self._offset_for_timestamp(timestamp_ms, end_offset))

    def _offset_for_timestamp(self, timestamp_ms: int, end_offset: int) -> tuple[int, int] | None:
        for segment in self._readable():
            if segment.base_offset >= end_offset:
                break
            if segment.largest_timestamp() >= timestamp_ms:
                found = timestamps.first_at_or_after(segment, timestamp_ms, self.log_start_offset, end_offset)
                if found is not None:
                    return found
        return None

    def max_timestamp(self) -> tuple[int, int] | None:
        """(offset, timestamp) of the first record with the largest timestamp; None when empty."""
        return self._looking_closely(lambda _strict: self._max_timestamp())

    def _max_timestamp(self) -> tuple[int, int] | None:
        best: tuple[int, int] | None = None
        for segment in self._readable():
            if best is None or segment.largest_timestamp() > best[1]:
                found = timestamps.largest(segment, self.log_start_offset)
                if found is not None and (best is None or found[1] > best[1]):
                    best = found
        return best

    def _readable(self) -> Iterator[Segment]:
        first = max(bisect_right(self._bases, self.log_start_offset) - 1, 0)
        return iter(self._segments[first:])
