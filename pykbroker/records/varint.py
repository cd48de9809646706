"""Zigzag varints, as records use them: 7 bits a byte, lowest first, sign in the lowest bit."""

from __future__ import annotations

from pykbroker.records.batch import BatchError, Buffer

_MAX_BYTES = 10
"""A 64-bit number has at most ten groups of seven bits."""


def read_varint(buf: Buffer, pos: int) -> tuple[int, int]:
    """The number at ``pos`` and the position behind it.

    Raises IndexError where the bytes end, :class:`BatchError` for more than ten bytes.
    """
    byte = buf[pos]
    if byte < 0x80:
        return (byte >> 1) ^ -(byte & 1), pos + 1
    value = byte & 0x7F
    for index in range(1, _MAX_BYTES):
        byte = buf[pos + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), pos + index + 1
    raise BatchError(f"varint longer than {_MAX_BYTES} bytes: position={pos}")


def append_varint(out: bytearray, number: int) -> None:
    """Append ``number`` (64 bits, signed) to ``out``."""
    value = (number << 1) ^ (number >> 63)
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def varint_size(number: int) -> int:
    """Bytes that ``number`` takes."""
    value = (number << 1) ^ (number >> 63)
    return max(1, (value.bit_length() + 6) // 7)
