"""FindCoordinator (API key 10): request and response, versions 0 to 6."""

from __future__ import annotations

from pykbroker.protocol.schema import Message, Struct, array, int8, int16, int32, string


class FindCoordinatorRequest(Message, key=10, versions=(0, 6), flexible=3):
    """Body of a FindCoordinator request."""

    key: str = string(until=3)
    key_type: int = int8(since=1)
    coordinator_keys: list[str] = array("string", since=4)


class Coordinator(Struct):
    key: str = string(since=4)
    node_id: int = int32(since=4)
    host: str = string(since=4)
    port: int = int32(since=4)
    error_code: int = int16(since=4)
    error_message: str | None = string(since=4, nullable=4)


class FindCoordinatorResponse(Message, key=10, versions=(0, 6), flexible=3):
    """Body of a FindCoordinator response."""

    throttle_time_ms: int = int32(since=1)
    error_code: int = int16(until=3)
    error_message: str | None = string(since=1, until=3, nullable=1)
    node_id: int = int32(until=3)
    host: str = string(until=3)
    port: int = int32(until=3)
    coordinators: list[Coordinator] = array(lambda: Coordinator, since=4)
