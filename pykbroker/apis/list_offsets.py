"""ListOffsets (API key 2), versions 1 to 11.

2 isolation level, 4 leader epochs (KIP-320), 7 the largest timestamp, -3 (KIP-734), 8 earliest local, -4
(KIP-405), 9 latest tiered, -5 (KIP-1005), 10 a timeout for tiered reads (ignored: nothing is tiered), 11
earliest pending upload, -6 (KIP-1023).  A special timestamp that is newer than the request's version, or that
nobody knows, gets UNSUPPORTED_VERSION for its partition.

Nothing found is not an error: offset and timestamp -1.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from pykbroker.apis._registry import RequestContext, api
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.partitions.partition import Partition
from pykbroker.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsPartitionResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)

LATEST: Final = -1
EARLIEST: Final = -2
MAX_TIMESTAMP: Final = -3
EARLIEST_LOCAL: Final = -4
LATEST_TIERED: Final = -5
EARLIEST_PENDING_UPLOAD: Final = -6

SPECIAL_SINCE: Final = {
    LATEST: 1,
    EARLIEST: 1,
    MAX_TIMESTAMP: 7,
    EARLIEST_LOCAL: 8,
    LATEST_TIERED: 9,
    EARLIEST_PENDING_UPLOAD: 11,
}
"""First version that knows each special timestamp."""

CONSUMER: Final = -1
READ_COMMITTED: Final = 1
EPOCHS_SINCE: Final = 4


def failed(ctx: RequestContext, request: ListOffsetsRequest, code: ErrorCode) -> ListOffsetsResponse:
    """Every partition that was named, with ``code``."""
    return ListOffsetsResponse(
        topics=[
            ListOffsetsTopicResponse(
                name=topic.name, partitions=[refused(p.partition_index, code) for p in topic.partitions]
            )
            for topic in request.topics
        ]
    )


@api(ListOffsetsRequest, ListOffsetsResponse, failed=failed)
def handle(ctx: RequestContext, request: ListOffsetsRequest) -> ListOffsetsResponse:
    """Look up each partition on its own."""
    named = Counter((topic.name, p.partition_index) for topic in request.topics for p in topic.partitions)
    response = ListOffsetsResponse(topics=[])
    for topic in request.topics:
        answers: list[ListOffsetsPartitionResponse] = []
        response.topics.append(ListOffsetsTopicResponse(name=topic.name, partitions=answers))
        for wanted in topic.partitions:
            times = named[topic.name, wanted.partition_index]
            if times == 0:
                continue  # named twice, and answered already
            try:
                if times > 1:
                    named[topic.name, wanted.partition_index] = 0
                    raise KafkaError(ErrorCode.INVALID_REQUEST)
                answers.append(_look_up(ctx, request, topic.name, wanted))
            except KafkaError as error:
                answers.append(refused(wanted.partition_index, error.code))
    return response


def refused(index: int, code: ErrorCode) -> ListOffsetsPartitionResponse:
    """A partition's answer that is only an error."""
    return ListOffsetsPartitionResponse(partition_index=index, error_code=code)


def _look_up(
    ctx: RequestContext, request: ListOffsetsRequest, topic: str, wanted: ListOffsetsPartition
) -> ListOffsetsPartitionResponse:
    timestamp = wanted.timestamp
    if timestamp < 0 and ctx.version < SPECIAL_SINCE.get(timestamp, ctx.version + 1):
        raise KafkaError(ErrorCode.UNSUPPORTED_VERSION)
    partition = ctx.services.partitions.get(topic, wanted.partition_index)
    partition.check_leader_epoch(wanted.current_leader_epoch)
    answer = ListOffsetsPartitionResponse(partition_index=wanted.partition_index)
    end = _end_offset(partition, request)
    if timestamp == LATEST:
        answer.offset, answer.leader_epoch = end, partition.leader_epoch
    elif timestamp in (EARLIEST, EARLIEST_LOCAL):
        answer.offset = partition.log_start_offset
        answer.leader_epoch = _epoch_of(partition, answer.offset)
    elif timestamp not in (LATEST_TIERED, EARLIEST_PENDING_UPLOAD):
        found = _search(partition, timestamp, end)
        if found is not None:
            answer.offset, answer.timestamp = found
            answer.leader_epoch = _epoch_of(partition, answer.offset)
    return answer


def _end_offset(partition: Partition, request: ListOffsetsRequest) -> int:
    """Below which offset the asking side may see anything."""
    if request.replica_id != CONSUMER:
        return partition.log_end_offset
    if request.isolation_level == READ_COMMITTED:
        return partition.last_stable_offset
    return partition.high_watermark


def _search(partition: Partition, timestamp: int, end: int) -> tuple[int, int] | None:
    """(offset, timestamp) of the record that a timestamp, or MAX_TIMESTAMP, stands for."""
    if timestamp != MAX_TIMESTAMP:
        return partition.log.offset_for_timestamp(timestamp, end)
    found = partition.log.max_timestamp()
    return found if found is not None and found[0] < end else None


def _epoch_of(partition: Partition, offset: int) -> int:
    epoch = partition.log.epochs.epoch_for(offset)
    return -1 if epoch is None else epoch
