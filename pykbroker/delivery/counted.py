"""Which offsets count as nacked, or as settled, already: per group, topic and partition a set of offsets.

The set is kept in pieces of :data:`CHUNK` offsets, each a small value of the lane, in the same batch as the
plan that follows from it.  A value is a bitmap, or runs where these are shorter.  Nothing here waits or
reads: changes are made at once, and go into a dict of small values for the lane to keep.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from pykbroker.delivery.nacks import Range, Ranges, merged
from pykbroker.records.varint import append_varint, read_varint

CHUNK: Final = 4096
"""Offsets per small value: 512 bytes at most."""

MAX_RUNS: Final = 50
"""With more runs a value is a bitmap: pieces change often, and runs take time."""

PREFIX: Final = b"C"
"""The first byte of the names of these small values."""

Changes = dict[bytes, bytes | None]
"""Small values to be set, or to be removed (None)."""

_KEY = struct.Struct(">c16siq")
_BITMAP, _RUNS = b"\x00", b"\x01"
_FULL: Final = (1 << CHUNK) - 1


class Holder(NamedTuple):
    """Whose offsets of which partition."""

    group: str
    topic_id: bytes
    partition: int


class Counted:
    """The sets of one lane.  ``extras`` are its small values, of which only those of ours are looked at."""

    def __init__(self, extras: Mapping[bytes, bytes] | None = None) -> None:
        self._held: dict[Holder, dict[int, bytes | int]] = {}
        """Pieces as bitmaps once they were looked at, before that as they came."""
        for name, value in (extras or {}).items():
            if name[:1] == PREFIX:
                holder, chunk = _decode_name(name)
                self._held.setdefault(holder, {})[chunk] = value

    def __contains__(self, holder: Holder) -> bool:
        return holder in self._held

    def holders(self) -> tuple[Holder, ...]:
        """Everybody of whom anything is counted."""
        return tuple(self._held)

    def top(self, holder: Holder) -> int:
        """The highest offset that counts; -1 if none does."""
        chunks = self._held.get(holder)
        if not chunks:
            return -1
        highest = max(chunks)
        return highest * CHUNK + _mask(chunks, highest).bit_length() - 1

    def ranges(self, holder: Holder) -> Ranges:
        """All offsets that count."""
        chunks = self._held.get(holder, {})
        return merged(
            (chunk * CHUNK + first, chunk * CHUNK + last)
            for chunk in chunks
            for first, last in _runs(_mask(chunks, chunk))
        )

    def gaps(self, holder: Holder, first: int, last: int) -> Iterator[Range]:
        """The runs of offsets from ``first`` to ``last`` that do not count yet.  Takes no time for what
        nothing is known of; the set must not be changed meanwhile."""
        yield from self.missing(holder, ((first, last),))

    def missing(self, holder: Holder, ranges: Iterable[Range]) -> Iterator[Range]:
        """The runs of offsets in each of ``ranges`` that do not count yet, in turn; see :meth:`gaps`."""
        chunks = self._held.get(holder, {})
        numbers = sorted(chunks)
        for first, last in ranges:
            at = first
            for number in range(bisect_left(numbers, first // CHUNK), len(numbers)):
                base = numbers[number] * CHUNK
                if base > last:
                    break
                begin, end = max(first, base), min(last, base + CHUNK - 1)
                window = (_mask(chunks, numbers[number]) >> (begin - base)) & ((1 << (end - begin + 1)) - 1)
                for one, other in _runs(window):
                    if begin + one > at:
                        yield at, begin + one - 1
                    at = begin + other + 1
            if at <= last:
                yield at, last

    def add(self, holder: Holder, ranges: Iterable[Range], changes: Changes) -> None:
        """These offsets count from now on."""
        chunks = self._held.setdefault(holder, {})
        masks: dict[int, int] = {}
        for first, last in ranges:
            for chunk in range(first // CHUNK, last // CHUNK + 1):
                base = chunk * CHUNK
                begin, end = max(first - base, 0), min(last - base, CHUNK - 1)
                bits = ((1 << (end - begin + 1)) - 1) << begin
                masks[chunk] = masks.get(chunk, 0) | bits
        for chunk, mask in masks.items():
            known = _mask(chunks, chunk) if chunk in chunks else 0
            if mask | known != known:
                chunks[chunk] = mask | known
                changes[_name(holder, chunk)] = _encode(mask | known)
        if not chunks:
            del self._held[holder]

    def rewind(self, holder: Holder, offset: int, changes: Changes) -> None:
        """Nothing from ``offset`` on counts any more: the group reads it again."""
        chunks = self._held.get(holder)
        if chunks is None:
            return
        for chunk in [each for each in chunks if (each + 1) * CHUNK > offset]:
            mask = _mask(chunks, chunk)
            left = mask & ((1 << max(0, offset - chunk * CHUNK)) - 1)
            if not left:
                del chunks[chunk]
                changes[_name(holder, chunk)] = None
            elif left != mask:
                chunks[chunk] = left
                changes[_name(holder, chunk)] = _encode(left)
        if not chunks:
            del self._held[holder]

    def prune(self, holder: Holder, log_start: int, changes: Changes) -> None:
        """The log begins at ``log_start`` now: pieces that lie before it are not needed."""
        chunks = self._held.get(holder)
        if chunks is None:
            return
        for chunk in [each for each in chunks if (each + 1) * CHUNK <= log_start]:
            del chunks[chunk]
            changes[_name(holder, chunk)] = None
        if not chunks:
            del self._held[holder]

    def forget(self, holder: Holder, changes: Changes) -> None:
        """Nothing counts any more."""
        for chunk in self._held.pop(holder, {}):
            changes[_name(holder, chunk)] = None


def _name(holder: Holder, chunk: int) -> bytes:
    group = holder.group.encode("utf-8", "surrogatepass")
    return _KEY.pack(PREFIX, holder.topic_id, holder.partition, chunk) + group


def _decode_name(name: bytes) -> tuple[Holder, int]:
    _, topic_id, partition, chunk = _KEY.unpack_from(name)
    group = name[_KEY.size :].decode("utf-8", "surrogatepass")
    return Holder(group, topic_id, partition), chunk


def _mask(chunks: dict[int, bytes | int], chunk: int) -> int:
    """A piece as a bitmap."""
    found = chunks[chunk]
    if isinstance(found, bytes):
        found = chunks[chunk] = _decode(found)
    return found


def _encode(mask: int) -> bytes:
    """Runs where they are few (three bytes each, about), else the bitmap."""
    size = (mask.bit_length() + 7) // 8
    count = (mask & ~(mask << 1)).bit_count()
    if count > MAX_RUNS or 3 * count > size:
        return _BITMAP + mask.to_bytes(size, "little")
    runs = bytearray(_RUNS)
    at = 0
    for first, last in _runs(mask):
        append_varint(runs, first - at)
        append_varint(runs, last - first)
        at = last
    return bytes(runs)


def _decode(value: bytes) -> int:
    if value[:1] == _BITMAP:
        return int.from_bytes(value[1:], "little")
    mask, at, begin = 0, 1, 0
    while at < len(value):
        gap, at = read_varint(value, at)
        more, at = read_varint(value, at)
        begin += gap
        mask |= ((1 << (more + 1)) - 1) << begin
        begin += more
    return mask & _FULL


def _runs(mask: int) -> Iterator[Range]:
    """The runs of bits that are set."""
    at = 0
    while mask:
        zeros = (mask & -mask).bit_length() - 1
        mask >>= zeros
        ones = (~mask & (mask + 1)).bit_length() - 1
        yield at + zeros, at + zeros + ones - 1
        mask >>= ones
        at += zeros + ones
