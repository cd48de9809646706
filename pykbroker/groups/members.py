"""SyncGroup, Heartbeat and LeaveGroup: what members do between joins."""

from __future__ import annotations

import logging
from dataclasses import replace

from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.groups.draft import Draft, TimerKind
from pykbroker.groups.group import Group
from pykbroker.groups.messages import Heartbeat, Leave, Leaver, Left, Sync, Synced
from pykbroker.groups.rebalance import complete_if_joined, prepare, remove
from pykbroker.groups.states import GroupState
from pykbroker.groups.text import shown

log = logging.getLogger(__name__)


def sync(draft: Draft, token: int, request: Sync) -> None:
    """Answer with the assignment, or leave the token with the member until the leader has assigned.

    Raises :class:`KafkaError` when refused.
    """
    _check_sync(draft.group, request)
    member = draft.group.members[request.member_id]
    draft.answer_sync(member.member_id, Synced(error=ErrorCode.REBALANCE_IN_PROGRESS))
    pending = draft.group.pending_sync - {member.member_id}
    draft.group = replace(draft.group, pending_sync=pending)
    if not pending:
        draft.stop(TimerKind.SYNC)
    if draft.group.state is GroupState.STABLE:
        draft.answer(token, _assignment_answer(draft.group, member.assignment))
        return
    draft.group = draft.group.with_member(replace(member, sync_token=token))
    if draft.group.leader == member.member_id:
        _assign(draft, dict(request.assignments))


def _check_sync(group: Group, request: Sync) -> None:
    group.check_member(request.member_id, request.instance_id)
    if request.generation != group.generation:
        raise KafkaError(ErrorCode.ILLEGAL_GENERATION)
    named = ((request.protocol_type, group.protocol_type), (request.protocol, group.protocol))
    if any(None not in (theirs, ours) and theirs != ours for theirs, ours in named):
        raise KafkaError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
    if group.state is GroupState.PREPARING:
        raise KafkaError(ErrorCode.REBALANCE_IN_PROGRESS)


def _assign(draft: Draft, assignments: dict[str, bytes]) -> None:
    """Write what the leader decided; the group is stable once that is applied.

    A member that the leader left out gets an empty assignment.
    """
    members = {
        i: replace(m, assignment=assignments.get(i, b""), sync_token=None)
        for i, m in draft.group.members.items()
    }
    waiting = [m for m in draft.group.members.values() if m.sync_token is not None]
    draft.group = replace(draft.group, members=members)
    for member in waiting:
        assert member.sync_token is not None
        draft.answer(member.sync_token, _assignment_answer(draft.group, members[member.member_id].assignment))
        draft.session(member.member_id)
    target = draft.group.moved(GroupState.STABLE, draft.now_ms)
    draft.write(target)
    log.info(
        "assigned: group=%s generation=%d members=%d", shown(target.group_id), target.generation, len(members)
    )


def _assignment_answer(group: Group, assignment: bytes) -> Synced:
    return Synced(protocol_type=group.protocol_type, protocol=group.protocol, assignment=assignment)


def heartbeat(group: Group, request: Heartbeat) -> ErrorCode:
    """What the member is told: NONE, or that it must rejoin.  Raises :class:`KafkaError` when refused."""
    group.check_member(request.member_id, request.instance_id)
    if request.generation != group.generation:
        raise KafkaError(ErrorCode.ILLEGAL_GENERATION)
    if group.state is GroupState.PREPARING:
        return ErrorCode.REBALANCE_IN_PROGRESS
    return ErrorCode.NONE


def leave(draft: Draft, token: int, request: Leave) -> None:
    """Remove members; each gets its own code."""
    errors = tuple(_leave_one(draft, leaver) for leaver in request.leavers)
    if ErrorCode.NONE in errors:
        left = [
            x.member_id or x.instance_id or "" for x, e in zip(request.leavers, errors, strict=True) if not e
        ]
        if draft.group.state in (GroupState.STABLE, GroupState.COMPLETING):
            prepare(draft, f"{', '.join(left)} left")
        else:
            complete_if_joined(draft)
    draft.answer(token, Left(errors=errors))


def _leave_one(draft: Draft, leaver: Leaver) -> ErrorCode:
    group, member_id = draft.group, leaver.member_id
    if not member_id:
        # An admin removes a static member by its instance id alone (KIP-345).
        member_id = group.instances.get(leaver.instance_id or "", "")
        if not member_id:
            return ErrorCode.UNKNOWN_MEMBER_ID
    elif member_id in group.pending:
        draft.group = group.without(member_id)
        draft.stop(TimerKind.SESSION, member_id)
        return ErrorCode.NONE
    else:
        try:
            group.check_member(member_id, leaver.instance_id)
        except KafkaError as error:
            return error.code
    log.info(
        "member leaves: group=%s member=%s reason=%s",
        shown(group.group_id), shown(member_id), shown(leaver.reason),
    )  # fmt: skip
    remove(draft, member_id)
    return ErrorCode.NONE
