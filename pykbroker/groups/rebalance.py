"""From one generation to the next: the steps in which a group's members change.

``prepare`` sends everybody back to joining, ``complete_join`` begins the next generation with those
who came, ``sync_late`` and ``session_over`` remove those who did not do their part.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from pykbroker.errors import ErrorCode
from pykbroker.groups.draft import Draft, TimerKind
from pykbroker.groups.group import Group, Member
from pykbroker.groups.messages import Joined, Synced
from pykbroker.groups.states import GroupState
from pykbroker.groups.text import shown

log = logging.getLogger(__name__)


def rebalance_or_go_on(draft: Draft, reason: str) -> None:
    """Start a rebalance; in one already, see whether it can be completed."""
    if draft.group.state is GroupState.PREPARING:
        complete_if_joined(draft)
    else:
        prepare(draft, reason)


def prepare(draft: Draft, reason: str) -> None:
    """Wait for all members to join anew.

    The first rebalance of an empty group waits ``initial_rebalance_delay_ms`` for members to gather,
    any other one for the members it knows.
    """
    first = draft.group.state is GroupState.EMPTY
    if draft.group.state is GroupState.COMPLETING:
        _call_syncs_off(draft)
    draft.stop(TimerKind.SYNC)
    draft.group = replace(draft.group.moved(GroupState.PREPARING, draft.now_ms), pending_sync=frozenset())
    group = draft.group
    log.info(
        "rebalancing: group=%s generation=%d reason=%s",
        shown(group.group_id),
        group.generation,
        shown(reason),
    )
    if first:
        delay = draft.limits.initial_rebalance_delay_ms
        left = max(group.rebalance_timeout_ms - delay, 0)
        draft.group = replace(group, initial_delay_ms=left, came_late=False)
        draft.start(TimerKind.JOIN, delay)
    elif group.all_joined:
        complete_join(draft)
    else:
        draft.start(TimerKind.JOIN, group.rebalance_timeout_ms)


def _call_syncs_off(draft: Draft) -> None:
    for member in tuple(draft.group.members.values()):
        if draft.answer_sync(member.member_id, Synced(error=ErrorCode.REBALANCE_IN_PROGRESS)):
            draft.session(member.member_id)
    members = {i: replace(member, assignment=b"") for i, member in draft.group.members.items()}
    draft.group = replace(draft.group, members=members)


def complete_if_joined(draft: Draft) -> None:
    """Begin the next generation if nobody is missing.  A first rebalance always takes its delay."""
    group = draft.group
    preparing = group.state is GroupState.PREPARING and group.previous is not GroupState.EMPTY
    if preparing and group.all_joined:
        complete_join(draft)


def join_deadline(draft: Draft) -> None:
    """The time to join is over.  In a first rebalance, a late comer buys the others more time."""
    group = draft.group
    if group.state is not GroupState.PREPARING:
        return
    if group.previous is GroupState.EMPTY and group.came_late and group.initial_delay_ms > 0:
        delay = min(draft.limits.initial_rebalance_delay_ms, group.initial_delay_ms)
        draft.group = replace(group, came_late=False, initial_delay_ms=group.initial_delay_ms - delay)
        draft.start(TimerKind.JOIN, delay)
    else:
        complete_join(draft)


def complete_join(draft: Draft) -> None:
    """Begin the next generation with the members that have joined.

    Dynamic members that have not are removed; static ones stay until their session ends.  If only such
    are left, nobody could lead: wait once more.
    """
    draft.stop(TimerKind.JOIN)
    _remove_absent(draft)
    if not draft.group.members:
        _become_empty(draft)
    elif _has_present_leader(draft):
        _begin_generation(draft)
    else:
        log.warning("no member rejoined, waiting on: group=%s", shown(draft.group.group_id))
        draft.start(TimerKind.JOIN, draft.group.rebalance_timeout_ms)


def _remove_absent(draft: Draft) -> None:
    absent = [
        member.member_id
        for member in draft.group.members.values()
        if member.join_token is None and member.instance_id is None
    ]
    if absent:
        log.info(
            "members did not rejoin: group=%s members=%s",
            shown(draft.group.group_id),
            shown(",".join(absent)),
        )
        draft.group = draft.group.without(*absent)
        for member_id in absent:
            draft.stop(TimerKind.SESSION, member_id)


def _become_empty(draft: Draft) -> None:
    """The last member is gone.  The group stays, for its offsets, and remembers its protocol type."""
    group = draft.group
    log.info("empty: group=%s generation=%d", shown(group.group_id), group.generation + 1)
    target = replace(group, generation=group.generation + 1, protocol=None, leader=None)
    draft.write(target.moved(GroupState.EMPTY, draft.now_ms))


def _has_present_leader(draft: Draft) -> bool:
    group = draft.group
    present = [member for member in group.members.values() if member.join_token is not None]
    if present and all(member.member_id != group.leader for member in present):
        log.info("new leader: group=%s member=%s", shown(group.group_id), shown(present[0].member_id))
        draft.group = replace(group, leader=present[0].member_id)
    return bool(present)


def _begin_generation(draft: Draft) -> None:
    protocol = draft.group.best_protocol()
    group = replace(draft.group, generation=draft.group.generation + 1, protocol=protocol)
    group = group.moved(GroupState.COMPLETING, draft.now_ms)
    members = {i: replace(m, is_new=False, join_token=None) for i, m in group.members.items()}
    waiting = group.members
    group = replace(group, members=members, pending_sync=frozenset(members)).knowing_topics()
    draft.group = group
    for member in waiting.values():
        if member.join_token is not None:
            draft.answer(member.join_token, generation_answer(group, member.member_id))
        draft.session(member.member_id)
    draft.start(TimerKind.SYNC, group.rebalance_timeout_ms)
    log.info(
        "new generation: group=%s generation=%d members=%d protocol=%s leader=%s",
        shown(group.group_id), group.generation, len(members), shown(protocol), shown(group.leader),
    )  # fmt: skip


def generation_answer(group: Group, member_id: str, *, with_roster: bool = True) -> Joined:
    """What a member is told of the generation; the leader is told who the members are."""
    leads = with_roster and group.leader == member_id
    return Joined(
        member_id=member_id,
        generation=group.generation,
        protocol_type=group.protocol_type,
        protocol=group.protocol,
        leader=group.leader or "",
        members=group.roster() if leads else (),
    )


def sync_deadline(draft: Draft) -> None:
    """Members that have joined but not synced in time are removed."""
    group = draft.group
    if group.state in (GroupState.COMPLETING, GroupState.STABLE) and group.pending_sync:
        late = sorted(group.pending_sync)
        for member_id in late:
            draft.stop(TimerKind.SESSION, member_id)
        draft.group = group.without(*late)
        prepare(draft, f"no sync in time from {', '.join(late)}")


def session_over(draft: Draft, member_id: str) -> None:
    """No sign of life in time.  A member that waits for an answer of ours is alive, unless it is new."""
    group = draft.group
    if member_id in group.pending:
        draft.group = group.without(member_id)
        if draft.group.state is GroupState.PREPARING and draft.group.all_joined:
            complete_join(draft)
        return
    member = group.members.get(member_id)
    if member is None or _is_waiting(member):
        return
    log.info("session over: group=%s member=%s", shown(group.group_id), shown(member_id))
    remove(draft, member_id)
    if draft.group.state is not GroupState.PREPARING:
        prepare(draft, f"session of {member_id} is over")
    elif draft.group.all_joined:
        complete_join(draft)


def _is_waiting(member: Member) -> bool:
    return not member.is_new and (member.join_token is not None or member.sync_token is not None)


def remove(draft: Draft, member_id: str) -> None:
    """Take a member out; what it waits for is answered UNKNOWN_MEMBER_ID, so that it starts over."""
    draft.answer_join(member_id, Joined(error=ErrorCode.UNKNOWN_MEMBER_ID))
    draft.answer_sync(member_id, Synced(error=ErrorCode.UNKNOWN_MEMBER_ID))
    draft.group = draft.group.without(member_id)
    draft.stop(TimerKind.SESSION, member_id)
