"""Record batches (format 2) made by hand, right or wrong in any field, and read back.

The writer knows nothing that the caller has not said: each header field that a producer would compute (count,
last offset delta, timestamps, CRC, length) can be overridden, so that a probe can lie in exactly one of them.
Timestamps are milliseconds."""

import gzip
import struct
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)

TIMESTAMP_TYPE_BIT = 0x08  # set: LogAppendTime
TRANSACTIONAL_BIT = 0x10
CONTROL_BIT = 0x20

HEADER_SIZE = 61
_HEADER = struct.Struct(">qiibIhiqqqhii")  # base offset .. count
_CRC_END = 21  # the CRC covers everything from the attributes on


class Record(NamedTuple):
    """One record; a null key or value is None. ``timestamp`` None means "now"."""

    value: bytes | None = b"value"
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp: int | None = None


class Batch(NamedTuple):
    """The header of a batch as found, and its bytes as they were."""

    base_offset: int
    length: int
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
    data: bytes

    @property
    def codec(self) -> int:
        """The compression codec: one of NONE, GZIP, SNAPPY, LZ4, ZSTD."""
        return self.attributes & 7

    @property
    def last_offset(self) -> int:
        """The offset of the last record."""
        return self.base_offset + self.last_offset_delta

    @property
    def is_crc_right(self) -> bool:
        """Whether the CRC in the header is that of the bytes."""
        return crc32c(self.data[_CRC_END:]) == self.crc

    def records(self) -> list[Record]:
        """The records; gzip and uncompressed batches only. Raises ValueError for other codecs."""
        if self.codec not in (NONE, GZIP):
            raise ValueError(f"codec {self.codec} is not read here")
        payload = self.data[HEADER_SIZE:]
        return list(_records(gzip.decompress(payload) if self.codec == GZIP else payload, self))


def crc32c(data: bytes) -> int:
    """The Castagnoli CRC of some bytes."""
    from crc32c import crc32c as hardware

    return int(hardware(data))


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def encode_batch(
    records: Sequence[Record] = (Record(),),
    *,
    codec: int = NONE,
    attributes: int = 0,
    producer_id: int = -1,
    producer_epoch: int = -1,
    sequence: int = -1,
    base_offset: int = 0,
    leader_epoch: int = -1,
    magic: int = 2,
    count: int | None = None,
    last_offset_delta: int | None = None,
    length: int | None = None,
    crc: int | None = None,
    max_timestamp: int | None = None,
    payload: bytes | None = None,
) -> bytes:
    """One batch. What is None is computed as a producer would; NONE and GZIP are compressed, other codecs
    need ``payload``, the bytes behind the header."""
    times = [now_ms() if record.timestamp is None else record.timestamp for record in records]
    base_timestamp = times[0] if times else -1
    if payload is None:
        payload = b"".join(
            _encode_record(record, delta, times[delta] - base_timestamp)
            for delta, record in enumerate(records)
        )
        assert codec in (NONE, GZIP), "give the payload of this codec"
        if codec == GZIP:
            payload = gzip.compress(payload)
    covered = (
        struct.pack(
            ">hiqqqhii",
            attributes | codec,
            len(records) - 1 if last_offset_delta is None else last_offset_delta,
            base_timestamp,
            max(times, default=-1) if max_timestamp is None else max_timestamp,
            producer_id,
            producer_epoch,
            sequence,
            len(records) if count is None else count,
        )
        + payload
    )
    return (
        struct.pack(
            ">qiibI",
            base_offset,
            HEADER_SIZE - 12 + len(payload) if length is None else length,
            leader_epoch,
            magic,
            crc32c(covered) if crc is None else crc,
        )
        + covered
    )


def batch_of_size(size: int, *, record_count: int = 1) -> bytes:
    """An uncompressed batch of exactly so many bytes, header included. Raises ValueError if that cannot
    be."""
    rest = [Record(b"")] * (record_count - 1)
    guess = max(0, size - HEADER_SIZE - 8 * record_count - 8)
    for value_size in range(guess, size - HEADER_SIZE):
        batch = encode_batch(
            [Record(b"x" * value_size, timestamp=1), *[r._replace(timestamp=1) for r in rest]]
        )
        if len(batch) == size:
            return batch
        if len(batch) > size:
            break
    raise ValueError(f"no batch of {record_count} records has {size} bytes")


def decode_batches(data: bytes) -> list[Batch]:
    """The whole batches at the front of fetched bytes; a partial one at the end is left out, as clients
    do."""
    batches = []
    position = 0
    while position + HEADER_SIZE <= len(data):
        fields = _HEADER.unpack_from(data, position)
        end = position + 12 + fields[1]
        if end > len(data):
            break
        batches.append(Batch._make([*fields, data[position:end]]))
        position = end
    return batches


def _encode_record(record: Record, offset_delta: int, timestamp_delta: int) -> bytes:
    body = (
        b"\0"
        + varint(timestamp_delta)
        + varint(offset_delta)
        + _nullable(record.key)
        + _nullable(record.value)
    )
    body += varint(len(record.headers))
    for name, value in record.headers:
        body += _nullable(name.encode()) + _nullable(value)
    return varint(len(body)) + body


def _nullable(value: bytes | None) -> bytes:
    return varint(-1) if value is None else varint(len(value)) + value


def varint(value: int) -> bytes:
    """A zigzag varint, as used inside records."""
    rest = (value << 1) ^ (value >> 63)
    rest &= (1 << 64) - 1
    encoded = bytearray()
    while rest > 0x7F:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.position]
            self.position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (value >> 1) ^ -(value & 1)
            shift += 7

    def nullable(self) -> bytes | None:
        size = self.varint()
        if size < 0:
            return None
        self.position += size
        return self.data[self.position - size : self.position]


def _records(payload: bytes, batch: Batch) -> Iterator[Record]:
    reader = _Reader(payload)
    for _ in range(batch.record_count):
        reader.varint()  # length
        reader.position += 1  # attributes
        timestamp = batch.base_timestamp + reader.varint()
        reader.varint()  # offset delta
        key, value = reader.nullable(), reader.nullable()
        headers = tuple(
            ((reader.nullable() or b"").decode(), reader.nullable()) for _ in range(reader.varint())
        )
        yield Record(value, key, headers, timestamp)
