"""Records of ``__consumer_offsets``: keys and values, in Apache Kafka's format.

The key of a stored record starts with an int16: 1 for a committed offset, 2 for group metadata
(0 is the old form of 1).  The value starts with an int16 too: the version of its body.
"""

from __future__ import annotations

from pykbroker.protocol.schema import Message, Struct, array, bytes_, int32, int64, string, uuid


class OffsetCommitKey(Message, key=1, versions=(0, 0)):
    group: str = string()
    topic: str = string()
    partition: int = int32()


class OffsetCommitValue(Message, key=1, versions=(0, 4), flexible=4):
    offset: int = int64()
    leader_epoch: int = int32(since=3, default=-1)
    metadata: str = string()
    commit_timestamp: int = int64()
    expire_timestamp: int = int64(since=1, until=1, default=-1)
    topic_id: bytes = uuid(since=4, tag=0)


class GroupMetadataKey(Message, key=2, versions=(0, 0)):
    group: str = string()


class MemberMetadata(Struct):
    member_id: str = string()
    group_instance_id: str | None = string(since=3, nullable=3, default=None)
    client_id: str = string()
    client_host: str = string()
    rebalance_timeout: int = int32(since=1, default=-1)
    session_timeout: int = int32()
    subscription: bytes = bytes_()
    assignment: bytes = bytes_()


class GroupMetadataValue(Message, key=2, versions=(0, 4), flexible=4):
    protocol_type: str = string()
    generation: int = int32()
    protocol: str | None = string(nullable=0)
    leader: str | None = string(nullable=0)
    current_state_timestamp: int = int64(since=2, default=-1)
    members: list[MemberMetadata] = array(lambda: MemberMetadata)
