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
    best: tuple[int, int] | None = None
    start = segment.index.position_for(max(start_offset - segment.base_offset, 0))
    for at, header in _all_headers(segment, start):
        if header.next_offset <= start_offset or header.max_timestamp <= (-1 if best is None else best[1]):
            continue
        # The batch's largest may belong to a record below the start.
        times = [(o, t) for o, t in _records(segment, at, header) if o >= start_offset]
        found = max(times, key=lambda pair: (pair[1], -pair[0]), default=None)
        if found is not None and found[1] > (-1 if best is None else best[1]):
            best = found
    return best


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
    for offset, timestamp in _records(segment, position, header):
        if timestamp >= timestamp_ms and offset >= start_offset:
            return offset, timestamp
    return None


def _records(segment: Segment, position: int, header: BatchHeader) -> Iterator[tuple[int, int]]:
    """(offset, timestamp) of the records of the batch at ``position``."""
    batch = segment.files.read_exactly(segment.descriptor().fd, header.size, position)
    try:
        for record in iter_records(batch):
            yield record.offset, record.timestamp
    except BatchError:
        raise Suspicious(segment, position) from None
