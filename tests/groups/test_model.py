"""Random lives of a group against a small model; a crash at any time loses nothing that was answered."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.groups.group import Group
from pykbroker.groups.limits import GroupLimits
from pykbroker.groups.machine import GroupMachine
from pykbroker.groups.messages import Committed, Joined, Protocol
from pykbroker.groups.protocols import metadata
from pykbroker.groups.states import GroupState
from tests.groups.world import Ticket, World, subscription

OFFERS = (
    (Protocol("range", subscription("t")),),
    (Protocol("sticky", subscription("t")), Protocol("range", subscription("t"))),
    (Protocol("range", subscription("t", "u")), Protocol("sticky", b"?")),
)


def durable(group: Group) -> Group:
    """What a record can say about a group."""
    members = {
        i: replace(
            m,
            protocols=(Protocol(group.protocol or "", metadata(m.protocols, group.protocol or "")),),
            is_new=False,
            join_token=None,
            sync_token=None,
        )
        for i, m in group.members.items()
    }
    return replace(
        group,
        previous=GroupState.DEAD,
        members=members,
        pending=(),
        pending_sync=frozenset(),
        initial_delay_ms=0,
        came_late=False,
    )


class GroupLife(RuleBasedStateMachine):
    """Clients that behave, misbehave, and fall silent; a broker that crashes and runs out of disk."""

    ids = Bundle("ids")

    @initialize(delay=st.sampled_from([0, 3000]), size=st.sampled_from([2, 1000]))
    def start(self, delay: int, size: int) -> None:
        self.world = World(GroupLimits(initial_rebalance_delay_ms=delay, max_size=size, max_pending=3))
        self.waiting: list[Ticket] = []
        self.offsets: dict[int, int] = {}
        self.generation = 0
        self.stored: Group | None = None

    def ask(self, call: object, *args: object, **options: object) -> Ticket | None:
        assert callable(call)
        try:
            ticket = call(*args, **options)
        except KafkaError:
            return None
        if isinstance(ticket, Ticket):
            if ticket.waits:
                self.waiting.append(ticket)
            return ticket
        return None

    @rule(
        target=ids,
        offer=st.sampled_from(OFFERS),
        version=st.sampled_from([2, 9]),
        instance=st.sampled_from([None, None, "i", "j"]),
    )
    def come(self, offer: tuple[Protocol, ...], version: int, instance: str | None) -> tuple[str, str | None]:
        before = set(self.world.machine.groups["g"].members) if "g" in self.world.machine.groups else set()
        ticket = self.ask(
            self.world.join, protocols=offer, version=version, instance=instance if version == 9 else None
        )
        if ticket is not None and isinstance(ticket.answer, Joined) and ticket.answer.member_id:
            return ticket.answer.member_id, instance if version == 9 else None
        group = self.world.machine.groups.get("g")
        new = set(group.members) - before if group is not None else set()
        return (min(new) if new else "nobody"), instance if version == 9 else None

    @rule(who=ids, offer=st.sampled_from(OFFERS))
    def rejoin(self, who: tuple[str, str | None], offer: tuple[Protocol, ...]) -> None:
        self.ask(self.world.join, who[0], protocols=offer, instance=who[1])

    @rule(who=ids, good=st.booleans())
    def sync(self, who: tuple[str, str | None], good: bool) -> None:
        group = self.world.machine.groups.get("g")
        generation = group.generation if group is not None and good else 99
        assignments = {i: i.encode() for i in group.members} if group is not None else {}
        protocol = group.protocol if group is not None else None
        self.ask(self.world.sync, who[0], generation, assignments, instance=who[1], protocol=protocol)

    @rule(who=ids)
    def beat(self, who: tuple[str, str | None]) -> None:
        group = self.world.machine.groups.get("g")
        self.ask(self.world.heartbeat, who[0], group.generation if group else 0, instance=who[1])

    @rule(who=ids)
    def leave(self, who: tuple[str, str | None]) -> None:
        self.ask(self.world.leave, who[0])

    @rule(who=ids, offset=st.integers(0, 99), part=st.integers(0, 2), simple=st.booleans())
    def commit(self, who: tuple[str, str | None], offset: int, part: int, simple: bool) -> None:
        group = self.world.machine.groups.get("g")
        member = {} if simple else {"member_id": who[0], "generation": group.generation if group else 0}
        ticket = self.ask(self.world.commit, offset, partition=part, **member)
        if ticket is not None and ticket.answer == Committed(errors=(ErrorCode.NONE,)):
            self.offsets[part] = offset

    @rule(seconds=st.sampled_from([0.5, 3, 6, 11, 61, 301]))
    def pass_time(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule()
    def crash(self) -> None:
        self.world.restart()
        self.waiting.clear()
        # Generations that were never assigned are not written, and may come again.
        group = self.group()
        self.generation = group.generation if group is not None else 0

    @rule(failing=st.booleans())
    def disk(self, failing: bool) -> None:
        """A full disk refuses requests; deadlines that need it are tried again by the runtime."""
        if failing:
            self.world.failing = ErrorCode.KAFKA_STORAGE_ERROR
            before = dict(self.world.machine.groups)
            self.ask(self.world.commit, 1)
            assert self.world.machine.groups == before
        self.world.failing = None

    @invariant()
    def what_is_written_is_what_is_there(self) -> None:
        if not hasattr(self, "world"):
            return
        live, again = self.world.machine, self.world.replayed()
        assert dict(live.offsets.of("g")) == dict(again.offsets.of("g"))
        assert {p: self.world.committed(partition=p) for p in self.offsets} == self.offsets
        group, restored = live.groups.get("g"), again.groups.get("g")
        if group is not None and group.state in (GroupState.STABLE, GroupState.EMPTY):
            self.stored = durable(group)
        if restored is not None and restored.generation > 0:
            assert self.stored is not None
            assert durable(restored) == self.stored

    @invariant()
    def the_group_makes_sense(self) -> None:
        group = self.group()
        if group is None:
            return
        members = group.members
        assert group.generation >= self.generation
        self.generation = group.generation if group.protocol_type is not None else self.generation
        assert set(group.instances.values()) == {m.member_id for m in members.values() if m.instance_id}
        assert not set(group.pending) & members.keys()
        assert group.pending_sync <= members.keys()
        assert (group.leader in members) if members else group.leader is None
        assert len(group.pending) <= 3
        if group.state is GroupState.EMPTY:
            assert not members
        if group.state in (GroupState.STABLE, GroupState.COMPLETING):
            assert members
            assert all(any(p.name == group.protocol for p in m.protocols) for m in members.values())
            assert not any(m.join_token for m in members.values())
        if group.state is not GroupState.COMPLETING:
            assert not any(m.sync_token for m in members.values())

    @invariant()
    def nobody_is_forgotten(self) -> None:
        """Each request that waits is named by a member, and each member that waits by a request."""
        group = self.group()
        if group is None:
            return
        self.waiting = [ticket for ticket in self.waiting if ticket.waits]
        named = {t for m in group.members.values() for t in (m.join_token, m.sync_token) if t is not None}
        assert named == {ticket.token for ticket in self.waiting}
        assert not named or self.world.machine.next_deadline() < float("inf")

    def group(self) -> Group | None:
        machine: GroupMachine | None = self.world.machine if hasattr(self, "world") else None
        return machine.groups.get("g") if machine is not None else None


TestGroupLife = GroupLife.TestCase
