"""A lane whose work is a script: what becomes durable when, what waits, what is asked again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from pykbroker.clock import MovableClock
from pykbroker.coordinator.runtime import Shard
from pykbroker.coordinator.shard_log import MemoryLog
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.forwarding import moving
from pykbroker.forwarding.copying import Copier, Source, provenance
from pykbroker.forwarding.machine import Answer, ForwardMachine, Lane
from pykbroker.forwarding.plan import LaneValue, Move, Place, Plan, Route
from pykbroker.forwarding.refusing import GONE, NO_KEY
from pykbroker.forwarding.runner import Around, Runner
from pykbroker.forwarding.shards import ForwardShard
from pykbroker.forwarding.work import Records, Step, Work
from tests.forwarding.world import MemoryTargets, by_offset, place, source

INGRESS = Place(b"i" * 16, 3)
ORIGIN = place(40)
FACES = {None: "ingress", ORIGIN: "origin"}
A, B, INSTEAD = place(1), place(2), place(3)


class Script(Work):
    """Does one step after the other, and notes what it is told."""

    def __init__(self, steps: list[Step]) -> None:
        self.label = "script"
        self.steps = steps
        self.told: list[str] = []
        self.seen: dict[bytes, bytes] = {}
        self.instead: Place | None = None
        self.failing = False
        self.at_planned: list[int] = []
        self.port: MemoryTargets
        self.keyless: set[int] = set()

    def begin_position(self) -> int:
        return 100

    async def resumed(self, lane: Lane | None, value: LaneValue) -> None:
        self.seen = {} if lane is None else dict(lane.extras)
        self.told.append(f"resumed at {value.position}")

    async def step(self, position: int) -> Step | None:
        for step in self.steps:
            if step.next_position > position:
                return step
        return None

    async def planned(self, step: Step, plan: Plan) -> None:
        self.told.append(f"planned to {plan.next_offset}")
        self.at_planned.append(sum(map(len, self.port.logs.values())))
        if self.failing:
            self.failing = False
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR)

    async def read(self, source_: Place | None, offsets: Sequence[int]) -> Records:
        self.told.append(f"read {FACES[source_]} {list(offsets)}")
        return by_offset(self.record(offset) for offset in offsets)

    def record(self, offset: int) -> Source:
        return source(offset, key=None if offset in self.keyless else b"key")

    def suffix(self, move: Move, index: int, record: Source) -> bytes:
        face = f"{FACES[move.source]}{move.note.decode()}"
        return Copier(provenance(face, 0)).suffix(record)

    async def refused(
        self, move: Move, refused: Mapping[int, str], records: Records
    ) -> Sequence[Route] | None:
        self.told.append(f"refused {dict(refused)}")
        if self.instead is None:
            return None
        offsets = tuple(offset for offset in move.offsets if offset in refused)
        return [Route(self.instead, offsets, source=move.source, note=b"!")]

    async def amended(self, move: Move, refused: Mapping[int, str], instead: Sequence[Route]) -> None:
        self.told.append(f"amended {[route.offsets for route in instead]}")


class Home:
    """What outlives a broker."""

    def __init__(self, *steps: Step) -> None:
        self.clock = MovableClock()
        self.plans = MemoryLog()
        self.port = MemoryTargets()
        self.work = Script(list(steps))
        self.around = Around(
            clock=self.clock,
            port=self.port,
            name_of=lambda topic_id: f"topic{topic_id[0]}",
            next_producer_id=self.next_producer_id,
            max_decompressed=1 << 20,
        )
        self.shard: ForwardShard

    async def next_producer_id(self) -> int:
        return 7

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Runner]:
        """A broker's life, which ends with a kill."""
        self.shard = Shard[None, Answer, ForwardMachine]("plans", ForwardMachine(), self.plans, self.clock)
        await self.shard.elected(0)
        work = self.work
        work.told, work.port = [], self.port
        runner = Runner(INGRESS, work, self.shard, self.around)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runner.run)
            await trio.testing.wait_all_tasks_blocked()
            yield runner
            nursery.cancel_scope.cancel()

    @property
    def lane(self) -> Lane:
        return self.shard.machine.lanes[INGRESS]

    async def quiet(self) -> None:
        """Until nobody has anything to do, also when retries are due."""
        for _ in range(4):
            await trio.testing.wait_all_tasks_blocked()
            self.clock.advance(10, sessions=True)
        await trio.testing.wait_all_tasks_blocked()


