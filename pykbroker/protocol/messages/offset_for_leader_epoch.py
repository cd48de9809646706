"""OffsetForLeaderEpoch (API key 23): request and response, versions 2 to 4."""

from __future__ import annotations

from pykbroker.protocol.schema import Message, Struct, array, int16, int32, int64, string


class OffsetForLeaderPartition(Struct):
    partition: int = int32()
    current_leader_epoch: int = int32(default=-1)
    leader_epoch: int = int32()


class OffsetForLeaderTopic(Struct):
    topic: str = string()
    partitions: list[OffsetForLeaderPartition] = array(lambda: OffsetForLeaderPartition)


class OffsetForLeaderEpochRequest(Message, key=23, versions=(2, 4), flexible=4):
    """Body of a OffsetForLeaderEpoch request."""

    replica_id: int = int32(since=3, default=-2)
    topics: list[OffsetForLeaderTopic] = array(lambda: OffsetForLeaderTopic)


class EpochEndOffset(Struct):
    error_code: int = int16()
    partition: int = int32()
    leader_epoch: int = int32(default=-1)
    end_offset: int = int64(default=-1)


class OffsetForLeaderTopicResult(Struct):
    topic: str = string()
    partitions: list[EpochEndOffset] = array(lambda: EpochEndOffset)


class OffsetForLeaderEpochResponse(Message, key=23, versions=(2, 4), flexible=4):
    """Body of a OffsetForLeaderEpoch response."""

    throttle_time_ms: int = int32()
    topics: list[OffsetForLeaderTopicResult] = array(lambda: OffsetForLeaderTopicResult)
