"""ListGroups (key 16), versions 0 to 5: the groups that this broker coordinates.

- Version 3 is flexible, 4 (KIP-518) filters by state and shows it, 5 (KIP-848) by type.  States and types
  are compared without regard to case; an unknown one matches nothing.
"""

from __future__ import annotations

from pykbroker.apis._registry import RequestContext, api
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.protocol.messages.list_groups import ListedGroup, ListGroupsRequest, ListGroupsResponse


def failed(ctx: RequestContext, request: ListGroupsRequest, code: ErrorCode) -> ListGroupsResponse:
    """Only the code."""
    return ListGroupsResponse(error_code=code)


@api(ListGroupsRequest, ListGroupsResponse, failed=failed)
async def handle(ctx: RequestContext, request: ListGroupsRequest) -> ListGroupsResponse:
    """List the groups that pass the filters."""
    try:
        found = await ctx.services.groups.list(request.states_filter, request.types_filter)
    except KafkaError as error:
        return failed(ctx, request, error.code)
    return ListGroupsResponse(
        groups=[
            ListedGroup(
                group_id=group.group_id,
                protocol_type=group.protocol_type,
                group_state=group.state,
                group_type=group.type,
            )
            for group in found
        ]
    )
