"""Heartbeat (API key 12): request and response, versions 0 to 4."""

from __future__ import annotations

from pykbroker.protocol.schema import Message, int16, int32, string


class HeartbeatRequest(Message, key=12, versions=(0, 4), flexible=4):
    """Body of a Heartbeat request."""

    group_id: str = string()
    generation_id: int = int32()
    member_id: str = string()
    group_instance_id: str | None = string(since=3, nullable=3, default=None)


class HeartbeatResponse(Message, key=12, versions=(0, 4), flexible=4):
    """Body of a Heartbeat response."""

    throttle_time_ms: int = int32(since=1)
    error_code: int = int16()
