"""OffsetDelete (API key 47): request and response, versions 0 to 0."""

from __future__ import annotations

from pykbroker.protocol.schema import Message, Struct, array, int16, int32, string


class OffsetDeleteRequestPartition(Struct):
    partition_index: int = int32()


class OffsetDeleteRequestTopic(Struct):
    name: str = string()
    partitions: list[OffsetDeleteRequestPartition] = array(lambda: OffsetDeleteRequestPartition)


class OffsetDeleteRequest(Message, key=47, versions=(0, 0)):
    """Body of a OffsetDelete request."""

    group_id: str = string()
    topics: list[OffsetDeleteRequestTopic] = array(lambda: OffsetDeleteRequestTopic)


class OffsetDeleteResponsePartition(Struct):
    partition_index: int = int32()
    error_code: int = int16()


class OffsetDeleteResponseTopic(Struct):
    name: str = string()
    partitions: list[OffsetDeleteResponsePartition] = array(lambda: OffsetDeleteResponsePartition)


class OffsetDeleteResponse(Message, key=47, versions=(0, 0)):
    """Body of a OffsetDelete response."""

    error_code: int = int16()
    throttle_time_ms: int = int32()
    topics: list[OffsetDeleteResponseTopic] = array(lambda: OffsetDeleteResponseTopic)
