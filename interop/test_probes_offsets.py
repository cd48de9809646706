"""Probes: ListOffsets, OffsetForLeaderEpoch, DeleteRecords."""

from typing import Any

import pytest

from interop.batches import Record, decode_batches, encode_batch
from interop.messages import Answer
from interop.probing import EARLIEST, LATEST, create_topic, fetch, list_offset, produce, unique
from interop.raw import Connection

MAX_TIMESTAMP, EARLIEST_LOCAL, LATEST_TIERED, EARLIEST_PENDING_UPLOAD = -3, -4, -5, -6


@pytest.fixture
def out_of_order(connection: Connection, topic: str) -> str:
    """Two batches whose timestamps go up and down: 100 300 200 | 150 400 250 at offsets 0 to 5."""
    for times in ((100, 300, 200), (150, 400, 250)):
        batch = encode_batch([Record(timestamp=time) for time in times])
        assert produce(connection, topic, batch).error_code == 0
    return topic


def found(part: Answer) -> tuple[int, int, int]:
    """Error code, offset, timestamp."""
    return part.error_code, part.offset, part.timestamp


@pytest.mark.parametrize("version", range(1, 12))
def test_ends_of_the_log(connection: Connection, out_of_order: str, version: int) -> None:
    """Latest and earliest in every version, with timestamp -1; from v4 on with the leader epoch."""
    latest = list_offset(connection, out_of_order, LATEST, version=version)
    earliest = list_offset(connection, out_of_order, EARLIEST, version=version)
    assert (found(latest), found(earliest)) == ((0, 6, -1), (0, 0, -1))
    if version >= 4:
        assert (latest.leader_epoch, earliest.leader_epoch) == (0, 0)


def test_empty_partition(connection: Connection, topic: str) -> None:
    """Both ends are 0, not -1; there is no largest timestamp and nothing at any time."""
    assert found(list_offset(connection, topic, LATEST)) == (0, 0, -1)
    assert found(list_offset(connection, topic, EARLIEST)) == (0, 0, -1)
    assert found(list_offset(connection, topic, MAX_TIMESTAMP)) == (0, -1, -1)
    assert found(list_offset(connection, topic, 0)) == (0, -1, -1)


def test_latest_for_read_committed(connection: Connection, out_of_order: str) -> None:
    """The last stable offset, which is the high watermark while no transaction is open."""
    answer = connection.ask(
        "list_offsets",
        8,
        replica_id=-1,
        isolation_level=1,
        topics=[{"name": out_of_order, "partitions": [{"partition_index": 0, "timestamp": LATEST}]}],
    )
    assert answer.topics[0].partitions[0].offset == 6


def test_maximum_timestamp(connection: Connection, out_of_order: str) -> None:
    """The record with the largest timestamp, not the last one."""
    assert found(list_offset(connection, out_of_order, MAX_TIMESTAMP)) == (0, 4, 400)


def test_maximum_timestamp_when_equal(connection: Connection, topic: str) -> None:
    """The first of several with the same timestamp."""
    produce(connection, topic, encode_batch([Record(timestamp=time) for time in (5, 9, 9, 1)]))
    produce(connection, topic, encode_batch([Record(timestamp=9)]))
    assert found(list_offset(connection, topic, MAX_TIMESTAMP)) == (0, 1, 9)


@pytest.mark.parametrize(
    ("special", "first_version", "expected"),
    [
        (MAX_TIMESTAMP, 7, (0, 4, 400)),
        (EARLIEST_LOCAL, 8, (0, 0, -1)),
        (LATEST_TIERED, 9, (0, -1, -1)),
        (EARLIEST_PENDING_UPLOAD, 11, (0, -1, -1)),
    ],
)
def test_special_timestamps_need_their_version(
    connection: Connection,
    out_of_order: str,
    special: int,
    first_version: int,
    expected: tuple[int, int, int],
) -> None:
    """35 UNSUPPORTED_VERSION in the partition below; without tiering, -5 and -6 find nothing."""
    below = list_offset(connection, out_of_order, special, version=first_version - 1)
    assert found(below) == (35, -1, -1)
    assert found(list_offset(connection, out_of_order, special, version=first_version)) == expected


