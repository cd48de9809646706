"""A shard: loading, deciding, answering, resigning.  The machine under it counts."""

from __future__ import annotations

import math

import pytest
import trio
import trio.testing

from pykbroker.clock import MovableClock
from pykbroker.coordinator.machine import Decision
from pykbroker.coordinator.runtime import Shard, ShardState
from pykbroker.coordinator.shard_log import MemoryLog, NewRecord, StoredRecord
from pykbroker.errors import ErrorCode, KafkaError

CountDecision = Decision[float, int]


class Counter:
    """Keeps the number of records; can be asked for it now, or by the next record."""

    def __init__(self) -> None:
        self.count = 0
        self.waiting: list[int] = []
        self.deadline = math.inf
        self.started = False

    def add(self, token: int, now: float, now_ms: int) -> CountDecision:
        replies = [(token, self.count + 1), *((waiting, self.count + 1) for waiting in self.waiting)]
        return Decision(records=(NewRecord(b"k", b"v"),), replies=tuple(replies))

    def wait(self, token: int, now: float, now_ms: int) -> CountDecision:
        self.waiting.append(token)
        return Decision()

    def apply(self, record: StoredRecord) -> None:
        self.count += 1

    def settle(self, changes: tuple[float, ...]) -> None:
        self.deadline = changes[-1]

    def loaded(self, now: float) -> None:
        self.started = True

    def next_deadline(self) -> float:
        return self.deadline

    def on_deadline(self, now: float, now_ms: int) -> CountDecision:
        return Decision(records=(NewRecord(b"late", None),), changes=(math.inf,))

    def postpone(self, until: float) -> None:
        self.deadline = until


CountShard = Shard[float, int, Counter]


def shard_on(log: MemoryLog, clock: MovableClock | None = None) -> CountShard:
    return Shard("test-0", Counter(), log, clock or MovableClock(), commit_timeout_s=0.05)


async def active(log: MemoryLog, clock: MovableClock | None = None) -> CountShard:
    shard = shard_on(log, clock)
    await shard.elected(1)
    return shard


def run(test: object) -> None:
    trio.run(test)  # type: ignore[arg-type]


def test_loading_replays_and_refuses_meanwhile() -> None:
    async def story() -> None:
        log = MemoryLog([StoredRecord(i, b"k", b"v" * 1000) for i in range(2000)])
        shard = shard_on(log)
        with pytest.raises(KafkaError) as info:
            await shard.ask(shard.machine.add)
        assert info.value.code is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        assert shard.next_deadline() == math.inf
        await shard.elected(3)
        assert (shard.state, shard.epoch, shard.machine.count) == (ShardState.ACTIVE, 3, 2000)
        assert shard.machine.started
        assert await shard.ask(shard.machine.add) == 2001

    run(story)


def test_a_compacted_log_loads_to_its_end() -> None:
    async def story() -> None:
        log = MemoryLog([StoredRecord(3, b"a", b"1"), StoredRecord(9, b"a", b"2")])
        log.end_offset = log.high_watermark = 20  # the rest was compacted away
        shard = await active(log)
        assert shard.machine.count == 2

    run(story)


def test_an_empty_log_is_loaded_without_waiting() -> None:
    async def story() -> None:
        shard = shard_on(MemoryLog())
        with trio.testing.assert_no_checkpoints():
            await shard.elected(0)
        assert shard.state is ShardState.ACTIVE

    run(story)


def test_answers_wait_for_the_high_watermark_and_so_do_views() -> None:
    async def story() -> None:
        log = MemoryLog()
        shard: CountShard = Shard("test-0", Counter(), log, MovableClock(), commit_timeout_s=60)
        await shard.elected(0)
        log.held = True
        found: list[int] = []

        async def add() -> None:
            found.append(await shard.ask(shard.machine.add))

        async def look() -> None:
            found.append(await shard.view(lambda machine: machine.count))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(add)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(look)
            await trio.testing.wait_all_tasks_blocked()
            assert found == []
            log.release()
        assert found == [1, 1]

    run(story)


def test_what_is_not_acknowledged_in_time() -> None:
    async def story() -> None:
        log = MemoryLog()
        shard = await active(log)
        log.held = True
        with pytest.raises(KafkaError) as info:
            await shard.ask(shard.machine.add)
        assert info.value.code is ErrorCode.COORDINATOR_NOT_AVAILABLE

    run(story)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ErrorCode.KAFKA_STORAGE_ERROR, ErrorCode.NOT_COORDINATOR),
        (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.NOT_COORDINATOR),
        (ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.COORDINATOR_NOT_AVAILABLE),
        (ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.UNKNOWN_SERVER_ERROR),
    ],
)
def test_an_append_that_fails_changes_nothing(error: ErrorCode, told: ErrorCode) -> None:
    async def story() -> None:
        log = MemoryLog()
        shard = await active(log)
        log.failing = error
        with pytest.raises(KafkaError) as info:
            await shard.ask(shard.machine.add)
        assert info.value.code is told
        assert shard.machine.count == 0
        log.failing = None
        assert await shard.ask(shard.machine.add) == 1

    run(story)


def test_a_later_decision_answers_who_waits_and_the_gone_are_not_missed() -> None:
    async def story() -> None:
        shard = await active(MemoryLog())
        found: list[int] = []

        async def wait(scope: trio.CancelScope) -> None:
            with scope:
                found.append(await shard.ask(shard.machine.wait))

        async with trio.open_nursery() as nursery:
            gone = trio.CancelScope()
            nursery.start_soon(wait, gone)
            nursery.start_soon(wait, trio.CancelScope())
            await trio.testing.wait_all_tasks_blocked()
            gone.cancel()
            await trio.testing.wait_all_tasks_blocked()
            await shard.ask(shard.machine.add)
        assert found == [1]

    run(story)


def test_resigning_tells_all() -> None:
    async def story() -> None:
        shard = await active(MemoryLog())
        codes: list[ErrorCode] = []

        async def wait() -> None:
            try:
                await shard.ask(shard.machine.wait)
            except KafkaError as error:
                codes.append(error.code)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            shard.resigned()
        await wait()
        assert codes == [ErrorCode.NOT_COORDINATOR] * 2

    run(story)


def test_deadlines_are_done_when_due_and_again_when_the_disk_was_full() -> None:
    async def story() -> None:
        clock, log = MovableClock(), MemoryLog()
        shard = await active(log, clock)
        shard.machine.deadline = clock.monotonic() + 5
        shard.on_deadline()
        assert log.batches == []
        clock.advance(5, sessions=True)
        log.failing = ErrorCode.KAFKA_STORAGE_ERROR
        shard.on_deadline()
        assert shard.next_deadline() > clock.monotonic()
        log.failing = None
        clock.advance(1, sessions=True)
        shard.on_deadline()
        assert log.batches == [[NewRecord(b"late", None)]]
        assert shard.next_deadline() == math.inf

    run(story)
