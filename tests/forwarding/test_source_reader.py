"""Single records out of large logs."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from pykbroker.forwarding import reading
from pykbroker.forwarding.copying import ROUTED_FROM, picked, sources
from pykbroker.forwarding.reading import Reader, SourceReader
from pykbroker.partitions.partition import Partition
from pykbroker.protocol.schema import FileRegion
from pykbroker.records.batch import BatchError, Buffer, iter_headers, read_header
from pykbroker.records.build import RecordData, encode_batch
from pykbroker.records.decode import payload_of
from tests.partitions.kit import Bench


def fill(bench: Bench, partition: Partition, batches: int, each: int, size: int = 10, codec: int = 0) -> None:
    """Records whose value begins with their offset."""
    for _ in range(batches):
        base = partition.log_end_offset
        records = [
            RecordData(b"key", b"%d " % (base + index) + bytes(size), headers=[(ROUTED_FROM, b"x/0/1")])
            for index in range(each)
        ]
        partition.append_as_leader(
            bytearray(encode_batch(records, timestamp_ms=base, codec=codec)), now_ms=bench.clock.time_ms()
        )


class Counted:
    """How often a log is looked up, and batches are opened."""

    def __init__(self, partition: Partition, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reads = self.opened = 0
        read = partition.log.read

        def reading_log(offset: int, max_bytes: int, end: int) -> object:
            self.reads += 1
            return read(offset, max_bytes, end)

        def opening(batch: Buffer, pos: int, max_bytes: int) -> Buffer:
            self.opened += 1
            return payload_of(batch, pos, max_bytes)

        monkeypatch.setattr(partition.log, "read", reading_log)
        monkeypatch.setattr(reading, "payload_of", opening)


def check(found: dict[int, object], wanted: list[int]) -> None:
    assert list(found) == sorted(wanted)


@pytest.mark.parametrize("codec", [0, 1])
async def test_offsets_in_any_order_and_more_than_once(bench: Bench, codec: int) -> None:
    partition = bench.topic()
    fill(bench, partition, 20, 7, codec=codec)
    found = await SourceReader(partition, 1 << 20).pick([139, 3, 3, 70, 4, 138])
    assert list(found) == [3, 4, 70, 138, 139]
    for offset, record in found.items():
        assert record.offset == offset
        assert b"%d " % offset in record.body
        assert record.headers == ((ROUTED_FROM, b"x/0/1"),)
        assert record.header_count == 1
        assert record.timestamp == offset // 7 * 7


async def test_only_what_is_wanted_is_opened(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    partition = bench.topic()
    fill(bench, partition, 200, 10, size=1000)
    counted = Counted(partition, monkeypatch)
    check(dict(await SourceReader(partition, 1 << 20).pick([1995, 4, 1000, 6])), [4, 6, 1000, 1995])
    assert (counted.reads, counted.opened) == (3, 3)


async def test_what_lies_together_is_read_together(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    partition = bench.topic()
    fill(bench, partition, 200, 10, size=1000)
    counted = Counted(partition, monkeypatch)
    check(dict(await SourceReader(partition, 1 << 20).pick(range(2000))), list(range(2000)))
    assert counted.reads < 10
    assert counted.opened == 200


async def test_a_batch_larger_than_what_is_read_at_once(bench: Bench) -> None:
    partition = bench.topic(max_message_bytes="10000000")
    fill(bench, partition, 3, 20, size=100_000)
    check(dict(await SourceReader(partition, 1 << 20).pick([59, 0])), [0, 59])


async def test_what_is_not_there_is_left_out(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    partition = bench.topic()
    fill(bench, partition, 4, 5)
    partition.delete_records_before(7)
    reader = SourceReader(partition, 1 << 20)
    check(dict(await reader.pick([0, 6, 7, 19, 20, 1000])), [7, 19])
    assert "deleted before they were moved" in caplog.text
    assert await reader.pick([]) == {}
    assert await reader.pick([20]) == {}


async def test_damage_is_passed_over(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    partition = bench.topic()
    fill(bench, partition, 3, 5)
    _garble_the_middle(partition.log.directory / "00000000000000000000.log")
    check(dict(await SourceReader(partition, 1 << 20).pick([0, 6, 8, 14])), [0, 14])
    assert "lost to damage" in caplog.text


def _garble_the_middle(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2 + 20] ^= 0xFF
    path.write_bytes(data)


@given(st.data(), st.integers(1, 30), st.booleans())
def test_picked_records_are_those_that_taking_all_apart_gives(
    data: st.DataObject, count: int, has_gaps: bool
) -> None:
    deltas = list(range(count))
    if has_gaps:
        deltas = sorted(data.draw(st.sets(st.sampled_from(deltas), min_size=1)) | {count - 1})
    records = [
        RecordData(b"k" * delta, b"v" * 100, timestamp_ms=delta, headers=[("h", None)], offset_delta=delta)
        for delta in deltas
    ]
    batch = encode_batch(records, timestamp_ms=5, base_offset=1000)
    header, payload = read_header(batch), bytes(payload_of(batch))
    wanted = sorted(data.draw(st.sets(st.integers(1000, 1000 + count - 1))))
    every = list(sources(header, payload, keep_provenance=True))
    assert list(picked(header, payload, wanted)) == [each for each in every if each.offset in wanted]


def test_picking_from_a_batch_that_is_cut_short_fails() -> None:
    batch = encode_batch([RecordData(b"k", b"v" * 100)] * 3, timestamp_ms=5)
    with pytest.raises(BatchError):
        list(picked(read_header(batch), bytes(payload_of(batch))[:150], [2]))


@pytest.mark.parametrize("first", [True, False])
async def test_damage_that_came_after_the_log_had_looked_is_passed_over(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    partition = bench.topic()
    fill(bench, partition, 9, 5)
    original = reading.bytes_of

    def damaged(records: bytes | FileRegion) -> bytes:
        data = bytearray(original(records))
        for position, header in list(iter_headers(data)):
            if header.base_offset == (0 if first else 15):
                data[position + 16] = 0xEE  # the magic
        return bytes(data)

    monkeypatch.setattr(reading, "bytes_of", damaged)
    with trio.fail_after(20):
        found = await SourceReader(partition, 1 << 20).pick(range(45))
        assert len(found) == 40
        reader = Reader(partition, 1 << 20, keep_provenance=True)
        chunk = await reader.take(0, 45, max_records=1000, max_bytes=1 << 20)
    assert [record.offset for record in chunk.records] == ([] if first else list(range(15)))
    assert chunk.next_offset == 45
    assert reader.lost == (45 if first else 30)
