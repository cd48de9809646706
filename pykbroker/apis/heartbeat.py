"""Heartbeat (key 12), versions 0 to 4: a member says that it is alive, and hears whether to rejoin.

- Version 3 (KIP-345) has static members, 4 is flexible.
"""

from __future__ import annotations

from pykbroker.apis._registry import RequestContext, api
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.groups.messages import Heartbeat
from pykbroker.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse


def failed(ctx: RequestContext, request: HeartbeatRequest, code: ErrorCode) -> HeartbeatResponse:
    """Only the code."""
    return HeartbeatResponse(error_code=code)


@api(HeartbeatRequest, HeartbeatResponse, failed=failed)
async def handle(ctx: RequestContext, request: HeartbeatRequest) -> HeartbeatResponse:
    """Prolong the member's session."""
    beat = Heartbeat(
        group_id=request.group_id,
        member_id=request.member_id,
        generation=request.generation_id,
        instance_id=request.group_instance_id,
    )
    try:
        return HeartbeatResponse(error_code=await ctx.services.groups.heartbeat(beat))
    except KafkaError as error:
        return failed(ctx, request, error.code)
