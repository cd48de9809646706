"""ListOffsets (API key 2): request and response, versions 1 to 11."""

from __future__ import annotations

from pykbroker.protocol.schema import Message, Struct, array, int8, int16, int32, int64, string


class ListOffsetsPartition(Struct):
    partition_index: int = int32()
    current_leader_epoch: int = int32(since=4, default=-1)
    timestamp: int = int64()


class ListOffsetsTopic(Struct):
    name: str = string()
    partitions: list[ListOffsetsPartition] = array(lambda: ListOffsetsPartition)


class ListOffsetsRequest(Message, key=2, versions=(1, 11), flexible=6):
    """Body of a ListOffsets request."""

    replica_id: int = int32()
    isolation_level: int = int8(since=2)
    topics: list[ListOffsetsTopic] = array(lambda: ListOffsetsTopic)
    timeout_ms: int = int32(since=10)


class ListOffsetsPartitionResponse(Struct):
    partition_index: int = int32()
    error_code: int = int16()
    timestamp: int = int64(default=-1)
    offset: int = int64(default=-1)
    leader_epoch: int = int32(since=4, default=-1)


class ListOffsetsTopicResponse(Struct):
    name: str = string()
    partitions: list[ListOffsetsPartitionResponse] = array(lambda: ListOffsetsPartitionResponse)


class ListOffsetsResponse(Message, key=2, versions=(1, 11), flexible=6):
    """Body of a ListOffsets response."""

    throttle_time_ms: int = int32(since=2)
    topics: list[ListOffsetsTopicResponse] = array(lambda: ListOffsetsTopicResponse)
