"""A change to one group while it is being decided.

Deciders start from the group in force and collect here what is to become of it: the new group, timers,
answers, at most one record.  Nothing of it holds before the runtime has appended the record.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from typing import NamedTuple

from pykbroker.coordinator.machine import Decision
from pykbroker.coordinator.shard_log import NewRecord
from pykbroker.groups import stored
from pykbroker.groups.group import Group
from pykbroker.groups.limits import GroupLimits
from pykbroker.groups.messages import GroupAnswer, Joined, Synced


class TimerKind(Enum):
    """What a group waits for: a sign of life, the joins of a rebalance, the syncs after it."""

    SESSION = "session"
    JOIN = "join"
    SYNC = "sync"


class TimerKey(NamedTuple):
    """Whose deadline; ``member_id`` is empty but for sessions."""

    group_id: str
    kind: TimerKind
    member_id: str = ""


class Timer(NamedTuple):
    """A deadline to set (monotonic seconds), or to clear for None."""

    key: TimerKey
    at: float | None


GroupChange = Timer | Group
GroupDecision = Decision[GroupChange, GroupAnswer]


class Draft:
    """The working copy; ``now`` is monotonic seconds, ``now_ms`` wall clock milliseconds."""

    __slots__ = ("_records", "_replies", "_timers", "group", "limits", "now", "now_ms")

    def __init__(self, group: Group, limits: GroupLimits, now: float, now_ms: int) -> None:
        self.group = group
        self.limits = limits
        self.now = now
        self.now_ms = now_ms
        self._timers: list[GroupChange] = []
        self._replies: list[tuple[int, GroupAnswer]] = []
        self._records: tuple[NewRecord, ...] = ()

    def decision(self) -> GroupDecision:
        """All that was collected."""
        return Decision(
            records=self._records, changes=(self.group, *self._timers), replies=tuple(self._replies)
        )

    def answer(self, token: int, answer: GroupAnswer) -> None:
        """Answer the request with this token."""
        self._replies.append((token, answer))

    def answer_join(self, member_id: str, answer: Joined) -> None:
        """Answer the member's JoinGroup, if it waits for one."""
        member = self.group.members[member_id]
        if member.join_token is not None:
            self.answer(member.join_token, answer)
            self.group = self.group.with_member(replace(member, join_token=None))

    def answer_sync(self, member_id: str, answer: Synced) -> bool:
        """Answer the member's SyncGroup, if it waits for one; says whether it did."""
        member = self.group.members[member_id]
        if member.sync_token is None:
            return False
        self.answer(member.sync_token, answer)
        self.group = self.group.with_member(replace(member, sync_token=None))
        return True

    def write(self, target: Group) -> None:
        """Record ``target``, which is what the group becomes when the record is applied."""
        self._records = (stored.group_record(target),)

    def session(self, member_id: str, timeout_ms: int | None = None) -> None:
        """Start the member's session anew, with its own timeout or another."""
        if timeout_ms is None:
            timeout_ms = self.group.members[member_id].session_timeout_ms
        self._timers.append(
            Timer(TimerKey(self.group.group_id, TimerKind.SESSION, member_id), self.now + timeout_ms / 1000)
        )

    def start(self, kind: TimerKind, timeout_ms: int) -> None:
        """Set a deadline of the whole group."""
        self._timers.append(Timer(TimerKey(self.group.group_id, kind), self.now + timeout_ms / 1000))

    def stop(self, kind: TimerKind, member_id: str = "") -> None:
        """Clear a deadline."""
        self._timers.append(Timer(TimerKey(self.group.group_id, kind, member_id), None))
