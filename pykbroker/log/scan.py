"""Which bytes of a segment are intact batches: the rules for torn tails and damage.

A scan walks batch after batch and verifies each.  At one that fails it looks for the next good one,
first at the bad batch's stated end, then byte by byte.  If there is none, the rest is a torn tail.

A good batch has a base offset not below the offset expected, a leader epoch not below the last one,
a length that fits, and a CRC that verifies.  Base offset and leader epoch lie outside the CRC, so a
batch that does not directly continue the one before it (a gap in offsets, another epoch) counts
only if its neighbours agree: compaction leaves gaps, elections raise the epoch, and a flipped bit
looks like either until the next batch contradicts it.

A record's value may itself hold batches.  So a *candidate* found behind damage counts only if

1. the bad batch's header is sound, and its end leads to the candidate with the offset that the
   header leads to expect (the end is where it says, or where its CRC verifies), or
2. a chain of good batches leads from it to the end of the file, or to an *anchor*: a batch edge that
   the offset index names, or
3. a chain leads from it to something that looks like the header of a batch, damaged itself,

and only if the batches behind it do not speak against the offset and epoch that it claims.

Where the bad batch's header is sound, says that it is longer than the rest of the file, and its CRC
verifies nowhere, it is the write that a crash broke off, and what follows is its own records: then
only anchors count.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import crc32c

from pykbroker.log.epochs import LeaderEpochs
from pykbroker.log.files import Files
from pykbroker.log.holes import Hole
from pykbroker.log.indexes import OffsetIndex
from pykbroker.records.batch import HEADER_SIZE, LOG_OVERHEAD, MAGIC, MIN_BATCH_LENGTH, BatchHeader

_HEADER = struct.Struct(">qiibIhiqqqhii")
_WINDOW = 256 * 1024
_MAX_OFFSET = (1 << 63) - 1
_FOLLOWERS = 6
"""Batches looked at behind one that is in doubt: enough that one damaged among them changes nothing."""
_LONGEST = 16 << 20
"""Bytes that a batch with a damaged length is looked for; 3 s of work at worst, once."""
_BYTES = [bytes([i]) for i in range(256)]
_BODY = 21  # where the CRC's coverage begins


class Source:
    """The bytes of one file up to ``size``, read in windows."""

    def __init__(self, files: Files, fd: int, size: int) -> None:
        self._files = files
        self._fd = fd
        self.size = size
        self._start = 0
        self._data = b""

    def view(self, position: int, count: int) -> memoryview:
        """``count`` bytes at ``position``, or fewer at the end of the file."""
        count = min(count, self.size - position)
        if count <= 0:
            return memoryview(b"")
        at = position - self._start
        if at < 0 or at + count > len(self._data):
            wanted = min(max(count, _WINDOW), self.size - position)
            self._data = self._files.read_exactly(self._fd, wanted, position)
            self._start, at = position, 0
        return memoryview(self._data)[at : at + count]

    def crc(self, start: int, end: int, value: int = 0) -> int:
        """CRC32C of the bytes from ``start`` to ``end``, going on from ``value``."""
        while start < end:
            piece = self.view(start, min(end - start, _WINDOW))
            if not piece:
                break
            value = crc32c.crc32c(piece, value)
            start += len(piece)
        return value

    def zero_from(self, position: int) -> bool:
        """Whether nothing but zero bytes follows (an allocated tail that was never written)."""
        while position < self.size:
            piece = self.view(position, _WINDOW)
            if not piece or piece.tobytes().strip(b"\0"):
                return False
            position += len(piece)
        return True


class Anchors:
    """Batch edges that an offset index names, believed only where a good batch confirms them."""

    def __init__(self, base_offset: int = 0, index: OffsetIndex | None = None) -> None:
        self._base = base_offset
        self._index = index or OffsetIndex()

    def last_offset_at(self, position: int) -> int | None:
        """The last offset of the batch at ``position``, if the index names it."""
        positions = self._index.positions
        i = bisect_left(positions, position)
        if i < len(positions) and positions[i] == position:
            return self._base + self._index.offsets[i]
        return None

    def behind(self, position: int) -> Iterator[tuple[int, int]]:
        """(position, last offset) of the edges behind ``position``, in order."""
        index = self._index
        for i in range(bisect_right(index.positions, position), len(index)):
            yield index.positions[i], self._base + index.offsets[i]


@dataclass(slots=True, kw_only=True)
class Limits:
    """What is known from outside about the bytes of a segment."""

    segment: int
    """The segment's base offset."""
    upper: int = _MAX_OFFSET
    """No batch reaches this offset: the next segment's base, or the known log end."""
    sealed: bool
    """Another segment follows, or ``upper`` is the known end: a gap at the end proves nothing."""
    compacted: bool = False
    """Gaps between offsets are usual here."""
    epochs: LeaderEpochs = field(default_factory=LeaderEpochs)
    epochs_synced: int = _MAX_OFFSET
    """Below it ``epochs`` has all there were; above, a power cut may have taken the latest ones."""
    leader_epoch: int = -1
    """The highest epoch that a lost one can have been, if that is known."""
    anchors: Anchors = field(default_factory=Anchors)
    known: list[Hole] = field(default_factory=list)
    """Holes recorded earlier; they explain gaps."""


