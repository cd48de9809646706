"""ListOffsets (SEMANTICS, section 5)."""

from __future__ import annotations

import pytest

from pykbroker.apis.list_offsets import failed, handle
from pykbroker.errors import ErrorCode
from pykbroker.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsPartitionResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from pykbroker.records.build import RecordData, encode_batch
from tests.partitions.kit import Bench, context


def asking(
    *partitions: ListOffsetsPartition, replica_id: int = -1, committed: bool = False
) -> ListOffsetsRequest:
    return ListOffsetsRequest(
        replica_id=replica_id,
        isolation_level=int(committed),
        topics=[ListOffsetsTopic(name="t", partitions=list(partitions))],
    )


def answers(
    bench: Bench, request: ListOffsetsRequest, version: int = 11
) -> list[ListOffsetsPartitionResponse]:
    response = handle(context(bench, 2, version), request)
    assert isinstance(response, ListOffsetsResponse)
    return response.topics[0].partitions


def at(bench: Bench, timestamp: int, version: int = 11, epoch: int = -1) -> tuple[int, int, int]:
    """(error, offset, timestamp) for partition 0."""
    wanted = ListOffsetsPartition(partition_index=0, timestamp=timestamp, current_leader_epoch=epoch)
    [answer] = answers(bench, asking(wanted), version)
    return answer.error_code, answer.offset, answer.timestamp


async def test_ends_of_an_empty_partition(bench: Bench) -> None:
    bench.topic()
    assert at(bench, -1) == at(bench, -2) == (0, 0, -1)
    assert at(bench, -3) == (0, -1, -1)
    assert at(bench, 0) == (0, -1, -1)


async def test_ends(bench: Bench) -> None:
    partition = bench.topic()
    for _ in range(3):
        bench.append(partition, b"a", b"b")
    partition.delete_records_before(2)
    assert at(bench, -1) == (0, 6, -1)
    assert at(bench, -2) == at(bench, -4) == (0, 2, -1)
    assert at(bench, -5) == at(bench, -6) == (0, -1, -1)


@pytest.mark.parametrize(
    ("timestamp", "since"), [(-1, 1), (-2, 1), (-3, 7), (-4, 8), (-5, 9), (-6, 11), (-7, 12), (-100, 12)]
)
async def test_special_timestamps_have_their_version(bench: Bench, timestamp: int, since: int) -> None:
    bench.topic()
    for version in range(1, 12):
        error = at(bench, timestamp, version)[0]
        assert error == (0 if version >= since else ErrorCode.UNSUPPORTED_VERSION)


async def test_timestamps_out_of_order(bench: Bench) -> None:
    partition = bench.topic()
    now = bench.clock.time_ms()
    times = [100, 300, 200, 50, 300, 400, 10]
    for time in times:
        bench.append(partition, b"a", timestamp_ms=now + time)
    for wanted in range(0, 450, 25):
        first = next((i for i, time in enumerate(times) if time >= wanted), None)
        expected = (0, -1, -1) if first is None else (0, first, now + times[first])
        assert at(bench, now + wanted) == expected
    assert at(bench, -3) == (0, 5, now + 400)


async def test_timestamps_inside_a_batch(bench: Bench) -> None:
    partition = bench.topic()
    now = bench.clock.time_ms()
    records = [RecordData(value=b"x", timestamp_ms=now + time) for time in (5, 30, 20, 30)]
    partition.append_as_leader(encode_batch(records, timestamp_ms=now), now_ms=now)
    assert at(bench, now + 6) == at(bench, -3) == (0, 1, now + 30)


async def test_the_largest_timestamp_is_the_first_record_that_has_it(bench: Bench) -> None:
    partition = bench.topic()
    now = bench.clock.time_ms()
    for _ in range(2):
        bench.append(partition, b"a", timestamp_ms=now)
    assert at(bench, -3) == (0, 0, now)


async def test_what_is_not_acknowledged_is_not_found(bench: Bench) -> None:
    partition = bench.topic(flush_messages="1")
    now = bench.clock.time_ms()
    bench.append(partition, b"a", timestamp_ms=now)
    assert at(bench, now) == at(bench, -3) == (0, -1, -1)
    assert at(bench, -1) == (0, 0, -1)
    wanted = ListOffsetsPartition(partition_index=0, timestamp=-1)
    assert answers(bench, asking(wanted, replica_id=-2))[0].offset == 1
    await partition.wait_high_watermark(1)
    assert at(bench, now) == (0, 0, now)


async def test_read_committed_latest_is_the_last_stable_offset(bench: Bench) -> None:
    partition = bench.topic()
    bench.append(partition, b"a")
    batch = bench.batch(b"b", producer_id=1, producer_epoch=0, base_sequence=0, transactional=True)
    partition.append_as_leader(batch, now_ms=bench.clock.time_ms())
    wanted = ListOffsetsPartition(partition_index=0, timestamp=-1)
    assert [a.offset for a in answers(bench, asking(wanted, committed=True))] == [1]
    assert [a.offset for a in answers(bench, asking(wanted))] == [2]


async def test_leader_epochs(bench: Bench) -> None:
    partition = bench.topic()
    now = bench.clock.time_ms()
    bench.append(partition, b"a", timestamp_ms=now)
    bench.catalog.elect("t", 2)
    bench.append(partition, b"b", timestamp_ms=now + 5)

    def epoch(timestamp: int) -> int:
        return answers(bench, asking(ListOffsetsPartition(partition_index=0, timestamp=timestamp)))[
            0
        ].leader_epoch

    assert [epoch(t) for t in (-2, now, now + 5, -1, -5, now + 6)] == [0, 0, 2, 2, -1, -1]
    assert at(bench, -1, epoch=1)[0] == ErrorCode.FENCED_LEADER_EPOCH
    assert at(bench, -1, epoch=3)[0] == ErrorCode.UNKNOWN_LEADER_EPOCH
    assert at(bench, -1, epoch=2)[0] == 0


async def test_unknown_and_repeated_partitions(bench: Bench) -> None:
    bench.topic()
    first = ListOffsetsPartition(partition_index=0, timestamp=-1)
    unknown = ListOffsetsPartition(partition_index=5, timestamp=-1)
    found = answers(bench, asking(first, unknown, first))
    assert [(a.partition_index, a.error_code, a.offset) for a in found] == [
        (0, ErrorCode.INVALID_REQUEST, -1),
        (5, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1),
    ]


async def test_failed_names_every_partition(bench: Bench) -> None:
    request = asking(ListOffsetsPartition(partition_index=3, timestamp=-1))
    response = failed(context(bench, 2, 11), request, ErrorCode.UNKNOWN_SERVER_ERROR)
    assert [(p.partition_index, p.error_code) for p in response.topics[0].partitions] == [(3, -1)]
