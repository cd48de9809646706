"""Helpers that compiled codecs call where inlining would not pay: varints, tags, record bytes."""

from __future__ import annotations

from typing import NoReturn

from pykbroker.protocol.errors import ProtocolError
from pykbroker.protocol.schema import FileRegion, Records

MAX_ELEMENTS = 1_000_000
"""Array elements in one message, nested ones counted.  Kafka has no such limit; without one a frame of
100 MiB could grow to gigabytes of small objects.  A cluster's largest answers stay below a fifth of it."""

MAX_STRING = 0x7FFF
"""Bytes in a string: Kafka refuses longer ones in the compact form too."""


def short(what: str) -> NoReturn:
    """Refuse a length that reaches behind the end of the frame."""
    raise ProtocolError(f"{what} reaches behind the end of the message")


def null(what: str) -> NoReturn:
    """Refuse null where the version does not allow it."""
    raise ProtocolError(f"{what} must not be null")


def uvarint(buf: memoryview, pos: int, first: int) -> tuple[int, int]:
    """The rest of an unsigned varint whose ``first`` byte (above 127) was read: value and position behind."""
    value, shift = first & 0x7F, 7
    while True:
        byte = buf[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 128:
            break
        shift += 7
        if shift > 28:
            raise ProtocolError("a varint is longer than five bytes")
    if value > 0x7FFFFFFF:
        raise ProtocolError("a length is above the largest int32")
    return value, pos


def read_uvarint(buf: memoryview, pos: int) -> tuple[int, int]:
    """An unsigned varint at ``pos``: value and position behind."""
    first = buf[pos]
    if first < 128:
        return first, pos + 1
    return uvarint(buf, pos + 1, first)


def skip_tags(buf: memoryview, pos: int) -> int:
    """The position behind a tagged section at ``pos`` of which no tag is known (KIP-482)."""
    count, pos = read_uvarint(buf, pos)
    end = len(buf)
    for _ in range(count):
        _, pos = read_uvarint(buf, pos)
        size, pos = read_uvarint(buf, pos)
        pos += size
        if pos > end:
            short("a tagged field")
    return pos


def put_uvarint(out: bytearray, value: int) -> None:
    """Append ``value`` as an unsigned varint."""
    while value > 127:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def put_records(
    out: bytearray, regions: list[tuple[int, FileRegion]], records: Records | None, compact: bool
) -> None:
    """Append record bytes with their length; what stays in files goes into ``regions``."""
    if records is None:
        out += b"\0" if compact else b"\xff\xff\xff\xff"
        return
    parts = records if isinstance(records, list) else (records,)
    size = sum(map(len, parts))
    if compact:
        put_uvarint(out, size + 1)
    else:
        out += size.to_bytes(4, "big")
    for part in parts:
        if isinstance(part, FileRegion):
            if part.size:
                regions.append((len(out), part))
        else:
            out += part
