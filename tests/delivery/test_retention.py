"""What goes of a retry topic: what its group has read, and only after log.retention.ms."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from pykbroker.delivery.retention import Closed, Closings, RetryRetention, deletable
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.groups.messages import FetchedOffset
from pykbroker.partitions.partition import Partition
from tests.partitions.kit import Bench

HOUR_S = 3600
ROLE = "retry:orders:billing"


class Offsets:
    """What groups have committed."""

    def __init__(self) -> None:
        self.committed: dict[tuple[str, bytes, int], int] = {}
        self.failure: KafkaError | None = None

    async def fetch(
        self, group_id: str, wanted: Sequence[tuple[str, bytes, int]] | None
    ) -> tuple[FetchedOffset, ...]:
        if self.failure is not None:
            raise self.failure
        return tuple(
            FetchedOffset(topic, uid, index, self.committed.get((group_id, uid, index), -1))
            for topic, uid, index in wanted or ()
        )

    def commit(self, partition: Partition, offset: int, group: str = "billing") -> None:
        self.committed[group, partition.topic_id, partition.index] = offset


class Home:
    """A broker's partitions, their retention, and the groups that read them."""

    def __init__(self, data_dir: Path, log_retention_ms: int = HOUR_S * 1000) -> None:
        self.bench = Bench(data_dir, log_retention_ms=str(log_retention_ms))
        self.offsets = Offsets()
        self.retention = self.reading()

    def reading(self) -> RetryRetention:
        """A retention that knows nothing yet."""
        bench = self.bench
        return RetryRetention(bench.clock, bench.catalog, bench.partitions, cast(Any, self.offsets))

    def topic(self, name: str, role: str | None = ROLE) -> Partition:
        """A topic whose segments hold one record each."""
        roles = {} if role is None else {"pykbroker_role": role}
        partition = self.bench.topic(name, segment_bytes="14", retention_ms="-1", **roles)
        for number in range(4):
            self.bench.append(partition, b"%d" % number, timestamp_ms=1000)
        return partition


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    made = Home(tmp_path)
    await made.bench.open()
    yield made
    await made.bench.partitions.shutdown()


SEGMENTS = [Closed(0, 10, 1000), Closed(10, 20, 2000), Closed(20, 30, 3000)]


@pytest.mark.parametrize(
    ("committed", "now_ms", "keep_ms", "end"),
    [
        (-1, 9000, 0, None),
        (9, 9000, 0, None),
        (10, 9000, 0, 10),
        (29, 9000, 0, 20),
        (99, 9000, 0, 30),
        (99, 2500, 1000, 10),
        (99, 1999, 1000, None),
        (99, 9000, -1, None),
        (99, 0, 0, None),
    ],
)
def test_a_segment_goes_when_it_is_read_and_old(
    committed: int, now_ms: int, keep_ms: int, end: int | None
) -> None:
    assert deletable(SEGMENTS, committed, now_ms, keep_ms) == end


@given(
    sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 99)), max_size=8),
    committed=st.integers(-1, 80),
    now_ms=st.integers(0, 200),
    keep_ms=st.integers(-1, 100),
)
def test_nothing_unread_or_young_ever_goes(
    sizes: list[tuple[int, int]], committed: int, now_ms: int, keep_ms: int
) -> None:
    segments, base = [], 0
    for size, closed_ms in sizes:
        segments.append(Closed(base, base + size, closed_ms))
        base += size
    end = deletable(segments, committed, now_ms, keep_ms)
    if end is None:
        return
    assert 0 <= end <= committed
    assert keep_ms >= 0
    assert all(now_ms - s.closed_ms >= keep_ms for s in segments if s.base < end)


async def test_what_the_group_has_read_goes_after_a_while(home: Home) -> None:
    partition = home.topic("orders.billing.retry")
    home.offsets.commit(partition, 2)
    await home.retention.apply()
    assert partition.log_start_offset == 0, "too young"
    home.bench.clock.advance(HOUR_S)
    await home.retention.apply()
    assert partition.log_start_offset == 2
    home.offsets.commit(partition, 4)
    await home.retention.apply()
    assert partition.log_start_offset == 3, "the segment that is written to stays"


