"""What a produced batch must satisfy before a leader appends it.

The answers are those of Apache Kafka 4.3.1, in its order (SEMANTICS, section 2)::

    fewer than 17 bytes after a complete length, a length or magic that no batch has    2
    no complete batch; two batches; magic 0 or 1                                       87
    zstd below Produce 7                                                               76
    base offset not 0                                                                  87
    larger than max.message.bytes (header included, as sent)                           10
    CRC                                                                                 2
    count not positive, or not last offset delta + 1; control batch                    87
    unknown codec, records that do not decompress                                      -1
    records decompressed larger than we hold (Kafka has no such limit)                 10
    record lengths that do not add up                                                  87
    compacted topic and a record without key                       87, with record errors
    timestamp too far from now, or a batch claiming append time    32, with record errors

Record bytes are opaque: the walk looks at lengths only, 16 us per 100 records.  Keys are looked at
for compacted topics, timestamps when the header's largest one (or a lower bound in the config) gives
reason; a client that understates it in the header is believed.

Sequence numbers are :mod:`pykbroker.records.producers`'s business.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple

from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.records.batch import (
    HEADER_SIZE,
    LOG_OVERHEAD,
    MAGIC,
    MAGIC_OFFSET,
    NO_TIMESTAMP,
    BatchError,
    BatchHeader,
    Buffer,
    batch_size,
    crc_ok,
    read_header,
)
from pykbroker.records.compression import (
    MAX_DECOMPRESSED,
    Codec,
    CompressionError,
    OutputTooLargeError,
    decompress,
)
from pykbroker.records.varint import read_varint

ZSTD_SINCE = 7
"""First version of Produce that may carry zstd."""
_SMALLEST_LEGACY_BATCH = 14
"""What Kafka compares a batch's length with before it looks at the magic."""
_SMALLEST_RECORD = 6
"""Body of a record with no key, value, or headers."""
_SLICE = 4096
"""Records walked between two yields: about 0.7 ms."""
_INSPECT_SLICE = 1024
"""The same where records are looked into."""

Steps = Generator[None, None, "Checked"]


class RecordsError(KafkaError):
    """Single records made the whole batch unacceptable: (index in the batch, why) of each."""

    def __init__(self, code: ErrorCode, message: str, records: list[tuple[int, str]]) -> None:
        super().__init__(code, message)
        self.records = records


class Checked(NamedTuple):
    """A batch that may be appended, and its records decompressed (for who needs them next)."""

    header: BatchHeader
    payload: Buffer


def check_produced(
    records: Buffer | None,
    *,
    max_batch_bytes: int,
    api_version: int,
    now_ms: int = 0,
    compacted: bool = False,
    log_append: bool = False,
    timestamp_before_max_ms: int | None = None,
    timestamp_after_max_ms: int | None = None,
    max_decompressed: int = MAX_DECOMPRESSED,
) -> BatchHeader:
    """Check what a client sent for one partition, and return the header of its one batch.

    ``log_append``: the topic stamps records itself, so their timestamps do not matter.  The bounds
    of timestamps are distances from ``now_ms``; None is no bound.  Raises :class:`KafkaError`, its
    subclass :class:`RecordsError` where the answer names records.
    """
    steps = check_steps(
        records,
        max_batch_bytes=max_batch_bytes,
        api_version=api_version,
        now_ms=now_ms,
        compacted=compacted,
        log_append=log_append,
        timestamp_before_max_ms=timestamp_before_max_ms,
        timestamp_after_max_ms=timestamp_after_max_ms,
        max_decompressed=max_decompressed,
    )
    while True:
        try:
            next(steps)
        except StopIteration as done:
            checked: Checked = done.value
            return checked.header


def check_steps(
    records: Buffer | None,
    *,
    max_batch_bytes: int,
    api_version: int,
    now_ms: int = 0,
    compacted: bool = False,
    log_append: bool = False,
    timestamp_before_max_ms: int | None = None,
    timestamp_after_max_ms: int | None = None,
    max_decompressed: int = MAX_DECOMPRESSED,
) -> Steps:
    """:func:`check_produced` in slices: yields about every millisecond, returns :class:`Checked`.

    Decompression is one step (it releases the GIL: a caller may drive the generator in a thread).
    """
    header = check_header(records, max_batch_bytes=max_batch_bytes, api_version=api_version)
    assert records is not None
    payload = _payload(records, header, max_decompressed)
    too_new = (
        not log_append
        and timestamp_after_max_ms is not None
        and header.max_timestamp > now_ms + timestamp_after_max_ms
    )
    may_be_old = not log_append and timestamp_before_max_ms is not None
    data = bytes(payload)
    if compacted or too_new or may_be_old:
        bounds = (
            now_ms - timestamp_before_max_ms if may_be_old and timestamp_before_max_ms is not None else None,
            now_ms + timestamp_after_max_ms if too_new and timestamp_after_max_ms is not None else None,
        )
        yield from _inspect_steps(data, header, compacted, bounds)
    else:
        yield from walk_steps(data, header.record_count)
    if header.log_append:
        message = "Invalid timestamp type: a producer should not set timestamp type to LogAppendTime"
        raise RecordsError(
            ErrorCode.INVALID_TIMESTAMP, message, [(i, message) for i in range(header.record_count)]
        )
    return Checked(header, data)


