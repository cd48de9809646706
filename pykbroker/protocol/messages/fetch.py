"""Fetch (API key 1): request and response, versions 4 to 18."""

from __future__ import annotations

from pykbroker.protocol.schema import (
    Message,
    Records,
    Struct,
    array,
    int8,
    int16,
    int32,
    int64,
    record_bytes,
    string,
    struct,
    uuid,
)


class ReplicaState(Struct):
    replica_id: int = int32(since=15, default=-1)
    replica_epoch: int = int64(since=15, default=-1)


class FetchPartition(Struct):
    partition: int = int32()
    current_leader_epoch: int = int32(since=9, default=-1)
    fetch_offset: int = int64()
    last_fetched_epoch: int = int32(since=12, default=-1)
    log_start_offset: int = int64(since=5, default=-1)
    partition_max_bytes: int = int32()
    replica_directory_id: bytes = uuid(since=17, tag=0)
    high_watermark: int = int64(since=18, default=9223372036854775807, tag=1)


class FetchTopic(Struct):
    topic: str = string(until=12)
    topic_id: bytes = uuid(since=13)
    partitions: list[FetchPartition] = array(lambda: FetchPartition)


class ForgottenTopic(Struct):
    topic: str = string(since=7, until=12)
    topic_id: bytes = uuid(since=13)
    partitions: list[int] = array("int32", since=7)


class FetchRequest(Message, key=1, versions=(4, 18), flexible=12):
    """Body of a Fetch request."""

    cluster_id: str | None = string(since=12, nullable=12, default=None, tag=0)
    replica_id: int = int32(until=14, default=-1)
    replica_state: ReplicaState = struct(lambda: ReplicaState, since=15, tag=1)
    max_wait_ms: int = int32()
    min_bytes: int = int32()
    max_bytes: int = int32(default=2147483647)
    isolation_level: int = int8()
    session_id: int = int32(since=7)
    session_epoch: int = int32(since=7, default=-1)
    topics: list[FetchTopic] = array(lambda: FetchTopic)
    forgotten_topics_data: list[ForgottenTopic] = array(lambda: ForgottenTopic, since=7)
    rack_id: str = string(since=11)


class EpochEndOffset(Struct):
    epoch: int = int32(since=12, default=-1)
    end_offset: int = int64(since=12, default=-1)


class LeaderIdAndEpoch(Struct):
    leader_id: int = int32(since=12, default=-1)
    leader_epoch: int = int32(since=12, default=-1)


class SnapshotId(Struct):
    end_offset: int = int64(default=-1)
    epoch: int = int32(default=-1)


class AbortedTransaction(Struct):
    producer_id: int = int64()
    first_offset: int = int64()


class PartitionData(Struct):
    partition_index: int = int32()
    error_code: int = int16()
    high_watermark: int = int64()
    last_stable_offset: int = int64(default=-1)
    log_start_offset: int = int64(since=5, default=-1)
    diverging_epoch: EpochEndOffset = struct(lambda: EpochEndOffset, since=12, tag=0)
    current_leader: LeaderIdAndEpoch = struct(lambda: LeaderIdAndEpoch, since=12, tag=1)
    snapshot_id: SnapshotId = struct(lambda: SnapshotId, since=12, tag=2)
    aborted_transactions: list[AbortedTransaction] | None = array(lambda: AbortedTransaction, nullable=4)
    preferred_read_replica: int = int32(since=11, default=-1)
    records: Records | None = record_bytes(nullable=0)


class FetchableTopicResponse(Struct):
    topic: str = string(until=12)
    topic_id: bytes = uuid(since=13)
    partitions: list[PartitionData] = array(lambda: PartitionData)


class NodeEndpoint(Struct):
    node_id: int = int32(since=16)
    host: str = string(since=16)
    port: int = int32(since=16)
    rack: str | None = string(since=16, nullable=16, default=None)


class FetchResponse(Message, key=1, versions=(4, 18), flexible=12):
    """Body of a Fetch response."""

    throttle_time_ms: int = int32()
    error_code: int = int16(since=7)
    session_id: int = int32(since=7)
    responses: list[FetchableTopicResponse] = array(lambda: FetchableTopicResponse)
    node_endpoints: list[NodeEndpoint] = array(lambda: NodeEndpoint, since=16, tag=0)
