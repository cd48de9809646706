"""JoinGroup: who may join, under which id, and whether that starts a rebalance."""

from __future__ import annotations

import logging
from dataclasses import replace

from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.groups.draft import Draft, TimerKind
from pykbroker.groups.group import Member
from pykbroker.groups.limits import GroupLimits
from pykbroker.groups.messages import Join, Joined, Synced
from pykbroker.groups.rebalance import complete_if_joined, generation_answer, prepare, rebalance_or_go_on
from pykbroker.groups.states import GroupState
from pykbroker.groups.text import shown

log = logging.getLogger(__name__)


def check(request: Join, limits: GroupLimits) -> None:
    """Raise INVALID_GROUP_ID or INVALID_SESSION_TIMEOUT."""
    if not request.group_id:
        raise KafkaError(ErrorCode.INVALID_GROUP_ID)
    if not limits.min_session_timeout_ms <= request.session_timeout_ms <= limits.max_session_timeout_ms:
        raise KafkaError(ErrorCode.INVALID_SESSION_TIMEOUT)


def join(draft: Draft, token: int, request: Join, new_id: str) -> None:
    """Answer at once, or leave the token with the member until its generation begins.

    ``new_id`` is used if the member has no id yet.  Raises :class:`KafkaError` when refused.
    """
    if not _has_room(draft, request):
        _turn_away(draft, request.member_id)
        draft.answer(token, Joined(error=ErrorCode.GROUP_MAX_SIZE_REACHED))
    elif not draft.group.supports(request.protocol_type, request.protocols):
        raise KafkaError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
    elif request.member_id:
        _join_with_id(draft, token, request)
    elif request.instance_id is not None:
        _join_static(draft, token, request, request.instance_id, new_id)
    elif request.must_know_id:
        _hand_out_id(draft, token, request, new_id)
    else:
        _add(draft, token, request, new_id)


def _has_room(draft: Draft, request: Join) -> bool:
    """Whether there is room for the member, and for its metadata.

    During a rebalance those who have joined count, so that the last to rejoin are turned away when the
    limit was lowered; otherwise the members.
    """
    group, limits = draft.group, draft.limits
    member_id = request.member_id or group.instances.get(request.instance_id or "", "")
    member = group.members.get(member_id)
    size = group.size - (member.size if member is not None else 0)
    if size + sum(len(protocol.metadata) for protocol in request.protocols) > limits.max_metadata_bytes:
        return False
    if group.state is GroupState.EMPTY:
        return True
    if group.state is GroupState.PREPARING:
        return (member is not None and member.join_token is not None) or group.waiting < limits.max_size
    return member is not None or len(group.members) < limits.max_size


def _turn_away(draft: Draft, member_id: str) -> None:
    if member_id in draft.group.members or member_id in draft.group.pending:
        draft.group = draft.group.without(member_id)
        draft.stop(TimerKind.SESSION, member_id)
        complete_if_joined(draft)


def _hand_out_id(draft: Draft, token: int, request: Join, new_id: str) -> None:
    """The member must come back with its id, or the id is forgotten after a session timeout (KIP-394)."""
    pending = (*draft.group.pending, new_id)
    if len(pending) > draft.limits.max_pending:
        draft.stop(TimerKind.SESSION, pending[0])
        pending = pending[1:]
    draft.group = replace(draft.group, pending=pending)
    draft.session(new_id, request.session_timeout_ms)
    draft.answer(token, Joined(error=ErrorCode.MEMBER_ID_REQUIRED, member_id=new_id))


def _join_static(draft: Draft, token: int, request: Join, instance_id: str, new_id: str) -> None:
    old_id = draft.group.instances.get(instance_id)
    if old_id is None:
        _add(draft, token, request, new_id)
    else:
        _take_over(draft, token, request, instance_id, old_id, new_id)


