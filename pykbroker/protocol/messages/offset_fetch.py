"""OffsetFetch (API key 9): request and response, versions 1 to 10."""

from __future__ import annotations

from pykbroker.protocol.schema import Message, Struct, array, boolean, int16, int32, int64, string, uuid


class OffsetFetchRequestTopic(Struct):
    name: str = string(until=7)
    partition_indexes: list[int] = array("int32", until=7)


class OffsetFetchRequestTopics(Struct):
    name: str = string(since=8, until=9)
    topic_id: bytes = uuid(since=10)
    partition_indexes: list[int] = array("int32", since=8)


class OffsetFetchRequestGroup(Struct):
    group_id: str = string(since=8)
    member_id: str | None = string(since=9, nullable=9, default=None)
    member_epoch: int = int32(since=9, default=-1)
    topics: list[OffsetFetchRequestTopics] | None = array(
        lambda: OffsetFetchRequestTopics, since=8, nullable=8
    )


class OffsetFetchRequest(Message, key=9, versions=(1, 10), flexible=6):
    """Body of a OffsetFetch request."""

    group_id: str = string(until=7)
    topics: list[OffsetFetchRequestTopic] | None = array(lambda: OffsetFetchRequestTopic, until=7, nullable=2)
    groups: list[OffsetFetchRequestGroup] = array(lambda: OffsetFetchRequestGroup, since=8)
    require_stable: bool = boolean(since=7)


class OffsetFetchResponsePartition(Struct):
    partition_index: int = int32(until=7)
    committed_offset: int = int64(until=7)
    committed_leader_epoch: int = int32(since=5, until=7, default=-1)
    metadata: str | None = string(until=7, nullable=0)
    error_code: int = int16(until=7)


class OffsetFetchResponseTopic(Struct):
    name: str = string(until=7)
    partitions: list[OffsetFetchResponsePartition] = array(lambda: OffsetFetchResponsePartition, until=7)


class OffsetFetchResponsePartitions(Struct):
    partition_index: int = int32(since=8)
    committed_offset: int = int64(since=8)
    committed_leader_epoch: int = int32(since=8, default=-1)
    metadata: str | None = string(since=8, nullable=8)
    error_code: int = int16(since=8)


class OffsetFetchResponseTopics(Struct):
    name: str = string(since=8, until=9)
    topic_id: bytes = uuid(since=10)
    partitions: list[OffsetFetchResponsePartitions] = array(lambda: OffsetFetchResponsePartitions, since=8)


class OffsetFetchResponseGroup(Struct):
    group_id: str = string(since=8)
    topics: list[OffsetFetchResponseTopics] = array(lambda: OffsetFetchResponseTopics, since=8)
    error_code: int = int16(since=8)


class OffsetFetchResponse(Message, key=9, versions=(1, 10), flexible=6):
    """Body of a OffsetFetch response."""

    throttle_time_ms: int = int32(since=3)
    topics: list[OffsetFetchResponseTopic] = array(lambda: OffsetFetchResponseTopic, until=7)
    error_code: int = int16(since=2, until=7)
    groups: list[OffsetFetchResponseGroup] = array(lambda: OffsetFetchResponseGroup, since=8)
