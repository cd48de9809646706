"""Records out of a batch.

``iter_records`` decodes everything; ``iter_spans`` only what compaction and checks need, and says
where each record's bytes are.  Both refuse what Kafka refuses: lengths that lie, a count that does
not match, a record that does not end where its length says.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from pykbroker.records.batch import HEADER_SIZE, BatchError, BatchHeader, Buffer, iter_headers, read_header
from pykbroker.records.compression import MAX_DECOMPRESSED, CompressionError, decompress
from pykbroker.records.varint import read_varint

_MARKER = struct.Struct(">hh")


class Record(NamedTuple):
    """One record.  ``timestamp`` in ms; header names as text, bytes that are not UTF-8 escaped so
    that they survive being encoded again."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class RecordSpan(NamedTuple):
    """Where a record is in the (decompressed) payload, and what decides about its keeping."""

    start: int
    end: int
    offset_delta: int
    timestamp_delta: int
    key: bytes | None
    has_value: bool
    body: int
    """Position behind the length, attributes and timestamp: the offset delta and all that follows."""


def payload_of(batch: Buffer, pos: int = 0, max_bytes: int = MAX_DECOMPRESSED) -> Buffer:
    """The records of the complete batch at ``pos``, decompressed.

    Raises :class:`BatchError`, also when they do not decompress.
    """
    header = read_header(batch, pos)
    if header.size > len(batch) - pos:
        raise BatchError(f"batch cut short: bytes={len(batch) - pos} needed={header.size}")
    try:
        return decompress(header.codec, memoryview(batch)[pos + HEADER_SIZE : pos + header.size], max_bytes)
    except CompressionError as e:
        raise BatchError(f"records do not decompress: offset={header.base_offset} reason={e}") from e


def iter_records(batch: Buffer, pos: int = 0, max_bytes: int = MAX_DECOMPRESSED) -> Iterator[Record]:
    """The records of the complete batch at ``pos``.  Raises :class:`BatchError`."""
    header = read_header(batch, pos)
    data = bytes(payload_of(batch, pos, max_bytes))
    base_offset, base_timestamp = header.base_offset, header.base_timestamp
    append_time = header.max_timestamp if header.log_append else None
    at = 0
    try:
        for _ in range(header.record_count):
            # Most numbers take one byte: decoded in place, which halves the time of the loop.
            size, at = read_varint(data, at)
            end = at + size
            number = data[at + 1]
            at += 2
            if number < 0x80:
                timestamp = base_timestamp + ((number >> 1) ^ -(number & 1))
            else:
                number, at = read_varint(data, at - 1)
                timestamp = base_timestamp + number
            number = data[at]
            at += 1
            if number < 0x80:
                offset = base_offset + ((number >> 1) ^ -(number & 1))
            else:
                number, at = read_varint(data, at - 1)
                offset = base_offset + number
            key, at = _read_bytes(data, at)
            value, at = _read_bytes(data, at)
            headers: tuple[tuple[str, bytes | None], ...] = ()
            if data[at]:
                headers, at = _read_headers(data, at)
            else:
                at += 1
            if at != end:
                raise BatchError(f"record does not end where its length says: position={at} end={end}")
            yield Record(offset, timestamp if append_time is None else append_time, key, value, headers)
    except IndexError as e:
        raise BatchError(f"record cut short: position={at} bytes={len(data)}") from e
    if at != len(data):
        raise BatchError(f"bytes behind the last record: bytes={len(data) - at}")


def iter_all_records(buf: Buffer, max_bytes: int = MAX_DECOMPRESSED) -> Iterator[tuple[BatchHeader, Record]]:
    """The records of all complete batches in ``buf``, each with its batch's header."""
    for pos, header in iter_headers(buf):
        for record in iter_records(buf, pos, max_bytes):
            yield header, record


def iter_spans(payload: bytes, count: int) -> Iterator[RecordSpan]:
    """Where each of ``count`` records is in ``payload`` (decompressed).  Raises :class:`BatchError`."""
    at = 0
    try:
        for _ in range(count):
            start = at
            size, at = read_varint(payload, at)
            end = at + size
            timestamp_delta, body = read_varint(payload, at + 1)
            offset_delta, at = read_varint(payload, body)
            key, at = _read_bytes(payload, at)
            value_size, at = read_varint(payload, at)
            if size < 0 or at + max(value_size, 0) >= end or end > len(payload):
                raise BatchError(f"record does not end where its length says: position={start}")
            yield RecordSpan(start, end, offset_delta, timestamp_delta, key, value_size >= 0, body)
            at = end
    except IndexError as e:
        raise BatchError(f"record cut short: position={at} bytes={len(payload)}") from e
    if at != len(payload):
        raise BatchError(f"bytes behind the last record: bytes={len(payload) - at}")


def marker_commits(batch: Buffer, pos: int = 0) -> bool | None:
    """Whether the control batch at ``pos`` commits (True) or aborts; None: neither, or emptied."""
    record = next(iter_records(batch, pos), None)
    if record is None or record.key is None or len(record.key) < _MARKER.size:
        return None
    kind: int = _MARKER.unpack_from(record.key)[1]
    return {0: False, 1: True}.get(kind)


def _read_bytes(data: bytes, at: int) -> tuple[bytes | None, int]:
    size = data[at]
    if size < 0x80:
        at += 1
        size = (size >> 1) ^ -(size & 1)
    else:
        size, at = read_varint(data, at)
    if size < 0:
        return None, at
    end = at + size
    if end > len(data):
        raise IndexError
    return data[at:end], end


def _read_headers(data: bytes, at: int) -> tuple[tuple[tuple[str, bytes | None], ...], int]:
    count, at = read_varint(data, at)
    if not 0 <= count <= len(data) - at:
        raise BatchError(f"header count not possible: count={count} bytes={len(data) - at}")
    headers: list[tuple[str, bytes | None]] = []
    for _ in range(count):
        name, at = _read_bytes(data, at)
        if name is None:
            raise BatchError(f"header without a name: position={at}")
        value, at = _read_bytes(data, at)
        headers.append((name.decode("utf-8", "surrogateescape"), value))
    return tuple(headers), at