def _join_with_id(draft: Draft, token: int, request: Join) -> None:
    group, member_id = draft.group, request.member_id
    if member_id in group.pending and request.instance_id is None:
        _add(draft, token, request, member_id)
        return
    group.check_member(member_id, request.instance_id)
    leads = group.leader == member_id
    same = group.members[member_id].protocols == request.protocols
    if group.state is GroupState.PREPARING:
        _wait(draft, token, request, member_id)
        complete_if_joined(draft)
    elif group.state is GroupState.COMPLETING and same:
        # It did not get our answer; the generation is as it was told.
        draft.answer(token, generation_answer(group, member_id))
    elif group.state is GroupState.STABLE and same and not leads:
        draft.answer(token, generation_answer(group, member_id, with_roster=False))
    else:
        # A leader that rejoins has seen something that its metadata does not show (new partitions).
        _wait(draft, token, request, member_id)
        what = "leader" if leads and same else "changed metadata of"
        prepare(draft, f"{what} {member_id} joins; client says: {shown(request.reason)}")


def _wait(draft: Draft, token: int, request: Join, member_id: str) -> None:
    # An earlier request of the same member can only come from a connection that is given up.
    draft.answer_join(member_id, Joined(error=ErrorCode.REBALANCE_IN_PROGRESS, member_id=member_id))
    draft.group = draft.group.with_member(
        replace(
            draft.group.members[member_id],
            protocols=request.protocols,
            rebalance_timeout_ms=request.rebalance_timeout_ms,
            session_timeout_ms=request.session_timeout_ms,
            join_token=token,
        )
    )


def _add(draft: Draft, token: int, request: Join, member_id: str) -> None:
    if not draft.group.members:
        draft.group = replace(draft.group, protocol_type=request.protocol_type)
    late = draft.group.state is GroupState.PREPARING and draft.group.previous is GroupState.EMPTY
    member = Member(
        member_id=member_id,
        instance_id=request.instance_id,
        client_id=request.client_id,
        client_host=request.client_host,
        rebalance_timeout_ms=request.rebalance_timeout_ms,
        session_timeout_ms=request.session_timeout_ms,
        protocols=request.protocols,
        is_new=True,
        join_token=token,
    )
    draft.group = replace(draft.group.with_member(member), came_late=draft.group.came_late or late)
    draft.session(member_id, draft.limits.new_member_join_timeout_ms)
    log.info(
        "member joins: group=%s member=%s instance=%s",
        shown(request.group_id), shown(member_id), shown(request.instance_id),
    )  # fmt: skip
    reason = f"new member {member_id}; client says: {shown(request.reason)}"
    rebalance_or_go_on(draft, reason)


def _take_over(draft: Draft, token: int, request: Join, instance_id: str, old_id: str, new_id: str) -> None:
    """A static member has restarted: it gets a new id, whoever still uses the old one is fenced."""
    led_by = draft.group.leader
    draft.answer_join(old_id, Joined(error=ErrorCode.FENCED_INSTANCE_ID, member_id=old_id))
    draft.answer_sync(old_id, Synced(error=ErrorCode.FENCED_INSTANCE_ID))
    draft.group = draft.group.with_instance_moved(instance_id, new_id)
    draft.stop(TimerKind.SESSION, old_id)
    _wait(draft, token, request, new_id)
    draft.session(new_id)
    group = draft.group
    log.info(
        "static member restarted: group=%s member=%s instance=%s",
        shown(group.group_id), shown(new_id), shown(instance_id),
    )  # fmt: skip
    if group.state is GroupState.PREPARING:
        complete_if_joined(draft)
    elif group.state is GroupState.STABLE and group.best_protocol() == group.protocol:
        _go_on_as(draft, request, new_id, led_by)
    else:
        # While its leader assigns, the leader may have been told the old id.
        prepare(draft, f"static member {instance_id} restarted as {new_id}")


def _go_on_as(draft: Draft, request: Join, member_id: str, led_by: str | None) -> None:
    """Same generation, same assignment; the swap of ids is written.

    Clients that cannot skip the assignment must not think that they lead, or they would assign:
    they are told the old leader's id (KIP-814).
    """
    answer = generation_answer(draft.group, member_id, with_roster=request.can_skip_assignment)
    if request.can_skip_assignment:
        answer = replace(answer, skip_assignment=draft.group.leader == member_id)
    else:
        answer = replace(answer, leader=led_by or "")
    draft.answer_join(member_id, answer)
    draft.write(draft.group.knowing_topics())
