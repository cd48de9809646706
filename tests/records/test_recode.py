"""Append time and compression.type: what changes in a batch, and what must not."""

from __future__ import annotations

from typing import Any

import pytest
from kafka.record.default_records import DefaultRecordBatch

from pykbroker.records.batch import BatchError, crc_ok, read_header
from pykbroker.records.build import RecordData, encode_batch
from pykbroker.records.compression import Codec
from pykbroker.records.decode import iter_records
from pykbroker.records.recode import recompress, stamp_append_time

RECORDS = [RecordData(b"k%d" % i, b"v" * 100, 1000 + i, [("h", b"x")]) for i in range(20)]
OPTIONS: dict[str, Any] = {
    "base_offset": 40,
    "producer_id": 9,
    "producer_epoch": 3,
    "base_sequence": 7,
    "leader_epoch": 2,
}


def test_append_time_touches_bit_3_max_timestamp_and_crc() -> None:
    first = encode_batch(RECORDS, timestamp_ms=0, **OPTIONS)
    both = bytearray(first * 2)
    stamp_append_time(memoryview(both), len(first), 5555)
    assert both[: len(first)] == first
    stamped = bytes(both[len(first) :])
    before, after = read_header(first), read_header(stamped)
    assert crc_ok(stamped)
    assert after == before._replace(attributes=0x08, max_timestamp=5555, crc=after.crc)
    assert after.base_timestamp == 1000
    assert {r.timestamp for r in DefaultRecordBatch(stamped)} == {5555}


@pytest.mark.parametrize("target", list(Codec))
@pytest.mark.parametrize("source", list(Codec))
def test_recompressed_keeps_count_offsets_and_records(source: Codec, target: Codec) -> None:
    batch = encode_batch(RECORDS, timestamp_ms=0, codec=source, transactional=True, **OPTIONS)
    recoded = recompress(batch, target)
    before, after = read_header(batch), read_header(recoded)
    assert crc_ok(recoded)
    assert after == before._replace(attributes=0x10 | target, batch_length=after.batch_length, crc=after.crc)
    assert list(iter_records(recoded)) == list(iter_records(batch))
    if source is Codec.NONE and target is not Codec.NONE:
        assert len(recoded) < len(batch)
    if source is target:
        assert recoded == batch


def test_a_damaged_payload_is_not_recoded() -> None:
    batch = bytearray(encode_batch(RECORDS, timestamp_ms=0, codec=Codec.GZIP))
    batch[70:90] = bytes(20)
    with pytest.raises(BatchError):
        recompress(batch, Codec.NONE)
