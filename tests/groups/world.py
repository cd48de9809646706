"""A group machine driven by hand: a list of records for a log, numbers for clocks, no waiting."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from pykbroker.coordinator.machine import Decision
from pykbroker.coordinator.shard_log import NewRecord, StoredRecord
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.groups.draft import GroupDecision
from pykbroker.groups.limits import GroupLimits
from pykbroker.groups.machine import GroupMachine
from pykbroker.groups.messages import (
    Commit,
    GroupAnswer,
    Heartbeat,
    Join,
    Joined,
    Leave,
    Leaver,
    OffsetToCommit,
    Protocol,
    Sync,
    Synced,
)
from pykbroker.protocol.schema import ZERO_UUID


def subscription(*topics: str) -> bytes:
    """A consumer's subscription of version 0, user data included."""
    names = b"".join(struct.pack(">h", len(t)) + t.encode() for t in topics)
    return struct.pack(">hi", 0, len(topics)) + names + struct.pack(">i", -1)


RANGE = (Protocol("range", subscription("t")),)


@dataclass
class Ticket:
    """A request that was taken; ``answer`` comes when it comes."""

    token: int
    answer: GroupAnswer | None = None

    @property
    def joined(self) -> Joined:
        assert isinstance(self.answer, Joined), self.answer
        return self.answer

    @property
    def synced(self) -> Synced:
        assert isinstance(self.answer, Synced), self.answer
        return self.answer

    @property
    def waits(self) -> bool:
        return self.answer is None


