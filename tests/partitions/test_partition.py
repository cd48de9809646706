"""A partition: appends, the high watermark, flushes that fail, damage."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import trio
import trio.testing

from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.log.files import Files
from pykbroker.partitions.partition import Partition
from pykbroker.records.batch import iter_headers, read_header
from tests.partitions.kit import Bench


class Failing(Files):
    """Files whose syncs or writes fail while told to."""

    def __init__(self) -> None:
        self.syncs_fail = 0
        """The error number that syncs fail with, 0 for none."""
        self.writes_fail = False

    def sync_data(self, fd: int) -> None:
        if self.syncs_fail:
            raise OSError(self.syncs_fail, os.strerror(self.syncs_fail))
        super().sync_data(fd)

    def pwrite(self, fd: int, data: bytes | bytearray | memoryview, position: int) -> int:
        if self.writes_fail:
            raise OSError(errno.ENOSPC, "no space left")
        return super().pwrite(fd, data, position)


@pytest.fixture
def files() -> Failing:
    return Failing()


@pytest.fixture
async def frail(tmp_path: Path, files: Failing) -> Bench:
    """Partitions on :class:`Failing` files."""
    bench = Bench(tmp_path, files=files)
    await bench.open()
    return bench


def values_at(partition: Partition) -> list[tuple[int, int]]:
    """(base offset, leader epoch) of every batch below the high watermark."""
    read = partition.read(partition.log_start_offset, 1 << 20)
    assert isinstance(read.records, bytes)
    return [(header.base_offset, header.leader_epoch) for _, header in iter_headers(read.records)]


async def test_offsets_and_epochs_are_assigned(bench: Bench) -> None:
    partition = bench.topic()
    assert bench.append(partition, b"a", b"b") == 0
    bench.catalog.elect("t", 4)
    assert bench.append(partition, b"c") == 2
    assert values_at(partition) == [(0, 0), (2, 4)]
    assert (partition.high_watermark, partition.log_end_offset, partition.last_stable_offset) == (3, 3, 3)


async def test_a_writable_buffer_is_changed_in_place(bench: Bench) -> None:
    partition = bench.topic()
    bench.append(partition, b"a")
    buffer = bytearray(bench.batch(b"b"))
    partition.append_as_leader(buffer, now_ms=1)
    assert read_header(buffer).base_offset == 1


async def test_several_batches_at_once(bench: Bench) -> None:
    partition = bench.topic()
    appended = partition.append_as_leader(bench.batch(b"a", b"b") + bench.batch(b"c"), now_ms=1)
    assert (appended.base_offset, appended.last_offset, appended.next_offset) == (0, 2, 3)
    assert values_at(partition) == [(0, 0), (2, 0)]


async def test_internal_appends_keep_codec_and_timestamps(bench: Bench) -> None:
    partition = bench.topic(compression_type="gzip", message_timestamp_type="LogAppendTime")
    partition.append_as_leader(bench.batch(b"a", timestamp_ms=5), now_ms=7, internal=True)
    read = partition.read(0, 1000)
    assert isinstance(read.records, bytes)
    header = read_header(read.records)
    assert (header.codec, header.max_timestamp, header.log_append) == (0, 5, False)


async def test_watchers_hear_of_the_high_watermark(bench: Bench) -> None:
    partition = bench.topic()
    seen: list[int] = []

    def watcher() -> None:
        seen.append(partition.high_watermark)

    partition.watch(watcher)
    bench.append(partition, b"a")
    bench.append(partition, b"b")
    partition.unwatch(watcher)
    bench.append(partition, b"c")
    assert seen == [1, 2]


async def test_flush_messages_counts_what_is_not_durable(bench: Bench) -> None:
    partition = bench.topic(flush_messages="3")
    bench.append(partition, b"a")
    bench.append(partition, b"b")
    assert (partition.high_watermark, partition.log.recovery_point) == (2, 0)
    bench.append(partition, b"c")
    bench.append(partition, b"d")
    assert partition.high_watermark == 2
    await partition.wait_high_watermark(4)
    assert partition.log.recovery_point >= 3


async def test_many_waiters_share_flushes(bench: Bench) -> None:
    partition = bench.topic(flush_messages="1")
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            next_offset = bench.append(partition, b"a") + 1
            nursery.start_soon(partition.wait_high_watermark, next_offset)
    assert partition.high_watermark == partition.log.recovery_point == 50


async def test_after_a_kill_only_what_is_durable_counts(bench: Bench) -> None:
    partition = bench.topic(flush_messages="1")
    bench.append(partition, b"a")
    await bench.reopen(clean=False)
    partition = bench.partitions.get("t", 0)
    assert (partition.high_watermark, partition.log_end_offset) == (0, 1)
    await partition.wait_high_watermark(1)


async def test_a_flush_that_a_cut_overtook_does_not_count(bench: Bench) -> None:
    partition = bench.topic(flush_messages="1")
    bench.append(partition, b"a")
    partition.truncate_to(0)
    bench.append(partition, b"b")
    await partition.wait_high_watermark(1)
    assert partition.log.recovery_point == 1


async def test_flush_ms_0_holds_every_append(bench: Bench) -> None:
    partition = bench.topic(flush_ms="0")
    bench.append(partition, b"a")
    assert partition.high_watermark == 0
    await partition.wait_high_watermark(1)


async def test_a_failed_flush_refuses_appends_until_one_succeeds(frail: Bench, files: Failing) -> None:
    partition = frail.topic(flush_messages="1")
    frail.append(partition, b"a")
    await partition.wait_high_watermark(1)
    files.syncs_fail = errno.ENOSPC
    frail.append(partition, b"b")
    with pytest.raises(KafkaError) as failed:
        await partition.wait_high_watermark(2)
    assert failed.value.code == ErrorCode.KAFKA_STORAGE_ERROR
    with pytest.raises(KafkaError) as refused:
        frail.append(partition, b"c")
    assert refused.value.code == ErrorCode.KAFKA_STORAGE_ERROR
    assert values_at(partition) == [(0, 0)], "reads go on"
    files.syncs_fail = 0
    while partition.failure is not None:  # one sync may still be on its way to fail
        ended = trio.Event()
        partition.watch(ended.set)
        with pytest.raises(KafkaError):
            frail.append(partition, b"c")  # the refused append asks for the flush that lifts the refusal
        await ended.wait()
    assert partition.high_watermark == 2
    assert frail.append(partition, b"c") == 2


async def test_after_an_io_error_appends_are_refused_until_a_restart(frail: Bench, files: Failing) -> None:
    """The kernel drops what it could not write: a later sync that succeeds would prove nothing."""
    partition = frail.topic(flush_messages="1")
    files.syncs_fail = errno.EIO
    frail.append(partition, b"a")
    with pytest.raises(KafkaError):
        await partition.wait_high_watermark(1)
    files.syncs_fail = 0
    ended = trio.Event()
    partition.watch(ended.set)
    with pytest.raises(KafkaError):
        frail.append(partition, b"b")
    await ended.wait()
    assert partition.failure is not None
    await frail.reopen()
    assert frail.append(frail.partitions.get("t", 0), b"b") == 1


async def test_a_full_disk(frail: Bench, files: Failing) -> None:
    partition = frail.topic()
    frail.append(partition, b"a")
    files.writes_fail = True
    with pytest.raises(KafkaError) as refused:
        frail.append(partition, b"b")
    assert refused.value.code == ErrorCode.KAFKA_STORAGE_ERROR
    assert (partition.log_end_offset, values_at(partition)) == (1, [(0, 0)])
    files.writes_fail = False
    assert frail.append(partition, b"b") == 1


async def test_truncation_tells_waiters(bench: Bench) -> None:
    partition = bench.topic(flush_messages="100")
    for _ in range(5):
        bench.append(partition, b"a")
    cut: list[KafkaError] = []

    async def wait() -> None:
        with pytest.raises(KafkaError) as raised:
            await partition.wait_high_watermark(9)
        cut.append(raised.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        partition.truncate_to(3)
    assert (partition.high_watermark, partition.log_end_offset) == (3, 3)
    assert cut[0].code == ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert bench.append(partition, b"b") == 3


async def test_followers_keep_offsets_and_epochs(bench: Bench) -> None:
    leader = bench.topic()
    bench.append(leader, b"a", b"b")
    bench.catalog.elect("t", 3)
    bench.append(leader, b"c")
    read = leader.read(0, 1 << 20)
    assert isinstance(read.records, bytes)
    follower = bench.topic("u")
    follower.append_as_follower(read.records, now_ms=1)
    assert (follower.log_end_offset, follower.high_watermark) == (3, 0)
    assert follower.log.epochs.entries == leader.log.epochs.entries
    with pytest.raises(KafkaError) as refused:
        follower.append_as_follower(read.records, now_ms=1)
    assert refused.value.code == ErrorCode.OFFSET_OUT_OF_RANGE


async def test_a_closed_partition_refuses(bench: Bench) -> None:
    partition = bench.topic()
    bench.catalog.delete("t")
    with pytest.raises(KafkaError) as refused:
        bench.append(partition, b"a")
    assert refused.value.code == ErrorCode.NOT_LEADER_OR_FOLLOWER


def damage(partition: Partition, batch: int) -> None:
    """Flip the magic byte of one batch in the first segment."""
    path = next(partition.log.directory.glob("*.log"))
    data = path.read_bytes()
    positions = [position for position, _ in iter_headers(data)]
    fd = os.open(path, os.O_WRONLY)
    os.pwrite(fd, b"\x7f", positions[batch] + 16)
    os.close(fd)


@pytest.mark.parametrize("policy", ["stop", "skip"])
async def test_damage(bench: Bench, policy: str) -> None:
    partition = bench.topic(pykbroker_corruption_policy=policy)
    for _ in range(4):
        bench.append(partition, b"a")
    damage(partition, 1)
    await bench.reopen(clean=False)
    partition = bench.partitions.get("t", 0)
    read = partition.read(0, 1 << 20)
    assert (read.first_offset, read.next_offset) == (0, 1)
    if policy == "stop":
        with pytest.raises(KafkaError) as refused:
            partition.read(1, 1 << 20)
        assert refused.value.code == ErrorCode.CORRUPT_MESSAGE
    else:
        read = partition.read(1, 1 << 20)
        assert (read.first_offset, read.next_offset) == (2, 4)
        assert partition.skipped_holes == 1
    assert partition.read(2, 1 << 20).next_offset == 4
