"""Codecs: what other clients write is read, what is written they read, and bombs stay small."""

from __future__ import annotations

import gzip
import random
import struct
import tracemalloc

import cramjam
import pytest
from aiokafka import codec as theirs
from hypothesis import given
from hypothesis import strategies as st

from pykbroker.records.compression import (
    Codec,
    CompressionError,
    OutputTooLargeError,
    compress,
    decompress,
)

CODECS = [Codec.GZIP, Codec.SNAPPY, Codec.LZ4, Codec.ZSTD]
ENCODE = {
    Codec.GZIP: theirs.gzip_encode,
    Codec.SNAPPY: theirs.snappy_encode,
    Codec.LZ4: theirs.lz4_encode,
    Codec.ZSTD: theirs.zstd_encode,
}
DECODE = {
    Codec.GZIP: theirs.gzip_decode,
    Codec.SNAPPY: theirs.snappy_decode,
    Codec.LZ4: theirs.lz4_decode,
    Codec.ZSTD: theirs.zstd_decode,
}


@pytest.mark.parametrize("codec", CODECS)
@given(data=st.binary(max_size=300), times=st.sampled_from([1, 2, 1000]))
def test_both_directions_with_aiokafka(codec: Codec, data: bytes, times: int) -> None:
    data *= times
    assert bytes(DECODE[codec](compress(codec, data))) == data
    assert bytes(decompress(codec, ENCODE[codec](data))) == data
    assert bytes(decompress(codec, memoryview(compress(codec, data)))) == data


def test_gzip_members_in_a_row_are_one_stream() -> None:
    assert bytes(decompress(Codec.GZIP, gzip.compress(b"ab") + gzip.compress(b"cd"))) == b"abcd"


def test_snappy_of_librdkafka_is_one_raw_block() -> None:
    raw = bytes(cramjam.snappy.compress_raw(b"raw" * 50))
    assert bytes(decompress(Codec.SNAPPY, raw)) == b"raw" * 50


def test_xerial_header_with_swapped_version_is_read() -> None:
    framed = bytearray(compress(Codec.SNAPPY, b"x" * 70_000))
    struct.pack_into("<ii", framed, 8, 1, 1)
    assert bytes(decompress(Codec.SNAPPY, framed)) == b"x" * 70_000


def test_lz4_frames_have_independent_blocks_as_java_wants() -> None:
    frame = compress(Codec.LZ4, b"abc" * 200_000)
    assert frame[:4] == bytes.fromhex("04224d18")
    assert frame[4] & 0b0010_0000, "block independence"
    assert frame[4] & 0b0000_0011 == 0


def test_lz4_with_content_size_and_checksum_is_read() -> None:
    assert bytes(decompress(Codec.LZ4, bytes(cramjam.lz4.compress(b"abc" * 9000)))) == b"abc" * 9000


@pytest.mark.parametrize("codec", CODECS)
def test_the_limit_is_exact(codec: Codec) -> None:
    small = compress(codec, b"z" * 200_000)
    assert len(decompress(codec, small, 200_000)) == 200_000
    with pytest.raises(OutputTooLargeError):
        decompress(codec, small, 199_999)


@pytest.mark.parametrize("codec", CODECS)
def test_a_bomb_takes_no_more_than_the_limit(codec: Codec) -> None:
    bomb = compress(codec, bytes(32 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(OutputTooLargeError):
            decompress(codec, bomb, 1 << 20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 << 20


def test_snappy_that_claims_more_than_it_can_hold_reserves_nothing() -> None:
    with pytest.raises(CompressionError, match="not possible"):
        decompress(Codec.SNAPPY, b"\x80\x80\x80\x20" + b"\x00" * 10)


@pytest.mark.parametrize("codec", CODECS)
def test_garbage_is_an_error_of_ours(codec: Codec) -> None:
    rng = random.Random(4)
    good = compress(codec, bytes(rng.randbytes(300)) * 3)
    for cut in (0, 1, 10, len(good) // 2, len(good) - 1):
        if codec is Codec.SNAPPY and cut == 16:
            continue
        with pytest.raises(CompressionError):
            decompress(codec, good[:cut])
    for _ in range(200):
        broken = bytearray(good)
        broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
        try:
            decompress(codec, broken, 1 << 20)
        except CompressionError:
            pass


def test_unknown_codecs() -> None:
    for codec in (5, 6, 7):
        with pytest.raises(CompressionError, match="unknown codec"):
            decompress(codec, b"")
        with pytest.raises(CompressionError, match="unknown codec"):
            compress(codec, b"")
    assert decompress(Codec.NONE, b"as it is") == b"as it is"
    assert compress(Codec.NONE, memoryview(b"as it is")) == b"as it is"