class World:
    """One machine and its log.  ``now`` in seconds, ``now_ms`` = 1,000,000 + the same in ms."""

    def __init__(self, limits: GroupLimits | None = None) -> None:
        self.limits = limits or GroupLimits()
        self._ids = count(1)
        self.log: list[StoredRecord] = []
        self.batches: list[tuple[NewRecord, ...]] = []
        self.failing: ErrorCode | None = None
        self.now = 0.0
        self._tokens = count(1)
        self.tickets: dict[int, Ticket] = {}
        self.machine = self._fresh()

    @property
    def now_ms(self) -> int:
        return 1_000_000 + round(self.now * 1000)

    def _fresh(self) -> GroupMachine:
        return GroupMachine(self.limits, suffix=lambda: str(next(self._ids)))

    def replayed(self) -> GroupMachine:
        """What a restart would make of the log."""
        machine = self._fresh()
        for record in self.log:
            machine.apply(record)
        return machine

    def restart(self) -> None:
        """Crash; everything volatile is lost."""
        self.machine = self.replayed()
        self.machine.loaded(self.now)
        self.tickets.clear()

    def carry_out(self, decision: GroupDecision) -> None:
        """What the runtime does."""
        if decision.records:
            if self.failing is not None:
                raise KafkaError(self.failing)
            self.batches.append(decision.records)
        self.machine.settle(decision.changes)
        for record in decision.records:
            stored = StoredRecord(len(self.log), record.key, record.value)
            self.log.append(stored)
            self.machine.apply(stored)
        for token, answer in decision.replies:
            ticket = self.tickets[token]
            assert ticket.waits, f"answered twice: {ticket} {answer}"
            ticket.answer = answer

    def ask(self, decide: Callable[[int], Decision[object, GroupAnswer] | GroupDecision]) -> Ticket:
        """One request; what is due at once is done at once."""
        ticket = Ticket(next(self._tokens))
        self.tickets[ticket.token] = ticket
        try:
            self.carry_out(decide(ticket.token))  # type: ignore[arg-type]
        except KafkaError:
            del self.tickets[ticket.token]
            raise
        self.run_due()
        return ticket

    def run_due(self) -> None:
        while self.machine.next_deadline() <= self.now:
            self.carry_out(self.machine.on_deadline(self.now, self.now_ms))

    def advance(self, seconds: float) -> None:
        """Let time pass, stopping at each deadline."""
        end = self.now + seconds
        while self.machine.next_deadline() <= end:
            self.now = self.machine.next_deadline()
            self.run_due()
        self.now = end

    # requests with the defaults of a usual consumer

    def join(
        self,
        member_id: str = "",
        *,
        group: str = "g",
        instance: str | None = None,
        protocols: tuple[Protocol, ...] = RANGE,
        protocol_type: str = "consumer",
        session_ms: int = 10_000,
        rebalance_ms: int = 60_000,
        version: int = 9,
        client: str = "c",
    ) -> Ticket:
        request = Join(
            group_id=group,
            member_id=member_id,
            instance_id=instance,
            client_id=client,
            client_host="/127.0.0.1",
            session_timeout_ms=session_ms,
            rebalance_timeout_ms=rebalance_ms,
            protocol_type=protocol_type,
            protocols=protocols,
            must_know_id=version >= 4,
            can_skip_assignment=version >= 9,
        )
        return self.ask(lambda token: self.machine.join(request, token, self.now, self.now_ms))

    def enter(self, **options: object) -> tuple[str, Ticket]:
        """Join as a new dynamic member does: get an id, come back with it."""
        first = self.join(**options)  # type: ignore[arg-type]
        assert first.joined.error is ErrorCode.MEMBER_ID_REQUIRED
        member_id = first.joined.member_id
        return member_id, self.join(member_id, **options)  # type: ignore[arg-type]

    def sync(
        self,
        member_id: str,
        generation: int,
        assignments: dict[str, bytes] | None = None,
        *,
        group: str = "g",
        instance: str | None = None,
        protocol: str | None = "range",
    ) -> Ticket:
        request = Sync(
            group_id=group,
            member_id=member_id,
            generation=generation,
            instance_id=instance,
            protocol_type="consumer",
            protocol=protocol,
            assignments=tuple((assignments or {}).items()),
        )
        return self.ask(lambda token: self.machine.sync(request, token, self.now, self.now_ms))

    def heartbeat(
        self, member_id: str, generation: int, *, group: str = "g", instance: str | None = None
    ) -> ErrorCode:
        request = Heartbeat(group_id=group, member_id=member_id, generation=generation, instance_id=instance)
        answer = self.ask(lambda t: self.machine.heartbeat(request, t, self.now, self.now_ms)).answer
        assert isinstance(answer, ErrorCode)
        return answer

    def leave(self, *leavers: str | Leaver, group: str = "g") -> Ticket:
        request = Leave(
            group_id=group, leavers=tuple(Leaver(x) if isinstance(x, str) else x for x in leavers)
        )
        return self.ask(lambda token: self.machine.leave(request, token, self.now, self.now_ms))

    def commit(
        self,
        offset: int,
        *,
        member_id: str = "",
        generation: int = -1,
        group: str = "g",
        instance: str | None = None,
        topic: str = "t",
        partition: int = 0,
        metadata: str = "",
        retention_ms: int = -1,
        must_exist: bool = False,
    ) -> Ticket:
        request = Commit(
            group_id=group,
            member_id=member_id,
            generation=generation,
            instance_id=instance,
            retention_ms=retention_ms,
            group_must_exist=must_exist,
            offsets=(OffsetToCommit(topic, ZERO_UUID, partition, offset, 3, metadata),),
        )
        return self.ask(lambda token: self.machine.commit(request, token, self.now, self.now_ms))

    def committed(self, *, group: str = "g", topic: str = "t", partition: int = 0) -> int:
        return self.machine.offsets.fetch(group, [(topic, ZERO_UUID, partition)])[0].offset

    def expire(self) -> None:
        ids = list(self.machine.groups)
        self.ask(lambda token: self.machine.expire(ids, token, self.now_ms))

    def stable(self, members: int = 1, *, group: str = "g") -> list[str]:
        """A stable group of new dynamic members; the first leads.  Each is assigned its own id."""
        entered = [self.enter(group=group) for _ in range(members)]
        ids = [member_id for member_id, _ in entered]
        state = self.machine.groups[group]
        if members > 1:
            for member_id in ids:
                if self.machine.groups[group].members[member_id].join_token is None:
                    self.join(member_id, group=group)
            state = self.machine.groups[group]
        assert state.leader == ids[0]
        for member_id in reversed(ids):
            self.sync(
                member_id,
                state.generation,
                {i: i.encode() for i in ids} if member_id == ids[0] else None,
                group=group,
            )
        return ids
