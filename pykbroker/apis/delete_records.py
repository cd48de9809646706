"""DeleteRecords (API key 21), versions 0 to 2 (1 and 2 changed nothing but throttling and encoding).

Moves the log start of each partition up to an offset (-1: the high watermark) and answers it as the low
watermark; at or below the log start it is a success that does nothing.  Beyond the high watermark, or below
-1: OFFSET_OUT_OF_RANGE.  Internal topics: INVALID_TOPIC_EXCEPTION.  Topics without ``delete`` in their
``cleanup.policy``: POLICY_VIOLATION.  Files go with the next round of retention.
"""

from __future__ import annotations

from pykbroker.apis._registry import RequestContext, api
from pykbroker.catalog.image import HIDDEN_PREFIX, INTERNAL
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.protocol.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsPartitionResult,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopicResult,
)


def failed(ctx: RequestContext, request: DeleteRecordsRequest, code: ErrorCode) -> DeleteRecordsResponse:
    """Every partition that was named, with ``code``."""
    return DeleteRecordsResponse(
        topics=[
            DeleteRecordsTopicResult(
                name=topic.name, partitions=[refused(p.partition_index, code) for p in topic.partitions]
            )
            for topic in request.topics
        ]
    )


@api(DeleteRecordsRequest, DeleteRecordsResponse, failed=failed)
def handle(ctx: RequestContext, request: DeleteRecordsRequest) -> DeleteRecordsResponse:
    """Move the log starts."""
    return DeleteRecordsResponse(
        topics=[
            DeleteRecordsTopicResult(
                name=topic.name, partitions=[_delete(ctx, topic.name, p) for p in topic.partitions]
            )
            for topic in request.topics
        ]
    )


def refused(index: int, code: ErrorCode) -> DeleteRecordsPartitionResult:
    """A partition's answer that is only an error."""
    return DeleteRecordsPartitionResult(partition_index=index, low_watermark=-1, error_code=code)


def _delete(ctx: RequestContext, topic: str, wanted: DeleteRecordsPartition) -> DeleteRecordsPartitionResult:
    try:
        partition = ctx.services.partitions.get(topic, wanted.partition_index)
        if topic in INTERNAL or topic.startswith(HIDDEN_PREFIX):
            raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION)
        if not partition.config.deletes:
            raise KafkaError(ErrorCode.POLICY_VIOLATION)
        low = partition.delete_records_before(wanted.offset)
    except KafkaError as error:
        return refused(wanted.partition_index, error.code)
    return DeleteRecordsPartitionResult(partition_index=wanted.partition_index, low_watermark=low)
