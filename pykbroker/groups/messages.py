"""What a group is asked, and what it answers: one shape for all protocol versions.

The handlers in ``apis/`` translate.  Times are in milliseconds; byte strings are copies, never views
of a request's buffer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from pykbroker.errors import ErrorCode

NO_GENERATION = -1


class Protocol(NamedTuple):
    """An assignment strategy that a member offers, and its metadata for it (a subscription)."""

    name: str
    metadata: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """A wish to be a member of the next generation.

    ``member_id`` is empty the first time.  ``must_know_id`` (JoinGroup v4+, KIP-394) first hands out
    an id to a new dynamic member; ``can_skip_assignment`` (v9+, KIP-814) lets a static leader that
    restarts know that there is nothing to assign.
    """

    group_id: str
    member_id: str = ""
    instance_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocol_type: str
    protocols: tuple[Protocol, ...]
    reason: str | None = None
    must_know_id: bool = True
    can_skip_assignment: bool = True


class JoinedMember(NamedTuple):
    """A member as the leader is told."""

    member_id: str
    instance_id: str | None
    metadata: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """The answer to a :class:`Join`; ``members`` is empty for all but the leader."""

    error: ErrorCode = ErrorCode.NONE
    member_id: str = ""
    generation: int = NO_GENERATION
    protocol_type: str | None = None
    protocol: str | None = None
    leader: str = ""
    skip_assignment: bool = False
    members: tuple[JoinedMember, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sync:
    """The leader's assignments, or a follower's question for its own."""

    group_id: str
    member_id: str
    generation: int
    instance_id: str | None = None
    protocol_type: str | None = None
    protocol: str | None = None
    assignments: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """The answer to a :class:`Sync`."""

    error: ErrorCode = ErrorCode.NONE
    protocol_type: str | None = None
    protocol: str | None = None
    assignment: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """A member says that it is alive.  The answer is an :class:`ErrorCode`."""

    group_id: str
    member_id: str
    generation: int
    instance_id: str | None = None


class Leaver(NamedTuple):
    """A member to be removed: by id, or a static one by instance id alone (an admin's way)."""

    member_id: str
    instance_id: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """Members that leave."""

    group_id: str
    leavers: tuple[Leaver, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """The answer to a :class:`Leave`: one code per leaver, in order."""

    errors: tuple[ErrorCode, ...] = ()


class OffsetToCommit(NamedTuple):
    """One partition of a :class:`Commit`; ``topic_id`` is 16 zero bytes when it is not known."""

    topic: str
    topic_id: bytes
    partition: int
    offset: int
    leader_epoch: int = -1
    metadata: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """Offsets to keep.  ``generation`` -1 and no member is a simple consumer or an admin.

    ``retention_ms`` is -1 but for old clients (OffsetCommit 2 to 4) that set their own.
    ``group_must_exist`` (v9+) says that a member of an unknown group is told GROUP_ID_NOT_FOUND.
    """

    group_id: str
    member_id: str = ""
    generation: int = NO_GENERATION
    instance_id: str | None = None
    retention_ms: int = -1
    group_must_exist: bool = False
    offsets: tuple[OffsetToCommit, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """The answer to a :class:`Commit`: one code per offset, in order."""

    errors: tuple[ErrorCode, ...] = ()


class FetchedOffset(NamedTuple):
    """A committed offset; ``offset`` -1 when there is none."""

    topic: str
    topic_id: bytes
    partition: int
    offset: int = -1
    leader_epoch: int = -1
    metadata: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteOffsets:
    """Committed offsets to forget: (topic, partition) pairs."""

    group_id: str
    partitions: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletedOffsets:
    """The answer to a :class:`DeleteOffsets`: one code per partition, in order."""

    errors: tuple[ErrorCode, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletedGroups:
    """The answer to a deletion of groups: one code per group id, in order."""

    errors: tuple[ErrorCode, ...] = ()


class DescribedMember(NamedTuple):
    """A member as an admin is told; ``metadata`` is empty unless the group is stable."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    metadata: bytes
    assignment: bytes


class Description(NamedTuple):
    """A group as an admin is told."""

    group_id: str
    state: str
    protocol_type: str
    protocol: str
    members: tuple[DescribedMember, ...]


class Listed(NamedTuple):
    """A group in a list."""

    group_id: str
    protocol_type: str
    state: str
    type: str = "classic"


GroupAnswer = Joined | Synced | ErrorCode | Left | Committed | DeletedOffsets | DeletedGroups
"""Everything that a waiting request of a group may be answered with."""
