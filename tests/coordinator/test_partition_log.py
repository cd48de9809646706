"""A shard's log on a real partition: one batch per decision, and what damage costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from pykbroker.catalog.memory import MemoryCatalog
from pykbroker.config import BrokerConfig
from pykbroker.coordinator.partition_log import PartitionLog
from pykbroker.coordinator.shard_log import NewRecord
from pykbroker.records.batch import iter_headers
from pykbroker.records.build import encode_marker
from tests.groups.home import at_home

BATCHES = [
    [NewRecord(b"a", b"first"), NewRecord(b"b", None)],
    [NewRecord(b"c", b"second" * 20_000)],
    [NewRecord(b"d", b"third")],
]


async def write(path: Path, catalog: MemoryCatalog) -> None:
    async with at_home(path, catalog) as home:
        await home.topic("t", 1)
        log = PartitionLog(home.services.partitions.get("t", 0))
        assert (log.start_offset, log.end_offset, log.high_watermark) == (0, 0, 0)
        assert [log.append(batch, now_ms=5) for batch in BATCHES] == [0, 2, 3]
        await log.wait_high_watermark(4)


async def read(path: Path, catalog: MemoryCatalog) -> list[tuple[int, bytes, bytes | None]]:
    async with at_home(path, catalog) as home:
        log = PartitionLog(home.services.partitions.get("t", 0))
        found: list[tuple[int, bytes, bytes | None]] = []
        offset = 0
        while offset < log.end_offset:
            piece = log.read(offset, 100)
            found += piece.records
            assert piece.next_offset > offset
            offset = piece.next_offset
        return found


def a_catalog() -> MemoryCatalog:
    return MemoryCatalog(BrokerConfig())


async def test_what_was_appended_is_read_back(tmp_path: Path) -> None:
    catalog = a_catalog()
    await write(tmp_path, catalog)
    records = [(r.key, r.value) for batch in BATCHES for r in batch]
    assert await read(tmp_path, catalog) == [(i, *record) for i, record in enumerate(records)]


async def test_a_decision_is_one_batch(tmp_path: Path) -> None:
    await write(tmp_path, a_catalog())
    data = (tmp_path / "t-0" / f"{0:020}.log").read_bytes()
    assert [header.record_count for _, header in iter_headers(data)] == [2, 1, 1]


async def test_markers_are_passed_over(tmp_path: Path) -> None:
    catalog = a_catalog()
    async with at_home(tmp_path, catalog) as home:
        await home.topic("t", 1)
        partition = home.services.partitions.get("t", 0)
        marker = encode_marker(commit=True, producer_id=1, producer_epoch=0, timestamp_ms=5)
        partition.append_as_leader(bytearray(marker), now_ms=5, internal=True)
        PartitionLog(partition).append(BATCHES[2], now_ms=5)
    assert await read(tmp_path, catalog) == [(1, b"d", b"third")]


@pytest.mark.parametrize("where", [b"first", b"second"])
async def test_damage_costs_its_batch_only(
    tmp_path: Path, where: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    catalog = a_catalog()
    await write(tmp_path, catalog)
    file = tmp_path / "t-0" / f"{0:020}.log"
    data = bytearray(file.read_bytes())
    data[data.index(where)] ^= 0x01
    file.write_bytes(data)
    keys = [key for _, key, _ in await read(tmp_path, catalog)]
    assert keys == ([b"c", b"d"] if where == b"first" else [b"a", b"b", b"d"])
    assert "lost to damage" in caplog.text
