"""Which partition of the offsets topic a group lives in, as every Kafka computes it."""

from __future__ import annotations

from functools import lru_cache


@lru_cache(maxsize=4096)
def java_hash(text: str) -> int:
    """``String.hashCode()`` of Java: over UTF-16 code units, as a signed 32-bit number."""
    result = 0
    units = text.encode("utf-16-be", "surrogatepass")
    for at in range(0, len(units), 2):
        result = (result * 31 + (units[at] << 8 | units[at + 1])) & 0xFFFF_FFFF
    return result - 0x1_0000_0000 if result & 0x8000_0000 else result


def partition_of(group_id: str, partitions: int) -> int:
    """The partition of a group among ``partitions``."""
    code = java_hash(group_id)
    # The one number whose absolute value does not fit: Kafka takes 0 for it.
    return (0 if code == -0x8000_0000 else abs(code)) % partitions
