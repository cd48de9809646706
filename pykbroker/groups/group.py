"""A classic group as a value.

Groups and members are frozen: a decider works out a new group, and the old one stays in force until
the records that go with the change are in the log.  An append that fails, or a step that raises, has
thereby changed nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.groups import protocols, subscription
from pykbroker.groups.messages import JoinedMember, Protocol
from pykbroker.groups.states import GroupState, check_transition


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A member of a group.

    ``join_token`` and ``sync_token`` name the request that waits for an answer, if one does.
    ``is_new`` holds until the first generation with this member begins: its client does not know its
    id yet, or has no reason to send heartbeats, so it is not given up for their lack.
    """

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    rebalance_timeout_ms: int
    session_timeout_ms: int
    protocols: tuple[Protocol, ...]
    assignment: bytes = b""
    is_new: bool = False
    join_token: int | None = None
    sync_token: int | None = None

    @property
    def size(self) -> int:
        """Bytes of metadata and assignment that this member keeps."""
        return sum(len(protocol.metadata) for protocol in self.protocols) + len(self.assignment)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A group; ``members`` in the order in which they came.

    ``pending`` are ids handed out and not yet used (KIP-394), oldest first.  ``pending_sync`` are
    members of this generation that have not sent SyncGroup.  ``initial_delay_ms`` is what is left of
    the first rebalance's waiting time, ``came_late`` whether a member came since it was last extended.
    ``subscribed`` is None when the group's topics are not known.
    """

    group_id: str
    state: GroupState = GroupState.EMPTY
    previous: GroupState = GroupState.DEAD
    since_ms: int = -1
    generation: int = 0
    protocol_type: str | None = None
    protocol: str | None = None
    leader: str | None = None
    members: Mapping[str, Member] = field(default_factory=dict)
    instances: Mapping[str, str] = field(default_factory=dict)
    pending: tuple[str, ...] = ()
    pending_sync: frozenset[str] = frozenset()
    initial_delay_ms: int = 0
    came_late: bool = False
    subscribed: frozenset[str] | None = None

    # questions

    @property
    def is_consumer(self) -> bool:
        """Whether members speak the consumer protocol."""
        return self.protocol_type == subscription.CONSUMER

    @property
    def waiting(self) -> int:
        """How many members wait for their JoinGroup to be answered."""
        return sum(member.join_token is not None for member in self.members.values())

    @property
    def all_joined(self) -> bool:
        """Whether nobody else is expected to join."""
        return not self.pending and all(m.join_token is not None for m in self.members.values())

    @property
    def rebalance_timeout_ms(self) -> int:
        """The longest that a member may take to rejoin; 0 without members."""
        return max((member.rebalance_timeout_ms for member in self.members.values()), default=0)

    @property
    def size(self) -> int:
        """Bytes of metadata and assignments that the group keeps."""
        return sum(member.size for member in self.members.values())

    def supports(self, protocol_type: str, offer: tuple[Protocol, ...]) -> bool:
        """Whether a member with this offer can join."""
        if self.state is GroupState.EMPTY:
            return bool(protocol_type and offer)
        if self.protocol_type != protocol_type:
            return False
        return protocols.fits(offer, (member.protocols for member in self.members.values()))

    def check_member(self, member_id: str, instance_id: str | None) -> None:
        """Raise UNKNOWN_MEMBER_ID or FENCED_INSTANCE_ID unless this is a member."""
        if instance_id is not None:
            owner = self.instances.get(instance_id)
            if owner is None:
                raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)
            if owner != member_id:
                raise KafkaError(ErrorCode.FENCED_INSTANCE_ID)
        if member_id not in self.members:
            raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)

    def is_subscribed(self, topic: str) -> bool:
        """Whether members read ``topic``; a consumer group of unknown topics is taken to read all."""
        return self.is_consumer if self.subscribed is None else topic in self.subscribed

    def roster(self) -> tuple[JoinedMember, ...]:
        """The members with their metadata for the chosen protocol, for the leader.

        Static ones first: where the two kinds alternate, kafka-python's range and round robin forget
        all but the last run of a kind, and those members get no partitions.
        """
        assert self.protocol is not None
        return tuple(
            JoinedMember(m.member_id, m.instance_id, protocols.metadata(m.protocols, self.protocol))
            for m in sorted(self.members.values(), key=lambda member: member.instance_id is None)
        )

    def best_protocol(self) -> str:
        """The protocol that the members would choose now."""
        return protocols.choose([member.protocols for member in self.members.values()])

    # steps

    def moved(self, state: GroupState, now_ms: int) -> Group:
        """The group in ``state``; raises IllegalTransition."""
        check_transition(self.group_id, self.state, state)
        return replace(self, state=state, previous=self.state, since_ms=now_ms)

    def with_member(self, member: Member) -> Group:
        """The group with ``member`` added or changed; the first to come leads."""
        group = replace(
            self,
            members={**self.members, member.member_id: member},
            leader=self.leader if self.leader is not None else member.member_id,
            pending=tuple(i for i in self.pending if i != member.member_id),
        )
        if member.instance_id is not None:
            group = replace(group, instances={**self.instances, member.instance_id: member.member_id})
        return group

    def without(self, *member_ids: str) -> Group:
        """The group without these members or pending ids; a new leader is the one that came first."""
        gone = set(member_ids)
        members = {i: member for i, member in self.members.items() if i not in gone}
        leader = self.leader if self.leader not in gone else next(iter(members), None)
        return replace(
            self,
            members=members,
            instances={instance: i for instance, i in self.instances.items() if i not in gone},
            leader=leader,
            pending=tuple(i for i in self.pending if i not in gone),
            pending_sync=self.pending_sync - gone,
        )

    def with_instance_moved(self, instance_id: str, new_id: str) -> Group:
        """The group with static member ``instance_id`` renamed, in its place; nobody waits as it."""
        old_id = self.instances[instance_id]
        members = {
            (new_id if i == old_id else i): (
                replace(m, member_id=new_id, join_token=None, sync_token=None) if i == old_id else m
            )
            for i, m in self.members.items()
        }
        return replace(
            self,
            members=members,
            instances={**self.instances, instance_id: new_id},
            leader=new_id if self.leader == old_id else self.leader,
            pending_sync=frozenset(new_id if i == old_id else i for i in self.pending_sync),
        )

    def knowing_topics(self) -> Group:
        """The group with ``subscribed`` worked out from its members' metadata."""
        found: frozenset[str] | None = None
        if self.is_consumer and not self.members:
            found = frozenset()
        elif self.is_consumer and self.protocol is not None:
            found = subscription.all_topics(member.metadata for member in self.roster())
        return replace(self, subscribed=found)
