"""CreateTopics (API key 19): request and response, versions 2 to 7."""

from __future__ import annotations

from pykbroker.protocol.schema import Message, Struct, array, boolean, int8, int16, int32, string, uuid


class CreatableReplicaAssignment(Struct):
    partition_index: int = int32()
    broker_ids: list[int] = array("int32")


class CreatableTopicConfig(Struct):
    name: str = string()
    value: str | None = string(nullable=0)


class CreatableTopic(Struct):
    name: str = string()
    num_partitions: int = int32()
    replication_factor: int = int16()
    assignments: list[CreatableReplicaAssignment] = array(lambda: CreatableReplicaAssignment)
    configs: list[CreatableTopicConfig] = array(lambda: CreatableTopicConfig)


class CreateTopicsRequest(Message, key=19, versions=(2, 7), flexible=5):
    """Body of a CreateTopics request."""

    topics: list[CreatableTopic] = array(lambda: CreatableTopic)
    timeout_ms: int = int32(default=60000)
    validate_only: bool = boolean()


class CreatableTopicConfigs(Struct):
    name: str = string(since=5)
    value: str | None = string(since=5, nullable=5)
    read_only: bool = boolean(since=5)
    config_source: int = int8(since=5, default=-1)
    is_sensitive: bool = boolean(since=5)


class CreatableTopicResult(Struct):
    name: str = string()
    topic_id: bytes = uuid(since=7)
    error_code: int = int16()
    error_message: str | None = string(nullable=0)
    topic_config_error_code: int = int16(since=5, tag=0)
    num_partitions: int = int32(since=5, default=-1)
    replication_factor: int = int16(since=5, default=-1)
    configs: list[CreatableTopicConfigs] | None = array(lambda: CreatableTopicConfigs, since=5, nullable=5)


class CreateTopicsResponse(Message, key=19, versions=(2, 7), flexible=5):
    """Body of a CreateTopics response."""

    throttle_time_ms: int = int32()
    topics: list[CreatableTopicResult] = array(lambda: CreatableTopicResult)
