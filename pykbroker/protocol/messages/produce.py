"""Produce (API key 0): request and response, versions 3 to 13."""

from __future__ import annotations

from pykbroker.protocol.schema import (
    Message,
    Records,
    Struct,
    array,
    int16,
    int32,
    int64,
    record_bytes,
    string,
    struct,
    uuid,
)


class PartitionProduceData(Struct):
    index: int = int32()
    records: Records | None = record_bytes(nullable=0)


class TopicProduceData(Struct):
    name: str = string(until=12)
    topic_id: bytes = uuid(since=13)
    partition_data: list[PartitionProduceData] = array(lambda: PartitionProduceData)


class ProduceRequest(Message, key=0, versions=(3, 13), flexible=9):
    """Body of a Produce request."""

    transactional_id: str | None = string(nullable=3, default=None)
    acks: int = int16()
    timeout_ms: int = int32()
    topic_data: list[TopicProduceData] = array(lambda: TopicProduceData)


class BatchIndexAndErrorMessage(Struct):
    batch_index: int = int32(since=8)
    batch_index_error_message: str | None = string(since=8, nullable=8, default=None)


class LeaderIdAndEpoch(Struct):
    leader_id: int = int32(since=10, default=-1)
    leader_epoch: int = int32(since=10, default=-1)


class PartitionProduceResponse(Struct):
    index: int = int32()
    error_code: int = int16()
    base_offset: int = int64()
    log_append_time_ms: int = int64(default=-1)
    log_start_offset: int = int64(since=5, default=-1)
    record_errors: list[BatchIndexAndErrorMessage] = array(lambda: BatchIndexAndErrorMessage, since=8)
    error_message: str | None = string(since=8, nullable=8, default=None)
    current_leader: LeaderIdAndEpoch = struct(lambda: LeaderIdAndEpoch, since=10, tag=0)


class TopicProduceResponse(Struct):
    name: str = string(until=12)
    topic_id: bytes = uuid(since=13)
    partition_responses: list[PartitionProduceResponse] = array(lambda: PartitionProduceResponse)


class NodeEndpoint(Struct):
    node_id: int = int32(since=10)
    host: str = string(since=10)
    port: int = int32(since=10)
    rack: str | None = string(since=10, nullable=10, default=None)


class ProduceResponse(Message, key=0, versions=(3, 13), flexible=9):
    """Body of a Produce response."""

    responses: list[TopicProduceResponse] = array(lambda: TopicProduceResponse)
    throttle_time_ms: int = int32()
    node_endpoints: list[NodeEndpoint] = array(lambda: NodeEndpoint, since=10, tag=0)
