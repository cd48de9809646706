"""LeaveGroup (key 13), versions 0 to 5: members go, and the others rebalance.

- Version 3 (KIP-345) removes several members, static ones by instance id alone, each with its own code;
  4 is flexible, 5 (KIP-800) carries a reason.
"""

from __future__ import annotations

from pykbroker.apis._registry import RequestContext, api
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.groups.messages import Leave, Leaver
from pykbroker.protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse, MemberResponse


def failed(ctx: RequestContext, request: LeaveGroupRequest, code: ErrorCode) -> LeaveGroupResponse:
    """Only the code, for the request as a whole."""
    return LeaveGroupResponse(error_code=code)


@api(LeaveGroupRequest, LeaveGroupResponse, failed=failed)
async def handle(ctx: RequestContext, request: LeaveGroupRequest) -> LeaveGroupResponse:
    """Remove the members."""
    if ctx.version >= 3:
        leavers = tuple(Leaver(m.member_id, m.group_instance_id, m.reason) for m in request.members)
    else:
        leavers = (Leaver(request.member_id),)
    try:
        left = await ctx.services.groups.leave(Leave(group_id=request.group_id, leavers=leavers))
        errors = left.errors
    except KafkaError as error:
        if error.code is not ErrorCode.UNKNOWN_MEMBER_ID:
            return failed(ctx, request, error.code)
        # No such group, so none of its members.
        errors = (error.code,) * len(leavers)
    if ctx.version < 3:
        return LeaveGroupResponse(error_code=errors[0])
    return LeaveGroupResponse(
        members=[
            MemberResponse(member_id=leaver.member_id, group_instance_id=leaver.instance_id, error_code=error)
            for leaver, error in zip(leavers, errors, strict=True)
        ]
    )
