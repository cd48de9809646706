"""From a timestamp to an offset.

The time index holds the running maximum, so that out-of-order timestamps are found too: everything
before the entry below the wanted timestamp is older, and from there on headers are read in offset
order; the first batch whose largest timestamp reaches it holds the record.
"""

from __future__ import annotations

from collections.abc import Iterator

from pykbroker.log.reading import Suspicious
from pykbroker.log.segment import Segment
from pykbroker.records.batch import BatchError, BatchHeader
from pykbroker.records.decode import iter_records


def first_at_or_after(
    segment: Segment, timestamp_ms: int, start_offset: int, end_offset: int
) -> tuple[int, int] | None:
    """(offset, timestamp) of the first record of ``segment`` in the offset range with a timestamp
    not below ``timestamp_ms``.  Raises :class:`Suspicious` where the headers make no sense."""
    relative = segment.time_index.offset_before(timestamp_ms)
    position = segment.index.position_for(max(relative, start_offset - segment.base_offset))
    for at, header in _all_headers(segment, position):
        if header.base_offset >= end_offset:
            return None
        if header.max_timestamp < timestamp_ms or header.next_offset <= start_offset:
            continue
        found = _first_record(segment, at, header, timestamp_ms, start_offset)
        if found is not None:
            return found if found[0] < end_offset else None
    return None


def largest(segment: Segment, start_offset: int) -> tuple[int, int] | None:
    """(offset, timestamp) of the first record from ``start_offset`` on with the largest timestamp."""
    timestamp = segment.largest_timestamp()
    if timestamp < 0:
        return None
    relative = segment.max_timestamp_offset - segment.base_offset
    if segment.max_timestamp_offset < start_offset:
        return _largest_by_walk(segment, start_offset)
    for at, header in _all_headers(segment, segment.index.position_for(relative)):
        if header.next_offset > segment.max_timestamp_offset:
            found = _first_record(segment, at, header, timestamp, start_offset)
            return found if found is not None else _largest_by_walk(segment, start_offset)
    return None


def _largest_by_walk(segment: Segment, start_offset: int) -> tuple[int, int] | None:
    best: tuple[int, BatchHeader] | None = None
    start = segment.index.position_for(max(start_offset - segment.base_offset, 0))
    for at, header in _all_headers(segment, start):
        if header.next_offset > start_offset and (
            best is None or header.max_timestamp > best[1].max_timestamp
        ):
            best = at, header
    if best is None or best[1].max_timestamp < 0:
        return None
    return _first_record(segment, *best, best[1].max_timestamp, start_offset)


def _all_headers(segment: Segment, position: int) -> Iterator[tuple[int, BatchHeader]]:
    """Headers from ``position`` to the end of the segment; raises if they end before it."""
    end = position
    for at, header in segment.headers(position):
        end = at + header.size
        yield at, header
    if end < segment.size and not any(h.position <= end <= h.end_position for h in segment.holes):
        raise Suspicious(segment, end)


def _first_record(
    segment: Segment, position: int, header: BatchHeader, timestamp_ms: int, start_offset: int
) -> tuple[int, int] | None:
    batch = segment.files.read_exactly(segment.descriptor().fd, header.size, position)
    try:
        for record in iter_records(batch):
            if record.timestamp >= timestamp_ms and record.offset >= start_offset:
                return record.offset, record.timestamp
    except BatchError:
        raise Suspicious(segment, position) from None
    return None