async def test_moves_of_several_sources_come_in_the_order_of_the_plan() -> None:
    step = Step(
        next_position=101,
        routes=[
            Route(A, (9, 2, 5)),
            Route(A, (2,), note=b"+"),
            Route(B, (7, 1), source=ORIGIN),
            Route(A, (1,), source=ORIGIN, note=b"-"),
        ],
        records={None: by_offset(map(source, (2, 5, 9)))},
    )
    home = Home(step)
    async with home.running() as runner:
        assert home.port.copies(A) == [
            ("ingress", 9), ("ingress", 2), ("ingress", 5), ("ingress+", 2), ("origin-", 1)
        ]  # fmt: skip
        assert home.port.copies(B) == [("origin", 7), ("origin", 1)]
        assert (runner.passed, runner.open_plans, home.lane.settled) == (101, 0, 101)
        assert not home.lane.plans
    assert home.work.told == [
        "resumed at 100", "planned to 101", "read origin [7, 1]", "read origin [1]"
    ]  # fmt: skip
    assert home.work.at_planned == [0]
    assert home.around.counters.copies == 7


async def test_a_record_that_is_missing_where_it_was_read_is_left_out() -> None:
    home = Home(Step(next_position=101, routes=[Route(A, (1, 2, 3))], records={None: by_offset([source(3)])}))
    async with home.running():
        assert home.port.offsets(A) == [3]
        assert not home.lane.plans


async def test_what_was_planned_before_a_kill_is_moved_after_it_and_not_planned_again() -> None:
    home = Home(Step(next_position=101, routes=[Route(A, (5, 3), source=ORIGIN), Route(B, (1,))]))
    home.port.unavailable |= {A, B}
    async with home.running() as runner:
        assert runner.waiting_moves == 2
    home.port.unavailable.clear()
    async with home.running():
        await home.quiet()
        assert not home.lane.plans
    assert home.port.copies(A) == [("origin", 5), ("origin", 3)]
    assert home.port.copies(B) == [("ingress", 1)]
    assert sorted(home.work.told) == ["read ingress [1]", "read origin [5, 3]", "resumed at 101"]


async def test_a_step_without_moves_costs_one_append_and_its_values_outlive_a_kill() -> None:
    home = Home(
        Step(next_position=101, extras=[(b"a", b"1"), (b"b", b"2")]),
        Step(next_position=102, extras=[(b"a", None), (b"c", b"")]),
    )
    async with home.running():
        assert len(home.plans.batches) == 3  # the first one opens the lane
    home.plans.compact()
    async with home.running() as runner:
        assert home.work.seen == {b"b": b"2", b"c": b""}
        assert runner.passed == 102
        home.work.steps.append(Step(next_position=103, extras=[(b"b", b"3")]))
        runner.wake()
        await trio.testing.wait_all_tasks_blocked()
        assert home.lane.extras == {b"b": b"3", b"c": b""}


async def test_small_values_and_moves_are_one_batch() -> None:
    home = Home(Step(next_position=101, routes=[Route(A, (1,))], extras=[(b"a", b"1")]))
    async with home.running():
        kinds = {record.key[:1] for record in home.plans.batches[1]}
    assert kinds == {b"P", b"S", b"X", b"L"}


async def test_nothing_is_moved_before_the_plan_is_acknowledged() -> None:
    home = Home()
    async with home.running() as runner:
        home.plans.held = True
        home.work.steps.append(Step(next_position=101, routes=[Route(A, (1,))]))
        runner.wake()
        await trio.testing.wait_all_tasks_blocked()
        assert (home.port.offsets(A), home.work.told) == ([], ["resumed at 100"])
        home.plans.held = False
        home.plans.release()
        await trio.testing.wait_all_tasks_blocked()
        assert home.port.offsets(A) == [1]


async def test_work_that_fails_begins_again_with_what_is_durable() -> None:
    home = Home(Step(next_position=101, routes=[Route(A, (1,))], extras=[(b"a", b"1")]))
    home.work.failing = True
    async with home.running():
        assert home.port.offsets(A) == []
        await home.quiet()
        assert home.port.offsets(A) == [1]
        assert home.work.seen == {b"a": b"1"}
    assert home.work.told == ["resumed at 100", "planned to 101", "resumed at 101", "read ingress [1]"]


async def test_moves_whose_target_is_gone_wait_where_the_work_knows_no_other_place(
    caplog: pytest.LogCaptureFixture,
) -> None:
    home = Home(Step(next_position=101, routes=[Route(A, (1, 2)), Route(B, (3,))]))
    home.port.gone.add(A)
    async with home.running() as runner:
        await home.quiet()
        assert (runner.waiting_moves, home.port.offsets(B)) == (1, [3])
        assert home.work.told.count(f"refused { {1: GONE, 2: GONE} }") > 2
        assert len([record for record in caplog.records if "copies wait" in record.message]) == 1
        assert GONE in caplog.text
        home.port.gone.clear()
        await home.quiet()
        assert (home.port.offsets(A), home.lane.plans) == ([1, 2], {})