@pytest.mark.parametrize("special", [-7, -100])
def test_unknown_special_timestamps(connection: Connection, out_of_order: str, special: int) -> None:
    """35 as well."""
    assert found(list_offset(connection, out_of_order, special, version=11)) == (35, -1, -1)


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        (0, (0, 0, 100)),
        (100, (0, 0, 100)),
        (101, (0, 1, 300)),
        (300, (0, 1, 300)),
        (301, (0, 4, 400)),
        (400, (0, 4, 400)),
        (401, (0, -1, -1)),
    ],
)
def test_timestamp(
    connection: Connection, out_of_order: str, timestamp: int, expected: tuple[int, int, int]
) -> None:
    """The first offset, in offset order, whose record's timestamp is at least the one asked for; else -1,
    -1."""
    assert found(list_offset(connection, out_of_order, timestamp)) == expected


def test_timestamp_in_a_compressed_batch(connection: Connection, topic: str) -> None:
    """The record inside it is found."""
    produce(connection, topic, encode_batch([Record(timestamp=time) for time in (100, 200, 300)], codec=1))
    assert found(list_offset(connection, topic, 150)) == (0, 1, 200)
    assert found(list_offset(connection, topic, MAX_TIMESTAMP)) == (0, 2, 300)


def test_timestamp_with_log_append_time(connection: Connection) -> None:
    """Every record of a batch has the time of its batch, so its first offset is found."""
    topic = unique("append-time")
    create_topic(connection, topic, configs={"message.timestamp.type": "LogAppendTime"})
    part = produce(connection, topic, encode_batch([Record(timestamp=time) for time in (100, 200)]))
    appended = part.log_append_time
    assert found(list_offset(connection, topic, 150)) == (0, 0, appended)
    assert found(list_offset(connection, topic, appended + 1)) == (0, -1, -1)
    assert found(list_offset(connection, topic, MAX_TIMESTAMP)) in ((0, 0, appended), (0, 1, appended))


def test_duplicate_partition(connection: Connection, out_of_order: str) -> None:
    """42 INVALID_REQUEST for it, once; others are answered."""
    other = unique("other")
    create_topic(connection, other)
    twice = [{"partition_index": 0, "timestamp": LATEST}] * 2
    once = [{"partition_index": 0, "timestamp": LATEST}]
    topics = [{"name": out_of_order, "partitions": twice}, {"name": other, "partitions": once}]
    answer = connection.ask("list_offsets", 8, replica_id=-1, topics=topics)
    codes = {topic.name: [part.error_code for part in topic.partitions] for topic in answer.topics}
    assert codes == {out_of_order: [42], other: [0]}


def test_unknown_topic_and_partition(connection: Connection, topic: str) -> None:
    """3, with -1 everywhere."""
    assert found(list_offset(connection, unique("missing"), LATEST)) == (3, -1, -1)
    assert found(list_offset(connection, topic, LATEST, partition_index=4)) == (3, -1, -1)


@pytest.mark.parametrize(("epoch", "expected"), [(-1, 0), (0, 0), (5, 75)])
def test_list_offsets_current_leader_epoch(
    connection: Connection, topic: str, epoch: int, expected: int
) -> None:
    """75 UNKNOWN_LEADER_EPOCH when ahead of the broker's."""
    assert list_offset(connection, topic, LATEST, current_leader_epoch=epoch).error_code == expected


