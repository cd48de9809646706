"""LeaveGroup (API key 13): request and response, versions 0 to 5."""

from __future__ import annotations

from pykbroker.protocol.schema import Message, Struct, array, int16, int32, string


class MemberIdentity(Struct):
    member_id: str = string(since=3)
    group_instance_id: str | None = string(since=3, nullable=3, default=None)
    reason: str | None = string(since=5, nullable=5, default=None)


class LeaveGroupRequest(Message, key=13, versions=(0, 5), flexible=4):
    """Body of a LeaveGroup request."""

    group_id: str = string()
    member_id: str = string(until=2)
    members: list[MemberIdentity] = array(lambda: MemberIdentity, since=3)


class MemberResponse(Struct):
    member_id: str = string(since=3)
    group_instance_id: str | None = string(since=3, nullable=3)
    error_code: int = int16(since=3)


class LeaveGroupResponse(Message, key=13, versions=(0, 5), flexible=4):
    """Body of a LeaveGroup response."""

    throttle_time_ms: int = int32(since=1)
    error_code: int = int16()
    members: list[MemberResponse] = array(lambda: MemberResponse, since=3)
