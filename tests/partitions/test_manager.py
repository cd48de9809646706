"""All partitions of a broker: start and stop, the catalog's changes, upkeep."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.log import checkpoints
from pykbroker.partitions.directories import marked_name, parse_name
from pykbroker.partitions.partition import Partition
from pykbroker.records.batch import iter_headers
from pykbroker.records.build import RecordData, encode_batch
from tests.partitions.kit import Bench

DAY = 86_400


def error_of(call: Callable[[], object]) -> ErrorCode:
    with pytest.raises(KafkaError) as raised:
        call()
    return raised.value.code


async def until(condition: Callable[[], bool]) -> None:
    """Let threads and tasks work until ``condition`` holds."""
    with trio.fail_after(30):
        while not condition():  # noqa: ASYNC110  # threads tell nobody when they are done
            await trio.sleep(0.002)


def directories_in(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir() if entry.is_dir()}


# -- names


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("t-0", ("t", 0)),
        ("a-b-12", ("a-b", 12)),
        ("t-01", None),
        ("t", None),
        ("lost+found", None),
        ("t-0." + "a" * 32 + "-delete", None),
        ("t-0." + "a" * 32 + "-stray", None),
        ("t.stray-0", ("t.stray", 0)),
    ],
)
def test_names_of_directories(name: str, parsed: tuple[str, int] | None) -> None:
    assert parse_name(name) == parsed


def test_marked_names_fit_a_file_system() -> None:
    marked = marked_name("x" * 249 + "-123", "-delete")
    assert len(marked) == 255
    assert "-123." in marked
    assert parse_name(marked) is None


# -- getting partitions


async def test_directories_are_made_at_first_use(bench: Bench) -> None:
    topic = bench.catalog.create("t", partitions=3)
    assert directories_in(bench.data_dir) == set()
    partition = bench.partitions.get("t", 1)
    assert bench.partitions.get_by_id(topic.topic_id, 1) is partition
    assert directories_in(bench.data_dir) == {"t-1"}
    assert checkpoints.read_partition_metadata(bench.data_dir / "t-1") == topic.topic_id


async def test_what_the_catalog_does_not_have(bench: Bench) -> None:
    topic = bench.catalog.create("t")
    assert error_of(lambda: bench.partitions.get("u", 0)) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert error_of(lambda: bench.partitions.get("t", 1)) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert error_of(lambda: bench.partitions.get("t", -1)) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert error_of(lambda: bench.partitions.get_by_id(b"?" * 16, 0)) == ErrorCode.UNKNOWN_TOPIC_ID
    by_id = lambda: bench.partitions.get_by_id(topic.topic_id, 5)  # noqa: E731
    assert error_of(by_id) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


async def test_a_directory_that_cannot_be_made(bench: Bench) -> None:
    bench.catalog.create("t")
    (bench.data_dir / "t-0").write_text("in the way")
    assert error_of(lambda: bench.partitions.get("t", 0)) == ErrorCode.KAFKA_STORAGE_ERROR
    (bench.data_dir / "t-0").unlink()
    assert bench.partitions.get("t", 0).log_end_offset == 0


# -- stop and start


@pytest.mark.parametrize("clean", [True, False])
async def test_everything_is_there_after_a_restart(bench: Bench, clean: bool) -> None:
    partition = bench.topic()
    for value in (b"a", b"b"):
        bench.append(partition, value)
    await bench.reopen(clean=clean)
    partition = bench.partitions.get("t", 0)
    assert (partition.log_end_offset, partition.high_watermark) == (2, 2)
    assert bench.append(partition, b"c") == 2


async def test_a_clean_stop_leaves_the_mark_and_a_start_takes_it(bench: Bench) -> None:
    bench.append(bench.topic(), b"a")
    mark = bench.data_dir / checkpoints.CLEAN_SHUTDOWN
    await bench.partitions.shutdown()
    assert mark.exists()
    assert checkpoints.read_offsets(bench.data_dir / checkpoints.RECOVERY_POINTS) == {("t", 0): 1}
    assert checkpoints.read_offsets(bench.data_dir / checkpoints.HIGH_WATERMARKS) == {("t", 0): 1}
    await bench.reopen(clean=False)
    assert not mark.exists()


async def test_a_stopped_manager_hands_out_nothing(bench: Bench) -> None:
    partition = bench.topic()
    await bench.partitions.shutdown()
    assert error_of(lambda: bench.partitions.get("t", 0)) == ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert error_of(lambda: bench.append(partition, b"a")) == ErrorCode.NOT_LEADER_OR_FOLLOWER


async def test_producers_are_known_after_a_restart(bench: Bench) -> None:
    partition = bench.topic()
    for sequence in range(6):
        batch = bench.batch(b"a", producer_id=7, producer_epoch=0, base_sequence=sequence)
        partition.append_as_leader(batch, now_ms=bench.clock.time_ms())
    for clean in (True, False):
        await bench.reopen(clean=clean)
        again = bench.batch(b"a", producer_id=7, producer_epoch=0, base_sequence=1)
        appended = bench.partitions.get("t", 0).append_as_leader(again, now_ms=bench.clock.time_ms())
        assert (appended.base_offset, appended.duplicate) == (1, True)


async def test_unknown_directories_are_set_aside(bench: Bench) -> None:
    bench.append(bench.topic("kept"), b"a")
    bench.append(bench.topic("gone"), b"a")
    bench.append(bench.topic("anew"), b"a")
    bench.append(bench.topic("shrunk"), b"a")
    await bench.partitions.shutdown()
    (bench.data_dir / "shrunk-0").rename(bench.data_dir / "shrunk-1")
    (bench.data_dir / "unrelated").mkdir()
    bench.catalog._subscribers.clear()
    for name in ("gone", "anew"):
        bench.catalog.delete(name)
    bench.catalog.create("anew")
    await bench.reopen(clean=False)
    names = directories_in(bench.data_dir)
    assert {"kept-0", "unrelated"} <= names
    strays = sorted(name for name in names if name.endswith("-stray"))
    assert [name.partition(".")[0] for name in strays] == ["anew-0", "gone-0", "shrunk-1"]
    assert all(list((bench.data_dir / name).glob("*.log")) for name in strays)
    assert bench.partitions.get("anew", 0).log_end_offset == 0
    assert bench.partitions.get("kept", 0).log_end_offset == 1


async def test_a_log_that_cannot_be_opened_does_not_stop_the_others(bench: Bench) -> None:
    bench.append(bench.topic("good"), b"a")
    bench.append(bench.topic("bad"), b"a")
    await bench.partitions.shutdown()
    path = next((bench.data_dir / "bad-0").glob("*.log"))
    path.unlink()
    path.mkdir()
    await bench.reopen(clean=False)
    assert bench.partitions.get("good", 0).log_end_offset == 1
    assert error_of(lambda: bench.partitions.get("bad", 0)) == ErrorCode.KAFKA_STORAGE_ERROR


async def test_a_kill_between_a_directory_and_its_first_segment_hinders_no_start(bench: Bench) -> None:
    bench.append(bench.topic("good"), b"a")
    bench.topic("new")
    for path in (bench.data_dir / "new-0").iterdir():
        path.unlink()
    await bench.reopen(clean=False)
    assert bench.partitions.get("good", 0).log_end_offset == 1
    assert bench.append(bench.partitions.get("new", 0), b"a") == 0


async def test_progress_of_a_large_recovery(bench: Bench) -> None:
    partition = bench.topic()
    for _ in range(9):
        bench.append(partition, b"x" * 900_000)
    seen: list[tuple[int, int, str]] = []
    bench.partitions = type(bench.partitions)(bench.catalog, bench.data_dir, bench.clock)
    await bench.partitions.open_all(
        bench.catalog.image, on_progress=lambda done, total, what: seen.append((done, total, what))
    )
    assert bench.partitions.get("t", 0).log_end_offset == 9
    assert seen
    assert all(done <= total == partition.log.size and what == "t-0" for done, total, what in seen)


async def test_a_thousand_partitions_open_in_time(bench: Bench) -> None:
    bench.catalog.create("t", partitions=1000)
    for index in range(1000):
        bench.append(bench.partitions.get("t", index), b"a")
    await bench.partitions.shutdown()
    begun = time.process_time()  # whatever else the machine does
    await bench.reopen(clean=False)
    assert len(bench.partitions) == 1000
    assert time.process_time() - begun < 3


# -- the catalog's changes


async def test_deleted_topics_go(bench: Bench) -> None:
    partition = bench.topic()
    bench.append(partition, b"a")
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.partitions.run)
        bench.catalog.delete("t")
        assert error_of(lambda: bench.partitions.get("t", 0)) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        again = bench.topic()
        assert (again.log_end_offset, again.topic_id == partition.topic_id) == (0, False)
        await until(lambda: directories_in(bench.data_dir) == {"t-0"})
        nursery.cancel_scope.cancel()


async def test_a_topic_that_is_about_to_go_takes_nothing(bench: Bench) -> None:
    """Also in a partition that nobody has used before; until it stays after all."""
    partition = bench.topic()
    bench.partitions.seal([partition.topic_id])
    assert error_of(lambda: bench.append(partition, b"a")) == ErrorCode.NOT_LEADER_OR_FOLLOWER
    bench.catalog.create("u", 2)
    other = bench.partitions.get("u", 0)
    bench.partitions.seal([other.topic_id])
    fresh = bench.partitions.get("u", 1)
    assert error_of(lambda: bench.append(fresh, b"a")) == ErrorCode.NOT_LEADER_OR_FOLLOWER
    bench.partitions.unseal([partition.topic_id, other.topic_id])
    assert [bench.append(each, b"a") for each in (partition, other, fresh)] == [0, 0, 0]


async def test_a_start_removes_what_a_deletion_left(bench: Bench) -> None:
    bench.append(bench.topic(), b"a")
    bench.catalog.delete("t")
    [left] = directories_in(bench.data_dir)
    assert left.endswith("-delete")
    await bench.reopen()
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.partitions.run)
        await until(lambda: not directories_in(bench.data_dir))
        nursery.cancel_scope.cancel()


async def test_new_settings_count_at_once(bench: Bench) -> None:
    partition = bench.topic()
    bench.catalog.configure("t", {"max.message.bytes": "1234", "flush.messages": "1"})
    assert partition.config.max_message_bytes == 1234
    bench.append(partition, b"a")
    assert partition.high_watermark == 0
    await partition.wait_high_watermark(1)


async def test_min_insync_replicas_is_capped_by_the_replicas(bench: Bench) -> None:
    assert not bench.topic(min_insync_replicas="2").under_min_isr


# -- upkeep


async def running(bench: Bench, nursery: trio.Nursery) -> None:
    await nursery.start(bench.partitions.run)
    await trio.testing.wait_all_tasks_blocked()


async def test_retention_follows_the_clock(bench: Bench) -> None:
    partition = bench.topic(retention_ms=str(DAY * 1000), file_delete_delay_ms="1000")
    bench.append(partition, b"a")
    async with trio.open_nursery() as nursery:
        await running(bench, nursery)
        bench.clock.advance(DAY / 2)
        await trio.testing.wait_all_tasks_blocked()
        assert partition.log_start_offset == 0
        bench.clock.advance(DAY)
        await until(lambda: partition.log_start_offset == 1)
        assert error_of(lambda: partition.read(0, 100)) == ErrorCode.OFFSET_OUT_OF_RANGE
        bench.clock.advance(2)
        await until(lambda: not list((bench.data_dir / "t-0").glob("*.deleted")))
        nursery.cancel_scope.cancel()


async def test_flush_ms_flushes_in_the_background(bench: Bench) -> None:
    partition = bench.topic(flush_ms="10000")
    async with trio.open_nursery() as nursery:
        await running(bench, nursery)
        for expected in (1, 2):
            bench.append(partition, b"a")
            assert partition.high_watermark == expected
            await trio.testing.wait_all_tasks_blocked()
            bench.clock.advance(11)
            await until(lambda e=expected: partition.log.recovery_point == e)  # type: ignore[misc]
        nursery.cancel_scope.cancel()


async def test_checkpoints_are_written_from_time_to_time(bench: Bench) -> None:
    partition = bench.topic()
    bench.append(partition, b"a")
    partition.delete_records_before(1)
    async with trio.open_nursery() as nursery:
        await running(bench, nursery)
        bench.clock.advance(61)
        for name, offset in [
            (checkpoints.RECOVERY_POINTS, 0),
            (checkpoints.HIGH_WATERMARKS, 1),
            (checkpoints.LOG_STARTS, 1),
        ]:
            path = bench.data_dir / name
            await until(lambda p=path, o=offset: checkpoints.read_offsets(p) == {("t", 0): o})  # type: ignore[misc]
        nursery.cancel_scope.cancel()


async def test_closed_segments_become_durable_with_the_checkpoint(bench: Bench) -> None:
    partition = bench.topic(segment_bytes="200")
    for _ in range(4):
        bench.append(partition, b"x" * 60)
    assert partition.log.recovery_point == 0
    await bench.partitions.upkeep.checkpoint_recovery_points()
    await until(lambda: partition.log.recovery_point == 4)


async def test_idle_producers_are_forgotten(bench: Bench) -> None:
    partition = bench.topic()
    batch = bench.batch(b"a", producer_id=7, producer_epoch=0, base_sequence=0)
    partition.append_as_leader(batch, now_ms=bench.clock.time_ms())
    async with trio.open_nursery() as nursery:
        await running(bench, nursery)
        bench.clock.advance(DAY / 2)
        await trio.testing.wait_all_tasks_blocked()
        assert len(partition.log.producers) == 1
        bench.clock.advance(DAY)
        await until(lambda: not len(partition.log.producers))
        nursery.cancel_scope.cancel()


def keyed(bench: Bench, partition: Partition, key: bytes, value: bytes | None) -> None:
    batch = encode_batch([RecordData(key=key, value=value)], timestamp_ms=bench.clock.time_ms())
    partition.append_as_leader(batch, now_ms=bench.clock.time_ms())


def offsets_in(partition: Partition) -> list[int]:
    offsets: list[int] = []
    at = partition.log_start_offset
    while at < partition.high_watermark:
        read = partition.read(at, 1 << 20)
        assert isinstance(read.records, bytes)
        offsets += [header.base_offset for _, header in iter_headers(read.records) if header.record_count]
        at = read.next_offset
    return offsets


async def test_compaction_keeps_the_last_record_of_each_key(bench: Bench) -> None:
    partition = bench.topic(cleanup_policy="compact", segment_bytes="300")
    for number in range(20):
        keyed(bench, partition, b"k%d" % (number % 2), b"v%d" % number)
    async with trio.open_nursery() as nursery:
        await running(bench, nursery)
        bench.clock.advance(16)
        await until(lambda: bench.partitions.upkeep.cleaner.runs > 0)
        nursery.cancel_scope.cancel()
    kept = offsets_in(partition)
    assert kept[-2:] == [18, 19]
    assert len(kept) < 10
    assert (partition.log_end_offset, partition.high_watermark) == (20, 20)
    await bench.reopen()
    assert offsets_in(bench.partitions.get("t", 0)) == kept
    assert checkpoints.read_offsets(bench.data_dir / "cleaner-offset-checkpoint")


async def test_compaction_by_age(bench: Bench) -> None:
    """A log that is not dirty enough is compacted when its oldest dirty record is overdue."""
    partition = bench.topic(cleanup_policy="compact", max_compaction_lag_ms="60000")
    for number in range(4):
        keyed(bench, partition, b"k", b"v%d" % number)
    cleaner = bench.partitions.upkeep.cleaner
    await cleaner.clean_all()
    assert cleaner.runs == 0
    bench.clock.advance(61)
    await cleaner.clean_all()
    assert cleaner.runs == 1
    assert offsets_in(partition) == [3]
    await cleaner.clean_all()
    assert cleaner.runs == 1, "clean now"


async def test_compaction_goes_as_far_as_the_broker_has_no_use_for_records(bench: Bench) -> None:
    partition = bench.topic(cleanup_policy="compact", segment_bytes="300")
    needed = 0
    partition.needed_from = lambda: needed
    for number in range(20):
        keyed(bench, partition, b"k", b"v%d" % number)
    cleaner = bench.partitions.upkeep.cleaner
    await cleaner.clean_all()
    assert cleaner.runs == 0
    assert len(offsets_in(partition)) == 20
    needed = 10
    await cleaner.clean_all()
    kept = offsets_in(partition)
    assert kept[-10:] == list(range(10, 20))
    assert len(kept) < 20
    needed = 20
    await cleaner.clean_all()
    assert len(offsets_in(partition)) < len(kept)


async def test_a_damaged_segment_does_not_end_the_compaction_of_its_neighbours(bench: Bench) -> None:
    partition = bench.topic(cleanup_policy="compact", segment_bytes="300")
    for number in range(20):
        keyed(bench, partition, b"k", b"v%d" % number)
    bad = list(partition.log.segments())[2]
    path = partition.log.directory / f"{bad:020d}.log"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    cleaner = bench.partitions.upkeep.cleaner
    await cleaner.clean(partition)
    assert cleaner.runs == 1
    assert path.read_bytes() == data
    assert len(partition.log.segments()) == 4, "before it, itself, behind it, and the active one"
    assert len(offsets_in(partition)) < 10


async def test_a_topic_deleted_while_it_is_compacted(bench: Bench) -> None:
    partition = bench.topic(cleanup_policy="compact", segment_bytes="300")
    for number in range(20):
        keyed(bench, partition, b"k", b"v%d" % number)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.partitions.upkeep.cleaner.clean, partition)
        await trio.testing.wait_all_tasks_blocked()
        bench.catalog.delete("t")
    assert partition.closed


async def test_a_checkpoint_of_the_cleaner_that_cannot_be_read_costs_work_only(bench: Bench) -> None:
    (bench.data_dir / "cleaner-offset-checkpoint").mkdir()
    await bench.partitions.upkeep.cleaner.clean_all()


async def test_upkeep_goes_on_when_the_clock_is_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, log_flush_start_offset_checkpoint_interval_ms="200")
    await bench.open()
    bench.topic()
    async with trio.open_nursery() as nursery:
        await running(bench, nursery)
        await until(lambda: checkpoints.read_offsets(tmp_path / checkpoints.LOG_STARTS) == {("t", 0): 0})
        await trio.testing.wait_all_tasks_blocked(0.05)
        now = bench.clock.time_ms
        monkeypatch.setattr(bench.clock, "time_ms", lambda: now() - 24 * 3600 * 1000)
        bench.topic("later")
        await until(lambda: ("later", 0) in checkpoints.read_offsets(tmp_path / checkpoints.LOG_STARTS))
        nursery.cancel_scope.cancel()
    await bench.partitions.shutdown()
