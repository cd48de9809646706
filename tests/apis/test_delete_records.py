"""DeleteRecords (SEMANTICS, section 5)."""

from __future__ import annotations

import pytest

from pykbroker.apis.delete_records import failed, handle
from pykbroker.errors import ErrorCode
from pykbroker.protocol.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopic,
)
from tests.partitions.kit import Bench, context


def asking(offset: int, topic: str = "t") -> DeleteRecordsRequest:
    wanted = DeleteRecordsPartition(partition_index=0, offset=offset)
    return DeleteRecordsRequest(topics=[DeleteRecordsTopic(name=topic, partitions=[wanted])])


def ask(bench: Bench, offset: int, topic: str = "t") -> tuple[int, int]:
    """(error, low watermark)."""
    response = handle(context(bench, 21, 2), asking(offset, topic))
    assert isinstance(response, DeleteRecordsResponse)
    [answer] = response.topics[0].partitions
    return answer.error_code, answer.low_watermark


@pytest.mark.parametrize(
    ("offset", "answer"),
    [
        (3, (0, 3)),
        (2, (0, 2)),
        (1, (0, 2)),
        (-1, (0, 4)),
        (4, (0, 4)),
        (5, (ErrorCode.OFFSET_OUT_OF_RANGE, -1)),
        (-2, (ErrorCode.OFFSET_OUT_OF_RANGE, -1)),
    ],
)
async def test_offsets(bench: Bench, offset: int, answer: tuple[int, int]) -> None:
    partition = bench.topic()
    for _ in range(4):
        bench.append(partition, b"a")
    ask(bench, 2)
    assert ask(bench, offset) == answer
    assert partition.log_start_offset == max(2, answer[1])


async def test_refused_topics(bench: Bench) -> None:
    bench.topic("compacted", cleanup_policy="compact")
    bench.topic("both", cleanup_policy="compact,delete")
    bench.topic("__consumer_offsets", cleanup_policy="compact")
    assert ask(bench, 0, "compacted") == (ErrorCode.POLICY_VIOLATION, -1)
    assert ask(bench, 0, "both") == (0, 0)
    assert ask(bench, 0, "__consumer_offsets") == (ErrorCode.INVALID_TOPIC_EXCEPTION, -1)
    assert ask(bench, 0, "unknown") == (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1)


async def test_the_log_start_survives_a_restart(bench: Bench) -> None:
    partition = bench.topic()
    for _ in range(4):
        bench.append(partition, b"a")
    ask(bench, 3)
    await bench.reopen()
    assert bench.partitions.get("t", 0).log_start_offset == 3


async def test_failed_names_every_partition(bench: Bench) -> None:
    response = failed(context(bench, 21, 2), asking(0), ErrorCode.UNKNOWN_SERVER_ERROR)
    assert [(p.partition_index, p.error_code) for p in response.topics[0].partitions] == [(0, -1)]
