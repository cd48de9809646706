"""JoinGroup (API key 11): request and response, versions 0 to 9."""

from __future__ import annotations

from pykbroker.protocol.schema import Message, Struct, array, boolean, bytes_, int16, int32, string


class JoinGroupRequestProtocol(Struct):
    name: str = string()
    metadata: bytes = bytes_()


class JoinGroupRequest(Message, key=11, versions=(0, 9), flexible=6):
    """Body of a JoinGroup request."""

    group_id: str = string()
    session_timeout_ms: int = int32()
    rebalance_timeout_ms: int = int32(since=1, default=-1)
    member_id: str = string()
    group_instance_id: str | None = string(since=5, nullable=5, default=None)
    protocol_type: str = string()
    protocols: list[JoinGroupRequestProtocol] = array(lambda: JoinGroupRequestProtocol)
    reason: str | None = string(since=8, nullable=8, default=None)


class JoinGroupResponseMember(Struct):
    member_id: str = string()
    group_instance_id: str | None = string(since=5, nullable=5, default=None)
    metadata: bytes = bytes_()


class JoinGroupResponse(Message, key=11, versions=(0, 9), flexible=6):
    """Body of a JoinGroup response."""

    throttle_time_ms: int = int32(since=2)
    error_code: int = int16()
    generation_id: int = int32(default=-1)
    protocol_type: str | None = string(since=7, nullable=7, default=None)
    protocol_name: str | None = string(nullable=7)
    leader: str = string()
    skip_assignment: bool = boolean(since=9)
    member_id: str = string()
    members: list[JoinGroupResponseMember] = array(lambda: JoinGroupResponseMember)
