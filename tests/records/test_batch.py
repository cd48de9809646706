"""Headers: the bytes of another implementation, and bytes that are not a batch."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from pykbroker.records.batch import (
    HEADER_SIZE,
    BatchError,
    BatchHeader,
    add_sequence,
    crc_ok,
    iter_headers,
    pack_header,
    read_header,
    seal,
    set_offsets,
    write_crc,
)
from pykbroker.records.build import RecordData, encode_batch


def theirs(count: int = 3) -> bytearray:
    """A batch built by kafka-python."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=1,
        producer_id=7,
        producer_epoch=2,
        base_sequence=0x7FFF_FFFE,
        batch_size=10**6,
    )
    for index in range(count):
        builder.append(index, 1000 - index, b"k", b"v" * index, [("h", b"x")])
    return bytearray(builder.build())


def test_reads_what_kafka_python_writes() -> None:
    batch = theirs()
    header = read_header(batch)
    oracle = DefaultRecordBatch(bytes(batch))
    assert header.size == len(batch) == oracle.size_in_bytes
    assert header.crc == oracle.crc
    assert (header.base_offset, header.last_offset, header.next_offset) == (0, 2, 3)
    assert (header.base_timestamp, header.max_timestamp) == (oracle.first_timestamp, oracle.max_timestamp)
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (7, 2, 0x7FFF_FFFE)
    assert header.is_transactional
    assert not header.is_control
    assert not header.log_append
    assert header.delete_horizon_ms is None
    assert header.record_count == 3


def test_last_sequence_wraps_inside_a_batch() -> None:
    assert read_header(theirs(3)).last_sequence == 0 == DefaultRecordBatch(bytes(theirs(3))).last_sequence
    assert add_sequence(-1, 5) == -1
    assert add_sequence(0, -1) == 0x7FFF_FFFF


def test_offsets_and_leader_epoch_are_outside_the_crc() -> None:
    batch = theirs()
    set_offsets(memoryview(batch), 0, 41, 6)
    header = read_header(batch)
    assert (header.base_offset, header.leader_epoch) == (41, 6)
    assert crc_ok(batch)
    assert DefaultRecordBatch(bytes(batch)).validate_crc()


@pytest.mark.parametrize("position", range(17, HEADER_SIZE + 5))
def test_any_flipped_bit_behind_the_magic_breaks_the_crc(position: int) -> None:
    batch = theirs()
    batch[position] ^= 0x10
    assert not crc_ok(batch)
    if position >= 21:
        write_crc(batch)
        assert crc_ok(batch)


@given(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 2**31 - 1),
    st.integers(-(2**15), 2**15 - 1),
    st.binary(max_size=30),
)
def test_a_sealed_header_reads_back(number: int, delta: int, small: int, payload: bytes) -> None:
    header = BatchHeader(number, 0, delta, 2, 0, small, delta, number, number, number, small, delta, delta)
    batch = seal(header, payload)
    assert crc_ok(batch)
    again = read_header(batch)
    assert again == header._replace(batch_length=len(batch) - 12, crc=again.crc)
    assert pack_header(again) == batch[:HEADER_SIZE]


def test_headers_of_a_run_end_at_a_torn_tail() -> None:
    one, two = theirs(1), theirs(2)
    run = bytes(one + two + one[:-1])
    assert [pos for pos, _ in iter_headers(run)] == [0, len(one)]
    assert [h.record_count for _, h in iter_headers(memoryview(run))] == [1, 2]
    assert list(iter_headers(run[:60])) == []


def test_what_is_no_batch_is_refused() -> None:
    batch = theirs()
    for position, value in ((16, 1), (16, 3), (8, 0xFF), (23, 0x80)):
        broken = bytearray(batch)
        broken[position] = value
        with pytest.raises(BatchError):
            read_header(broken)
    with pytest.raises(BatchError):
        read_header(batch[:60])
    with pytest.raises(BatchError):
        list(iter_headers(bytes(200)))


def test_crc_of_a_cut_or_lying_batch_is_not_ok() -> None:
    batch = theirs()
    assert not crc_ok(batch[:-1])
    assert not crc_ok(batch[:40])
    for length in (-5, 10, len(batch), 2**31 - 1):
        struct.pack_into(">i", batch, 8, length)
        assert not crc_ok(batch)


def test_a_batch_needs_records() -> None:
    with pytest.raises(ValueError, match="at least one"):
        encode_batch([], timestamp_ms=1)
    header = read_header(encode_batch([RecordData(offset_delta=4)], timestamp_ms=1, log_append=True))
    assert (header.last_offset_delta, header.record_count, header.log_append) == (4, 1, True)
