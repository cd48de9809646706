"""Crashes at any point: between plan and moves, inside a move, before and after done; each copy is once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
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
from pykbroker.forwarding.machine import Answer, ForwardMachine, Lane
from pykbroker.forwarding.plan import LaneValue, Move, Place, Plan, Route
from pykbroker.forwarding.shards import ForwardShard
from tests.forwarding.world import FACE, Crash, MemoryTargets, by_offset, place, source

INGRESS = Place(b"i" * 16, 0)
TARGETS = [place(1), place(2), place(2, 1)]
ELSEWHERE = place(5)
SOURCES = {None: FACE, ELSEWHERE: "elsewhere", place(6): "far"}
"""Logs that records are moved from, and what copies say of them."""
DEAD_LETTERS = place(9)
NEARLY_WRAPPED = 2**31 - 5


EXTRAS = st.dictionaries(st.sampled_from([b"", b"a", b"ab"]), st.none() | st.binary(max_size=3), max_size=3)


class Forwarder(RuleBasedStateMachine):
    """One lane whose broker may crash at any append; ``due`` is what must be where, in order."""

    due: dict[Place, list[tuple[str, int]]]

    @initialize(
        first_sequence=st.sampled_from([0, NEARLY_WRAPPED]), max_bytes=st.sampled_from([150, 1 << 20])
    )
    def begin(self, first_sequence: int, max_bytes: int) -> None:
        self.log = MemoryLog()
        self.port = MemoryTargets(max_bytes=max_bytes)
        self.due = defaultdict(list)
        self.left: dict[tuple[Place, Place | None], set[int]] = defaultdict(set)
        self.ends: dict[Place | None, int] = defaultdict(int)
        self.extras: dict[bytes, bytes] = {}
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

    @rule(data=st.data(), count=st.integers(0, 8), extras=EXTRAS)
    def plan(self, data: st.DataObject, count: int, extras: dict[bytes, bytes | None]) -> None:
        """Of all that came to the sources, some is moved, in any order, some stays until later."""
        routes = []
        for origin, face in SOURCES.items():
            begin, self.ends[origin] = self.ends[origin], self.ends[origin] + count
            for target in TARGETS:
                left = self.left[target, origin]
                left |= set(range(begin, self.ends[origin]))
                offsets = data.draw(st.lists(st.sampled_from(sorted(left)), unique=True)) if left else []
                if offsets and target not in self.port.gone:
                    note = data.draw(st.sampled_from([b"", b"note"]))
                    end = len(self.port.logs[target])
                    routes.append(Route(target, tuple(offsets), end, source=origin, note=note))
                    self.due[target] += [(face, offset) for offset in offsets]
                    left -= set(offsets)
        self.decide(self.lane.position + count, routes, extras)

    def decide(self, position: int, routes: list[Route], extras: dict[bytes, bytes | None]) -> None:
        done, self.done = self.done, []
        for slot in done:
            self.executed.pop(slot, None)
        decide = partial(
            ForwardMachine.plan,
            ingress=INGRESS,
            next_offset=position,
            leader_epoch=0,
            routes=routes,
            done=done,
            extras=tuple(extras.items()),
        )
        trio.run(self.ask, decide)
        for name, value in extras.items():
            if value is None:
                self.extras.pop(name, None)
            else:
                self.extras[name] = value

    @rule(extras=EXTRAS)
    def remember(self, extras: dict[bytes, bytes | None]) -> None:
        """Small values, and nothing to move."""
        self.decide(self.lane.position, [], extras)

    @precondition(lambda self: not any(self.executed.values()) and len(self.plans) > 1)
    @rule()
    def merge(self) -> None:
        waiting = {
            slot: {move.name for move in plan.moves}
            for slot, plan in self.plans.items()
            if slot not in self.done and plan.moves
        }
        if len(waiting) > 1:
            trio.run(self.ask, partial(ForwardMachine.merge, ingress=INGRESS, waiting=waiting))

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
        copier = Copier(provenance(SOURCES[move.source], 0))

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
        end, face = len(self.port.logs[DEAD_LETTERS]), SOURCES[move.source]
        instead = [Route(DEAD_LETTERS, offsets, end, source=move.source, note=b"dead")]
        before = {each.name for each in plan.moves}
        decide = partial(
            ForwardMachine.amend, ingress=INGRESS, slot=plan.slot, name=move.name, keep=keep, instead=instead
        )
        amended = trio.run(self.ask, decide)
        assert isinstance(amended, Plan)
        assert len({each.name for each in amended.moves} - before) == 1
        for offset in offsets:
            self.due[move.target].remove((face, offset))
            self.due[DEAD_LETTERS].append((face, offset))

    @rule()
    def forget_producers(self) -> None:
        """Producer states expire or are lost."""
        self.port.forgotten |= {*TARGETS, DEAD_LETTERS}

    @rule(which=st.sampled_from(TARGETS[:2]))
    def delete(self, which: Place) -> None:
        self.port.gone.add(which)

    @invariant()
    def nothing_is_doubled(self) -> None:
        for target in TARGETS:
            copies = self.port.copies(target)
            assert len(copies) == len(set(copies)), target

    @invariant()
    def small_values_are_what_was_decided_last(self) -> None:
        if hasattr(self, "shard"):
            machine = self.shard.machine
            assert machine.lanes[INGRESS].extras == self.extras
            assert list(machine.by_producer.values()) == list(machine.lanes.values())
            assert machine.busy == {place: lane for place, lane in machine.lanes.items() if lane.plans}

    def teardown(self) -> None:
        if not hasattr(self, "port"):
            return
        self.start()
        while self.next_move() is not None:
            self.execute()
        for target, offsets in self.due.items():
            if target == DEAD_LETTERS:
                assert sorted(self.port.copies(target)) == sorted(offsets)
            elif target not in self.port.gone:
                assert self.port.copies(target) == offsets
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
        extras = [(b"name", b"%d" % number)]
        plan = await ask(
            lambda token: machine.plan(INGRESS, number + 1, 0, routes, done, token, extras)  # noqa: B023
        )
        assert isinstance(plan, Plan)
        done = [plan.slot]
    log.compact()
    assert len(log.records) <= 5
    await ask(lambda token: machine.forget(INGRESS, token))
    log.compact()
    assert [len(each) for each in (machine.lanes, machine.by_producer, machine.busy)] == [0, 0, 0]
    assert {record.value for record in log.records} == {None}


async def test_what_cannot_be_read_is_passed_over() -> None:
    machine = ForwardMachine()
    machine.apply(StoredRecord(0, b"?", b""))
    machine.apply(StoredRecord(1, form.lane_key(INGRESS), b"\xff"))
    assert not machine.lanes


def test_what_an_ingress_log_has_lost_is_cut_out_of_plans_and_other_sources_stay() -> None:
    machine = ForwardMachine()
    moves = (
        Move(target=TARGETS[0], offsets=(12, 3, 10), since=0, base_sequence=0),
        Move(target=TARGETS[1], offsets=(11,), since=0, base_sequence=0),
        Move(target=TARGETS[1], offsets=(99, 7), since=0, base_sequence=1, source=ELSEWHERE),
    )
    whole = Plan(slot=0, first_offset=10, next_offset=13, moves=moves)
    gone = Plan(slot=1, first_offset=13, next_offset=14, moves=moves[1:2])
    machine.lanes[INGRESS] = Lane(LaneValue(7, 0, 14, 0), {0: whole, 1: gone})
    for record in machine.restart(INGRESS, 10, 1, 0).records:
        machine.apply(StoredRecord(0, record.key, record.value))
    lane = machine.lanes[INGRESS]
    assert lane.value == LaneValue(7, 0, 10, 1)
    (left,) = lane.plans.values()
    assert left.moves == (replace(moves[0], offsets=(3,)), moves[2])
    assert (left.first_offset, left.next_offset) == (10, 10)


def test_merging_joins_moves_of_one_source_and_note_only() -> None:
    def move(base: int, offset: int, source: Place | None = None, note: bytes = b"") -> Move:
        return Move(
            target=TARGETS[0], offsets=(offset,), since=base, base_sequence=base, source=source, note=note
        )

    kinds = [
        move(0, 5),
        move(1, 2),
        move(2, 2),
        move(3, 3, ELSEWHERE),
        move(4, 1, ELSEWHERE),
        move(5, 0, note=b"n"),
    ]
    machine = ForwardMachine()
    plans = {
        slot: Plan(slot=slot, first_offset=slot, next_offset=slot + 1, moves=(each,))
        for slot, each in enumerate(kinds)
    }
    machine.lanes[INGRESS] = Lane(LaneValue(7, 0, 6, 0), plans, {TARGETS[0]: 6})
    ((_, merged),) = machine.merge(INGRESS, {slot: {plans[slot].moves[0].name} for slot in plans}, 0).replies
    assert isinstance(merged, Plan)
    assert [each.offsets for each in merged.moves] == [(5, 2), (2,), (3, 1), (0,)]
    assert [each.base_sequence for each in merged.moves] == [0, 2, 3, 5]
