"""Building a batch out of records: for internal topics, the broker's own records, and tests."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from pykbroker.records.batch import (
    CONTROL_BIT,
    LOG_APPEND_TIME_BIT,
    MAGIC,
    NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID,
    NO_SEQUENCE,
    TRANSACTIONAL_BIT,
    BatchHeader,
    seal,
)
from pykbroker.records.compression import Codec, compress
from pykbroker.records.varint import append_varint

Headers = Sequence[tuple[str, bytes | None]]
"""Record headers in order; names may repeat."""

_MARKER_KEY = struct.Struct(">hh")
_MARKER_VALUE = struct.Struct(">hi")


class RecordData(NamedTuple):
    """What goes into one record.

    ``timestamp_ms`` None means that of the batch; ``offset_delta`` None means its place in the batch.
    """

    key: bytes | None = None
    value: bytes | None = None
    timestamp_ms: int | None = None
    headers: Headers = ()
    offset_delta: int | None = None


def encode_batch(
    records: Sequence[RecordData],
    *,
    timestamp_ms: int,
    base_offset: int = 0,
    codec: int = Codec.NONE,
    level: int | None = None,
    producer_id: int = NO_PRODUCER_ID,
    producer_epoch: int = NO_PRODUCER_EPOCH,
    base_sequence: int = NO_SEQUENCE,
    leader_epoch: int = 0,
    transactional: bool = False,
    control: bool = False,
    log_append: bool = False,
) -> bytes:
    """A complete batch of ``records``, CRC included.

    ``timestamp_ms`` is the time of records that have none, and with ``log_append`` that of all.
    Raises ValueError for no records: only compaction makes empty batches.
    """
    if not records:
        raise ValueError("a batch needs at least one record: records=0")
    times = [timestamp_ms if r.timestamp_ms is None else r.timestamp_ms for r in records]
    deltas = [index if r.offset_delta is None else r.offset_delta for index, r in enumerate(records)]
    payload = bytearray()
    for record, time, delta in zip(records, times, deltas, strict=True):
        append_record(payload, record, time - times[0], delta)
    attributes = int(codec)
    attributes |= LOG_APPEND_TIME_BIT if log_append else 0
    attributes |= TRANSACTIONAL_BIT if transactional else 0
    attributes |= CONTROL_BIT if control else 0
    header = BatchHeader(
        base_offset=base_offset,
        batch_length=0,
        leader_epoch=leader_epoch,
        magic=MAGIC,
        crc=0,
        attributes=attributes,
        last_offset_delta=deltas[-1],
        base_timestamp=times[0],
        max_timestamp=timestamp_ms if log_append else max(times),
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
        record_count=len(records),
    )
    return seal(header, compress(codec, payload, level) if codec else payload)


def encode_marker(
    *,
    commit: bool,
    producer_id: int,
    producer_epoch: int,
    timestamp_ms: int,
    coordinator_epoch: int = 0,
    base_offset: int = 0,
    leader_epoch: int = 0,
) -> bytes:
    """The control batch that ends a transaction in one partition."""
    record = RecordData(
        key=_MARKER_KEY.pack(0, 1 if commit else 0), value=_MARKER_VALUE.pack(0, coordinator_epoch)
    )
    return encode_batch(
        [record],
        timestamp_ms=timestamp_ms,
        base_offset=base_offset,
        leader_epoch=leader_epoch,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        transactional=True,
        control=True,
    )


def append_record(out: bytearray, record: RecordData, timestamp_delta: int, offset_delta: int) -> None:
    """Append one record, its length first, as it stands uncompressed in a batch."""
    body = bytearray(1)  # the record's attributes: no bit is in use
    append_varint(body, timestamp_delta)
    append_varint(body, offset_delta)
    _append_bytes(body, record.key)
    _append_bytes(body, record.value)
    append_varint(body, len(record.headers))
    for name, value in record.headers:
        _append_bytes(body, name.encode("utf-8", "surrogateescape"))
        _append_bytes(body, value)
    append_varint(out, len(body))
    out += body


def _append_bytes(out: bytearray, data: bytes | None) -> None:
    if data is None:
        out.append(1)  # varint -1
    else:
        append_varint(out, len(data))
        out += data
