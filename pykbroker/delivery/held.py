"""A record of a held log: what will be delivered, and in one header in front what was decided about it.

The header ``pykbroker-held`` is taken off when the record is moved on.  Its value is a version byte, the
:class:`Kind`, the codec that the record came in, the due time, where the record lay in the log that it came
from (offset and leader epoch: the tail of a held log is the position of who appends to it), the partition,
and the destination's name.  Key and value are never taken apart.  Batches are small and not compressed:
records are read one by one, in another order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import NamedTuple

from pykbroker.forwarding.copying import Building, Source
from pykbroker.records.batch import BatchError, BatchHeader, read_header
from pykbroker.records.compression import Codec
from pykbroker.records.varint import append_varint, read_varint

HELD = "pykbroker-held"

_VALUE = struct.Struct(">BBBqqii")
_BEGIN = struct.Struct(">BBBq")
VERSION = 0
BATCH_RECORDS = 32
BATCH_BYTES = 64 * 1024
_NAME = HELD.encode()


class HeldError(ValueError):
    """A record of a held log without a header that this version understands."""


class Kind(IntEnum):
    """Where a held record goes when it is due."""

    FACE = 0
    """To the topic whose flow this is; the partition is kept."""
    NAMED = 1
    """A dead letter: to the topic of that name, made if it is missing; partition modulo its count."""
    REPLAY = 2
    """A dead letter on its way back, to the topic of that name, which is never made."""
    NOTHING = 3
    """Nowhere: it only marks how far the log before this one has been decided about."""


class Held(NamedTuple):
    """What was decided about one record.  ``ingress_offset`` -1: it came from no log in order."""

    due_ms: int
    kind: Kind = Kind.FACE
    partition: int = 0
    name: str = ""
    ingress_offset: int = -1
    ingress_epoch: int = -1
    codec: int = 0


def header_of(held: Held) -> bytes:
    """The header as it lies in a record."""
    value = _VALUE.pack(
        VERSION, held.kind, held.codec, held.due_ms, held.ingress_offset, held.ingress_epoch, held.partition
    ) + held.name.encode("utf-8", "surrogateescape")
    out = bytearray(_FRONT)
    append_varint(out, len(value))
    return bytes(out + value)


def suffix(record: Source, held: Held) -> bytes:
    """Key, value and headers of ``record`` as a held record: what
    :meth:`~pykbroker.forwarding.copying.Building.add` takes."""
    count = bytearray()
    append_varint(count, record.header_count + 1)
    return b"".join((record.body, count, header_of(held), record.tail))


def delivered(record: Source) -> bytes:
    """The same for what a held ``record`` was made of."""
    value = record.headers[0][1]
    assert value is not None
    count = bytearray()
    append_varint(count, record.header_count - 1)
    return b"".join((record.body, count, record.tail[_prefix(len(value)) + len(value) :]))


def marker(held: Held) -> bytes:
    """A record without key, value and destination."""
    return b"\x01\x01\x02" + header_of(held)


def decision(record: Source) -> Held:
    """What was decided about a record of a held log.  Raises :class:`HeldError`."""
    value = record.headers[0][1] if record.headers and record.headers[0][0] == HELD else None
    if value is None:
        raise HeldError(f"not a held record: offset={record.offset}")
    return decode(value)


def decode(value: bytes) -> Held:
    """Raises :class:`HeldError`."""
    try:
        version, kind, codec, due_ms, offset, epoch, partition = _VALUE.unpack_from(value)
        if version != VERSION:
            raise HeldError(f"version not known: {version}, known: {VERSION}")
        name = value[_VALUE.size :].decode("utf-8", "surrogateescape")
        return Held(due_ms, Kind(kind), partition, name, offset, epoch, codec)
    except (struct.error, ValueError) as error:
        raise HeldError(f"decision not understood: {value!r:.80}") from error


class Entry(NamedTuple):
    """What of a held record is known without taking it apart; ``size`` are its bytes."""

    due_ms: int
    offset: int
    size: int
    goes_somewhere: bool


def entries(header: BatchHeader, payload: bytes) -> Iterator[Entry]:
    """Of the records of a batch, those with a header that this version understands.

    Raises :class:`BatchError`.
    """
    base, front, size_of_front = header.base_offset, _FRONT, len(_FRONT)
    at = 0
    new, nothing = tuple.__new__, Kind.NOTHING
    try:
        for _ in range(header.record_count):
            start = at
            size, at = read_varint(payload, at)
            end = at + size
            _, at = read_varint(payload, at + 1)
            delta, at = read_varint(payload, at)
            for _ in (0, 1):  # key and value
                size, at = read_varint(payload, at)
                if size > 0:
                    at += size
            _, at = read_varint(payload, at)
            if payload[at : at + size_of_front] == front:
                size, at = read_varint(payload, at + size_of_front)
                version, kind, _, due_ms = _BEGIN.unpack_from(payload, at)
                if version == VERSION and at + size <= end:
                    yield new(Entry, (due_ms, base + delta, end - start, kind != nothing))
            at = end
    except (IndexError, struct.error) as error:
        raise BatchError(f"held record cut short: position={at} bytes={len(payload)}") from error


def batches(records: Iterable[tuple[int, bytes]]) -> tuple[bytearray, list[BatchHeader]]:
    """Held records, each a timestamp and what :func:`suffix` says, as batches in one buffer."""
    buffer, headers = bytearray(), []
    building = Building(Codec.NONE)

    def finish() -> None:
        batch = building.finish(producer_id=-1, epoch=-1, base_sequence=-1, append_time_ms=None, level=None)
        headers.append(read_header(batch))
        buffer.extend(batch)

    for timestamp, each in records:
        if building.count >= BATCH_RECORDS or not building.fits(timestamp, each, BATCH_BYTES):
            finish()
            building = Building(Codec.NONE)
        building.add(timestamp, each)
    if building.count:
        finish()
    return buffer, headers


def _prefix(length: int) -> int:
    """Bytes of the header in front of a value of that length."""
    return len(_FRONT) + (1 if length < 64 else 2)


def _front() -> bytes:
    out = bytearray()
    append_varint(out, len(_NAME))
    return bytes(out) + _NAME


_FRONT = _front()
