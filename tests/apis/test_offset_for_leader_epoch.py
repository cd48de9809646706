"""OffsetForLeaderEpoch (SEMANTICS, section 5)."""

from __future__ import annotations

import pytest

from pykbroker.apis.offset_for_leader_epoch import failed, handle
from pykbroker.errors import ErrorCode
from pykbroker.protocol.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)
from tests.partitions.kit import Bench, context


def asking(leader_epoch: int, current: int = -1, topic: str = "t") -> OffsetForLeaderEpochRequest:
    wanted = OffsetForLeaderPartition(partition=0, leader_epoch=leader_epoch, current_leader_epoch=current)
    return OffsetForLeaderEpochRequest(topics=[OffsetForLeaderTopic(topic=topic, partitions=[wanted])])


def ask(bench: Bench, leader_epoch: int, current: int = -1, topic: str = "t") -> tuple[int, int, int]:
    """(error, epoch, end offset)."""
    response = handle(context(bench, 23, 4), asking(leader_epoch, current, topic))
    assert isinstance(response, OffsetForLeaderEpochResponse)
    [answer] = response.topics[0].partitions
    return answer.error_code, answer.leader_epoch, answer.end_offset


@pytest.fixture
def history(bench: Bench) -> Bench:
    """Offsets 0 and 1 in epoch 0, 2 in epoch 3, 3 in epoch 5."""
    partition = bench.topic()
    bench.append(partition, b"a", b"b")
    for epoch in (3, 5):
        bench.catalog.elect("t", epoch)
        bench.append(partition, b"c")
    return bench


@pytest.mark.parametrize(
    ("epoch", "answer"),
    [(0, (0, 2)), (1, (0, 2)), (3, (3, 3)), (4, (3, 3)), (5, (5, 4)), (6, (-1, -1)), (-1, (-1, -1))],
)
async def test_ends_of_epochs(history: Bench, epoch: int, answer: tuple[int, int]) -> None:
    assert ask(history, epoch) == (0, *answer)


async def test_the_clients_own_epoch(history: Bench) -> None:
    assert ask(history, 0, current=5)[0] == 0
    assert ask(history, 0, current=4) == (ErrorCode.FENCED_LEADER_EPOCH, -1, -1)
    assert ask(history, 0, current=6) == (ErrorCode.UNKNOWN_LEADER_EPOCH, -1, -1)


async def test_an_empty_partition_knows_its_epoch(bench: Bench) -> None:
    bench.topic()
    assert ask(bench, 0) == (0, 0, 0)


async def test_unknown_topic(bench: Bench) -> None:
    assert ask(bench, 0, topic="u") == (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1, -1)


async def test_failed_names_every_partition(bench: Bench) -> None:
    response = failed(context(bench, 23, 4), asking(0), ErrorCode.UNKNOWN_SERVER_ERROR)
    assert [(p.partition, p.error_code) for p in response.topics[0].partitions] == [(0, -1)]
