"""DeleteRecords (API key 21): request and response, versions 0 to 2."""

from __future__ import annotations

from pykbroker.protocol.schema import Message, Struct, array, int16, int32, int64, string


class DeleteRecordsPartition(Struct):
    partition_index: int = int32()
    offset: int = int64()


class DeleteRecordsTopic(Struct):
    name: str = string()
    partitions: list[DeleteRecordsPartition] = array(lambda: DeleteRecordsPartition)


class DeleteRecordsRequest(Message, key=21, versions=(0, 2), flexible=2):
    """Body of a DeleteRecords request."""

    topics: list[DeleteRecordsTopic] = array(lambda: DeleteRecordsTopic)
    timeout_ms: int = int32()


class DeleteRecordsPartitionResult(Struct):
    partition_index: int = int32()
    low_watermark: int = int64()
    error_code: int = int16()


class DeleteRecordsTopicResult(Struct):
    name: str = string()
    partitions: list[DeleteRecordsPartitionResult] = array(lambda: DeleteRecordsPartitionResult)


class DeleteRecordsResponse(Message, key=21, versions=(0, 2), flexible=2):
    """Body of a DeleteRecords response."""

    throttle_time_ms: int = int32()
    topics: list[DeleteRecordsTopicResult] = array(lambda: DeleteRecordsTopicResult)
