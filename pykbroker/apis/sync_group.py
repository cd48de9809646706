"""SyncGroup (key 14), versions 0 to 5: hand in the assignments, or get one's own.

- Version 3 (KIP-345) has static members, 4 is flexible, 5 names protocol type and name, which must be
  there and fit the group's.
- A follower's answer waits for the leader's assignments.
"""

from __future__ import annotations

from pykbroker.apis._registry import RequestContext, api
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.groups.messages import Sync
from pykbroker.protocol.messages.sync_group import SyncGroupRequest, SyncGroupResponse


def failed(ctx: RequestContext, request: SyncGroupRequest, code: ErrorCode) -> SyncGroupResponse:
    """``code`` and an empty assignment."""
    return SyncGroupResponse(error_code=code, protocol_type=None, protocol_name=None, assignment=b"")


@api(SyncGroupRequest, SyncGroupResponse, failed=failed, waits_for_others=True)
async def handle(ctx: RequestContext, request: SyncGroupRequest) -> SyncGroupResponse:
    """Wait for the assignment."""
    if ctx.version >= 5 and (request.protocol_type is None or request.protocol_name is None):
        return failed(ctx, request, ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
    sync = Sync(
        group_id=request.group_id,
        member_id=request.member_id,
        generation=request.generation_id,
        instance_id=request.group_instance_id,
        protocol_type=request.protocol_type,
        protocol=request.protocol_name,
        assignments=tuple((a.member_id, bytes(a.assignment)) for a in request.assignments),
    )
    try:
        synced = await ctx.services.groups.sync(sync)
    except KafkaError as error:
        return failed(ctx, request, error.code)
    return SyncGroupResponse(
        error_code=synced.error,
        protocol_type=synced.protocol_type,
        protocol_name=synced.protocol,
        assignment=synced.assignment,
    )
