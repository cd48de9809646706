"""Copies against the plain way: decode everything, change it, encode it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykbroker.forwarding.copying import ROUTED_FROM, Building, Copier, provenance, sources
from pykbroker.records.batch import BatchError, BatchHeader, crc_ok, read_header
from pykbroker.records.build import RecordData, encode_batch
from pykbroker.records.decode import iter_records, payload_of

NAMES = st.sampled_from(["a", "routing-key", ROUTED_FROM, "é"])
HEADERS = st.lists(st.tuples(NAMES, st.none() | st.binary(max_size=200)), max_size=3)
BYTES = st.none() | st.binary(max_size=300)
RECORDS = st.lists(
    st.builds(RecordData, BYTES, BYTES, st.integers(0, 2**41), HEADERS, st.none()), min_size=1, max_size=40
)


def opened(batch: bytes) -> tuple[BatchHeader, bytes]:
    return read_header(batch), bytes(payload_of(batch))


@given(RECORDS, st.integers(0, 2**40), st.booleans())
def test_sources_are_what_a_full_decoding_gives(records: list[RecordData], base: int, stamped: bool) -> None:
    batch = encode_batch(records, timestamp_ms=5, base_offset=base, log_append=stamped)
    found = list(sources(*opened(batch)))
    plain = list(iter_records(batch))
    assert [(s.offset, s.timestamp, s.key, s.headers) for s in found] == [
        (r.offset, r.timestamp, r.key, r.headers) for r in plain
    ]
    assert [s.value_size for s in found] == [None if r.value is None else len(r.value) for r in plain]


@given(RECORDS, st.booleans())
def test_a_copy_differs_in_its_provenance_only(records: list[RecordData], from_exchange: bool) -> None:
    copier = Copier(provenance("ex", 3) if from_exchange else None)
    building = Building(0)
    came = opened(encode_batch(records, timestamp_ms=5, base_offset=100))
    for original in sources(*came, keep_provenance=not from_exchange):
        building.add(original.timestamp, copier.suffix(original))
    size = building.size
    batch = building.finish(producer_id=9, epoch=0, base_sequence=7, append_time_ms=None, level=None)
    header = read_header(batch)
    assert (len(batch), header.size, crc_ok(batch)) == (size, size, True)
    assert (header.producer_id, header.base_sequence, header.record_count) == (9, 7, len(records))
    assert header.max_timestamp == max(r.timestamp_ms or 0 for r in records)
    for index, (record, copy) in enumerate(zip(records, iter_records(batch), strict=True)):
        expected = list(record.headers)
        if from_exchange:
            expected = [each for each in expected if each[0] != ROUTED_FROM]
            expected.append((ROUTED_FROM, b"ex/3/%d" % (100 + index)))
        assert (copy.offset, copy.timestamp, copy.key, copy.value) == (
            index, record.timestamp_ms, record.key, record.value,
        )  # fmt: skip
        assert list(copy.headers) == expected


@given(RECORDS, st.integers(70, 2000))
def test_a_batch_that_grows_by_what_fits_keeps_its_limit(records: list[RecordData], limit: int) -> None:
    building, copier = Building(0), Copier(None)
    for record in sources(*opened(encode_batch(records, timestamp_ms=5))):
        suffix = copier.suffix(record)
        if not building.fits(record.timestamp, suffix, limit):
            break
        building.add(record.timestamp, suffix)
    assert building.size <= limit or building.count == 1


@given(st.lists(st.integers(-(2**64), 2**64) | st.integers(0, 2**41), min_size=1, max_size=5))
def test_whatever_times_clients_write_are_kept_in_64_bits(times: list[int]) -> None:
    batches: list[bytes] = []
    building = Building(0)

    def finish() -> None:
        batches.append(
            bytes(building.finish(producer_id=1, epoch=0, base_sequence=0, append_time_ms=None, level=None))
        )

    for time in times:
        if not building.fits(time, b"\x01\x01\x00", 1 << 20):
            finish()
            building = Building(0)
        building.add(time, b"\x01\x01\x00")
    finish()
    found = [record.timestamp for batch in batches for record in sources(*opened(batch))]
    assert found == [(time + 2**63) % 2**64 - 2**63 for time in times]


@given(st.binary(max_size=80), st.integers(0, 5))
def test_what_is_no_record_is_refused(data: bytes, count: int) -> None:
    header = read_header(encode_batch([RecordData(b"k")], timestamp_ms=1))._replace(record_count=count)
    try:
        found = list(sources(header, data))
    except BatchError:
        return
    assert len(found) == count


def test_a_record_that_is_cut_short_is_refused() -> None:
    header, data = opened(encode_batch([RecordData(b"key", b"value", headers=[("a", b"b")])], timestamp_ms=1))
    for cut in range(len(data)):
        with pytest.raises(BatchError):
            list(sources(header, data[:cut]))
