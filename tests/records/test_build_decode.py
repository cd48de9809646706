"""Batches and records, both directions, against kafka-python and aiokafka."""

from __future__ import annotations

import pytest
from aiokafka.record.default_records import DefaultRecordBatch as AioBatch
from aiokafka.record.default_records import DefaultRecordBatchBuilder as AioBuilder
from hypothesis import given
from hypothesis import strategies as st
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kafka.record.memory_records import MemoryRecords

from pykbroker.records.batch import HEADER_SIZE, BatchError, crc_ok, read_header, seal
from pykbroker.records.build import RecordData, encode_batch, encode_marker
from pykbroker.records.compression import Codec
from pykbroker.records.decode import (
    Record,
    iter_all_records,
    iter_records,
    iter_spans,
    marker_commits,
    payload_of,
)

some_bytes = st.none() | st.binary(max_size=200)
some_headers = st.lists(st.tuples(st.text(max_size=8), st.none() | st.binary(max_size=20)), max_size=3)
some_records = st.lists(
    st.builds(
        RecordData,
        key=some_bytes,
        value=some_bytes,
        timestamp_ms=st.integers(0, 2**41),
        headers=some_headers.map(tuple),
        offset_delta=st.none(),
    ),
    min_size=1,
    max_size=8,
)
codecs = st.sampled_from(list(Codec))


def as_records(records: list[RecordData], base_offset: int = 0) -> list[Record]:
    """What decoding ``records`` must give."""
    return [
        Record(base_offset + i, r.timestamp_ms or 0, r.key, r.value, tuple(r.headers))
        for i, r in enumerate(records)
    ]


@given(some_records, codecs, st.integers(0, 2**50))
def test_what_is_built_is_decoded(records: list[RecordData], codec: Codec, base: int) -> None:
    batch = encode_batch(records, timestamp_ms=5, base_offset=base, codec=codec, producer_id=3)
    assert crc_ok(batch)
    assert list(iter_records(batch)) == as_records(records, base)
    spans = list(iter_spans(bytes(payload_of(batch)), len(records)))
    assert [(s.key, s.has_value) for s in spans] == [(r.key, r.value is not None) for r in records]
    assert spans[-1].end == len(payload_of(batch))


@given(some_records, codecs)
def test_aiokafka_reads_ours(records: list[RecordData], codec: Codec) -> None:
    batch = AioBatch(encode_batch(records, timestamp_ms=5, codec=codec))
    assert batch.validate_crc()
    got = [Record(r.offset, r.timestamp, r.key, r.value, tuple(r.headers)) for r in batch]
    assert got == as_records(records)


@given(some_records, codecs)
def test_ours_reads_aiokafka(records: list[RecordData], codec: Codec) -> None:
    builder = AioBuilder(
        magic=2, compression_type=codec, is_transactional=0, producer_id=1, producer_epoch=2,
        base_sequence=3, batch_size=10**6,
    )  # fmt: skip
    for index, record in enumerate(records):
        builder.append(index, record.timestamp_ms, record.key, record.value, list(record.headers))
    assert list(iter_records(builder.build())) == as_records(records)


@given(some_records, st.sampled_from([Codec.NONE, Codec.GZIP]))
def test_both_directions_with_kafka_python(records: list[RecordData], codec: Codec) -> None:
    ours = encode_batch(records, timestamp_ms=5, codec=codec)
    theirs = DefaultRecordBatch(ours)
    assert theirs.validate_crc()
    assert [Record(r.offset, r.timestamp, r.key, r.value, tuple(r.headers)) for r in theirs] == as_records(
        records
    )
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=codec, is_transactional=0, producer_id=-1, producer_epoch=-1,
        base_sequence=-1, batch_size=10**6,
    )  # fmt: skip
    for index, record in enumerate(records):
        builder.append(index, record.timestamp_ms, record.key, record.value, list(record.headers))
    built = bytes(builder.build())
    assert list(iter_records(built)) == as_records(records)
    if codec is Codec.NONE:
        assert built == encode_batch(records, timestamp_ms=5, leader_epoch=read_header(built).leader_epoch)


def test_append_time_is_the_time_of_all_records() -> None:
    batch = encode_batch(
        [RecordData(timestamp_ms=1), RecordData(timestamp_ms=2)], timestamp_ms=99, log_append=True
    )
    assert [r.timestamp for r in iter_records(batch)] == [99, 99]
    assert [r.timestamp for r in DefaultRecordBatch(batch)] == [99, 99]


def test_header_names_that_are_not_utf_8_survive() -> None:
    raw = encode_batch([RecordData(headers=[("\udcff", b"")])], timestamp_ms=1)
    (record,) = iter_records(raw)
    assert encode_batch([RecordData(headers=record.headers)], timestamp_ms=1) == raw
    assert b"\xff" in raw[HEADER_SIZE:]


def test_records_of_several_batches() -> None:
    run = b"".join(encode_batch([RecordData(b"k")] * 2, timestamp_ms=7, base_offset=o) for o in (10, 20))
    assert [(h.base_offset, r.offset) for h, r in iter_all_records(run + run[:70])] == [
        (10, 10), (10, 11), (20, 20), (20, 21),
    ]  # fmt: skip


@pytest.mark.parametrize("commit", [True, False])
def test_markers(commit: bool) -> None:
    batch = encode_marker(commit=commit, producer_id=5, producer_epoch=1, timestamp_ms=3)
    header = read_header(batch)
    assert (header.attributes, header.base_sequence, header.record_count) == (0x30, -1, 1)
    assert marker_commits(batch) is commit
    records = MemoryRecords(batch)
    theirs = records.next_batch()
    assert theirs.is_control_batch
    (record,) = theirs
    assert (record.abort, record.commit) == (not commit, commit)


@given(st.binary(max_size=80), st.integers(0, 50))
def test_garbage_payloads_raise_and_end(payload: bytes, count: int) -> None:
    header = read_header(encode_batch([RecordData()], timestamp_ms=1))
    batch = seal(header._replace(record_count=count), payload)
    for decode in (lambda: list(iter_records(batch)), lambda: list(iter_spans(payload, count))):
        try:
            decode()
        except BatchError:
            pass


@given(st.data())
def test_a_flipped_byte_in_a_payload_raises_or_decodes(data: st.DataObject) -> None:
    good = encode_batch([RecordData(b"key", b"value", headers=[("h", b"x")])] * 3, timestamp_ms=1)
    payload = bytearray(good[HEADER_SIZE:])
    payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        list(iter_records(seal(read_header(good), payload)))
    except BatchError:
        pass


def test_lies_about_lengths_are_refused() -> None:
    good = encode_batch([RecordData(b"key", b"value")] * 2, timestamp_ms=1)
    header, payload = read_header(good), good[HEADER_SIZE:]
    for count, body in ((1, payload), (3, payload), (2, payload[:-1]), (2, payload + b"x")):
        with pytest.raises(BatchError):
            list(iter_records(seal(header._replace(record_count=count), body)))
    with pytest.raises(BatchError):
        payload_of(good[:-1])
    with pytest.raises(BatchError):
        payload_of(seal(header._replace(attributes=1), payload))
