"""The header of a record batch, and where batches begin and end in a run of bytes.

Layout (magic 2, big endian; source: Kafka's message format documentation)::

    0   base_offset        int64   \\ not covered by the CRC: the broker
    8   batch_length       int32    | writes base offset and leader epoch
    12  leader_epoch       int32    | into the bytes that a producer sent
    16  magic              int8    /
    17  crc                uint32    CRC32C of everything from 21 to the end
    21  attributes         int16     bits 0-2 codec, 3 append time, 4 transactional,
                                     5 control, 6 delete horizon
    23  last_offset_delta  int32
    27  base_timestamp     int64     the delete horizon, if attribute bit 6 is set
    35  max_timestamp      int64
    43  producer_id        int64
    51  producer_epoch     int16
    53  base_sequence      int32
    57  record_count       int32
    61  records, or their compressed form

``batch_length`` counts from 12 on, so a batch has ``12 + batch_length`` bytes.  ``last_offset_delta``
is kept by compaction, ``record_count`` is not: offsets of a batch never change, records may go.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import crc32c

Buffer = bytes | bytearray | memoryview
"""Bytes to read from."""

HEADER_SIZE = 61
"""Bytes before the records of a batch."""
LOG_OVERHEAD = 12
"""Bytes of a batch that its ``batch_length`` does not count."""
MIN_BATCH_LENGTH = HEADER_SIZE - LOG_OVERHEAD
MAGIC_OFFSET = 16
CRC_OFFSET = 17
ATTRIBUTES_OFFSET = 21
MAX_TIMESTAMP_OFFSET = 35
MAGIC = 2

CODEC_MASK = 0x07
LOG_APPEND_TIME_BIT = 0x08
TRANSACTIONAL_BIT = 0x10
CONTROL_BIT = 0x20
DELETE_HORIZON_BIT = 0x40

NO_PRODUCER_ID = -1
NO_PRODUCER_EPOCH = -1
NO_SEQUENCE = -1
NO_TIMESTAMP = -1
MAX_SEQUENCE = 0x7FFF_FFFF
"""The sequence number after which 0 follows."""

_HEADER = struct.Struct(">qiibIhiqqqhii")
_OFFSET = struct.Struct(">q")
_INT32 = struct.Struct(">i")
_UINT32 = struct.Struct(">I")
_OFFSET_AND_LENGTH = struct.Struct(">qi")


class BatchError(ValueError):
    """These bytes are not a record batch of magic 2, or not the one that its header describes."""


class BatchHeader(NamedTuple):
    """The 61 bytes before the records, decoded.  Offsets are absolute, timestamps in ms."""

    base_offset: int
    batch_length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def size(self) -> int:
        """Bytes of the whole batch."""
        return LOG_OVERHEAD + self.batch_length

    @property
    def last_offset(self) -> int:
        """The last offset that the batch occupies (its record may have been compacted away)."""
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        """The offset behind the batch."""
        return self.base_offset + self.last_offset_delta + 1

    @property
    def codec(self) -> int:
        """Number of the compression codec (see :class:`pykbroker.records.compression.Codec`)."""
        return self.attributes & CODEC_MASK

    @property
    def is_transactional(self) -> bool:
        """Whether the records belong to a transaction."""
        return bool(self.attributes & TRANSACTIONAL_BIT)

    @property
    def is_control(self) -> bool:
        """Whether this is a marker of the broker, not data."""
        return bool(self.attributes & CONTROL_BIT)

    @property
    def log_append(self) -> bool:
        """Whether all records carry ``max_timestamp``, the time of the append."""
        return bool(self.attributes & LOG_APPEND_TIME_BIT)

    @property
    def has_producer_id(self) -> bool:
        """Whether an idempotent or transactional producer wrote it."""
        return self.producer_id > NO_PRODUCER_ID

    @property
    def last_sequence(self) -> int:
        """Sequence of the last record; -1 without sequences.  0 follows 2147483647."""
        return add_sequence(self.base_sequence, self.last_offset_delta)

    @property
    def delete_horizon_ms(self) -> int | None:
        """When tombstones and markers in it may go (set by the first compaction), in ms."""
        return self.base_timestamp if self.attributes & DELETE_HORIZON_BIT else None


def add_sequence(sequence: int, delta: int) -> int:
    """The sequence number ``delta`` records behind ``sequence``; -1 stays -1."""
    if sequence < 0:
        return NO_SEQUENCE
    return (sequence + delta) & MAX_SEQUENCE


def read_header(buf: Buffer, pos: int = 0) -> BatchHeader:
    """Decode the header at ``pos``; the records behind it need not be in ``buf``.

    Raises :class:`BatchError` for fewer than 61 bytes, a magic other than 2, or a length that no
    batch has.
    """
    if pos < 0 or len(buf) - pos < HEADER_SIZE:
        raise BatchError(f"header cut short: bytes={len(buf) - pos}, needed={HEADER_SIZE}")
    header = BatchHeader(*_HEADER.unpack_from(buf, pos))
    if header.magic != MAGIC:
        raise BatchError(f"magic is not 2: magic={header.magic}")
    if header.batch_length < MIN_BATCH_LENGTH:
        raise BatchError(f"length too small: batch_length={header.batch_length}")
    if header.last_offset_delta < 0:
        raise BatchError(f"negative offset range: last_offset_delta={header.last_offset_delta}")
    return header


def iter_headers(buf: Buffer) -> Iterator[tuple[int, BatchHeader]]:
    """Yield (position, header) of each batch that is complete in ``buf``.

    Ends silently at a batch that is cut short (a read may end anywhere); raises
    :class:`BatchError` at bytes that are not a batch.
    """
    pos, end = 0, len(buf)
    while end - pos >= HEADER_SIZE:
        header = read_header(buf, pos)
        if header.size > end - pos:
            return
        yield pos, header
        pos += header.size


def set_offsets(buf: bytearray | memoryview, pos: int, base_offset: int, leader_epoch: int) -> None:
    """Write base offset and leader epoch into the batch at ``pos``; the CRC stays valid."""
    _OFFSET.pack_into(buf, pos, base_offset)
    _INT32.pack_into(buf, pos + LOG_OVERHEAD, leader_epoch)


def batch_size(buf: Buffer, pos: int = 0) -> int:
    """Bytes of the batch at ``pos`` as its length field says; needs 12 bytes."""
    length: int = _OFFSET_AND_LENGTH.unpack_from(buf, pos)[1]
    return LOG_OVERHEAD + length


def computed_crc(buf: Buffer, pos: int = 0) -> int:
    """CRC32C of the covered part of the batch at ``pos``, which must be complete in ``buf``."""
    view = memoryview(buf)
    return crc32c.crc32c(view[pos + ATTRIBUTES_OFFSET : pos + batch_size(buf, pos)])


def crc_ok(buf: Buffer, pos: int = 0) -> bool:
    """Whether the batch at ``pos`` is complete in ``buf`` and its stored CRC verifies."""
    if len(buf) - pos < HEADER_SIZE:
        return False
    size = batch_size(buf, pos)
    if not HEADER_SIZE <= size <= len(buf) - pos:
        return False
    stored: int = _UINT32.unpack_from(buf, pos + CRC_OFFSET)[0]
    return stored == crc32c.crc32c(memoryview(buf)[pos + ATTRIBUTES_OFFSET : pos + size])


def write_crc(buf: bytearray | memoryview, pos: int = 0) -> None:
    """Compute and store the CRC of the complete batch at ``pos``, after a covered field changed."""
    _UINT32.pack_into(buf, pos + CRC_OFFSET, computed_crc(buf, pos))


def pack_header(header: BatchHeader) -> bytes:
    """The 61 bytes of ``header``, its CRC as it is."""
    return _HEADER.pack(*header)


def seal(header: BatchHeader, payload: Buffer) -> bytes:
    """A batch of ``header`` and ``payload`` (the records as stored), length and CRC filled in."""
    sized = header._replace(batch_length=MIN_BATCH_LENGTH + len(payload), crc=0)
    batch = bytearray(pack_header(sized))
    batch += payload
    write_crc(batch)
    return bytes(batch)
