"""OffsetDelete."""

from __future__ import annotations

from pathlib import Path

from pykbroker.errors import ErrorCode
from pykbroker.protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
    OffsetDeleteResponse,
)
from tests.apis.group_support import Members, members


async def delete(clients: Members, group: str = "g", topic: str = "t", partition: int = 0) -> tuple[int, int]:
    """The code of the request, and of its only partition (0 if it has none)."""
    request = OffsetDeleteRequest(
        group_id=group,
        topics=[
            OffsetDeleteRequestTopic(
                name=topic, partitions=[OffsetDeleteRequestPartition(partition_index=partition)]
            )
        ],
    )
    response = await clients.home.call(request, OffsetDeleteResponse, 0)
    codes = [p.error_code for found in response.topics for p in found.partitions]
    return response.error_code, codes[0] if codes else 0


async def test_codes(tmp_path: Path) -> None:
    async with members(tmp_path) as clients:
        await clients.home.topic("u")
        await clients.commit(1)
        await clients.commit(1, topic="u", version=9)
        assert await delete(clients, "no") == (ErrorCode.GROUP_ID_NOT_FOUND, 0)
        assert await delete(clients, "") == (ErrorCode.INVALID_GROUP_ID, 0)
        assert await delete(clients, topic="no") == (0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        assert await delete(clients, partition=7) == (0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        await clients.stable()
        assert await delete(clients) == (0, ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC)
        assert await delete(clients, topic="u") == (0, ErrorCode.NONE)
        response = await clients.fetch(partitions=None)
        assert [topic.topic_id for topic in response.groups[0].topics] == [clients.topic_id]
