"""ListGroups (API key 16): request and response, versions 0 to 5."""

from __future__ import annotations

from pykbroker.protocol.schema import Message, Struct, array, int16, int32, string


class ListGroupsRequest(Message, key=16, versions=(0, 5), flexible=3):
    """Body of a ListGroups request."""

    states_filter: list[str] = array("string", since=4)
    types_filter: list[str] = array("string", since=5)


class ListedGroup(Struct):
    group_id: str = string()
    protocol_type: str = string()
    group_state: str = string(since=4)
    group_type: str = string(since=5)


class ListGroupsResponse(Message, key=16, versions=(0, 5), flexible=3):
    """Body of a ListGroups response."""

    throttle_time_ms: int = int32(since=1)
    error_code: int = int16()
    groups: list[ListedGroup] = array(lambda: ListedGroup)
