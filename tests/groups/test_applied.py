"""Who follows commits hears of each as it is applied, again after a restart, and never of one refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from pykbroker.clock import MovableClock
from pykbroker.config import BrokerConfig
from pykbroker.coordinator.runtime import Shard
from pykbroker.coordinator.shard_log import MemoryLog, StoredRecord
from pykbroker.errors import KafkaError
from pykbroker.groups.draft import GroupChange
from pykbroker.groups.limits import GroupLimits
from pykbroker.groups.machine import GroupMachine
from pykbroker.groups.messages import Commit, DeleteOffsets, GroupAnswer, OffsetToCommit
from pykbroker.groups.stored import CommittedOffset, OffsetRecord, group_tombstone, offset_record
from pykbroker.protocol.schema import ZERO_UUID
from tests.groups.home import at_home


class Heard:
    """What it was told: group, topic, offset and metadata of each record."""

    def __init__(self) -> None:
        self.records: list[tuple[int, str, str, int | None, str]] = []
        self.loads: list[int] = []
        self.partitions: set[int] = set()

    def applied(self, partition: int, offset: int, record: OffsetRecord) -> None:
        value = record.value
        committed, metadata = (None, "") if value is None else (value.offset, value.metadata)
        self.records.append((offset, record.group_id, record.topic, committed, metadata))
        self.partitions.add(partition)

    def loaded(self, partition: int) -> None:
        self.loads.append(partition)


async def test_each_commit_is_told_of_as_it_is_applied(tmp_path: Path) -> None:
    heard = Heard()
    async with at_home(tmp_path) as home:
        groups = home.services.groups
        groups.on_applied = heard
        await groups.find("g")
        wanted = (OffsetToCommit("t", ZERO_UUID, 0, 7, metadata="m"), OffsetToCommit("u", ZERO_UUID, 0, 8))
        await groups.commit(Commit(group_id="g", offsets=wanted))
        with pytest.raises(KafkaError):
            await groups.commit(Commit(group_id="g", generation=5, member_id="x", offsets=wanted))
        await groups.delete_offsets(DeleteOffsets(group_id="g", partitions=(("u", 0),)))
        number = groups.partition_for("g")
    assert heard.records == [(0, "g", "t", 7, "m"), (1, "g", "u", 8, ""), (2, "g", "u", None, "")]
    assert (heard.partitions, heard.loads) == ({number}, [number])


async def test_what_is_replayed_is_told_of_too() -> None:
    heard = Heard()
    value = CommittedOffset(7, -1, "m", 0)
    new = [offset_record("g", "t", 0, value), offset_record("g", "t", 0, None), group_tombstone("g")]
    log = MemoryLog([StoredRecord(at, each.key, each.value) for at, each in enumerate(new, 5)])
    limits = GroupLimits.of(BrokerConfig.load())
    machine = GroupMachine(limits, on_applied=heard, partition=3)
    await Shard[GroupChange, GroupAnswer, GroupMachine]("g", machine, log, MovableClock()).elected(1)
    assert heard.records == [(5, "g", "t", 7, "m"), (6, "g", "t", None, "")]
    assert (heard.partitions, heard.loads) == ({3}, [3])
