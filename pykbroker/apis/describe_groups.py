"""DescribeGroups (key 15), versions 0 to 6: state and members of groups.

- Version 3 may ask for authorized operations, 4 (KIP-345) shows instance ids, 5 is flexible, 6
  (KIP-1043) answers GROUP_ID_NOT_FOUND with a message; below, a missing group is Dead without an error.
- Without an authorizer every operation of a group is allowed, which is what Kafka says then.
"""

from __future__ import annotations

from pykbroker.apis._registry import RequestContext, api
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.groups.messages import Description
from pykbroker.protocol.messages.describe_groups import (
    DescribedGroup,
    DescribedGroupMember,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
)

NOT_ASKED = -2147483648
"""Authorized operations when they were not asked for."""

ALL_OPERATIONS = sum(1 << operation for operation in (3, 6, 8, 10, 11))
"""Read, delete, describe, describe configs, alter configs."""


def failed(ctx: RequestContext, request: DescribeGroupsRequest, code: ErrorCode) -> DescribeGroupsResponse:
    """``code`` for every group."""
    return DescribeGroupsResponse(groups=[_refused(group_id, code) for group_id in request.groups])


@api(DescribeGroupsRequest, DescribeGroupsResponse, failed=failed)
async def handle(ctx: RequestContext, request: DescribeGroupsRequest) -> DescribeGroupsResponse:
    """Describe each group."""
    groups = [await _describe(ctx, group_id) for group_id in request.groups]
    if ctx.version >= 3 and request.include_authorized_operations:
        for group in groups:
            if group.error_code == ErrorCode.NONE:
                group.authorized_operations = ALL_OPERATIONS
    return DescribeGroupsResponse(groups=groups)


async def _describe(ctx: RequestContext, group_id: str) -> DescribedGroup:
    try:
        found = await ctx.services.groups.describe(group_id)
    except KafkaError as error:
        return _refused(group_id, error.code)
    if found is not None:
        return _described(found)
    group = _refused(group_id, ErrorCode.NONE)
    group.group_state = "Dead"
    if ctx.version >= 6:
        group.error_code = ErrorCode.GROUP_ID_NOT_FOUND
        group.error_message = f"Group {group_id} not found."
    return group


def _refused(group_id: str, code: ErrorCode) -> DescribedGroup:
    return DescribedGroup(group_id=group_id, error_code=code, authorized_operations=NOT_ASKED)


def _described(group: Description) -> DescribedGroup:
    return DescribedGroup(
        group_id=group.group_id,
        group_state=group.state,
        protocol_type=group.protocol_type,
        protocol_data=group.protocol,
        members=[
            DescribedGroupMember(
                member_id=member.member_id,
                group_instance_id=member.instance_id,
                client_id=member.client_id,
                client_host=member.client_host,
                member_metadata=member.metadata,
                member_assignment=member.assignment,
            )
            for member in group.members
        ],
        authorized_operations=NOT_ASKED,
    )
