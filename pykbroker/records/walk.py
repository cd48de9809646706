"""The walk over the records of a produced batch, in slices that do not hold up the loop.

Plain Python on purpose: one function per question, small enough for a compiled twin some day.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import NamedTuple

from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.records.batch import NO_TIMESTAMP, BatchError, BatchHeader, Buffer
from pykbroker.records.varint import read_varint

_SMALLEST_RECORD = 6
"""Body of a record with no key, value, or headers."""
_SLICE = 4096
"""Records walked between two yields: about 0.7 ms."""
_NEGATIVE = -1
"""No timestamp delta so far that is not negative (the first record's usually is 0)."""
_INSPECT_SLICE = 1024
"""The same where records are looked into."""


class RecordsError(KafkaError):
    """Single records made the whole batch unacceptable: (index in the batch, why) of each."""

    def __init__(self, code: ErrorCode, message: str, records: list[tuple[int, str]]) -> None:
        super().__init__(code, message)
        self.records = records


class Limits(NamedTuple):
    """What to look for inside the records: keys, and timestamps (ms) from ``oldest`` to ``newest``."""

    keys: bool
    oldest: int | None
    newest: int | None


def walk(payload: Buffer, count: int) -> int:
    """Check that ``payload`` is ``count`` records from its first byte to its last.

    Looks at lengths and timestamps only.  Returns the largest timestamp delta.  Raises
    :class:`KafkaError`, 87 INVALID_RECORD.
    """
    steps = walk_steps(payload, count)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            largest: int = done.value
            return largest


def walk_steps(payload: Buffer, count: int) -> Generator[None, None, int]:
    """:func:`walk`, yielding after each slice of about a millisecond."""
    data = payload if isinstance(payload, bytes) else bytes(payload)
    pos, largest, left = 0, _NEGATIVE, count
    try:
        while left > _SLICE:
            pos, largest = _walk_some(data, pos, _SLICE, largest)
            left -= _SLICE
            yield
        pos, largest = _walk_some(data, pos, left, largest)
        if largest == _NEGATIVE:
            largest = max(_timestamp_deltas(data, count))
        else:
            largest >>= 1
    except (IndexError, BatchError) as e:
        raise _structure_error(f"record cut short or not a record: {e}") from e
    _check_end(pos, data)
    return largest


def _walk_some(data: bytes, pos: int, count: int, largest: int) -> tuple[int, int]:
    """Position behind ``count`` records, and the largest delta, in zigzag form, of those not negative.

    The hot loop of every produce: numbers of one and two bytes are decoded in place.
    """
    for _ in range(count):
        size = data[pos]
        pos += 1
        if size > 0x7F:
            high = data[pos]
            if high > 0x7F:
                length, pos = read_varint(data, pos - 1)
                size = length << 1 if length >= 0 else 1
            else:
                size += (high << 7) - 0x80
                pos += 1
        if size & 1 or size < 2 * _SMALLEST_RECORD:
            raise BatchError(f"length of a record not possible: position={pos}")
        delta = data[pos + 1]
        if not delta & 1:  # the lowest bit is the sign: even numbers are not negative, and in order
            if delta > 0x7F:
                high = data[pos + 2]
                if high > 0x7F:
                    delta = read_varint(data, pos + 1)[0] << 1
                else:
                    delta += (high << 7) - 0x80
            if delta > largest:
                largest = delta
        pos += size >> 1
    return pos, largest


def _timestamp_deltas(data: bytes, count: int) -> Iterator[int]:
    pos = 0
    for _ in range(count):
        size, at = read_varint(data, pos)
        yield read_varint(data, at + 1)[0]
        pos = at + size


def inspect_steps(data: bytes, header: BatchHeader, limits: Limits) -> Generator[None, None, int]:
    """:func:`walk_steps` that also holds the key and timestamp of each record against ``limits``.

    Raises :class:`RecordsError` naming the records that do not keep them.
    """
    errors: list[tuple[int, str]] = []
    code, pos, largest = ErrorCode.NONE, 0, None
    try:
        for index in range(header.record_count):
            size, at = read_varint(data, pos)
            pos = at + size
            if size < _SMALLEST_RECORD:
                raise BatchError(f"length of a record not possible: position={at}")
            delta, at = read_varint(data, at + 1)
            _, at = read_varint(data, at)
            largest = delta if largest is None or delta > largest else largest
            if (error := record_error(header.base_timestamp + delta, data[at], limits)) is not None:
                code = code or error[0]
                errors.append((index, error[1]))
            if index % _INSPECT_SLICE == _INSPECT_SLICE - 1:
                yield
    except (IndexError, BatchError) as e:
        raise _structure_error(f"record cut short or not a record: {e}") from e
    _check_end(pos, data)
    if errors:
        raise RecordsError(code, "One or more records have been rejected", errors)
    return largest or 0


def _check_end(pos: int, data: bytes) -> None:
    if pos != len(data):
        raise _structure_error(f"records end at byte {pos} of {len(data)}")


def record_error(timestamp: int, key_size: int, limits: Limits) -> tuple[ErrorCode, str] | None:
    """What is wrong with a record; ``key_size`` is its varint's first byte, odd for a negative one."""
    keys, oldest, newest = limits
    if keys and key_size & 1:
        return ErrorCode.INVALID_RECORD, "Compacted topic cannot accept message without key"
    if timestamp != NO_TIMESTAMP and (
        (oldest is not None and timestamp < oldest) or (newest is not None and timestamp > newest)
    ):
        return ErrorCode.INVALID_TIMESTAMP, f"Timestamp {timestamp} is out of range: {oldest} to {newest}"
    return None


def _structure_error(what: str) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_RECORD, f"Found invalid record structure: {what}")
