"""OffsetDelete (key 47), version 0 (KIP-496): forget committed offsets.

A consumer group keeps the offsets of topics that its members read (GROUP_SUBSCRIBED_TO_TOPIC); a group
with members of another protocol type keeps them all (NON_EMPTY_GROUP).
"""

from __future__ import annotations

from pykbroker.apis._registry import RequestContext, api
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.groups.messages import DeleteOffsets
from pykbroker.protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)


def failed(ctx: RequestContext, request: OffsetDeleteRequest, code: ErrorCode) -> OffsetDeleteResponse:
    """Only the code, for the request as a whole."""
    return OffsetDeleteResponse(error_code=code)


@api(OffsetDeleteRequest, OffsetDeleteResponse, failed=failed)
async def handle(ctx: RequestContext, request: OffsetDeleteRequest) -> OffsetDeleteResponse:
    """Delete the offsets of partitions that exist; the others are unknown one by one."""
    if not request.group_id:
        return failed(ctx, request, ErrorCode.INVALID_GROUP_ID)
    image = ctx.services.catalog.image
    asked = [(topic.name, p.partition_index) for topic in request.topics for p in topic.partitions]
    known = tuple(place for place in asked if image.partition(*place) is not None)
    try:
        deleted = await ctx.services.groups.delete_offsets(
            DeleteOffsets(group_id=request.group_id, partitions=known)
        )
    except KafkaError as error:
        return failed(ctx, request, error.code)
    errors = dict(zip(known, deleted.errors, strict=True))
    return OffsetDeleteResponse(
        topics=[
            OffsetDeleteResponseTopic(
                name=topic.name,
                partitions=[
                    OffsetDeleteResponsePartition(
                        partition_index=p.partition_index,
                        error_code=errors.get(
                            (topic.name, p.partition_index), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
                        ),
                    )
                    for p in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )
