"""Which of the offsets that were named are there: some at a time, whatever was named.

Offsets that lie close together are read through, so that what lies in a range and is not there costs nothing,
and a batch is taken apart once.  Single offsets are looked up, but for those a little behind what was read
last: records fail in order, mostly.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from pykbroker.delivery.nacks import Range, Ranges, clipped, difference, merged
from pykbroker.forwarding.copying import Source
from pykbroker.forwarding.plan import Place
from pykbroker.forwarding.reading import Chunk, Reader, SourceReader

if TYPE_CHECKING:
    from pykbroker.partitions.manager import Partitions

LONG: Final = 16
"""A stretch of this many offsets is read through; what is shorter is looked up, together with others."""
NEAR: Final = 64
"""Offsets with less than this between them are one stretch."""
AHEAD: Final = 2000
"""Records up to here behind what was read last are read through, rather than looked up."""
PICKED: Final = 16
"""Records that are looked up together: each may be as large as a record can be."""
MAX_SKIPPED: Final = 10_000
"""Runs of offsets that are not there, of which one step takes note; with more it ends."""


class Logs(Protocol):
    """The logs that commits name offsets of.  All raise :class:`KafkaError`."""

    def bounds(self, place: Place) -> Range:
        """The first offset, and the one below which consumers read."""
        ...

    def is_near(self, place: Place, first: int) -> bool:
        """Whether :meth:`take` from there on goes on about where the last one ended."""
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


async def select(logs: Logs, place: Place, wanted: Iterator[Range], records: int, size: int) -> Selection:
    """Take up to ``records`` records of ``size`` bytes together, a few more bytes at most.

    ``wanted`` rise, and lie between the bounds of the log.
    """
    taken = Selection()
    singles: list[int] = []

    def room() -> int:
        return records - len(taken.records) if taken.size < size else 0

    for stretch in _stretches(wanted):
        first, last = stretch[0][0], stretch[-1][1]
        if not room() or len(taken.skipped) > MAX_SKIPPED:
            taken.rest = first
            break
        if last - first + 1 < LONG and not logs.is_near(place, first):
            for each in stretch:
                singles += range(each[0], each[1] + 1)
            while len(singles) >= PICKED and room():
                singles = await _pick(logs, place, singles, taken, min(PICKED, room()))
            continue
        while singles and room():
            singles = await _pick(logs, place, singles, taken, min(PICKED, room()))
        at = first
        while at <= last and room() and not singles and len(taken.skipped) <= MAX_SKIPPED:
            at = await _read_through(logs, place, stretch, at, room(), size - taken.size, taken)
        if at <= last:
            taken.rest = at
            break
    while singles and room():
        singles = await _pick(logs, place, singles, taken, min(PICKED, room()))
    if singles:
        taken.rest = singles[0]
    taken.skipped = list(merged(taken.skipped))
    return taken


def _stretches(wanted: Iterator[Range]) -> Iterator[list[Range]]:
    """The ranges, those together that lie close to each other."""
    stretch: list[Range] = []
    for each in wanted:
        if stretch and (each[0] - stretch[-1][1] > NEAR or len(stretch) >= MAX_SKIPPED):
            yield stretch
            stretch = []
        stretch.append(each)
    if stretch:
        yield stretch


async def _read_through(
    logs: Logs, place: Place, stretch: list[Range], at: int, records: int, size: int, taken: Selection
) -> int:
    """Take what is wanted of the next records of a stretch; the offset to go on from."""
    last = stretch[-1][1]
    chunk = await logs.take(place, at, last + 1, records, size)
    reached = chunk.next_offset if chunk.next_offset > at else last + 1
    here = clipped(stretch, at, reached)
    if len(stretch) == 1:
        found = chunk.records
    else:
        offsets = frozenset(offset for first, end in here for offset in _few(first, end, chunk.records))
        found = [record for record in chunk.records if record.offset in offsets]
    taken.put(found)
    taken.skipped += difference(here, merged((record.offset, record.offset) for record in found))
    return reached


def _few(first: int, last: int, records: Sequence[Source]) -> Iterator[int]:
    """The offsets of records from ``first`` to ``last``."""
    at = bisect_left(records, first, key=lambda record: record.offset)
    while at < len(records) and records[at].offset <= last:
        yield records[at].offset
        at += 1


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
    """Logs of this broker.  Remembers where it read last, so that what is large is read in one go."""

    def __init__(self, partitions: Partitions, max_decompressed: int) -> None:
        self._partitions = partitions
        self._max_decompressed = max_decompressed
        self._place: Place | None = None
        self._reader: Reader | None = None
        self._next = 0

    def bounds(self, place: Place) -> Range:
        partition = self._partitions.get_by_id(*place)
        return partition.log_start_offset, partition.last_stable_offset

    def is_near(self, place: Place, first: int) -> bool:
        return self._place == place and self._next <= first <= self._next + AHEAD

    async def take(self, place: Place, first: int, end: int, records: int, size: int) -> Chunk:
        partition = self._partitions.get_by_id(*place)
        reader = self._reader
        if reader is None or self._place != place:
            reader = self._reader = Reader(partition, self._max_decompressed, keep_provenance=True)
            self._place, self._next = place, first
        at = self._next if self.is_near(place, first) else first
        at = max(at, partition.log_start_offset)
        while at < first:
            passed = await reader.take(at, first, max_records=AHEAD, max_bytes=size)
            at = passed.next_offset if passed.next_offset > at else first
        chunk = await reader.take(first, end, max_records=records, max_bytes=size)
        self._next = chunk.next_offset
        return chunk

    async def pick(self, place: Place, offsets: Sequence[int]) -> Mapping[int, Source]:
        partition = self._partitions.get_by_id(*place)
        found = await SourceReader(partition, self._max_decompressed).pick(offsets)
        self._place, self._next, self._reader = place, max(offsets) + 1, None
        return found

    def forget(self) -> None:
        self._place = self._reader = None
