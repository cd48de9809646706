"""Held records: written, found again, and given back as they were."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykbroker.delivery import held as form
from pykbroker.delivery.held import BATCH_RECORDS, Held, HeldError, Kind
from pykbroker.forwarding.copying import Copier, Source, sources
from pykbroker.records.batch import BatchError, read_header
from pykbroker.records.build import RecordData, encode_batch
from pykbroker.records.decode import payload_of

NUMBERS = st.integers(-(2**62), 2**62)
BYTES = st.one_of(st.none(), st.binary(max_size=100))
HEADERS = st.lists(st.tuples(st.text(max_size=20), BYTES), max_size=3)
HELD = st.builds(
    Held,
    due_ms=NUMBERS,
    kind=st.sampled_from([Kind.FACE, Kind.NAMED, Kind.REPLAY]),
    partition=st.integers(0, 2**31 - 1),
    name=st.text(max_size=249),
    ingress_offset=NUMBERS,
    ingress_epoch=st.integers(-1, 2**31 - 1),
    codec=st.integers(0, 4),
)


def records_of(batch: bytes | bytearray) -> list[Source]:
    return list(sources(read_header(batch), bytes(payload_of(batch)), keep_provenance=True))


def record(
    key: bytes | None = b"k",
    value: bytes | None = b"v",
    headers: list[tuple[str, bytes | None]] | None = None,
) -> Source:
    data = RecordData(key, value, headers=tuple(headers or ()))
    return records_of(encode_batch([data], timestamp_ms=77, base_offset=5))[0]


@given(key=BYTES, value=BYTES, headers=HEADERS, held=HELD)
def test_what_is_held_comes_back_as_it_was(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]], held: Held
) -> None:
    came = record(key, value, headers)
    buffer, (header,) = form.batches([(came.timestamp, form.suffix(came, held))])
    (found,) = records_of(buffer)
    assert form.decision(found) == held
    assert form.delivered(found) == Copier(None).suffix(came)
    assert (found.timestamp, found.key) == (came.timestamp, came.key)
    payload = bytes(payload_of(buffer))
    goes = held.kind != Kind.NOTHING
    assert list(form.entries(header, payload)) == [(held.due_ms, 0, len(payload), goes)]


def test_batches_are_small_so_that_few_records_are_read_for_one() -> None:
    suffix = form.suffix(record(), Held(9))
    buffer, headers = form.batches([(0, suffix)] * (BATCH_RECORDS + 1))
    assert [header.record_count for header in headers] == [BATCH_RECORDS, 1]
    assert len(buffer) == sum(header.size for header in headers)
    large = form.suffix(record(value=bytes(form.BATCH_BYTES)), Held(9))
    assert len(form.batches([(0, suffix), (0, large), (0, suffix)])[1]) == 3


def test_a_mark_goes_nowhere() -> None:
    mark = Held(0, Kind.NOTHING, ingress_offset=8, ingress_epoch=1)
    buffer, (header,) = form.batches([(5, form.marker(mark))])
    (found,) = records_of(buffer)
    assert form.decision(found) == mark
    (entry,) = form.entries(header, bytes(payload_of(buffer)))
    assert not entry.goes_somewhere


def test_what_is_no_held_record_is_told_from_one() -> None:
    for other in (record(), record(headers=[("pykbroker-held", None)]), record(headers=[("a", b"b")])):
        with pytest.raises(HeldError):
            form.decision(other)
    for value in (b"", b"\x01" + bytes(60), b"\x00\x09" + bytes(60)):
        with pytest.raises(HeldError):
            form.decode(value)
    batch = encode_batch([RecordData(b"k", b"v"), RecordData(None, None)], timestamp_ms=7)
    payload = bytes(payload_of(batch))
    assert list(form.entries(read_header(batch), payload)) == []
    with pytest.raises(BatchError):
        list(form.entries(read_header(batch), payload[:-3]))
