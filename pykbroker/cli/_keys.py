"""Where Kafka's clients put a key: MurmurHash2 as in the Java client.

The partitioner ``default`` has the same, but commands do without plugins.
"""

from __future__ import annotations

import struct

_SEED, _M, _MASK = 0x9747B28C, 0x5BD1E995, 0xFFFFFFFF


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of ``key`` in a topic with so many."""
    return (_murmur2(key) & 0x7FFFFFFF) % partitions


def _murmur2(data: bytes) -> int:
    whole = len(data) & ~3
    found = _SEED ^ len(data)
    for word in struct.unpack_from(f"<{whole >> 2}I", data):
        word = word * _M & _MASK
        found = found * _M & _MASK ^ (word ^ word >> 24) * _M & _MASK
    if rest := data[whole:]:
        found = (found ^ int.from_bytes(rest, "little")) * _M & _MASK
    found = (found ^ found >> 13) * _M & _MASK
    return found ^ found >> 15
