"""SyncGroup (API key 14): request and response, versions 0 to 5."""

from __future__ import annotations

from pykbroker.protocol.schema import Message, Struct, array, bytes_, int16, int32, string


class SyncGroupRequestAssignment(Struct):
    member_id: str = string()
    assignment: bytes = bytes_()


class SyncGroupRequest(Message, key=14, versions=(0, 5), flexible=4):
    """Body of a SyncGroup request."""

    group_id: str = string()
    generation_id: int = int32()
    member_id: str = string()
    group_instance_id: str | None = string(since=3, nullable=3, default=None)
    protocol_type: str | None = string(since=5, nullable=5, default=None)
    protocol_name: str | None = string(since=5, nullable=5, default=None)
    assignments: list[SyncGroupRequestAssignment] = array(lambda: SyncGroupRequestAssignment)


class SyncGroupResponse(Message, key=14, versions=(0, 5), flexible=4):
    """Body of a SyncGroup response."""

    throttle_time_ms: int = int32(since=1)
    error_code: int = int16()
    protocol_type: str | None = string(since=5, nullable=5, default=None)
    protocol_name: str | None = string(since=5, nullable=5, default=None)
    assignment: bytes = bytes_()
