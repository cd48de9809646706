"""Records out of an ingress batch and into a target's batch, without taking key and value apart.

A record on the wire is ``length attributes timestamp-delta offset-delta key value headers``.  A copy has
new deltas in front, the same bytes for key and value, the same headers but those that the broker writes,
and those behind them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pykbroker.records.batch import (
    HEADER_SIZE,
    LOG_APPEND_TIME_BIT,
    MAGIC,
    BatchError,
    BatchHeader,
    seal,
)
from pykbroker.records.compression import Codec, compress
from pykbroker.records.varint import append_varint, read_varint

ROUTED_FROM = "pykbroker-routed-from"
"""The header of a copy that says where it comes from: exchange/partition/offset."""

_ROUTED_FROM_NAME = ROUTED_FROM.encode()
_NO_HEADERS = b"\x00"
_TOP = 1 << 63
"""Timestamps have 64 bits, and so have their differences in a batch."""
_VARINTS = [bytes((number << 1,)) for number in range(64)]
"""The varints of one byte, which are nearly all that there are."""

Headers = tuple[tuple[str, bytes | None], ...]


class Source(NamedTuple):
    """One record of an ingress log.

    ``body`` are its key and value as they lie in the batch, ``tail`` its headers without their count
    ``header_count``, and without a provenance that an earlier copy has left, if that will be replaced.
    """

    offset: int
    timestamp: int
    key: bytes | None
    headers: Headers
    value_size: int | None
    body: bytes
    tail: bytes
    header_count: int
    codec: int

    @property
    def size(self) -> int:
        """About its bytes in a batch."""
        return len(self.body) + len(self.tail) + 8


def sources(header: BatchHeader, data: bytes, *, keep_provenance: bool = False) -> Iterator[Source]:
    """The records of a batch whose decompressed payload is ``data``.  Raises :class:`BatchError`.

    ``keep_provenance``: the header of an earlier copy is not replaced but stays.
    """
    replaced = None if keep_provenance else _ROUTED_FROM_NAME
    base_offset, base_timestamp, codec = header.base_offset, header.base_timestamp, header.codec
    append_time = header.max_timestamp if header.log_append else None
    at = 0
    new = tuple.__new__
    try:
        for _ in range(header.record_count):
            size, at = read_varint(data, at)
            end = at + size
            if end > len(data):
                raise BatchError(f"record cut short: position={at} bytes={len(data)}")
            delta, at = read_varint(data, at + 1)
            timestamp = base_timestamp + delta if append_time is None else append_time
            delta, start = read_varint(data, at)
            length, at = read_varint(data, start)
            key = None
            if length >= 0:
                key = data[at : at + length]
                at += length
            length, at = read_varint(data, at)
            if length > 0:
                at += length
            body = data[start:at]
            if data[at : at + 1] == _NO_HEADERS:
                headers: Headers = ()
                tail, count = b"", 0
                at += 1
            else:
                headers, tail, count, at = _headers(data, at, replaced)
            if at != end:
                raise BatchError(f"record does not end where its length says: position={at} end={end}")
            value_size = length if length >= 0 else None
            offset = base_offset + delta
            yield new(Source, (offset, timestamp, key, headers, value_size, body, tail, count, codec))
    except IndexError as error:
        raise BatchError(f"record cut short: position={at} bytes={len(data)}") from error


def picked(header: BatchHeader, data: bytes, wanted: Iterable[int]) -> Iterator[Source]:
    """Of the records of a batch, those at the offsets ``wanted``, which rise and lie in the batch.

    The others are passed over, not taken apart, where the batch has all its records.  Headers stay as
    they are.  Raises :class:`BatchError`.
    """
    if header.record_count != header.last_offset_delta + 1:
        left = frozenset(wanted)
        yield from (each for each in sources(header, data, keep_provenance=True) if each.offset in left)
        return
    one = header._replace(record_count=1)
    at = index = 0
    try:
        for offset in wanted:
            for _ in range(offset - header.base_offset - index):
                size, at = read_varint(data, at)
                at += size
            index = offset - header.base_offset + 1
            start = at
            size, at = read_varint(data, at)
            at += size
            yield from sources(one, data[start:at], keep_provenance=True)
    except IndexError as error:
        raise BatchError(f"record cut short: position={at} bytes={len(data)}") from error


def _headers(data: bytes, at: int, replaced: bytes | None) -> tuple[Headers, bytes, int, int]:
    count, at = read_varint(data, at)
    if not 0 <= count <= len(data) - at:
        raise BatchError(f"header count not possible: count={count} bytes={len(data) - at}")
    found: list[tuple[str, bytes | None]] = []
    tail: list[bytes] = []
    for _ in range(count):
        start = at
        length, at = read_varint(data, at)
        if length < 0:
            raise BatchError(f"header without a name: position={at}")
        name = data[at : at + length]
        length, at = read_varint(data, at + length)
        value = None
        if length >= 0:
            value = data[at : at + length]
            at += length
        found.append((name.decode("utf-8", "surrogateescape"), value))
        if name != replaced:
            tail.append(data[start:at])
    return tuple(found), b"".join(tail), len(tail), at


def provenance(exchange: str, partition: int) -> bytes:
    """The first part of the value of ``pykbroker-routed-from``; the offset follows."""
    return f"{exchange}/{partition}/".encode()


class Copier:
    """Makes records of copies; what does not depend on the target is made once per record.

    ``routed_from`` is a :func:`provenance`, or None for copies that are not told apart from their
    originals.
    """

    def __init__(self, routed_from: bytes | None) -> None:
        self._routed_from = routed_from

    def suffix(self, record: Source) -> bytes:
        """Key, value and headers of the copy, as they lie in a batch."""
        routed_from = self._routed_from
        if routed_from is None:
            count, more = record.header_count, b""
        else:
            value = b"%b%d" % (routed_from, record.offset)
            count = record.header_count + 1
            more = b"%b%b%b%b" % (
                _varint(len(_ROUTED_FROM_NAME)),
                _ROUTED_FROM_NAME,
                _varint(len(value)),
                value,
            )
        return b"".join((record.body, _varint(count), record.tail, more))


class Building:
    """One batch as it grows: copies in order, up to a size."""

    def __init__(self, codec: int) -> None:
        self.codec = codec
        self.count = 0
        self._payload = bytearray()
        self._base_timestamp = self._max_timestamp = 0

    @property
    def size(self) -> int:
        """Bytes of the batch so far, uncompressed."""
        return HEADER_SIZE + len(self._payload)

    def fits(self, timestamp: int, suffix: bytes, limit: int) -> bool:
        """Whether another record leaves the batch within ``limit`` bytes, and its time can be said in it;
        the first always does."""
        return not self.count or (
            self.size + len(suffix) + 20 <= limit
            and -_TOP <= timestamp < _TOP
            and -_TOP <= timestamp - self._base_timestamp < _TOP
        )

    def add(self, timestamp: int, suffix: bytes) -> None:
        """Append one record."""
        index = self.count
        if not -_TOP <= timestamp < _TOP:  # a client's sum of two numbers: it wraps, as in Kafka
            timestamp = (timestamp + _TOP) % (2 * _TOP) - _TOP
        if not index:
            self._base_timestamp = self._max_timestamp = timestamp
        elif timestamp > self._max_timestamp:
            self._max_timestamp = timestamp
        delta = timestamp - self._base_timestamp
        front = b"\x00%b%b" % (
            _VARINTS[delta] if 0 <= delta < 64 else _varint(delta),
            _VARINTS[index] if index < 64 else _varint(index),
        )
        payload = self._payload
        payload += _varint(len(front) + len(suffix))
        payload += front
        payload += suffix
        self.count += 1

    def finish(
        self,
        *,
        producer_id: int,
        epoch: int,
        base_sequence: int,
        append_time_ms: int | None,
        level: int | None,
    ) -> bytearray:
        """The batch, its base offset still 0.  ``append_time_ms``: stamp it with that time."""
        attributes = self.codec
        max_timestamp = self._max_timestamp
        if append_time_ms is not None:
            attributes |= LOG_APPEND_TIME_BIT
            max_timestamp = append_time_ms
        header = BatchHeader(
            base_offset=0,
            batch_length=0,
            leader_epoch=0,
            magic=MAGIC,
            crc=0,
            attributes=attributes,
            last_offset_delta=self.count - 1,
            base_timestamp=self._base_timestamp,
            max_timestamp=max_timestamp,
            producer_id=producer_id,
            producer_epoch=epoch,
            base_sequence=base_sequence,
            record_count=self.count,
        )
        payload: bytes | bytearray = self._payload
        if self.codec != Codec.NONE:
            payload = compress(self.codec, payload, level)
        return bytearray(seal(header, payload))


def _varint(number: int) -> bytes:
    if 0 <= number < 64:
        return _VARINTS[number]
    out = bytearray()
    append_varint(out, number)
    return bytes(out)
