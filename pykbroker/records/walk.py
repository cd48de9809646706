"""The walk over the records of a produced batch, in slices that do not hold up the loop.

Plain Python on purpose: one function per question, small enough for a compiled twin some day.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple

from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.records.batch import NO_TIMESTAMP, BatchError, BatchHeader, Buffer
from pykbroker.records.varint import read_varint

_SMALLEST_RECORD = 6
"""Body of a record with no key, value, or headers."""
_SLICE = 4096
"""Records walked between two yields: about 0.7 ms."""
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


def walk(payload: Buffer, count: int) -> None:
    """Check that ``payload`` is ``count`` records from its first byte to its last.

    Looks at record lengths only.  Raises :class:`KafkaError`, 87 INVALID_RECORD.
    """
    for _ in walk_steps(payload, count):
        pass


def walk_steps(payload: Buffer, count: int) -> Generator[None, None, None]:
    """:func:`walk`, yielding after each slice of about a millisecond."""
    data = payload if isinstance(payload, bytes) else bytes(payload)
    pos = 0
    try:
        while count > _SLICE:
            pos = _walk_some(data, pos, _SLICE)
            count -= _SLICE
            yield
        pos = _walk_some(data, pos, count)
    except (IndexError, BatchError) as e:
        raise _structure_error(f"record cut short or not a record: {e}") from e
    if pos != len(data):
        raise _structure_error(f"records end at byte {pos} of {len(data)}")


def _walk_some(data: bytes, pos: int, count: int) -> int:
    # The hot loop of every produce: lengths of one and two bytes are decoded in place.
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
        pos += size >> 1
    return pos


def inspect_steps(data: bytes, header: BatchHeader, limits: Limits) -> Generator[None, None, None]:
    """Walk, and look at key and timestamp of each record."""
    errors: list[tuple[int, str]] = []
    code, pos = ErrorCode.NONE, 0
    try:
        for index in range(header.record_count):
            size, at = read_varint(data, pos)
            pos = at + size
            if size < _SMALLEST_RECORD:
                raise BatchError(f"length of a record not possible: position={at}")
            delta, at = read_varint(data, at + 1)
            _, at = read_varint(data, at)
            if (error := _record_error(header.base_timestamp + delta, data[at], limits)) is not None:
                code = code or error[0]
                errors.append((index, error[1]))
            if index % _INSPECT_SLICE == _INSPECT_SLICE - 1:
                yield
    except (IndexError, BatchError) as e:
        raise _structure_error(f"record cut short or not a record: {e}") from e
    if pos != len(data):
        raise _structure_error(f"records end at byte {pos} of {len(data)}")
    if errors:
        raise RecordsError(code, "One or more records have been rejected", errors)


def _record_error(timestamp: int, key_size: int, limits: Limits) -> tuple[ErrorCode, str] | None:
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
