"""What a state machine on a partition looks like: decide, then apply.

Deciding reads state and changes nothing.  It returns a :class:`Decision`: records to append, volatile
changes, and answers.  The runtime appends the records first; when that fails, nothing happened.  Then
the machine :meth:`~Machine.settle`\\ s the volatile changes and :meth:`~Machine.apply`\\ s the records,
the same method that replays them after a restart, so durable state is correct by construction.

Times: ``now`` is the monotonic clock in seconds, ``now_ms`` the wall clock in milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from pykbroker.coordinator.shard_log import NewRecord, StoredRecord

Change = TypeVar("Change")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision(Generic[Change, Answer]):
    """What follows from an input.

    ``replies`` are (token, answer) pairs: each request came with a token, and is answered by this
    decision or by a later one.  They leave once the high watermark has passed ``records``.
    """

    records: tuple[NewRecord, ...] = ()
    changes: tuple[Change, ...] = ()
    replies: tuple[tuple[int, Answer], ...] = ()


class Machine(Protocol[Change, Answer]):
    """A state machine whose durable state is the records of one partition."""

    def apply(self, record: StoredRecord) -> None:
        """Take in a record that is in the log, on replay or just appended."""
        ...

    def settle(self, changes: tuple[Change, ...]) -> None:
        """Take in the volatile part of a decision, before its records are applied."""
        ...

    def loaded(self, now: float) -> None:
        """All records have been replayed: start the timers."""
        ...

    def next_deadline(self) -> float:
        """Monotonic time at which :meth:`on_deadline` wants to be called; ``math.inf`` for never."""
        ...

    def on_deadline(self, now: float, now_ms: int) -> Decision[Change, Answer]:
        """Decide about one thing that is due at ``now``.  Settling the decision must clear it."""
        ...

    def postpone(self, until: float) -> None:
        """What is due could not be appended: do not be due again before ``until``."""
        ...
