"""DescribeLogDirs (API key 35): request and response, versions 1 to 5."""

from __future__ import annotations

from pykbroker.protocol.schema import Message, Struct, array, boolean, int16, int32, int64, string


class DescribableLogDirTopic(Struct):
    topic: str = string()
    partitions: list[int] = array("int32")


class DescribeLogDirsRequest(Message, key=35, versions=(1, 5), flexible=2):
    """Body of a DescribeLogDirs request."""

    topics: list[DescribableLogDirTopic] | None = array(lambda: DescribableLogDirTopic, nullable=0)


class DescribeLogDirsPartition(Struct):
    partition_index: int = int32()
    partition_size: int = int64()
    offset_lag: int = int64()
    is_future_key: bool = boolean()


class DescribeLogDirsTopic(Struct):
    name: str = string()
    partitions: list[DescribeLogDirsPartition] = array(lambda: DescribeLogDirsPartition)


class DescribeLogDirsResult(Struct):
    error_code: int = int16()
    log_dir: str = string()
    topics: list[DescribeLogDirsTopic] = array(lambda: DescribeLogDirsTopic)
    total_bytes: int = int64(since=4, default=-1)
    usable_bytes: int = int64(since=4, default=-1)
    is_cordoned: bool = boolean(since=5)


class DescribeLogDirsResponse(Message, key=35, versions=(1, 5), flexible=2):
    """Body of a DescribeLogDirs response."""

    throttle_time_ms: int = int32()
    error_code: int = int16(since=3)
    results: list[DescribeLogDirsResult] = array(lambda: DescribeLogDirsResult)
