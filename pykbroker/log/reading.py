"""From an offset to whole batches.

Serving does not recompute CRCs; the headers of what is sent are walked: base offsets in order, a
length that ends where the next batch begins, magic, leader epoch as in the checkpoint.  Answers up
to 32 KB are read into memory and walked there every time.  Larger ones leave as a region of the
file, cut at an edge that the index names; each index interval is walked once since the log was
opened.  What does not fit raises :class:`Suspicious`; the log then looks closely.
"""

from __future__ import annotations

import struct
from bisect import bisect_right

from pykbroker.log.epochs import LeaderEpochs
from pykbroker.log.segment import Segment
from pykbroker.protocol.schema import FileRegion
from pykbroker.records.batch import HEADER_SIZE, LOG_OVERHEAD, MAGIC, MIN_BATCH_LENGTH

SMALL = 32 * 1024
"""Answers up to here are copied: one send with the header beats a sendfile (measured 1 : 0.83)."""
WALK_BUDGET = 1024
"""Headers walked in one read of a range that was not walked before: about 1 ms on the loop.  The
answer is cut there, the next read goes on."""

_HEAD = struct.Struct(">qiibIhi")
_HEAD_SIZE = _HEAD.size
_unpack = _HEAD.unpack_from
_FAR = 1 << 63
_CHUNK = 16 * 1024


class Suspicious(Exception):
    """The batch at ``position`` of ``segment`` does not fit its neighbours, or the one before it, at
    ``previous``, does not (a wrong length shows only at its end)."""

    def __init__(self, segment: Segment, position: int, previous: int | None = None) -> None:
        super().__init__(f"{segment!r} at {position}")
        self.segment = segment
        self.position = position
        self.previous = position if previous is None else previous


class Cursor:
    """A walk through one segment: from where, up to where, and what is expected.

    ``limit``: bytes of the segment that may be read (its size, or the next hole), ``limit_offset``: the
    offset there; ``upper``: the offset behind the segment.  ``accepted``: positions where a gap was
    looked at closely, and is as it should be; None where compaction leaves gaps.  ``strict`` false:
    only the structure is checked.
    """

    __slots__ = (
        "accepted", "count", "epochs", "expected", "limit", "limit_offset", "position", "previous", "segment",
        "strict", "upper",
    )  # fmt: skip

    def __init__(
        self,
        segment: Segment,
        epochs: LeaderEpochs | None,
        position: int,
        expected: int,
        limit: int,
        limit_offset: int,
        upper: int,
        accepted: set[tuple[int, int]] | None,
        strict: bool,
    ) -> None:
        self.segment = segment
        self.epochs = epochs
        self.position = self.previous = position
        self.expected = expected
        self.limit = limit
        self.limit_offset = limit_offset
        self.upper = upper
        self.accepted = accepted
        self.strict = strict
        self.count = 0
        """Batches walked over."""

    def walk(self, data: bytes, size: int, end_offset: int) -> int:
        """Walk over the whole batches in the first ``size`` bytes of ``data`` (which begins at
        ``position``) that lie below ``end_offset``; returns their bytes.

        The header behind the last one is checked too if ``data`` holds it: it proves the length.
        Raises :class:`Suspicious`.
        """
        pos, expected, available, end = 0, self.expected, len(data), self.limit - self.position
        epoch, epoch_end = self._span(expected)
        previous = self.previous - self.position
        while available - pos >= _HEAD_SIZE and pos < end:
            base, length, in_epoch, magic, _crc, _attributes, delta = _unpack(data, pos)
            following = pos + LOG_OVERHEAD + length
            after = base + delta + 1
            if (
                magic != MAGIC
                or length < MIN_BATCH_LENGTH
                or delta < 0
                or following > end
                or after > self.upper
            ):
                raise self._suspicious(pos, previous)
            if base != expected and (base < expected or not self._gap_is_fine(data, pos, following, after)):
                raise self._suspicious(pos, previous)
            if base >= epoch_end:
                epoch, epoch_end = self._span(base)
            if in_epoch != epoch and epoch >= 0:
                raise self._suspicious(pos, previous)
            if following > size or after > end_offset:
                break
            previous, pos, expected = pos, following, after
            self.count += 1
        if 0 < end - pos < HEADER_SIZE:  # no batch fits there
            raise self._suspicious(pos, previous)
        self.expected = expected
        self.previous = self.position + previous
        self.position += pos
        return pos

    def _suspicious(self, pos: int, previous: int) -> Suspicious:
        return Suspicious(self.segment, self.position + pos, self.position + previous)

    def _span(self, offset: int) -> tuple[int, int]:
        """(epoch, offset where it ends) to expect; epoch -1: any will do."""
        if self.epochs is None or not self.strict:
            return -1, _FAR
        span = self.epochs.span(offset)
        if span is None:
            entries = self.epochs.entries
            return -1, entries[0].start_offset if entries else _FAR
        return span

    def _gap_is_fine(self, data: bytes, pos: int, following: int, after: int) -> bool:
        """Whether a gap before a batch may be: where compaction leaves them, if the batch is borne
        out by the next one; elsewhere, if it was looked at before."""
        if not self.strict:
            return True
        if self.accepted is not None:
            return (self.segment.base_offset, self.position + pos) in self.accepted
        if self.position + following >= self.limit:
            return after <= self.upper
        if following + _HEAD_SIZE > len(data):
            data = self._read(_HEAD_SIZE, self.position + following)
            following = 0
        if len(data) - following < _HEAD_SIZE:
            return False
        base, _length, _epoch, magic, *_rest = _unpack(data, following)
        return bool(magic == MAGIC and after <= base)

    def _read(self, size: int, position: int) -> bytes:
        segment = self.segment
        return segment.files.pread(segment.descriptor().fd, size, position)

    def walk_file(self, stop: int, end_offset: int, budget: int = 1 << 60) -> bool:
        """Walk over the batches that end at or before the position ``stop`` and below
        ``end_offset``; False if ``budget`` batches were reached first."""
        budget += self.count
        while self.position < stop:
            if self.count >= budget:
                return False
            wanted = min(stop - self.position, _CHUNK)
            data = self._read(wanted + _HEAD_SIZE, self.position)
            if not self.walk(data, wanted, end_offset) and not self._step(data, stop, end_offset):
                break
        return True

    def _step(self, data: bytes, stop: int, end_offset: int) -> bool:
        """Step over one batch that is longer than the bytes read; its header is checked already."""
        if len(data) < _HEAD_SIZE:
            raise self._suspicious(0, self.previous - self.position)
        base, length, _epoch, _magic, _crc, _attributes, delta = _unpack(data, 0)
        following = self.position + LOG_OVERHEAD + length
        if following > stop or base + delta + 1 > end_offset:
            return False
        self.previous, self.position, self.expected = self.position, following, base + delta + 1
        self.count += 1
        return True

    def locate(self, offset: int) -> None:
        """Move to the batch that holds ``offset``, or the first one behind it."""
        segment = self.segment
        index = segment.index
        i = bisect_right(index.offsets, offset - segment.base_offset) - 1
        start = 0
        while i >= 0 and (start := index.positions[i]) > self.limit:
            i -= 1
        self.position, self.expected = (start, 0) if i >= 0 else (0, segment.base_offset)
        for hole in segment.holes:
            if self.position <= hole.position and hole.next_offset <= offset:
                self.position, self.expected, i = hole.end_position, hole.next_offset, -1
        if i >= 0:
            data = self._read(_HEAD_SIZE, start)
            if len(data) < _HEAD_SIZE:
                raise Suspicious(segment, start)
            base, _length, _epoch, _magic, _crc, _attributes, delta = _unpack(data)
            if base + delta != segment.base_offset + index.offsets[i]:
                raise Suspicious(segment, start)
            self.expected = base
        self.previous = self.position
        self.walk_file(self.limit, offset)
        self.count = 0


