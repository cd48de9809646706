"""Which of the offsets that were named are there: some at a time, whatever was named.

A range is read through, so that what it leaves out costs nothing; single offsets are looked up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from pykbroker.delivery.nacks import Range, Ranges, clipped, merged
from pykbroker.forwarding.copying import Source
from pykbroker.forwarding.plan import Place
from pykbroker.forwarding.reading import Chunk, Reader, SourceReader

if TYPE_CHECKING:
    from pykbroker.partitions.manager import Partitions

LONG: Final = 64
"""A run of this many offsets is read through; shorter ones are looked up, together with others."""
PICKED: Final = 16
"""Records that are looked up together: each may be as large as a record can be."""
MAX_SKIPPED: Final = 10_000
"""Runs of offsets that are not there, of which one step takes note; with more it ends."""


class Logs(Protocol):
    """The logs that commits name offsets of.  All raise :class:`KafkaError`."""

    def bounds(self, place: Place) -> Range:
        """The first offset, and the one below which consumers read."""
        ...

    async def take(self, place: Place, first: int, end: int, records: int, size: int) -> Chunk:
        """As :meth:`~pykbroker.forwarding.reading.Reader.take`."""
        ...

    async def pick(self, place: Place, offsets: Sequence[int]) -> Mapping[int, Source]:
        """As :meth:`~pykbroker.forwarding.reading.SourceReader.pick`."""
        ...

    def forget(self) -> None:
        """Let go of what was read."""
        ...


@dataclass(slots=True)
class Selection:
    """What one step takes: ``records`` that are there, in order of offsets; offsets that are ``skipped``
    because they are not; ``rest``, the offset from which on the next step goes on."""

    records: dict[int, Source] = field(default_factory=dict)
    skipped: list[Range] = field(default_factory=list)
    rest: int | None = None
    size: int = 0

    def put(self, found: Iterable[Source]) -> None:
        """Take these."""
        for record in found:
            self.records[record.offset] = record
            self.size += record.size

    def miss(self, first: int, end: int, found: Iterable[int]) -> None:
        """Of the offsets from ``first`` to below ``end``, only these (rising) are there."""
        for offset in found:
            if offset > first:
                self.skipped.append((first, offset - 1))
            first = offset + 1
        if first < end:
            self.skipped.append((first, end - 1))


async def select(logs: Logs, place: Place, wanted: Iterator[Range], records: int, size: int) -> Selection:
    """Take up to ``records`` records of ``size`` bytes together, a few more bytes at most.

    ``wanted`` rise, and lie between the bounds of the log.
    """
    taken = Selection()
    singles: list[int] = []

    def room() -> int:
        return records - len(taken.records) if taken.size < size else 0

    for first, last in wanted:
        if not room() or len(taken.skipped) > MAX_SKIPPED:
            taken.rest = first
            break
        if last - first + 1 < LONG:
            singles += range(first, last + 1)
            while len(singles) >= PICKED and room():
                singles = await _pick(logs, place, singles, taken, min(PICKED, room()))
            continue
        while singles and room():
            singles = await _pick(logs, place, singles, taken, min(PICKED, room()))
        at = first
        while at <= last and room() and not singles and len(taken.skipped) <= MAX_SKIPPED:
            chunk = await logs.take(place, at, last + 1, room(), size - taken.size)
            reached = chunk.next_offset if chunk.next_offset > at else last + 1
            taken.put(chunk.records)
            taken.miss(at, reached, (record.offset for record in chunk.records))
            at = reached
        if at <= last:
            taken.rest = at
            break
    while singles and room():
        singles = await _pick(logs, place, singles, taken, min(PICKED, room()))
    if singles:
        taken.rest = singles[0]
    taken.skipped = list(merged(taken.skipped))
    return taken


async def _pick(logs: Logs, place: Place, singles: list[int], taken: Selection, count: int) -> list[int]:
    """Look up the first few; those that are left."""
    offsets, left = singles[:count], singles[count:]
    found = await logs.pick(place, offsets)
    taken.put(found[offset] for offset in offsets if offset in found)
    taken.skipped += [(offset, offset) for offset in offsets if offset not in found]
    return left


def outside(ranges: Iterable[Range], start: int, end: int) -> Ranges:
    """The part of ``ranges`` that does not lie from offset ``start`` to below ``end``."""
    every = tuple(ranges)
    if not every:
        return ()
    return merged((*clipped(every, 0, start), *clipped(every, max(start, end), every[-1][1] + 1)))


class LocalLogs:
    """Logs of this broker.  Remembers the last one, so that a large order is read in one go."""

    def __init__(self, partitions: Partitions, max_decompressed: int) -> None:
        self._partitions = partitions
        self._max_decompressed = max_decompressed
        self._place: Place | None = None
        self._reader: Reader | None = None

    def bounds(self, place: Place) -> Range:
        partition = self._partitions.get_by_id(*place)
        return partition.log_start_offset, partition.last_stable_offset

    async def take(self, place: Place, first: int, end: int, records: int, size: int) -> Chunk:
        if self._place != place or self._reader is None:
            partition = self._partitions.get_by_id(*place)
            self._reader = Reader(partition, self._max_decompressed, keep_provenance=True)
            self._place = place
        return await self._reader.take(first, end, max_records=records, max_bytes=size)

    async def pick(self, place: Place, offsets: Sequence[int]) -> Mapping[int, Source]:
        partition = self._partitions.get_by_id(*place)
        return await SourceReader(partition, self._max_decompressed).pick(offsets)

    def forget(self) -> None:
        self._place = self._reader = None
