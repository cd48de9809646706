"""Groups and offsets as records of ``__consumer_offsets``, in Apache Kafka's format.

A key is an int16 and a body: 1 (formerly 0) a committed offset, 2 a group.  A value is an int16, the
version of its body, and the body; no value is a tombstone.  Written as Kafka 4.3.1 writes: offsets in
version 4 (version 1 for those with an expiry of their own), groups in version 3.  Versions that other
Kafkas wrote are read too.  Keys of other kinds (KIP-848, share groups) are passed over.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from pykbroker.coordinator.shard_log import NewRecord, StoredRecord
from pykbroker.groups import protocols
from pykbroker.groups.group import Group, Member
from pykbroker.groups.messages import Protocol
from pykbroker.groups.states import GroupState
from pykbroker.protocol.codec import reader, writer
from pykbroker.protocol.errors import ProtocolError
from pykbroker.protocol.messages.consumer_offsets import (
    GroupMetadataKey,
    GroupMetadataValue,
    MemberMetadata,
    OffsetCommitKey,
    OffsetCommitValue,
)
from pykbroker.protocol.schema import ZERO_UUID

_VERSION = struct.Struct(">h")
OFFSET_KEY, OLD_OFFSET_KEY, GROUP_KEY = 1, 0, 2
OFFSET_VERSION, EXPIRING_OFFSET_VERSION, GROUP_VERSION = 4, 1, 3
NO_EXPIRY = -1


class CommittedOffset(NamedTuple):
    """A committed offset.  Times in ms; ``expire_ms`` is -1 unless the client set its own retention."""

    offset: int
    leader_epoch: int
    metadata: str
    commit_ms: int
    expire_ms: int = NO_EXPIRY
    topic_id: bytes = ZERO_UUID


class OffsetRecord(NamedTuple):
    """What a record says about a committed offset; None: it is gone."""

    group_id: str
    topic: str
    partition: int
    value: CommittedOffset | None


class GroupRecord(NamedTuple):
    """What a record says about a group; None: it is gone."""

    group_id: str
    value: GroupMetadataValue | None


class UnreadableRecord(ValueError):
    """A record of ours that makes no sense to this version."""


def read(record: StoredRecord) -> OffsetRecord | GroupRecord | None:
    """What ``record`` says, or None for a kind that is not ours.  Raises :class:`UnreadableRecord`."""
    try:
        return _read(record)
    except (ProtocolError, struct.error, ValueError) as error:
        raise UnreadableRecord(f"record at offset {record.offset}: {error}") from error


def _read(record: StoredRecord) -> OffsetRecord | GroupRecord | None:
    (kind,) = _VERSION.unpack_from(record.key)
    key = memoryview(record.key)
    if kind in (OFFSET_KEY, OLD_OFFSET_KEY):
        what, _ = reader(OffsetCommitKey, 0)(key, _VERSION.size)
        return OffsetRecord(what.group, what.topic, what.partition, _read_offset(record.value))
    if kind == GROUP_KEY:
        group, _ = reader(GroupMetadataKey, 0)(key, _VERSION.size)
        return GroupRecord(group.group, _read_group(record.value))
    return None


def _read_offset(value: bytes | None) -> CommittedOffset | None:
    if value is None:
        return None
    (version,) = _VERSION.unpack_from(value)
    body, _ = reader(OffsetCommitValue, version)(memoryview(value), _VERSION.size)
    return CommittedOffset(
        offset=body.offset,
        leader_epoch=body.leader_epoch,
        metadata=body.metadata,
        commit_ms=body.commit_timestamp,
        expire_ms=body.expire_timestamp,
        topic_id=body.topic_id,
    )


def _read_group(value: bytes | None) -> GroupMetadataValue | None:
    if value is None:
        return None
    (version,) = _VERSION.unpack_from(value)
    return reader(GroupMetadataValue, version)(memoryview(value), _VERSION.size)[0]


def offset_key(group_id: str, topic: str, partition: int) -> bytes:
    """The key under which an offset is committed."""
    out = bytearray(_VERSION.pack(OFFSET_KEY))
    writer(OffsetCommitKey, 0)(OffsetCommitKey(group=group_id, topic=topic, partition=partition), out, [])
    return bytes(out)


def group_key(group_id: str) -> bytes:
    """The key of a group."""
    out = bytearray(_VERSION.pack(GROUP_KEY))
    writer(GroupMetadataKey, 0)(GroupMetadataKey(group=group_id), out, [])
    return bytes(out)


def offset_record(group_id: str, topic: str, partition: int, value: CommittedOffset | None) -> NewRecord:
    """The record of a committed offset; its tombstone for None."""
    key = offset_key(group_id, topic, partition)
    if value is None:
        return NewRecord(key, None)
    version = OFFSET_VERSION if value.expire_ms == NO_EXPIRY else EXPIRING_OFFSET_VERSION
    body = OffsetCommitValue(
        offset=value.offset,
        leader_epoch=value.leader_epoch,
        metadata=value.metadata,
        commit_timestamp=value.commit_ms,
        expire_timestamp=value.expire_ms,
        topic_id=value.topic_id,
    )
    out = bytearray(_VERSION.pack(version))
    writer(OffsetCommitValue, version)(body, out, [])
    return NewRecord(key, bytes(out))


def group_record(group: Group) -> NewRecord:
    """The record of a group that is Stable or Empty."""
    assert group.state in (GroupState.STABLE, GroupState.EMPTY), group.state
    body = GroupMetadataValue(
        protocol_type=group.protocol_type or "",
        generation=group.generation,
        protocol=group.protocol,
        leader=group.leader,
        current_state_timestamp=group.since_ms,
        members=[_member_body(member, group.protocol or "") for member in group.members.values()],
    )
    out = bytearray(_VERSION.pack(GROUP_VERSION))
    writer(GroupMetadataValue, GROUP_VERSION)(body, out, [])
    return NewRecord(group_key(group.group_id), bytes(out))


def group_tombstone(group_id: str) -> NewRecord:
    """The record that ends a group."""
    return NewRecord(group_key(group_id), None)


def _member_body(member: Member, protocol: str) -> MemberMetadata:
    return MemberMetadata(
        member_id=member.member_id,
        group_instance_id=member.instance_id,
        client_id=member.client_id,
        client_host=member.client_host,
        rebalance_timeout=member.rebalance_timeout_ms,
        session_timeout=member.session_timeout_ms,
        subscription=protocols.metadata(member.protocols, protocol),
        assignment=member.assignment,
    )


def restored(group_id: str, value: GroupMetadataValue, live: Group | None) -> Group:
    """The group that a record describes.

    ``live`` is the group that wrote it, when it is applied and not replayed: it knows what records do
    not say (all protocols that a member offers, ids that are pending, who has not synced).
    """
    known = live.members if live is not None else {}
    members = {
        m.member_id: _restored_member(m, value.protocol, known.get(m.member_id)) for m in value.members
    }
    state = GroupState.STABLE if members else GroupState.EMPTY
    group = Group(
        group_id=group_id,
        state=state,
        previous=live.previous if live is not None and live.state is state else _before(live),
        since_ms=value.current_state_timestamp,
        generation=value.generation,
        protocol_type=value.protocol_type or None,
        protocol=value.protocol,
        leader=value.leader,
        members=members,
        instances=_instances(members.values()),
        pending=live.pending if live is not None else (),
        pending_sync=live.pending_sync & members.keys() if live is not None else frozenset(),
    )
    return group.knowing_topics()


def _before(live: Group | None) -> GroupState:
    return live.state if live is not None else GroupState.DEAD


def _instances(members: Iterable[Member]) -> dict[str, str]:
    return {m.instance_id: m.member_id for m in members if m.instance_id is not None}


def _restored_member(body: MemberMetadata, protocol: str | None, known: Member | None) -> Member:
    timeout = body.session_timeout
    return Member(
        member_id=body.member_id,
        instance_id=body.group_instance_id,
        client_id=body.client_id,
        client_host=body.client_host,
        # Version 0 had none.
        rebalance_timeout_ms=timeout if body.rebalance_timeout == -1 else body.rebalance_timeout,
        session_timeout_ms=timeout,
        protocols=known.protocols if known is not None else (Protocol(protocol or "", body.subscription),),
        assignment=body.assignment,
    )