async def test_what_nobody_has_read_stays(home: Home) -> None:
    never = home.topic("orders.billing.retry")
    others = home.topic("orders.mailing.retry", "retry:orders:mailing")
    home.offsets.commit(others, 4, group="billing")
    home.bench.clock.advance(1000 * HOUR_S)
    await home.retention.apply()
    assert (never.log_start_offset, others.log_start_offset) == (0, 0)


@pytest.mark.parametrize("role", ["dlq:orders:billing", "nonsense", None])
async def test_other_topics_stay(home: Home, role: str | None) -> None:
    partition = home.topic("letters", role)
    home.offsets.commit(partition, 4)
    home.bench.clock.advance(1000 * HOUR_S)
    await home.retention.apply()
    assert partition.log_start_offset == 0


async def test_what_waits_in_the_flow_behind_a_retry_topic_stays(home: Home) -> None:
    partition = home.topic("__pykbroker_held_x")
    home.offsets.commit(partition, 4)
    home.bench.clock.advance(1000 * HOUR_S)
    await home.retention.apply()
    assert partition.log_start_offset == 0


async def test_what_the_broker_has_still_to_read_stays(home: Home) -> None:
    partition = home.topic("orders.billing.retry")
    partition.needed_from = lambda: 1
    home.offsets.commit(partition, 4)
    home.bench.clock.advance(HOUR_S)
    await home.retention.apply()
    assert partition.log_start_offset == 1


async def test_no_limit_means_no_limit(tmp_path: Path) -> None:
    home = Home(tmp_path, log_retention_ms=-1)
    await home.bench.open()
    partition = home.topic("orders.billing.retry")
    home.offsets.commit(partition, 4)
    home.bench.clock.advance(1000 * HOUR_S)
    await home.retention.apply()
    assert partition.log_start_offset == 0
    await home.bench.partitions.shutdown()


async def test_a_coordinator_that_is_not_ready_is_asked_again(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    partition = home.topic("orders.billing.retry")
    home.offsets.commit(partition, 4)
    home.bench.clock.advance(HOUR_S)
    home.offsets.failure = KafkaError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
    with caplog.at_level(logging.WARNING):
        await home.retention.apply()
    assert partition.log_start_offset == 0
    assert "put off" in caplog.text
    home.offsets.failure = None
    await home.retention.apply()
    assert partition.log_start_offset == 3


async def test_a_segment_closed_while_watched_counts_from_then(home: Home) -> None:
    partition = home.topic("orders.billing.retry")
    closings = Closings(partition.log)
    closings.look(1)
    home.bench.append(partition, b"4")
    before, last = closings.look(5_000)[-2:]
    assert (last.base, last.end, last.closed_ms) == (3, 4, 5_000)
    assert before.closed_ms > 1_000_000_000_000, "the time of the files, which is today"
    assert closings.look(9_000)[-1] == last


async def test_after_a_start_the_files_tell(home: Home, tmp_path: Path) -> None:
    partition = home.topic("orders.billing.retry")
    snapshot = partition.log.directory / "00000000000000000001.snapshot"
    os.utime(snapshot, (5, 5))
    (partition.log.directory / "00000000000000000002.snapshot").unlink()
    os.utime(partition.log.directory / "00000000000000000001.log", (7, 7))
    first, second = Closings(partition.log).look(0)[:2]
    assert (first.closed_ms, second.closed_ms) == (5_000, 7_000)


async def test_a_topic_made_again_begins_anew(home: Home) -> None:
    old = home.topic("orders.billing.retry")
    home.offsets.commit(old, 4)
    home.bench.clock.advance(HOUR_S)
    await home.retention.apply()
    home.bench.catalog.delete("orders.billing.retry")
    new = home.topic("orders.billing.retry")
    home.bench.clock.advance(HOUR_S)
    await home.retention.apply()
    assert (old.log_start_offset, new.log_start_offset) == (3, 0)


async def test_it_runs_at_the_pace_of_retention(home: Home, nursery: trio.Nursery) -> None:
    partition = home.topic("orders.billing.retry")
    home.offsets.commit(partition, 4)
    await nursery.start(home.retention.run)
    await trio.testing.wait_all_tasks_blocked()
    home.bench.clock.advance(HOUR_S)
    with trio.fail_after(20):
        while partition.log_start_offset == 0:
            await trio.testing.wait_all_tasks_blocked()
    assert partition.log_start_offset == 3