@dataclass(slots=True)
class Result:
    """``holes`` in order; intact batches end at ``end``, where ``next_offset`` is expected.

    Bytes between ``end`` and the end of the file are a torn tail: ``torn`` says why, else None.
    """

    holes: list[Hole]
    end: int
    next_offset: int
    torn: str | None


OnBatch = Callable[[int, BatchHeader], None]


def scan(
    source: Source,
    limits: Limits,
    *,
    start: int = 0,
    expected: int,
    on_batch: OnBatch,
    stop_behind: int | None = None,
) -> Result:
    """Walk the file from the batch edge ``start``; ``on_batch(position, header)`` for each good batch.

    ``stop_behind``: stop at the first good batch edge behind that position (the rest is not read).
    """
    return _Scanner(source, limits).run(start, expected, on_batch, stop_behind)


class _Scanner:
    def __init__(self, source: Source, limits: Limits) -> None:
        self.source = source
        self.limits = limits
        self.gaps_seen = False
        self._breaks: dict[int, tuple[int, int, int] | None] = {}  # chain memo, see _chain

    def run(self, pos: int, expected: int, on_batch: OnBatch, stop_behind: int | None) -> Result:
        epoch, end = -1, self.source.size
        confirmed = -1
        holes: list[Hole] = []
        while pos < end:
            if stop_behind is not None and pos > stop_behind and self._good(pos, expected, epoch):
                return Result(holes, pos, expected, None)
            header = self.raw(pos)
            reason = self.fault(pos, header, expected, epoch)
            if reason is None and header is not None:
                if pos != confirmed:
                    reason = self.doubt(pos, header, expected, epoch)
                if reason is None:
                    self.gaps_seen = self.gaps_seen or (header.base_offset > expected and pos != confirmed)
                    on_batch(pos, header)
                    pos += header.batch_length + LOG_OVERHEAD
                    expected, epoch = header.next_offset, header.leader_epoch
                    continue
            assert reason is not None
            found = self.resync(pos, header, expected, epoch)
            if found is None:
                return Result(holes, pos, expected, reason)
            at, next_header = found
            holes.append(
                Hole(
                    first_offset=expected,
                    next_offset=next_header.base_offset,
                    segment=self.limits.segment,
                    position=pos,
                    end_position=at,
                    reason=reason,
                )
            )
            pos = confirmed = at
        return Result(holes, pos, expected, None)

    @property
    def _gaps_usual(self) -> bool:
        return self.gaps_seen or self.limits.compacted

    def raw(self, pos: int) -> BatchHeader | None:
        """The header at ``pos``, unchecked; None where fewer than 61 bytes are left."""
        view = self.source.view(pos, HEADER_SIZE)
        if len(view) < HEADER_SIZE:
            return None
        return BatchHeader(*_HEADER.unpack(view))

    def fault(self, pos: int, header: BatchHeader | None, expected: int, epoch: int) -> str | None:
        """Why there is no good batch at ``pos``; None if there is one."""
        if header is None:
            return "header cut short"
        if header.magic != MAGIC:
            return f"magic is {header.magic}"
        length = header.batch_length
        if length < MIN_BATCH_LENGTH:
            return f"length is {length}"
        if length + LOG_OVERHEAD > self.source.size - pos:
            return f"length {length} passes the end of the file"
        if header.base_offset < expected:
            return f"base offset {header.base_offset} is below {expected}"
        if header.last_offset_delta < 0 or header.next_offset > self.limits.upper:
            return f"last offset {header.last_offset} is out of range"
        if header.next_offset - 1 - self.limits.segment > 0x7FFF_FFFF:
            return f"last offset {header.last_offset} does not fit the segment"
        if header.leader_epoch < epoch:
            return f"leader epoch {header.leader_epoch} is below {epoch}"
        if header.crc != self.source.crc(pos + _BODY, pos + LOG_OVERHEAD + length):
            return "CRC does not verify"
        return None

    def _good(self, pos: int, expected: int, epoch: int) -> BatchHeader | None:
        header = self.raw(pos)
        return header if self.fault(pos, header, expected, epoch) is None else None

    def doubt(self, pos: int, header: BatchHeader, expected: int, epoch: int) -> str | None:
        """Why a good batch is not believed to lie here; None if it is."""
        gap = header.base_offset > expected and not self._explained(expected, header.base_offset)
        new_epoch = header.leader_epoch != epoch and not self._epoch_known(header)
        if not gap and not new_epoch:
            return None
        # None: below the log start, or no checkpoint at all.
        known = self.limits.epochs.epoch_for(header.base_offset) is not None
        if self._nothing_at(pos + header.size):
            if gap and not self.limits.sealed and not self.gaps_seen:
                return f"base offset {header.base_offset} is not {expected}"
            if new_epoch and epoch >= 0 and known and not self._epoch_may_be_lost(header):
                return f"leader epoch {header.leader_epoch} is not in the checkpoint"
            return None
        followers = self._followers(pos + header.size)
        if gap and self._offsets_against(header, expected, followers, adjacent=True):
            return f"base offset {header.base_offset} is not {expected}, as the batches behind it show"
        if new_epoch and (
            _epochs_against(header, epoch, followers)
            # A checkpoint that is right about the next batch is right about this one.
            or (
                known
                and len(followers) > 0
                and followers[0].leader_epoch != header.leader_epoch
                and self._epoch_known(followers[0])
            )
        ):
            return f"leader epoch {header.leader_epoch} does not fit the batches behind it"
        return None

    def _followers(self, pos: int) -> list[BatchHeader]:
        """Headers of some batches from ``pos`` on whose CRC verifies, wherever they claim to lie."""
        found: list[BatchHeader] = []
        steps = 0
        while pos < self.source.size and len(found) < _FOLLOWERS and steps < 2 * _FOLLOWERS:
            steps += 1
            header = self._good(pos, 0, -1)
            if header is not None:
                found.append(header)
                pos += header.size
                continue
            bad = self.raw(pos)
            if bad is not None and bad.batch_length >= MIN_BATCH_LENGTH:
                behind = self.raw(pos + bad.size)
                if behind is not None and behind.magic == MAGIC:
                    pos += bad.size
                    continue
            end = min(pos + _WINDOW, self.source.size)
            pos = next((at for at in self._magic_positions(pos + 1, end) if self._good(at, 0, -1)), end)
        return found

    def _offsets_against(
        self, header: BatchHeader, expected: int, followers: Sequence[BatchHeader], *, adjacent: bool
    ) -> bool:
        """Whether the batches behind one show that its base offset is too high.

        Two in a row are believed where they claim to lie.  Of a batch that has no part in such a pair:
        where nothing explains the gap before it (``adjacent``: no damage, no compaction), all others
        have to bear it out, elsewhere most of them.
        """
        against = [f for f in followers if expected <= f.base_offset < header.next_offset]
        if not against or followers[0].base_offset == header.next_offset:
            return False
        pairs = {i for i, (a, b) in enumerate(pairwise(followers)) if b.base_offset == a.next_offset}
        linked = [f for i, f in enumerate(followers) if i in pairs or i - 1 in pairs]
        if adjacent and not self._gaps_usual:
            return True
        if linked:
            return any(f in linked for f in against)
        return len(against) > sum(f.base_offset >= header.next_offset for f in followers)

    def _believed(self, pos: int, header: BatchHeader, expected: int, epoch: int) -> bool:
        """Whether the batches behind a candidate do not speak against it."""
        followers = self._followers(pos + header.size)
        return not (
            self._offsets_against(header, expected, followers, adjacent=False)
            or _epochs_against(header, epoch, followers)
        )

    def _nothing_at(self, pos: int) -> bool:
        """Whether the file ends at ``pos``, or only zeros follow."""
        return pos >= self.source.size or (
            not any(self.source.view(pos, HEADER_SIZE)) and self.source.zero_from(pos)
        )

    def _explained(self, first: int, after: int) -> bool:
        return any(h.first_offset <= first and after <= h.next_offset for h in self.limits.known)

    def _epoch_may_be_lost(self, header: BatchHeader) -> bool:
        """Whether the epochs written down may lack this one, which comes after all of them."""
        latest = -1 if self.limits.epochs.latest is None else self.limits.epochs.latest
        return (
            header.base_offset >= self.limits.epochs_synced
            and latest < header.leader_epoch <= self.limits.leader_epoch
        )

    def _epoch_known(self, header: BatchHeader) -> bool:
        return self.limits.epochs.epoch_for(header.base_offset) == header.leader_epoch

    def resync(
        self, pos: int, bad: BatchHeader | None, expected: int, epoch: int
    ) -> tuple[int, BatchHeader] | None:
        """Where good batches begin again behind the bad one at ``pos``; None: nowhere."""
        while bad is not None and self._sound(bad, expected, epoch):
            at = pos + bad.size
            torn = at > self.source.size or bad.batch_length < MIN_BATCH_LENGTH
            if torn:
                true_end = self._true_end(pos, bad)
                if true_end is None:
                    break
                at, torn = true_end, False
            header = self._good(at, expected, epoch)
            if header is not None and self._led_to(at, header, expected, epoch, after=bad.next_offset):
                return at, header
            floor = expected if self._gaps_usual else bad.next_offset
            if header is not None:  # where it ends is certain, where it claims to be is not
                pos, bad, expected = at, header, floor
                continue
            following = self.raw(at)
            if following is None or (following.magic, following.base_offset) != (MAGIC, bad.next_offset):
                return self._search(pos, bad, floor, epoch, torn=False)
            pos, bad, expected = at, following, bad.next_offset  # damaged as well
        torn = bad is not None and self._sound(bad, expected, epoch) and pos + bad.size > self.source.size
        if bad is not None and bad.magic == MAGIC and bad.base_offset == expected:
            expected += 1  # it had one offset at least
        if bad is not None and bad.batch_length >= MIN_BATCH_LENGTH:
            at = pos + bad.size
            header = self._good(at, expected, epoch)
            if header is not None and self._led_to(at, header, expected, epoch, after=None):
                return at, header
        return self._search(pos, bad, expected, epoch, torn=torn)

    def _true_end(self, pos: int, bad: BatchHeader) -> int | None:
        """Where a batch whose header is sound but for its length ends: there its CRC verifies, and
        what looks like the next header begins.  Byte by byte, as far as batches are long."""
        at = pos + HEADER_SIZE
        crc = self.source.crc(pos + _BODY, at)
        end = min(self.source.size, at + _LONGEST)
        while at < end:
            for byte in self.source.view(at, min(end - at, _WINDOW)).tobytes():
                if crc == bad.crc and self._next_header_at(at, bad):
                    return at
                crc = crc32c.crc32c(_BYTES[byte], crc)
                at += 1
        return at if crc == bad.crc and at == self.source.size else None

    def _next_header_at(self, pos: int, bad: BatchHeader) -> bool:
        header = self.raw(pos)
        return header is not None and (
            (header.base_offset == bad.next_offset)
            + (header.magic == MAGIC)
            + (header.leader_epoch == bad.leader_epoch)
            >= 2
        )

    def _led_to(self, at: int, header: BatchHeader, expected: int, epoch: int, *, after: int | None) -> bool:
        """Whether the good batch at a bad one's end is where it claims to be.

        ``after``: the offset that the bad one's header leads to expect, if that header is sound.
        """
        followers = self._followers(at + header.size)
        if _epochs_against(header, epoch, followers):
            return False
        if header.base_offset == after:
            return True
        if after is not None and (not self._gaps_usual or not followers):
            return False
        return self._breaks_at_header(at, header) and not self._offsets_against(
            header, expected, followers, adjacent=False
        )

    def _sound(self, header: BatchHeader, expected: int, epoch: int) -> bool:
        """Whether a header that failed looks right in all but length and CRC."""
        return (
            header.magic == MAGIC
            and header.base_offset == expected
            and (header.leader_epoch == epoch or epoch < 0 or self._epoch_known(header))
            and 0 < header.record_count <= header.last_offset_delta + 1
            and (self._gaps_usual or header.record_count == header.last_offset_delta + 1)
        )

    def _next_anchor(self, pos: int, expected: int, epoch: int) -> tuple[int, BatchHeader] | None:
        for at, last_offset in self.limits.anchors.behind(pos):
            header = self._good(at, expected, epoch)
            if header is not None and header.last_offset == last_offset:
                return at, header
        return None

    def _search(
        self,
        pos: int,
        bad: BatchHeader | None,
        expected: int,
        epoch: int,
        *,
        torn: bool,
    ) -> tuple[int, BatchHeader] | None:
        """Candidates byte by byte, up to the first anchor, which is certain."""
        anchor = self._next_anchor(pos, expected, epoch)
        end = anchor[0] if anchor is not None else self.source.size
        weak: tuple[int, BatchHeader] | None = None
        crc, crc_end = 0, pos + _BODY
        for at in self._magic_positions(pos + 1, end):
            header = self._good(at, expected, epoch)
            if header is None or not self._believed(at, header, expected, epoch):
                continue
            if bad is not None and at >= crc_end:
                crc = self.source.crc(crc_end, at, crc)
                crc_end = at
                if crc == bad.crc:
                    return at, header
            if self._reaches(at, header, anchor):
                if not torn or anchor is not None:
                    return weak or (at, header)
            elif not torn and weak is None and self._breaks_at_header(at, header):
                weak = at, header
        return weak or anchor

    def _magic_positions(self, start: int, end: int) -> Iterator[int]:
        """Positions before ``end`` where a batch may begin: the byte 16 further on is 2."""
        at = start
        while at < end:
            data = self.source.view(at + 16, min(end - at, _WINDOW)).tobytes()
            if not data:
                return
            i = data.find(b"\x02")
            while i >= 0:
                yield at + i
                i = data.find(b"\x02", i + 1)
            at += len(data)

    def _reaches(self, at: int, header: BatchHeader, anchor: tuple[int, BatchHeader] | None) -> bool:
        if anchor is None:
            return self._leads_on(at, header)
        expected = header.next_offset
        epoch, at = header.leader_epoch, at + header.size
        while at < anchor[0]:
            found = self._good(at, expected, epoch)
            if found is None:
                return False
            expected, epoch, at = found.next_offset, found.leader_epoch, at + found.size
        return at == anchor[0] and anchor[1].base_offset >= expected

    def _leads_on(self, at: int, header: BatchHeader) -> bool:
        return self._chain(at, header) is None

    def _chain(self, at: int, header: BatchHeader) -> tuple[int, int, int] | None:
        """Where the chain of good batches from ``at`` breaks: (position, offset and epoch expected
        there); None if it leads to the end of the file or an anchor."""
        visited = []
        broken: tuple[int, int, int] | None
        while True:
            if at in self._breaks:
                broken = self._breaks[at]
                break
            visited.append(at)
            if self.limits.anchors.last_offset_at(at) == header.last_offset:
                broken = None
                break
            at += header.size
            if self._nothing_at(at):
                broken = None
                break
            following = self._good(at, header.next_offset, header.leader_epoch)
            if following is None or self.doubt(at, following, header.next_offset, header.leader_epoch):
                broken = at, header.next_offset, header.leader_epoch
                break
            header = following
        for position in visited:
            self._breaks[position] = broken
        return broken

    def _breaks_at_header(self, at: int, header: BatchHeader) -> bool:
        """Whether the chain from ``at`` ends in what looks like a batch header, damaged or cut."""
        broken = self._chain(at, header)
        if broken is None:
            return True
        pos, expected, epoch = broken
        bad = self.raw(pos)
        if bad is None:
            rest = self.source.view(pos, 8)
            return rest == expected.to_bytes(8, "big")[: len(rest)]
        matches = (bad.base_offset == expected) + (bad.magic == MAGIC) + (bad.leader_epoch == epoch)
        return matches >= 2


def _epochs_against(header: BatchHeader, epoch: int, followers: Sequence[BatchHeader]) -> bool:
    """Whether most of the batches behind one have an epoch between the last one and its own."""
    against = sum(epoch <= f.leader_epoch < header.leader_epoch for f in followers)
    return against > sum(f.leader_epoch >= header.leader_epoch for f in followers)