def check_header(records: Buffer | None, *, max_batch_bytes: int, api_version: int) -> BatchHeader:
    """The checks that need no look at the records: one batch, whole, intact, allowed."""
    if records is None:
        # Kafka 4.3.1 never answers; a client would wait for its request timeout.
        raise KafkaError(ErrorCode.INVALID_RECORD, "Records are null")
    _check_framing(records)
    header = _read(records)
    if header.codec == Codec.ZSTD and api_version < ZSTD_SINCE:
        raise KafkaError(
            ErrorCode.UNSUPPORTED_COMPRESSION_TYPE,
            f"Produce requests with version {api_version} are not allowed to use ZStandard compression",
        )
    if header.size < len(records):
        _check_no_second(records, header)
    if header.base_offset != 0:
        raise KafkaError(
            ErrorCode.INVALID_RECORD,
            f"The base offset of a produced batch must be 0, but it is {header.base_offset}",
        )
    if header.size > max_batch_bytes:
        raise KafkaError(
            ErrorCode.MESSAGE_TOO_LARGE,
            f"The record batch size is {header.size} bytes which exceeds the maximum configured value of "
            f"{max_batch_bytes}",
        )
    if not crc_ok(records):
        raise KafkaError(ErrorCode.CORRUPT_MESSAGE, f"Record is corrupt (stored crc = {header.crc})")
    if header.record_count <= 0 or header.last_offset_delta + 1 != header.record_count:
        raise KafkaError(
            ErrorCode.INVALID_RECORD,
            f"Inconsistent batch offset range [0, {header.last_offset_delta}] and count of records "
            f"{header.record_count}",
        )
    if header.is_control:
        raise KafkaError(ErrorCode.INVALID_RECORD, "Clients are not allowed to write control records")
    return header


def walk(payload: Buffer, count: int) -> None:
    """Check that ``payload`` is ``count`` records from its first byte to its last.

    Looks at record lengths only.  Raises :class:`BatchError`.
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


def _inspect_steps(
    data: bytes, header: BatchHeader, compacted: bool, bounds: tuple[int | None, int | None]
) -> Generator[None, None, None]:
    """Walk, and look at key and timestamp of each record."""
    oldest, newest = bounds
    code, errors, pos = ErrorCode.NONE, list[tuple[int, str]](), 0
    try:
        for index in range(header.record_count):
            size, at = read_varint(data, pos)
            pos = at + size
            if size < _SMALLEST_RECORD:
                raise BatchError(f"length of a record not possible: position={at}")
            delta, at = read_varint(data, at + 1)
            _, at = read_varint(data, at)
            key_size, at = read_varint(data, at)
            timestamp = header.base_timestamp + delta
            if compacted and key_size < 0:
                code = code or ErrorCode.INVALID_RECORD
                errors.append((index, "Compacted topic cannot accept message without key"))
            elif timestamp != NO_TIMESTAMP and (
                (oldest is not None and timestamp < oldest) or (newest is not None and timestamp > newest)
            ):
                code = code or ErrorCode.INVALID_TIMESTAMP
                errors.append(
                    (index, f"Timestamp {timestamp} is out of range, allowed: {oldest} to {newest}")
                )
            if index % _INSPECT_SLICE == _INSPECT_SLICE - 1:
                yield
    except (IndexError, BatchError) as e:
        raise _structure_error(f"record cut short or not a record: {e}") from e
    if pos != len(data):
        raise _structure_error(f"records end at byte {pos} of {len(data)}")
    if errors:
        raise RecordsError(code, "One or more records have been rejected", errors)


def _structure_error(what: str) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_RECORD, f"Found invalid record structure: {what}")


def _check_framing(records: Buffer) -> None:
    """Kafka's first look at the bytes: lengths and magic, before there is a batch."""
    if len(records) >= LOG_OVERHEAD:
        length = batch_size(records) - LOG_OVERHEAD
        if length < _SMALLEST_LEGACY_BATCH:
            raise KafkaError(
                ErrorCode.CORRUPT_MESSAGE,
                f"Record size {length} is less than the minimum record overhead ({_SMALLEST_LEGACY_BATCH})",
            )
    if len(records) > MAGIC_OFFSET and not 0 <= records[MAGIC_OFFSET] <= MAGIC:
        magic = records[MAGIC_OFFSET]
        raise KafkaError(ErrorCode.CORRUPT_MESSAGE, f"Invalid magic found in record: {magic}")
    if len(records) <= MAGIC_OFFSET or batch_size(records) > len(records):
        raise KafkaError(
            ErrorCode.INVALID_RECORD, "Produce requests must have exactly one record batch per partition"
        )
    if records[MAGIC_OFFSET] != MAGIC:
        raise KafkaError(
            ErrorCode.INVALID_RECORD,
            f"Only record batches with magic version 2 are allowed, not {records[MAGIC_OFFSET]}",
        )


def _read(records: Buffer) -> BatchHeader:
    try:
        return read_header(records)
    except BatchError as e:
        code = ErrorCode.INVALID_RECORD if crc_ok(records) else ErrorCode.CORRUPT_MESSAGE
        raise KafkaError(code, str(e)) from e


def _check_no_second(records: Buffer, header: BatchHeader) -> None:
    rest = memoryview(records)[header.size :]
    if len(rest) >= LOG_OVERHEAD:
        length = batch_size(rest) - LOG_OVERHEAD
        if length < _SMALLEST_LEGACY_BATCH or (
            len(rest) > MAGIC_OFFSET and not 0 <= rest[MAGIC_OFFSET] <= MAGIC
        ):
            raise KafkaError(ErrorCode.CORRUPT_MESSAGE, "Bytes behind the batch are not a batch")
    raise KafkaError(
        ErrorCode.INVALID_RECORD, "Produce requests must have exactly one record batch per partition"
    )


def _payload(records: Buffer, header: BatchHeader, max_decompressed: int) -> Buffer:
    try:
        return decompress(header.codec, memoryview(records)[HEADER_SIZE : header.size], max_decompressed)
    except OutputTooLargeError as e:
        raise KafkaError(ErrorCode.MESSAGE_TOO_LARGE, str(e)) from e
    except CompressionError as e:
        raise KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR, str(e)) from e
