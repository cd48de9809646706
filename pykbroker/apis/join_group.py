"""JoinGroup (key 11), versions 0 to 9: become a member of the next generation.

- Version 1 has a rebalance timeout (below, it is the session timeout), 4 (KIP-394) makes new dynamic
  members come back with an id, 5 (KIP-345) has static members, 6 is flexible, 7 answers with the
  protocol type and may have no protocol name, 8 (KIP-800) carries a reason, 9 (KIP-814) may tell a
  restarted static leader to skip the assignment.
- The answer waits until the generation begins.
- ``pykbroker.dlq`` has no members (INVALID_GROUP_ID): commits in its name settle dead letters.
- A consumer group that has a retry policy on a topic to which it subscribes finds its retry topic made.
"""

from __future__ import annotations

from pykbroker.apis._delivery import delivery_topics
from pykbroker.apis._registry import RequestContext, api
from pykbroker.catalog.retrying import DLQ_GROUP
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.groups import subscription
from pykbroker.groups.messages import Join, Joined, Protocol
from pykbroker.protocol.messages.join_group import (
    JoinGroupRequest,
    JoinGroupResponse,
    JoinGroupResponseMember,
)


def failed(ctx: RequestContext, request: JoinGroupRequest, code: ErrorCode) -> JoinGroupResponse:
    """``code``, with the member id of the request."""
    return _answer(ctx, Joined(error=code, member_id=request.member_id))


@api(JoinGroupRequest, JoinGroupResponse, failed=failed, waits_for_others=True)
async def handle(ctx: RequestContext, request: JoinGroupRequest) -> JoinGroupResponse:
    """Wait for the next generation."""
    if request.group_id == DLQ_GROUP:
        return failed(ctx, request, ErrorCode.INVALID_GROUP_ID)
    join = Join(
        group_id=request.group_id,
        member_id=request.member_id,
        instance_id=request.group_instance_id,
        client_id=ctx.client_id or "",
        # As Java prints an address, which is how Kafka stores and describes it.
        client_host=f"/{ctx.client_host}",
        session_timeout_ms=request.session_timeout_ms,
        rebalance_timeout_ms=request.rebalance_timeout_ms if ctx.version >= 1 else request.session_timeout_ms,
        protocol_type=request.protocol_type,
        protocols=tuple(Protocol(p.name, bytes(p.metadata)) for p in request.protocols),
        reason=request.reason,
        must_know_id=ctx.version >= 4,
        can_skip_assignment=ctx.version >= 9,
    )
    try:
        await _prepare(ctx, join)
        return _answer(ctx, await ctx.services.groups.join(join))
    except KafkaError as error:
        return failed(ctx, request, error.code)


async def _prepare(ctx: RequestContext, join: Join) -> None:
    """Make what the group needs for its failures on the topics that this member subscribes to."""
    delivery = delivery_topics(ctx)
    if delivery is None or join.protocol_type != subscription.CONSUMER or not join.group_id:
        return
    topics = subscription.all_topics(protocol.metadata for protocol in join.protocols)
    if topics:
        await delivery.prepare(join.group_id, topics)


def _answer(ctx: RequestContext, joined: Joined) -> JoinGroupResponse:
    return JoinGroupResponse(
        error_code=joined.error,
        generation_id=joined.generation,
        protocol_type=joined.protocol_type,
        protocol_name=joined.protocol if ctx.version >= 7 else joined.protocol or "",
        leader=joined.leader,
        skip_assignment=joined.skip_assignment,
        member_id=joined.member_id,
        members=[
            JoinGroupResponseMember(
                member_id=m.member_id, group_instance_id=m.instance_id, metadata=m.metadata
            )
            for m in joined.members
        ],
    )