def end_of_epoch(
    connection: Connection, topic: str, epoch: int, *, current: int = -1, partition: int = 0, version: int = 4
) -> tuple[int, int, int]:
    """OffsetForLeaderEpoch for one partition: error code, epoch, end offset."""
    asked = {"partition": partition, "current_leader_epoch": current, "leader_epoch": epoch}
    values: dict[str, Any] = {"topics": [{"topic": topic, "partitions": [asked]}]}
    if version >= 3:
        values["replica_id"] = -1
    part = connection.ask("offset_for_leader_epoch", version, **values).topics[0].partitions[0]
    return part.error_code, part.leader_epoch, part.end_offset


@pytest.mark.parametrize("version", [2, 3, 4])
def test_end_of_the_current_epoch(connection: Connection, out_of_order: str, version: int) -> None:
    """The log end."""
    assert end_of_epoch(connection, out_of_order, 0, version=version) == (0, 0, 6)


@pytest.mark.parametrize("epoch", [-1, 5])
def test_end_of_no_epoch(connection: Connection, out_of_order: str, epoch: int) -> None:
    """-1 or a future epoch: -1, -1 and no error."""
    assert end_of_epoch(connection, out_of_order, epoch) == (0, -1, -1)


def test_end_of_epoch_errors(connection: Connection, out_of_order: str) -> None:
    """75 when the client is ahead, 3 for what does not exist."""
    assert end_of_epoch(connection, out_of_order, 0, current=0) == (0, 0, 6)
    assert end_of_epoch(connection, out_of_order, 0, current=5) == (75, -1, -1)
    assert end_of_epoch(connection, out_of_order, 0, partition=9) == (3, -1, -1)
    assert end_of_epoch(connection, unique("missing"), 0) == (3, -1, -1)


def delete_records(connection: Connection, topic: str, offset: int, *, version: int = 2) -> tuple[int, int]:
    """DeleteRecords on partition 0: error code and low watermark."""
    part = {"partition_index": 0, "offset": offset}
    answer = connection.ask(
        "delete_records", version, timeout=5000, topics=[{"name": topic, "partitions": [part]}]
    )
    row = answer.topics[0].partitions[0]
    return row.error_code, row.low_watermark


@pytest.mark.parametrize("version", [0, 1, 2])
def test_delete_records_moves_the_log_start(connection: Connection, out_of_order: str, version: int) -> None:
    """Also into the middle of a batch, which fetches then still return whole."""
    assert delete_records(connection, out_of_order, 4, version=version) == (0, 4)
    assert found(list_offset(connection, out_of_order, EARLIEST)) == (0, 4, -1)
    assert decode_batches(fetch(connection, out_of_order, 4).records)[0].base_offset == 3


def test_delete_records_up_to_the_high_watermark(connection: Connection, out_of_order: str) -> None:
    """-1 means that."""
    assert delete_records(connection, out_of_order, -1) == (0, 6)
    assert found(list_offset(connection, out_of_order, EARLIEST)) == (0, 6, -1)
    assert produce(connection, out_of_order).base_offset == 6


def test_delete_records_below_the_log_start(connection: Connection, out_of_order: str) -> None:
    """Success that changes nothing and says where the log starts."""
    delete_records(connection, out_of_order, 4)
    assert delete_records(connection, out_of_order, 2) == (0, 4)


@pytest.mark.parametrize("offset", [7, -2])
def test_delete_records_out_of_range(connection: Connection, out_of_order: str, offset: int) -> None:
    """1 OFFSET_OUT_OF_RANGE."""
    assert delete_records(connection, out_of_order, offset) == (1, -1)


def test_delete_records_of_an_unknown_topic(connection: Connection) -> None:
    """3."""
    assert delete_records(connection, unique("missing"), 0) == (3, -1)


def test_timestamps_behind_the_log_start(connection: Connection, out_of_order: str) -> None:
    """Deleted records are not found by time, even when their batch is still there."""
    delete_records(connection, out_of_order, 2)
    assert found(list_offset(connection, out_of_order, 100)) == (0, 2, 200)