def read_small(cursor: Cursor, max_bytes: int, end_offset: int) -> bytes:
    """The batches from the cursor's position on that fit ``max_bytes``; moves the cursor behind."""
    size = min(max_bytes, cursor.limit - cursor.position)
    segment = cursor.segment
    data = segment.files.pread(segment.descriptor().fd, size + _HEAD_SIZE, cursor.position)
    return data[: cursor.walk(data, size, end_offset)]


def read_large(cursor: Cursor, max_bytes: int, end_offset: int) -> int:
    """Bytes from the cursor's position on that may leave as a region; moves the cursor behind."""
    segment = cursor.segment
    start = cursor.position
    target = min(start + max_bytes, cursor.limit)
    positions = segment.index.positions
    walked = segment.walked
    if len(walked) <= len(positions):
        walked.extend(bytes(len(positions) + 1 - len(walked)))
    known = True
    k = bisect_right(positions, start)
    while k < len(positions) and positions[k] <= target:
        edge = positions[k]
        if walked[k] and edge > cursor.position:
            cursor.position, known = edge, False
        else:
            _expect(cursor, known)
            whole = cursor.position == (positions[k - 1] if k else 0)
            if not cursor.walk_file(edge, end_offset, WALK_BUDGET - cursor.count):
                return cursor.position - start
            known = True
            if cursor.position != edge:
                return cursor.position - start
            if whole:
                walked[k] = 1
        k += 1
    _expect(cursor, known)
    cursor.walk_file(target, end_offset, WALK_BUDGET - cursor.count)
    return cursor.position - start


def _expect(cursor: Cursor, known: bool) -> None:
    """After walked intervals were passed over: the next header says which offset is next."""
    if known:
        return
    if cursor.position >= cursor.limit:
        cursor.expected = cursor.limit_offset
        return
    header = cursor.segment.header_at(cursor.position)
    if header is None:
        raise Suspicious(cursor.segment, cursor.position)
    cursor.expected = header.base_offset


def read_first(cursor: Cursor, end_offset: int) -> int:
    """Bytes of the one batch at the cursor's position, however large; moves the cursor behind it.

    0 if it does not lie below ``end_offset``.
    """
    header = cursor.segment.header_at(cursor.position)
    if header is None:
        raise Suspicious(cursor.segment, cursor.position)
    following = cursor.position + header.size
    if (
        header.magic != MAGIC
        or header.batch_length < MIN_BATCH_LENGTH
        or following > cursor.limit
        or header.next_offset > cursor.upper
    ):
        raise Suspicious(cursor.segment, cursor.position)
    if header.next_offset > end_offset:
        return 0
    if following < cursor.limit:
        behind = cursor.segment.header_at(following)
        if behind is None or behind.magic != MAGIC or behind.base_offset < header.next_offset:
            raise Suspicious(cursor.segment, cursor.position)
    cursor.position, cursor.expected = following, header.next_offset
    return header.size


def region(segment: Segment, position: int, size: int) -> FileRegion:
    """A span of the segment's file that keeps its descriptor open."""
    descriptor = segment.descriptor()
    return FileRegion(descriptor.fd, position, size, descriptor)
