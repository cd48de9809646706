"""Crashes at any point: between plan and moves, inside a move, before and after done; each copy is once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import partial

import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pykbroker.clock import MovableClock
from pykbroker.coordinator.machine import Decision
from pykbroker.coordinator.runtime import Shard
from pykbroker.coordinator.shard_log import MemoryLog, NewRecord, StoredRecord
from pykbroker.forwarding import plan as form
from pykbroker.forwarding.copying import Copier, Source, provenance
from pykbroker.forwarding.executing import Executor, already_there
from pykbroker.forwarding.machine import Answer, ForwardMachine
from pykbroker.forwarding.plan import LaneValue, Move, Place, Plan, Route
from pykbroker.forwarding.shards import ForwardShard
from tests.forwarding.world import FACE, Crash, MemoryTargets, by_offset, place, source

INGRESS = Place(b"i" * 16, 0)
TARGETS = [place(1), place(2), place(2, 1)]
DEAD_LETTERS = place(9)
NEARLY_WRAPPED = 2**31 - 5


class Forwarder(RuleBasedStateMachine):
    """One lane whose broker may crash at any append; ``due`` is what must be where, in order."""

    @initialize(
        first_sequence=st.sampled_from([0, NEARLY_WRAPPED]), max_bytes=st.sampled_from([150, 1 << 20])
    )
    def begin(self, first_sequence: int, max_bytes: int) -> None:
        self.log = MemoryLog()
        self.port = MemoryTargets(max_bytes=max_bytes)
        self.due: dict[Place, list[int]] = defaultdict(list)
        self.start()
        lane = trio.run(
            self.ask, partial(ForwardMachine.open, ingress=INGRESS, producer_id=7, position=0, leader_epoch=0)
        )
        assert isinstance(lane, LaneValue)
        if first_sequence:
            for target in (*TARGETS, DEAD_LETTERS):
                key, value = form.sequence_key(INGRESS, target), form.encode_numbers(first_sequence)
                self.log.append([NewRecord(key, value)], now_ms=0)
                self.shard.machine.apply(StoredRecord(0, key, value))

    def start(self) -> None:
        """A broker that knows nothing but what is in the log of plans."""
        self.shard: ForwardShard = Shard[None, Answer, ForwardMachine](
            "plans", ForwardMachine(), self.log, MovableClock()
        )
        trio.run(self.shard.elected, 0)
        self.done: list[int] = []
        self.executed: dict[int, set[tuple[Place, int]]] = defaultdict(set)
        self.port.appends_left = None

    async def ask(self, decide: Callable[..., Decision[None, Answer]]) -> Answer:
        machine = self.shard.machine
        return await self.shard.ask(lambda token, _now, _ms: decide(machine, token=token))

    @property
    def lane(self) -> LaneValue:
        return self.shard.machine.lanes[INGRESS].value

    @property
    def plans(self) -> dict[int, Plan]:
        return self.shard.machine.lanes[INGRESS].plans

    @rule(data=st.data(), count=st.integers(1, 8))
    def plan(self, data: st.DataObject, count: int) -> None:
        first = self.lane.position
        routes = []
        for target in TARGETS:
            offsets = data.draw(st.sets(st.integers(first, first + count - 1)))
            if offsets and target not in self.port.gone:
                routes.append(Route(target, tuple(sorted(offsets)), len(self.port.logs[target])))
                self.due[target] += sorted(offsets)
        done, self.done = self.done, []
        for slot in done:
            self.executed.pop(slot, None)
        decide = partial(
            ForwardMachine.plan,
            ingress=INGRESS,
            next_offset=first + count,
            leader_epoch=0,
            routes=routes,
            done=done,
        )
        trio.run(self.ask, decide)

    def next_move(self) -> tuple[Plan, Move] | None:
        """Of some target, the first that is not executed yet."""
        for plan, move in self.shard.machine.lanes[INGRESS].open_moves():
            if move.name not in self.executed[plan.slot] and plan.slot not in self.done:
                return plan, move
        return None

    @precondition(lambda self: self.next_move() is not None)
    @rule()
    def execute(self) -> None:
        found = self.next_move()
        assert found is not None
        plan, move = found
        if move.target in self.port.gone:
            self.refuse(plan, move, set(move.offsets))
            return
        self.run_move(move)
        self.note(plan.slot, move)

    def run_move(self, move: Move) -> None:
        copier = Copier(provenance(FACE, 0))

        def suffix(move: Move, index: int, record: Source) -> bytes:
            return copier.suffix(record)

        executor = Executor(self.port, suffix, self.lane, lambda: 0)
        trio.run(executor.append, move, by_offset(map(source, move.offsets)))

    def note(self, slot: int, move: Move) -> None:
        self.executed[slot].add(move.name)
        if self.executed[slot] >= {each.name for each in self.plans[slot].moves}:
            self.done.append(slot)

    @precondition(lambda self: self.next_move() is not None)
    @rule(appends=st.integers(0, 3), after=st.booleans())
    def crash_in_a_move(self, appends: int, after: bool) -> None:
        found = self.next_move()
        assert found is not None
        self.port.appends_left, self.port.after = appends, after
        try:
            if found[1].target not in self.port.gone:
                self.run_move(found[1])
        except* Crash:
            pass
        self.start()

    @rule(compacted=st.booleans())
    def crash(self, compacted: bool) -> None:
        if compacted:
            self.log.compact()
        self.start()

    @precondition(lambda self: bool(self.done))
    @rule()
    def finish(self) -> None:
        done, self.done = self.done, []
        for slot in done:
            self.executed.pop(slot, None)
        trio.run(self.ask, partial(ForwardMachine.finish, ingress=INGRESS, done=done))

    @precondition(lambda self: self.next_move() is not None)
    @rule(data=st.data())
    def refuse_some(self, data: st.DataObject) -> None:
        """A validator names records that the target does not have yet."""
        found = self.next_move()
        assert found is not None
        plan, move = found
        if move.target in self.port.gone:
            return
        last = self.port.last_sequence(move.target, self.lane.producer_id, move.since)
        left = move.offsets[already_there(last, move) :]
        if left and move.target != DEAD_LETTERS:
            self.refuse(plan, move, data.draw(st.sets(st.sampled_from(left), min_size=1)))

    def refuse(self, plan: Plan, move: Move, refused: set[int]) -> None:
        keep = [offset for offset in move.offsets if offset not in refused]
        offsets = tuple(sorted(refused))
        instead = [Route(DEAD_LETTERS, offsets, len(self.port.logs[DEAD_LETTERS]))]
        before = {each.name for each in plan.moves}
        decide = partial(
            ForwardMachine.amend, ingress=INGRESS, slot=plan.slot, name=move.name, keep=keep, instead=instead
        )
        amended = trio.run(self.ask, decide)
        assert isinstance(amended, Plan)
        assert len({each.name for each in amended.moves} - before) == 1
        for offset in offsets:
            self.due[move.target].remove(offset)
        self.due[DEAD_LETTERS] += offsets

    @rule()
    def forget_producers(self) -> None:
        """Producer states expire or are lost."""
        self.port.forgotten |= {*TARGETS, DEAD_LETTERS}

    @rule(which=st.sampled_from(TARGETS[:2]))
    def delete(self, which: Place) -> None:
        self.port.gone.add(which)

    @invariant()
    def nothing_is_doubled(self) -> None:
        for target, log in self.port.logs.items():
            offsets = [copy.offset for copy in log]
            if target != DEAD_LETTERS:
                assert offsets == sorted(set(offsets)), target

    def teardown(self) -> None:
        if not hasattr(self, "port"):
            return
        self.start()
        while self.next_move() is not None:
            self.execute()
        for target, offsets in self.due.items():
            if target == DEAD_LETTERS:
                assert sorted(self.port.offsets(target)) == sorted(offsets)
            elif target not in self.port.gone:
                assert self.port.offsets(target) == offsets
        for plan in self.plans.values():
            assert plan.slot in self.done


TestForwarder = Forwarder.TestCase
TestForwarder.settings = settings()


async def test_slots_are_used_again_and_a_lane_that_is_gone_leaves_nothing() -> None:
    log = MemoryLog()
    shard: ForwardShard = Shard[None, Answer, ForwardMachine]("plans", ForwardMachine(), log, MovableClock())
    await shard.elected(0)
    machine = shard.machine

    async def ask(decide: Callable[[int], Decision[None, Answer]]) -> Answer:
        return await shard.ask(lambda token, _now, _ms: decide(token))

    await ask(lambda token: machine.open(INGRESS, 7, 0, 0, token))
    done: list[int] = []
    for number in range(50):
        routes = [Route(TARGETS[0], (number,), 0)]
        plan = await ask(lambda token: machine.plan(INGRESS, number + 1, 0, routes, done, token))  # noqa: B023
        assert isinstance(plan, Plan)
        done = [plan.slot]
    log.compact()
    assert len(log.records) <= 4
    await ask(lambda token: machine.forget(INGRESS, token))
    log.compact()
    assert not machine.lanes
    assert {record.value for record in log.records} == {None}


async def test_what_cannot_be_read_is_passed_over() -> None:
    machine = ForwardMachine()
    machine.apply(StoredRecord(0, b"?", b""))
    machine.apply(StoredRecord(1, form.lane_key(INGRESS), b"\xff"))
    assert not machine.lanes
