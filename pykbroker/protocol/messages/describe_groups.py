"""DescribeGroups (API key 15): request and response, versions 0 to 6."""

from __future__ import annotations

from pykbroker.protocol.schema import Message, Struct, array, boolean, bytes_, int16, int32, string


class DescribeGroupsRequest(Message, key=15, versions=(0, 6), flexible=5):
    """Body of a DescribeGroups request."""

    groups: list[str] = array("string")
    include_authorized_operations: bool = boolean(since=3)


class DescribedGroupMember(Struct):
    member_id: str = string()
    group_instance_id: str | None = string(since=4, nullable=4, default=None)
    client_id: str = string()
    client_host: str = string()
    member_metadata: bytes = bytes_()
    member_assignment: bytes = bytes_()


class DescribedGroup(Struct):
    error_code: int = int16()
    error_message: str | None = string(since=6, nullable=6, default=None)
    group_id: str = string()
    group_state: str = string()
    protocol_type: str = string()
    protocol_data: str = string()
    members: list[DescribedGroupMember] = array(lambda: DescribedGroupMember)
    authorized_operations: int = int32(since=3, default=-2147483648)


class DescribeGroupsResponse(Message, key=15, versions=(0, 6), flexible=5):
    """Body of a DescribeGroups response."""

    throttle_time_ms: int = int32(since=1)
    groups: list[DescribedGroup] = array(lambda: DescribedGroup)
