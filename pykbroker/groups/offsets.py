"""Committed offsets: what is kept, who may commit, and when it is forgotten.

Nothing here changes by itself: the functions return records, and :meth:`Offsets.apply` takes them in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from pykbroker.coordinator.shard_log import NewRecord
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.groups.group import Group
from pykbroker.groups.limits import GroupLimits
from pykbroker.groups.messages import Commit, FetchedOffset, OffsetToCommit
from pykbroker.groups.states import GroupState
from pykbroker.groups.stored import NO_EXPIRY, CommittedOffset, OffsetRecord, offset_record
from pykbroker.protocol.schema import ZERO_UUID

Place = tuple[str, int]
"""Topic and partition."""

_NONE: Mapping[Place, CommittedOffset] = MappingProxyType({})


class Offsets:
    """The committed offsets of all groups of one shard."""

    def __init__(self) -> None:
        self._groups: dict[str, dict[Place, CommittedOffset]] = {}

    def of(self, group_id: str) -> Mapping[Place, CommittedOffset]:
        """The offsets of a group, in the order of their first commits."""
        return self._groups.get(group_id, _NONE)

    def apply(self, record: OffsetRecord) -> None:
        """Take in a record that is in the log."""
        place = (record.topic, record.partition)
        if record.value is not None:
            self._groups.setdefault(record.group_id, {})[place] = record.value
            return
        mine = self._groups.get(record.group_id)
        if mine is not None:
            mine.pop(place, None)
            if not mine:
                del self._groups[record.group_id]

    def fetch(
        self, group_id: str, wanted: Sequence[tuple[str, bytes, int]] | None
    ) -> tuple[FetchedOffset, ...]:
        """Offsets for (topic, topic id, partition)s, -1 where there is none; all for None.

        What was committed for a topic of that name that has been deleted since does not count.
        """
        mine = self.of(group_id)
        if wanted is None:
            return tuple(_fetched(topic, at.topic_id, part, at) for (topic, part), at in mine.items())
        return tuple(_fetched(topic, uid, part, mine.get((topic, part))) for topic, uid, part in wanted)


def _fetched(topic: str, topic_id: bytes, partition: int, found: CommittedOffset | None) -> FetchedOffset:
    if found is None or not same_topic(found.topic_id, topic_id):
        return FetchedOffset(topic, topic_id, partition)
    return FetchedOffset(topic, topic_id, partition, found.offset, found.leader_epoch, found.metadata)


def same_topic(committed_for: bytes, topic_id: bytes | None) -> bool:
    """Whether an offset was committed for this topic; None: there is none of the name.

    Ids differ only if both are known (commits written before Kafka 4.2 have none).
    """
    return topic_id is not None and (committed_for == topic_id or ZERO_UUID in (committed_for, topic_id))


def check_commit(group: Group | None, request: Commit) -> None:
    """Raise :class:`KafkaError` unless the sender may commit.

    A generation below 0 is a simple consumer's, an admin's, or that of a transactional producer; it
    is taken while the group has no members.
    """
    if group is None:
        if request.generation >= 0:
            # v9 has this code for both protocols; older clients know only the other one.
            raise KafkaError(
                ErrorCode.GROUP_ID_NOT_FOUND if request.group_must_exist else ErrorCode.ILLEGAL_GENERATION
            )
        return
    if request.generation < 0 and group.state is GroupState.EMPTY:
        return
    if request.generation < 0 and not request.member_id and request.instance_id is None:
        raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)
    group.check_member(request.member_id, request.instance_id)
    if request.generation != group.generation:
        raise KafkaError(ErrorCode.ILLEGAL_GENERATION)
    if group.state is GroupState.COMPLETING:
        raise KafkaError(ErrorCode.REBALANCE_IN_PROGRESS)


def commit_error(wanted: OffsetToCommit, limits: GroupLimits) -> ErrorCode:
    """Whether one offset is fit to be kept; NONE if so.

    Despite the setting's name Kafka counts UTF-16 units, as Java's strings do.
    """
    if len(wanted.metadata.encode("utf-16-le", "surrogatepass")) // 2 > limits.offset_metadata_max_bytes:
        return ErrorCode.OFFSET_METADATA_TOO_LARGE
    return ErrorCode.NONE


def commit_record(request: Commit, wanted: OffsetToCommit, now_ms: int) -> NewRecord:
    """The record that commits one offset."""
    value = CommittedOffset(
        offset=wanted.offset,
        leader_epoch=wanted.leader_epoch,
        metadata=wanted.metadata,
        commit_ms=now_ms,
        expire_ms=NO_EXPIRY if request.retention_ms == -1 else now_ms + request.retention_ms,
        topic_id=wanted.topic_id,
    )
    return offset_record(request.group_id, wanted.topic, wanted.partition, value)


def expired(
    group: Group, mine: Mapping[Place, CommittedOffset], limits: GroupLimits, now_ms: int
) -> list[Place]:
    """The places whose offsets have outlived ``offsets.retention.minutes``.

    With a protocol type, the time counts from when the group became empty; while it has members only
    topics that a stable consumer group no longer reads can expire.  Without one (simple consumers),
    from the commit.  An offset committed with a retention of its own keeps to that.
    """
    from_empty = group.protocol_type is not None and group.state is GroupState.EMPTY and group.since_ms >= 0
    if group.protocol_type is not None and group.state is not GroupState.EMPTY:
        known = group.is_consumer and group.subscribed is not None and group.state is GroupState.STABLE
        if not known:
            return []
    found = []
    for place, at in mine.items():
        since = group.since_ms if from_empty else at.commit_ms
        due = at.expire_ms if at.expire_ms != NO_EXPIRY else since + limits.offsets_retention_ms
        if now_ms >= due and not group.is_subscribed(place[0]):
            found.append(place)
    return found
