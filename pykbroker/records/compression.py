"""The codecs of record batches, with the output always bounded.

What other clients write, and read, decides the details:

* **snappy**: Java, kafka-python and aiokafka write xerial's framing (16 bytes of header, then blocks
  with a big-endian length); librdkafka writes one raw block.  Both are read; xerial is written,
  because Java's reader takes raw blocks only by accident of its fallback.
* **lz4**: frame format.  Java reads frames whose blocks are independent, nothing else, so that is what
  is written.
* **gzip**: several members in a row are one stream, as in Java's GZIPInputStream.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum

import cramjam

from pykbroker.records.batch import Buffer

MAX_DECOMPRESSED = 100 * 1024 * 1024
"""Default limit for one batch, in bytes: what a client could have sent uncompressed in one request
(``socket.request.max.bytes``)."""

_XERIAL_MAGIC = b"\x82SNAPPY\x00"
_XERIAL_HEADER = _XERIAL_MAGIC + struct.pack(">ii", 1, 1)
_XERIAL_BLOCK = 32 * 1024
_LENGTH = struct.Struct(">i")
_SMALLEST_BUFFER = 64 * 1024
_GROWTH = 8
_SNAPPY_MAX_RATIO = 32
"""No element of snappy's format makes more than 64 bytes out of 3."""
_OUTPUT_FULL = "failed to write whole buffer"
"""What cramjam says when the output did not fit."""


class Codec(IntEnum):
    """Numbers of the codecs in a batch's attributes."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


CODEC_NAMES = {
    "uncompressed": Codec.NONE, "none": Codec.NONE, "gzip": Codec.GZIP, "snappy": Codec.SNAPPY,
    "lz4": Codec.LZ4, "zstd": Codec.ZSTD,
}  # fmt: skip
"""Values of the topic config ``compression.type`` (``producer`` aside) and of clients' settings."""

_DEFAULT_LEVELS = {Codec.GZIP: 6, Codec.LZ4: 9, Codec.ZSTD: 3}
"""Kafka's ``compression.<codec>.level``, its -1 for gzip being zlib's 6."""


class CompressionError(ValueError):
    """The codec is not known, or the bytes are not what it writes."""


class OutputTooLargeError(CompressionError):
    """Decompressed, the bytes exceed the limit."""


def decompress(codec: int, data: Buffer, max_bytes: int = MAX_DECOMPRESSED) -> Buffer:
    """The records of a batch.  ``data`` itself if ``codec`` is 0, else a new buffer.

    Raises :class:`CompressionError`, :class:`OutputTooLargeError` beyond ``max_bytes``.
    """
    match codec:
        case Codec.NONE:
            return data
        case Codec.SNAPPY:
            return _snappy(data, max_bytes)
        case Codec.GZIP:
            return _into_growing(cramjam.gzip.decompress_into, data, max_bytes)
        case Codec.LZ4:
            return _into_growing(cramjam.lz4.decompress_into, data, max_bytes)
        case Codec.ZSTD:
            return _into_growing(cramjam.zstd.decompress_into, data, max_bytes)
    raise CompressionError(f"unknown codec: codec={codec}, allowed: 0 to 4")


def compress(codec: int, data: Buffer, level: int | None = None) -> bytes:
    """``data`` as ``codec`` stores it; ``level`` None is Kafka's default, and snappy has none."""
    if level is None and codec in _DEFAULT_LEVELS:
        level = _DEFAULT_LEVELS[Codec(codec)]
    match codec:
        case Codec.NONE:
            return bytes(data)
        case Codec.GZIP:
            return bytes(cramjam.gzip.compress(data, level=level))
        case Codec.SNAPPY:
            return _compress_xerial(data)
        case Codec.LZ4:
            frame = cramjam.lz4.Compressor(level=level, content_checksum=False, block_linked=False)
            frame.compress(bytes(data))  # takes nothing but bytes
            return bytes(frame.finish())
        case Codec.ZSTD:
            return bytes(cramjam.zstd.compress(data, level=level))
    raise CompressionError(f"unknown codec: codec={codec}, allowed: 0 to 4")


def _into_growing(into: Callable[[Buffer, bytearray], int], data: Buffer, max_bytes: int) -> Buffer:
    """Decompress into a buffer that grows by guesses, since the formats need not tell the size.

    Nothing is reserved that the input's size does not justify, and at most one eighth of the work
    is done again.
    """
    size = min(max_bytes, max(_SMALLEST_BUFFER, _GROWTH * len(data)))
    while True:
        # One byte more than allowed, so that "full" means "too large" at the limit.
        out = bytearray(size + 1)
        try:
            written = into(data, out)
        except cramjam.DecompressionError as e:
            if _OUTPUT_FULL not in str(e):
                raise CompressionError(f"not decompressable: bytes={len(data)} reason={e}") from e
            written = len(out)
        if written <= size:
            return memoryview(out)[:written]
        if size >= max_bytes:
            raise OutputTooLargeError(f"decompressed too large: bytes={len(data)} limit={max_bytes}")
        size = min(max_bytes, size * _GROWTH)


def _snappy(data: Buffer, max_bytes: int) -> Buffer:
    view = memoryview(data)
    if view[: len(_XERIAL_MAGIC)] != _XERIAL_MAGIC:
        return _snappy_block(view, max_bytes)
    # Version and lowest compatible version follow the magic; only 1 exists, and some writers have
    # got the byte order wrong (dpkp/kafka-python#2414), so they are not looked at.
    pos = len(_XERIAL_HEADER)
    if len(view) < pos:
        raise CompressionError(f"xerial header cut short: bytes={len(view)}")
    out = bytearray()
    while pos < len(view):
        if len(view) - pos < _LENGTH.size:
            raise CompressionError(f"xerial block length cut short: position={pos}")
        (size,) = _LENGTH.unpack_from(view, pos)
        pos += _LENGTH.size
        if not 0 <= size <= len(view) - pos:
            raise CompressionError(f"xerial block length wrong: length={size} left={len(view) - pos}")
        out += _snappy_block(view[pos : pos + size], max_bytes - len(out))
        pos += size
    return memoryview(out)


def _snappy_block(data: memoryview, max_bytes: int) -> bytearray:
    try:
        size = cramjam.snappy.decompress_raw_len(data)
        if size > max_bytes:
            raise OutputTooLargeError(f"decompressed too large: bytes={size} limit={max_bytes}")
        if size > _SNAPPY_MAX_RATIO * len(data):
            raise CompressionError(f"snappy size not possible: bytes={len(data)} claimed={size}")
        out = bytearray(size)
        written = cramjam.snappy.decompress_raw_into(data, out)
    except cramjam.DecompressionError as e:
        raise CompressionError(f"not decompressable: bytes={len(data)} reason={e}") from e
    if written != size:
        raise CompressionError(f"snappy size wrong: claimed={size} written={written}")
    return out


def _compress_xerial(data: Buffer) -> bytes:
    view = memoryview(data)
    out = bytearray(_XERIAL_HEADER)
    # One block even for nothing: readers take a lone header for a raw block.
    for start in range(0, max(1, len(view)), _XERIAL_BLOCK):
        block = bytes(cramjam.snappy.compress_raw(view[start : start + _XERIAL_BLOCK]))
        out += _LENGTH.pack(len(block))
        out += block
    return bytes(out)
