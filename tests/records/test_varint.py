"""Varints against kafka-python's."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kafka.record.util import decode_varint, encode_varint, size_of_varint

from pykbroker.records.batch import BatchError
from pykbroker.records.varint import append_varint, read_varint, varint_size


@given(st.integers(-(2**63), 2**63 - 1))
@example(63)
@example(64)
@example(-64)
@example(-65)
@example(-(2**63))
@example(2**63 - 1)
def test_same_bytes_as_kafka_python(number: int) -> None:
    ours = bytearray(b"x")
    append_varint(ours, number)
    expected = bytearray()
    encode_varint(number, expected.append)
    assert ours[1:] == expected
    assert read_varint(ours, 1) == (number, len(ours)) == decode_varint(bytes(ours), 1)
    assert varint_size(number) == len(expected) == size_of_varint(number)


def test_cut_short_or_endless() -> None:
    with pytest.raises(IndexError):
        read_varint(b"\x80\x80", 0)
    with pytest.raises(BatchError):
        read_varint(b"\x80" * 11, 0)
