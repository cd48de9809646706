"""The groups and committed offsets of one partition of ``__consumer_offsets``: a state machine.

Requests come with a token and give a decision; :mod:`pykbroker.coordinator.machine` says what happens
to it.  Refusals are raised, and have changed nothing.  What belongs to one group is decided in
:mod:`~pykbroker.groups.joining`, :mod:`~pykbroker.groups.rebalance`, :mod:`~pykbroker.groups.members`
and :mod:`~pykbroker.groups.offsets`; this module keeps the groups, their deadlines and the books.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from pykbroker.coordinator.deadlines import Deadlines
from pykbroker.coordinator.machine import Decision
from pykbroker.coordinator.shard_log import NewRecord, StoredRecord
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.groups import joining, members, rebalance, stored
from pykbroker.groups.draft import Draft, GroupChange, GroupDecision, Timer, TimerKey, TimerKind
from pykbroker.groups.group import Group
from pykbroker.groups.limits import GroupLimits
from pykbroker.groups.messages import (
    Commit,
    Committed,
    DeletedGroups,
    DeletedOffsets,
    DeleteOffsets,
    Heartbeat,
    Join,
    Leave,
    Sync,
)
from pykbroker.groups.offsets import (
    Offsets,
    Place,
    check_commit,
    commit_error,
    commit_record,
    expired,
    same_topic,
)
from pykbroker.groups.states import GroupState
from pykbroker.protocol.schema import ZERO_UUID

log = logging.getLogger(__name__)


def random_suffix() -> str:
    """What makes a member id unique."""
    return str(uuid.uuid4())


OnChanged = Callable[[Group, GroupState, GroupState], None]
"""Hears of a group that went from one state to another: the group as it is now, or was at its end."""


class OnApplied(Protocol):
    """Hears of committed offsets as they are applied, replayed ones included.

    Called for every commit, so it must be quick.
    """

    def applied(self, partition: int, offset: int, record: stored.OffsetRecord) -> None:
        """The record at ``offset`` of this partition of the offsets topic is applied; it may not be below
        the high watermark yet.  After another election the same records come again."""
        ...

    def loaded(self, partition: int) -> None:
        """All records of this partition have been replayed."""
        ...


class GroupMachine:
    """One shard's worth of groups; see :class:`pykbroker.coordinator.machine.Machine`.

    ``on_changed`` hears of what is decided here, not of what is replayed.  ``on_applied`` hears of all
    committed offsets of this shard, which is the one of ``partition``.
    """

    def __init__(
        self,
        limits: GroupLimits,
        *,
        suffix: Callable[[], str] = random_suffix,
        on_changed: OnChanged | None = None,
        on_applied: OnApplied | None = None,
        partition: int = -1,
    ) -> None:
        self.limits = limits
        self.groups: dict[str, Group] = {}
        self.offsets = Offsets()
        self._deadlines: Deadlines[TimerKey] = Deadlines()
        self._suffix = suffix
        self._on_changed = on_changed
        self._on_applied = on_applied
        self._partition = partition
        self._loading = True

    # what members ask

    def join(self, request: Join, token: int, now: float, now_ms: int) -> GroupDecision:
        """JoinGroup.  The answer may have to wait for the next generation."""
        joining.check(request, self.limits)
        group = self.groups.get(request.group_id)
        if group is None:
            if request.member_id:
                raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)
            group = Group(group_id=request.group_id)
        draft = Draft(group, self.limits, now, now_ms)
        prefix = request.client_id if request.instance_id is None else request.instance_id
        joining.join(draft, token, request, f"{prefix}-{self._suffix()}")
        return draft.decision()

    def sync(self, request: Sync, token: int, now: float, now_ms: int) -> GroupDecision:
        """SyncGroup.  The answer may have to wait for the leader's."""
        draft = self._draft(request.group_id, now, now_ms)
        members.sync(draft, token, request)
        return draft.decision()

    def heartbeat(self, request: Heartbeat, token: int, now: float, now_ms: int) -> GroupDecision:
        """Heartbeat: the member's session begins anew."""
        group = self._known(request.group_id)
        answer = members.heartbeat(group, request)
        return Decision(changes=(self._session(group, request.member_id, now),), replies=((token, answer),))

    def leave(self, request: Leave, token: int, now: float, now_ms: int) -> GroupDecision:
        """LeaveGroup.  Raises UNKNOWN_MEMBER_ID for an unknown group."""
        draft = self._draft(request.group_id, now, now_ms)
        members.leave(draft, token, request)
        return draft.decision()

    def commit(self, request: Commit, token: int, now: float, now_ms: int) -> GroupDecision:
        """OffsetCommit: all offsets that are fit, in one batch.  A member's commit is a sign of life."""
        group = self.groups.get(request.group_id)
        check_commit(group, request)
        errors = tuple(commit_error(wanted, self.limits) for wanted in request.offsets)
        fit = [wanted for wanted, error in zip(request.offsets, errors, strict=True) if not error]
        changes: tuple[GroupChange, ...] = ()
        if group is not None and request.member_id in group.members:
            changes = (self._session(group, request.member_id, now),)
        return Decision(
            records=tuple(commit_record(request, wanted, now_ms) for wanted in fit),
            changes=changes,
            replies=((token, Committed(errors=errors)),),
        )

    # what admins ask

    def delete_groups(self, group_ids: Sequence[str], token: int) -> GroupDecision:
        """DeleteGroups: those without members, with all their offsets."""
        errors: list[ErrorCode] = []
        records: list[NewRecord] = []
        for group_id in dict.fromkeys(group_ids):
            group = self.groups.get(group_id)
            if group is not None and group.state is GroupState.EMPTY:
                records += self._end(group_id)
        for group_id in group_ids:
            group = self.groups.get(group_id)
            if group is None:
                errors.append(ErrorCode.GROUP_ID_NOT_FOUND)
            elif group.state is GroupState.EMPTY:
                errors.append(ErrorCode.NONE)
            else:
                errors.append(ErrorCode.NON_EMPTY_GROUP)
        return Decision(records=tuple(records), replies=((token, DeletedGroups(errors=tuple(errors))),))

    def delete_offsets(self, request: DeleteOffsets, token: int) -> GroupDecision:
        """OffsetDelete: of topics that no member reads."""
        group = self.groups.get(request.group_id)
        if group is None:
            raise KafkaError(ErrorCode.GROUP_ID_NOT_FOUND)
        if group.state is not GroupState.EMPTY and not group.is_consumer:
            raise KafkaError(ErrorCode.NON_EMPTY_GROUP)
        mine = self.offsets.of(request.group_id)
        gone = [p for p in request.partitions if p in mine and not group.is_subscribed(p[0])]
        errors = tuple(
            ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC if group.is_subscribed(topic) else ErrorCode.NONE
            for topic, _ in request.partitions
        )
        return Decision(
            records=self._forget(request.group_id, dict.fromkeys(gone)),
            replies=((token, DeletedOffsets(errors=errors)),),
        )

    # what happens by itself

    def expire(self, group_ids: Iterable[str], token: int, now_ms: int) -> GroupDecision:
        """Forget old offsets of these groups, and groups that have neither members nor offsets."""
        records: list[NewRecord] = []
        for group_id in group_ids:
            group = self.groups.get(group_id)
            if group is None:
                continue
            mine = self.offsets.of(group_id)
            gone = expired(group, mine, self.limits, now_ms)
            if group.state is GroupState.EMPTY and not group.pending and len(gone) == len(mine):
                records += self._end(group_id)
            else:
                records += self._forget(group_id, gone)
        return Decision(records=tuple(records), replies=((token, ErrorCode.NONE),))

    def forget_topics(
        self, group_ids: Iterable[str], topics: Mapping[str, bytes], token: int
    ) -> GroupDecision:
        """Topics (name to id) were deleted: forget what these groups committed for them."""
        records: list[NewRecord] = []
        for group_id in group_ids:
            mine = self.offsets.of(group_id)
            gone = [p for p, at in mine.items() if same_topic(at.topic_id, topics.get(p[0]))]
            records += self._forget(group_id, gone)
        return Decision(records=tuple(records), replies=((token, ErrorCode.NONE),))

    def forget_lost(
        self, group_ids: Iterable[str], exists: Callable[[bytes], bool], token: int
    ) -> GroupDecision:
        """Forget what these groups committed for topics whose ids are no longer there.

        What was committed without an id is kept: its topic cannot be told from a later one.
        """
        records: list[NewRecord] = []
        for group_id in group_ids:
            mine = self.offsets.of(group_id)
            gone = [p for p, at in mine.items() if at.topic_id != ZERO_UUID and not exists(at.topic_id)]
            records += self._forget(group_id, gone)
        return Decision(records=tuple(records), replies=((token, ErrorCode.NONE),))

    # the runtime's side

    def apply(self, record: StoredRecord) -> None:
        """Take in a record that is in the log."""
        try:
            what = stored.read(record)
        except stored.UnreadableRecord as error:
            # Written by a newer version, or by somebody else: losing one group beats losing the shard.
            log.error("passed over an unreadable group record: error=%s", error)
            return
        if isinstance(what, stored.OffsetRecord):
            self.offsets.apply(what)
            if what.value is not None and what.group_id not in self.groups:
                self._put(Group(group_id=what.group_id))
            if self._on_applied is not None:
                self._on_applied.applied(self._partition, record.offset, what)
        elif isinstance(what, stored.GroupRecord):
            live = self.groups.get(what.group_id)
            if what.value is None:
                self._drop(what.group_id)
            else:
                self._put(stored.restored(what.group_id, what.value, live))

    def settle(self, changes: tuple[GroupChange, ...]) -> None:
        """Take in the volatile part of a decision."""
        for change in changes:
            if isinstance(change, Group):
                self._keep(change)
            elif change.at is None:
                self._deadlines.clear(change.key)
            else:
                self._deadlines.set(change.key, change.at)

    def loaded(self, now: float) -> None:
        """Every member gets a fresh session: it could not reach us while we were away."""
        self._loading = False
        for group in self.groups.values():
            for member_id in group.members:
                self.settle((self._session(group, member_id, now),))
        if self._on_applied is not None:
            self._on_applied.loaded(self._partition)

    def next_deadline(self) -> float:
        """When :meth:`on_deadline` is due."""
        return self._deadlines.next()

    def on_deadline(self, now: float, now_ms: int) -> GroupDecision:
        """Decide about the deadline that is due first."""
        key = self._deadlines.first_due(now)
        if key is None:
            return Decision()
        done = Timer(key, None)
        group = self.groups.get(key.group_id)
        if group is None:
            return Decision(changes=(done,))
        draft = Draft(group, self.limits, now, now_ms)
        if key.kind is TimerKind.SESSION:
            rebalance.session_over(draft, key.member_id)
        elif key.kind is TimerKind.JOIN:
            rebalance.join_deadline(draft)
        else:
            rebalance.sync_deadline(draft)
        decided = draft.decision()
        return Decision(records=decided.records, changes=(done, *decided.changes), replies=decided.replies)

    def postpone(self, until: float) -> None:
        """The deadline that is due first waits until then."""
        key = self._deadlines.first_due(until)
        if key is not None:
            self._deadlines.set(key, until)

    # inside

    def _keep(self, group: Group) -> None:
        """Take ``group`` in, unless nothing is left of it: ids that were handed out and never used."""
        unborn = group.state is GroupState.EMPTY and group.generation == 0 and group.protocol_type is None
        if unborn and not group.pending and not self.offsets.of(group.group_id):
            self._take(group.group_id)
        else:
            self._put(group)

    def _put(self, group: Group) -> None:
        before = self.groups.get(group.group_id)
        self.groups[group.group_id] = group
        was = GroupState.DEAD if before is None else before.state
        if self._on_changed is not None and was is not group.state and not self._loading:
            self._on_changed(group, was, group.state)

    def _take(self, group_id: str) -> Group | None:
        group = self.groups.pop(group_id, None)
        if group is not None and self._on_changed is not None and not self._loading:
            self._on_changed(group, group.state, GroupState.DEAD)
        return group

    def _known(self, group_id: str) -> Group:
        if not group_id:
            raise KafkaError(ErrorCode.INVALID_GROUP_ID)
        group = self.groups.get(group_id)
        if group is None:
            raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)
        return group

    def _draft(self, group_id: str, now: float, now_ms: int) -> Draft:
        return Draft(self._known(group_id), self.limits, now, now_ms)

    def _session(self, group: Group, member_id: str, now: float) -> Timer:
        timeout_ms = group.members[member_id].session_timeout_ms
        return Timer(TimerKey(group.group_id, TimerKind.SESSION, member_id), now + timeout_ms / 1000)

    def _forget(self, group_id: str, places: Iterable[Place]) -> tuple[NewRecord, ...]:
        return tuple(stored.offset_record(group_id, topic, part, None) for topic, part in places)

    def _end(self, group_id: str) -> tuple[NewRecord, ...]:
        return (*self._forget(group_id, self.offsets.of(group_id)), stored.group_tombstone(group_id))

    def _drop(self, group_id: str) -> None:
        group = self._take(group_id)
        if group is not None:
            for member_id in (*group.members, *group.pending):
                self._deadlines.clear(TimerKey(group_id, TimerKind.SESSION, member_id))
