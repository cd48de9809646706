"""A record of a held log: what will be delivered, and in one header in front what was decided about it.

The header ``pykbroker-held`` is taken off when the record is moved on.  Its value is a version byte, the
:class:`Kind`, the due time, where the record lay in the log that it came from (offset and leader epoch:
the tail of a held log is the position of who appends to it), the partition, and the destination's name.
Key and value are never taken apart.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from pykbroker.forwarding.copying import Source
from pykbroker.records.varint import append_varint

HELD = "pykbroker-held"

_VALUE = struct.Struct(">BBqqii")
VERSION = 0
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


def header_of(held: Held) -> bytes:
    """The header as it lies in a record."""
    value = _VALUE.pack(
        VERSION, held.kind, held.due_ms, held.ingress_offset, held.ingress_epoch, held.partition
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
        version, kind, due_ms, offset, epoch, partition = _VALUE.unpack_from(value)
        if version != VERSION:
            raise HeldError(f"version not known: {version}, known: {VERSION}")
        name = value[_VALUE.size :].decode("utf-8", "surrogateescape")
        return Held(due_ms, Kind(kind), partition, name, offset, epoch)
    except (struct.error, ValueError) as error:
        raise HeldError(f"decision not understood: {value!r:.80}") from error


def strip(record: Source) -> Source:
    """The record as it is delivered: without the header."""
    decided = record.headers[0][1] if record.headers else None
    assert decided is not None
    out = bytearray(_FRONT)
    append_varint(out, len(decided))
    return record._replace(
        headers=record.headers[1:],
        tail=record.tail[len(out) + len(decided) :],
        header_count=record.header_count - 1,
    )


def _front() -> bytes:
    out = bytearray()
    append_varint(out, len(_NAME))
    return bytes(out) + _NAME


_FRONT = _front()