async def test_moves_whose_target_is_gone_go_where_the_work_says() -> None:
    home = Home(
        Step(next_position=101, routes=[Route(A, (2, 1), source=ORIGIN)]),
        Step(next_position=102, routes=[Route(A, (3,))]),
    )
    home.port.gone.add(A)
    home.work.instead = INSTEAD
    async with home.running():
        await home.quiet()
        assert not home.lane.plans
    assert home.port.copies(INSTEAD) == [("origin!", 2), ("origin!", 1), ("ingress!", 3)]
    assert [each for each in home.work.told if each.startswith("amended")] == [
        "amended [(2, 1)]", "amended [(3,)]"
    ]  # fmt: skip


async def test_a_compacted_target_refuses_records_without_a_key_at_once() -> None:
    home = Home(Step(next_position=101, routes=[Route(A, (1, 2, 3))]))
    home.port.compacted.add(A)
    home.work.keyless.add(2)
    home.work.instead = INSTEAD
    async with home.running():
        await home.quiet()
        assert not home.lane.plans
    assert (home.port.offsets(A), home.port.offsets(INSTEAD)) == ([1, 3], [2])
    assert f"refused { {2: NO_KEY} }" in home.work.told


async def test_a_source_that_cannot_be_read_now_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(Step(next_position=101, routes=[Route(A, (1,), source=ORIGIN)]))
    broken = True
    read = home.work.read

    async def sometimes(source_: Place | None, offsets: Sequence[int]) -> Records:
        if broken:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "is not open")
        return await read(source_, offsets)

    monkeypatch.setattr(home.work, "read", sometimes)
    async with home.running() as runner:
        await home.quiet()
        assert runner.waiting_moves == 1
        broken = False
        await home.quiet()
        assert home.port.offsets(A) == [1]
    assert not [each for each in home.work.told if each.startswith("refused")]


async def test_what_waits_is_merged_whatever_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "MERGE_AT", 5)
    home = Home(
        *(
            Step(
                next_position=101 + number,
                routes=[Route(A, (50 - number,), source=ORIGIN if number % 20 else None)],
            )
            for number in range(40)
        )
    )
    home.port.unavailable.add(A)
    async with home.running() as runner:
        assert runner.open_plans < 10
        home.port.unavailable.clear()
        await home.quiet()
        assert not home.lane.plans
    assert home.port.offsets(A) == list(range(50, 10, -1))
    assert [face for face, _ in home.port.copies(A)].count("ingress") == 2


async def test_the_plan_of_a_target_in_several_moves_is_done_when_all_are(
    caplog: pytest.LogCaptureFixture,
) -> None:
    home = Home(Step(next_position=101, routes=[Route(A, (1,)), Route(A, (2,), note=b"n"), Route(B, (3,))]))
    home.port.unavailable.add(A)
    async with home.running() as runner:
        await home.quiet()
        assert (runner.waiting_moves, runner.open_plans, home.lane.settled) == (2, 1, 100)
        home.port.unavailable.clear()
        await home.quiet()
        assert (home.lane.settled, home.port.copies(A)) == (101, [("ingress", 1), ("ingressn", 2)])


async def test_a_long_line_is_read_some_records_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "PIECE", 3)
    home = Home(Step(next_position=101, routes=[Route(A, tuple(range(20)))]))
    home.port.unavailable.add(A)
    read = home.work.read
    lost = {*range(4, 12), 19}
    most = 0

    async def some(source_: Place | None, offsets: Sequence[int]) -> Records:
        nonlocal most
        most = max(most, len(lost.symmetric_difference(offsets) - lost))
        found = await read(source_, offsets)
        return {offset: record for offset, record in found.items() if offset not in lost}

    async with home.running():
        monkeypatch.setattr(home.work, "read", some)
        home.work.keyless = {1, 13, 14, 15, 16}
        home.port.compacted.add(A)
        home.work.instead = INSTEAD
        home.port.unavailable.clear()
        await home.quiet()
        assert not home.lane.plans
    assert home.port.offsets(A) == [0, 2, 3, 12, 17, 18]
    assert home.port.offsets(INSTEAD) == [1, 13, 14, 15, 16]
    assert 0 < most <= 3


async def test_a_long_line_goes_elsewhere_when_its_target_is_deleted_half_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(moving, "PIECE", 3)
    home = Home(Step(next_position=101, routes=[Route(A, tuple(range(10)))]))
    home.port.unavailable.add(A)
    home.work.instead = INSTEAD
    async with home.running():
        home.port.unavailable.clear()
        home.port.gone.add(A)
    async with home.running():
        await home.quiet()
        assert not home.lane.plans
    assert home.port.offsets(INSTEAD) == list(range(10))
