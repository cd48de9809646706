"""DeleteGroups (API key 42): request and response, versions 0 to 2."""

from __future__ import annotations

from pykbroker.protocol.schema import Message, Struct, array, int16, int32, string


class DeleteGroupsRequest(Message, key=42, versions=(0, 2), flexible=2):
    """Body of a DeleteGroups request."""

    groups_names: list[str] = array("string")


class DeletableGroupResult(Struct):
    group_id: str = string()
    error_code: int = int16()


class DeleteGroupsResponse(Message, key=42, versions=(0, 2), flexible=2):
    """Body of a DeleteGroups response."""

    throttle_time_ms: int = int32()
    results: list[DeletableGroupResult] = array(lambda: DeletableGroupResult)
