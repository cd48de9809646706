"""What a broker changes in a produced batch, when the topic's configuration asks for it.

Count, offsets, sequences and record bytes stay as they came.
"""

from __future__ import annotations

import struct

from pykbroker.records.batch import (
    ATTRIBUTES_OFFSET,
    CODEC_MASK,
    LOG_APPEND_TIME_BIT,
    MAX_TIMESTAMP_OFFSET,
    BatchHeader,
    Buffer,
    read_header,
    seal,
    write_crc,
)
from pykbroker.records.compression import MAX_DECOMPRESSED, compress
from pykbroker.records.decode import payload_of

_ATTRIBUTES = struct.Struct(">h")
_TIMESTAMP = struct.Struct(">q")


def stamp_append_time(buf: bytearray | memoryview, pos: int, now_ms: int) -> None:
    """Make the batch at ``pos`` one with append time ``now_ms``, in place.

    Attribute bit 3 and the maximum timestamp change, the CRC with them; the base timestamp stays
    as the producer sent it.
    """
    set_timestamps(buf, pos, now_ms, log_append=True)


def set_timestamps(
    buf: bytearray | memoryview, pos: int, max_timestamp: int, *, log_append: bool
) -> BatchHeader:
    """Write the maximum timestamp (ms) and the append time bit of the batch at ``pos``, and its CRC."""
    (attributes,) = _ATTRIBUTES.unpack_from(buf, pos + ATTRIBUTES_OFFSET)
    attributes = attributes | LOG_APPEND_TIME_BIT if log_append else attributes & ~LOG_APPEND_TIME_BIT
    _ATTRIBUTES.pack_into(buf, pos + ATTRIBUTES_OFFSET, attributes)
    _TIMESTAMP.pack_into(buf, pos + MAX_TIMESTAMP_OFFSET, max_timestamp)
    write_crc(buf, pos)
    return read_header(buf, pos)


def recompress(
    batch: Buffer, codec: int, *, level: int | None = None, max_bytes: int = MAX_DECOMPRESSED
) -> bytes:
    """The one batch in ``batch`` with its records stored by ``codec``; offsets and count unchanged.

    ``level`` None is Kafka's default for the codec.  Raises
    :class:`~pykbroker.records.batch.BatchError` if the records do not decompress.
    """
    header = read_header(batch)
    if header.codec == codec:
        return bytes(memoryview(batch)[: header.size])
    payload = payload_of(batch, 0, max_bytes)
    recoded = header._replace(attributes=header.attributes & ~CODEC_MASK | codec)
    return seal(recoded, compress(codec, payload, level))
