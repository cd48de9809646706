"""What a produced batch must satisfy before a leader appends it.

The answers are those of Apache Kafka 4.3.1, in its order (SEMANTICS, section 2)::

    a length or a magic that no batch of any format has                                 2
    no whole batch; two batches; magic 0 or 1                                          87
    zstd below Produce 7                                                               76
    base offset not 0                                                                  87
    larger than max.message.bytes (header included, as sent)                           10
    CRC                                                                                 2
    count not positive, or not last offset delta + 1; control batch                    87
    unknown codec, records that do not decompress                                      -1
    records decompressed larger than we hold (Kafka has no such limit)                 10
    record lengths that do not add up                                                  87
    compacted topic and a record without key                       87, with record errors
    timestamp too far from now                                     32, with record errors
    append time claimed, on a topic with append time or with none  32, with record errors

and what is put right silently: stray bytes behind the batch that are no whole batch are not part of
it (at least 12 must be there to be seen as one), a largest timestamp that no record has, the append
time bit on a topic with client's timestamps.

Record bytes are opaque: the walk looks at lengths and timestamps, about 20 us per 100 records.  Keys
are looked at for compacted topics.

Sequence numbers are :mod:`pykbroker.records.producers`'s business.
"""

from __future__ import annotations

from collections.abc import Generator

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
from pykbroker.records.recode import set_timestamps
from pykbroker.records.walk import Limits, RecordsError, inspect_steps, record_error, walk, walk_steps

__all__ = ["RecordsError", "check_header", "check_produced", "check_steps", "walk", "walk_steps"]

ZSTD_SINCE = 7
"""First version of Produce that may carry zstd."""
_TOP = 1 << 63
_SMALLEST_LEGACY_BATCH = 14
"""What Kafka compares a batch's length with before it looks at the magic."""


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

    What Kafka puts right in a header is written into ``records``, which must be writable then;
    bytes behind ``header.size`` are not part of the batch.

    ``log_append``: the topic stamps records itself, so their timestamps do not matter.  The bounds
    of timestamps are distances from ``now_ms``; None is no bound.  Raises :class:`KafkaError`, its
    subclass :class:`RecordsError` where the answer names records.
    """
    header = check_header(records, max_batch_bytes=max_batch_bytes, api_version=api_version)
    limits = _limits(header, now_ms, compacted, log_append, timestamp_before_max_ms, timestamp_after_max_ms)
    assert records is not None
    steps = _records_steps(records, header, limits, log_append, max_decompressed)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            checked: BatchHeader = done.value
            return checked


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
) -> Generator[None, None, BatchHeader]:
    """:func:`check_produced` in slices: yields about every millisecond, returns the header.

    Decompression is one step (it releases the GIL: a caller may drive the generator in a thread).
    """
    header = check_header(records, max_batch_bytes=max_batch_bytes, api_version=api_version)
    limits = _limits(header, now_ms, compacted, log_append, timestamp_before_max_ms, timestamp_after_max_ms)
    assert records is not None
    return (yield from _records_steps(records, header, limits, log_append, max_decompressed))


def _limits(
    header: BatchHeader,
    now_ms: int,
    compacted: bool,
    log_append: bool,
    before_max_ms: int | None,
    after_max_ms: int | None,
) -> Limits:
    """What the single records must keep, timestamps as distances from now turned into bounds."""
    if log_append:
        if header.log_append:
            raise _refused_in_all(header, "a producer should not set timestamp type to LogAppendTime")
        return Limits(compacted, None, None)
    limits = Limits(
        compacted,
        None if before_max_ms is None else now_ms - before_max_ms,
        None if after_max_ms is None else now_ms + after_max_ms,
    )
    if not header.log_append:
        return limits
    # With the append time bit, the header's largest timestamp is that of every record.
    if header.max_timestamp == NO_TIMESTAMP:
        raise _refused_in_all(header, "a producer should not set timestamp type to LogAppendTime")
    if (wrong := record_error(header.max_timestamp, 0, limits)) is not None:
        raise _refused_in_all(header, wrong[1])
    return Limits(compacted, None, None)


def _records_steps(
    records: Buffer, header: BatchHeader, limits: Limits, log_append: bool, max_decompressed: int
) -> Generator[None, None, BatchHeader]:
    data = bytes(_payload(records, header, max_decompressed))
    if limits.keys or limits.oldest is not None:
        largest = yield from inspect_steps(data, header, limits)
    else:
        largest = yield from walk_steps(data, header.record_count)
        if limits.newest is not None and header.base_timestamp + largest > limits.newest:
            yield from inspect_steps(data, header, limits)  # names the records that are
    if log_append:
        return header  # its timestamps are written at the append
    max_timestamp = header.max_timestamp if header.log_append else header.base_timestamp + largest
    if header.log_append or max_timestamp != header.max_timestamp:
        if not -_TOP <= max_timestamp < _TOP:
            raise _refused_in_all(header, f"timestamp {max_timestamp} has more than 64 bits")
        assert not isinstance(records, bytes), "a produced batch is put right in place"
        return set_timestamps(records, 0, max_timestamp, log_append=False)
    return header


def _refused_in_all(header: BatchHeader, why: str) -> RecordsError:
    indexes = range(header.record_count)
    return RecordsError(ErrorCode.INVALID_TIMESTAMP, f"Invalid timestamp: {why}", [(i, why) for i in indexes])


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
    size = header.size
    if size < len(records):
        _check_no_second(records, header)
    if header.base_offset != 0:
        raise KafkaError(
            ErrorCode.INVALID_RECORD,
            f"The base offset of a produced batch must be 0, but it is {header.base_offset}",
        )
    if size > max_batch_bytes:
        raise KafkaError(
            ErrorCode.MESSAGE_TOO_LARGE,
            f"The record batch size is {size} bytes which exceeds the maximum configured value of "
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
    if len(rest) < LOG_OVERHEAD:
        return
    length = batch_size(rest) - LOG_OVERHEAD
    has_magic = len(rest) > MAGIC_OFFSET
    if length < _SMALLEST_LEGACY_BATCH or (has_magic and not 0 <= rest[MAGIC_OFFSET] <= MAGIC):
        raise KafkaError(ErrorCode.CORRUPT_MESSAGE, "Bytes behind the batch are not a batch")
    if has_magic and batch_size(rest) <= len(rest):
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
