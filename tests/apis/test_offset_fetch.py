"""OffsetFetch, all versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from pykbroker.errors import ErrorCode
from pykbroker.protocol.messages.offset_fetch import (
    OffsetFetchResponse,
    OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions,
)
from tests.apis.group_support import ZERO_UUID, members

Row = OffsetFetchResponsePartition | OffsetFetchResponsePartitions


def rows(response: OffsetFetchResponse, version: int) -> list[Row]:
    if version < 8:
        return [row for topic in response.topics for row in topic.partitions]
    return [row for group in response.groups for topic in group.topics for row in topic.partitions]


@pytest.mark.parametrize("version", range(1, 11))
async def test_what_was_committed(tmp_path: Path, version: int) -> None:
    async with members(tmp_path) as clients:
        await clients.commit(5, metadata="m", epoch=4)
        found = rows(await clients.fetch(version=version, partitions=(0, 1, 9)), version)
        assert [(row.partition_index, row.committed_offset, row.error_code) for row in found] == [
            (0, 5, 0),
            (1, -1, 0),
            (9, -1, 0),
        ]
        assert [row.metadata for row in found] == ["m", "", ""]
        assert found[0].committed_leader_epoch == (4 if version >= 5 else -1)


@pytest.mark.parametrize("version", range(2, 11))
async def test_everything(tmp_path: Path, version: int) -> None:
    async with members(tmp_path) as clients:
        await clients.commit(5)
        await clients.commit(6, partition=1)
        response = await clients.fetch(version=version, partitions=None)
        found = rows(response, version)
        assert [(row.partition_index, row.committed_offset) for row in found] == [(0, 5), (1, 6)]
        if version >= 8:
            (topic,) = response.groups[0].topics
            assert topic.topic_id == (clients.topic_id if version >= 10 else ZERO_UUID)
            assert topic.name == ("" if version >= 10 else "t")


@pytest.mark.parametrize("version", range(1, 11))
async def test_an_unknown_group_has_no_offsets(tmp_path: Path, version: int) -> None:
    async with members(tmp_path) as clients:
        response = await clients.fetch(version=version, group="no")
        assert [row.committed_offset for row in rows(response, version)] == [-1]
        assert response.error_code == 0


async def test_an_unknown_id(tmp_path: Path) -> None:
    async with members(tmp_path) as clients:
        (row,) = rows(await clients.fetch(topic_id=b"x" * 16), 10)
        assert (row.committed_offset, row.error_code) == (-1, ErrorCode.UNKNOWN_TOPIC_ID)


@pytest.mark.parametrize("version", range(1, 11))
async def test_a_coordinator_that_is_not_ours(tmp_path: Path, version: int) -> None:
    async with members(tmp_path) as clients:
        await clients.home.services.groups.shutdown()
        response = await clients.fetch(version=version)
        if version == 1:
            code = rows(response, 1)[0].error_code
        elif version < 8:
            code = response.error_code
        else:
            code = response.groups[0].error_code
        assert code == ErrorCode.NOT_COORDINATOR
