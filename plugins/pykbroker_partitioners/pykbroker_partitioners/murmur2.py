"""The hash by which Kafka's Java client (and those that follow it) places keys: MurmurHash2, 32 bits.

librdkafka's default is another one (CRC32): the same key may lie elsewhere in topics that such a
producer fills.
"""

from __future__ import annotations

import struct

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """The hash as an unsigned 32-bit number (Java has the same bits, signed)."""
    length = len(data)
    whole = length & ~3
    h = _SEED ^ length
    for k in struct.unpack_from(f"<{whole >> 2}I", data):
        k = k * _M & _MASK
        h = h * _M & _MASK ^ (k ^ k >> 24) * _M & _MASK
    rest = length - whole
    if rest:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


def partition_of(key: bytes, partitions: int) -> int:
    """Where Kafka's clients put ``key`` in a topic with so many partitions."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
