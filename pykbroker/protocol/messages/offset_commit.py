"""OffsetCommit (API key 8): request and response, versions 2 to 10."""

from __future__ import annotations

from pykbroker.protocol.schema import Message, Struct, array, int16, int32, int64, string, uuid


class OffsetCommitRequestPartition(Struct):
    partition_index: int = int32()
    committed_offset: int = int64()
    committed_leader_epoch: int = int32(since=6, default=-1)
    committed_metadata: str | None = string(nullable=0)


class OffsetCommitRequestTopic(Struct):
    name: str = string(until=9)
    topic_id: bytes = uuid(since=10)
    partitions: list[OffsetCommitRequestPartition] = array(lambda: OffsetCommitRequestPartition)


class OffsetCommitRequest(Message, key=8, versions=(2, 10), flexible=8):
    """Body of a OffsetCommit request."""

    group_id: str = string()
    generation_id_or_member_epoch: int = int32(default=-1)
    member_id: str = string()
    group_instance_id: str | None = string(since=7, nullable=7, default=None)
    retention_time_ms: int = int64(until=4, default=-1)
    topics: list[OffsetCommitRequestTopic] = array(lambda: OffsetCommitRequestTopic)


class OffsetCommitResponsePartition(Struct):
    partition_index: int = int32()
    error_code: int = int16()


class OffsetCommitResponseTopic(Struct):
    name: str = string(until=9)
    topic_id: bytes = uuid(since=10)
    partitions: list[OffsetCommitResponsePartition] = array(lambda: OffsetCommitResponsePartition)


class OffsetCommitResponse(Message, key=8, versions=(2, 10), flexible=8):
    """Body of a OffsetCommit response."""

    throttle_time_ms: int = int32(since=3)
    topics: list[OffsetCommitResponseTopic] = array(lambda: OffsetCommitResponseTopic)
