"""One lane on a real ingress log: what waits, what is refused, what is done again after a crash."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from pykbroker.components import PartitionContext, RoutingContext
from pykbroker.coordinator.runtime import Shard
from pykbroker.coordinator.shard_log import MemoryLog
from pykbroker.errors import ErrorCode
from pykbroker.forwarding import lane as lane_module
from pykbroker.forwarding import moving
from pykbroker.forwarding.deciding import FinalTarget
from pykbroker.forwarding.lane import FaceWork, Surroundings
from pykbroker.forwarding.machine import Answer, ForwardMachine, Lane
from pykbroker.forwarding.plan import Place
from pykbroker.forwarding.runner import Runner
from pykbroker.forwarding.shards import ForwardShard
from pykbroker.partitions.partition import Partition
from pykbroker.records.batch import HEADER_SIZE, Buffer
from pykbroker.records.build import RecordData, encode_batch
from pykbroker.records.decode import payload_of
from pykbroker.routing import Routed
from tests.forwarding.world import FACE, MemoryTargets, place
from tests.partitions.kit import Bench

NAMES = {"a": place(1), "b": place(2), "dead": place(9)}


class KeyTable:
    """The routing key says where a record goes: names with commas between."""

    def cached(self, entry: str, routing_key: str) -> Routed | None:
        return None

    def route(self, entry: str, ctx: RoutingContext) -> Routed:
        return Routed(frozenset(filter(None, ctx.routing_key.split(","))))


class Home:
    """A lane's surroundings, which outlive its crashes."""

    def __init__(self, bench: Bench, dead_letter: str = "") -> None:
        overrides = {"pykbroker_exchange_type": "fanout", "pykbroker_dead_letter_topic": dead_letter}
        self.bench = bench
        self.source: Partition = bench.topic(FACE, **overrides)
        self.ingress = Place(self.source.topic_id, 0)
        self.port = MemoryTargets()
        self.plans = MemoryLog()
        self.until: int | None = None
        self.driver: Runner | None = None
        self.around = Surroundings(
            clock=bench.clock,
            routes=self,
            find=self.find,
            port=self.port,
            name_of=lambda topic_id: next(name for name, each in NAMES.items() if each.topic_id == topic_id),
            next_producer_id=self.next_producer_id,
            max_decompressed=1 << 20,
        )

    async def next_producer_id(self) -> int:
        return 7

    def at(self, topic_id: bytes, partition: int, offset: int) -> tuple[KeyTable, int | None]:
        return KeyTable(), None

    def find(self, name: str) -> FinalTarget | None:
        if name not in NAMES:
            return None
        return FinalTarget(
            name=name,
            topic_id=NAMES[name].topic_id,
            partitions=1,
            available=(0,),
            keyless=True,
            choose=_first,
        )

    def produce(self, *keys: str, values: Sequence[bytes | None] = ()) -> None:
        """One batch with these routing keys."""
        records = [
            RecordData(key.encode(), value)
            for key, value in zip(keys, values or [b"v"] * len(keys), strict=True)
        ]
        batch = bytearray(encode_batch(records, timestamp_ms=self.bench.clock.time_ms()))
        self.source.append_as_leader(batch, now_ms=self.bench.clock.time_ms())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Runner]:
        """A broker's life, which ends with a kill."""
        shard: ForwardShard = Shard[None, Answer, ForwardMachine](
            "plans", ForwardMachine(), self.plans, self.bench.clock
        )
        await shard.elected(0)
        self.shard = shard
        driver = Runner(
            self.ingress, FaceWork(self.ingress, FACE, self.source, self.around), shard, self.around
        )
        wake = driver.wake
        self.source.watch(wake)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(driver.run)
            await trio.testing.wait_all_tasks_blocked()
            yield driver
            nursery.cancel_scope.cancel()
        self.source.unwatch(wake)

    @property
    def lane(self) -> Lane:
        return self.shard.machine.lanes[self.ingress]

    def offsets(self, name: str) -> list[int]:
        """Where the copies in a target come from."""
        return self.port.offsets(NAMES[name])

    async def quiet(self) -> None:
        """Until nobody has anything to do, also when retries are due."""
        for _ in range(3):
            await trio.testing.wait_all_tasks_blocked()
            self.bench.clock.advance(10, sessions=True)
        await trio.testing.wait_all_tasks_blocked()


def _garble_the_middle(path: Path) -> None:
    """Of three batches of one size, that is in the records of the second."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 + 10] ^= 0xFF
    path.write_bytes(data)


def _first(ctx: PartitionContext) -> int:
    return 0


@pytest.fixture
async def home(bench: Bench) -> Home:
    return Home(bench)


async def test_copies_are_made_and_plans_are_done(home: Home) -> None:
    async with home.running() as driver:
        home.produce("a,b", "a", "", "b")
        await home.quiet()
        assert (home.offsets("a"), home.offsets("b")) == ([0, 1], [0, 3])
        assert (driver.open_plans, driver.passed, home.lane.settled) == (0, 4, 4)
        assert home.around.counters.unroutable == 1
    assert not home.lane.plans


async def test_a_plan_is_acknowledged_before_anything_is_moved(home: Home) -> None:
    home.plans.held = True
    async with home.running():
        home.plans.release()
        await trio.testing.wait_all_tasks_blocked()
        home.produce("a")
        await trio.testing.wait_all_tasks_blocked()
        assert home.lane.plans
        assert home.offsets("a") == []
        home.plans.release()
        await trio.testing.wait_all_tasks_blocked()
        assert home.offsets("a") == [0]
        home.plans.release()


async def test_an_unavailable_target_delays_only_its_own_moves(home: Home) -> None:
    home.port.unavailable.add(NAMES["a"])
    async with home.running() as driver:
        for _ in range(5):
            home.produce("a,b", "b", "a")
            await trio.testing.wait_all_tasks_blocked()
        assert home.offsets("b") == [0, 1, 3, 4, 6, 7, 9, 10, 12, 13]
        assert (home.offsets("a"), driver.waiting_moves, home.lane.settled) == ([], 5, 0)
        home.port.unavailable.clear()
        await home.quiet()
        assert home.offsets("a") == [0, 2, 3, 5, 6, 8, 9, 11, 12, 14]
        assert (driver.waiting_moves, driver.open_plans, home.lane.settled) == (0, 0, 15)


async def test_what_waits_is_merged_and_survives_a_kill(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "MERGE_AT", 10)
    home.port.unavailable.add(NAMES["a"])
    async with home.running() as driver:
        for _ in range(100):
            home.produce("a,b")
            await trio.testing.wait_all_tasks_blocked()
        assert driver.open_plans <= 12
    async with home.running():
        home.produce("a")
        await home.quiet()
        assert home.offsets("a") == []
        home.port.unavailable.clear()
        await home.quiet()
        assert not home.lane.plans
    assert (home.offsets("a"), home.offsets("b")) == (list(range(101)), list(range(100)))


async def test_merging_goes_on_where_targets_come_and_go(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "MERGE_AT", 4)
    async with home.running():
        for number in range(60):
            if number % 7 == 0:
                home.port.unavailable ^= {NAMES["a"]}
            if number % 5 == 0:
                home.port.unavailable ^= {NAMES["b"]}
            home.produce("a,b", "a", "b")
            await trio.testing.wait_all_tasks_blocked()
            home.bench.clock.advance(0.2, sessions=True)
        home.port.unavailable.clear()
        await home.quiet()
        assert not home.lane.plans
    assert home.offsets("a") == [each for each in range(180) if each % 3 != 2]
    assert home.offsets("b") == [each for each in range(180) if each % 3 != 1]


@pytest.mark.parametrize("dead_letter", ["dead", "", "missing"])
async def test_copies_for_a_target_that_is_gone_are_dead_letters_or_dropped(
    bench: Bench, dead_letter: str
) -> None:
    home = Home(bench, dead_letter)
    home.port.unavailable.add(NAMES["a"])
    async with home.running():
        home.produce("a,b", "a")
        home.produce("a")
        await trio.testing.wait_all_tasks_blocked()
        home.port.gone.add(NAMES["a"])
        home.port.unavailable.clear()
        await home.quiet()
        assert not home.lane.plans
    assert home.offsets("dead") == ([0, 1, 2] if dead_letter == "dead" else [])
    counters = home.around.counters
    assert (counters.dead_letters, counters.dropped) == ((3, 0) if dead_letter == "dead" else (0, 3))
    assert home.offsets("b") == [0]


async def test_a_compacted_target_refuses_records_without_a_key(home: Home) -> None:
    """It became compacted after the records were planned."""
    home.port.unavailable.add(NAMES["a"])
    home.port.compacted.add(NAMES["a"])
    async with home.running():
        batch = encode_batch(
            [RecordData(None, b"1", headers=[("routing-key", b"a")]), RecordData(b"a", b"2")], timestamp_ms=1
        )
        home.source.append_as_leader(bytearray(batch), now_ms=1)
        await trio.testing.wait_all_tasks_blocked()
        home.port.unavailable.clear()
        await home.quiet()
        assert not home.lane.plans
    assert home.offsets("a") == [1]
    assert home.around.counters.dropped == 1


async def test_a_move_that_was_made_in_part_goes_on_behind_it(home: Home) -> None:
    home.port.max_bytes = HEADER_SIZE + 120  # one or two records a batch
    home.port.unavailable.add(NAMES["a"])
    async with home.running():
        home.produce(*["a"] * 10)
        await trio.testing.wait_all_tasks_blocked()
    home.port.unavailable.clear()
    home.port.appends_left, home.port.after = 3, True
    with pytest.RaisesGroup(pytest.RaisesGroup(Exception)):
        async with home.running():
            await home.quiet()
    assert 0 < len(home.offsets("a")) < 10
    home.port.appends_left = None
    async with home.running():
        await home.quiet()
        assert not home.lane.plans
    assert home.offsets("a") == list(range(10))


async def test_a_single_record_is_never_too_large(home: Home) -> None:
    home.port.max_bytes = 100
    async with home.running():
        home.produce("a", "a", values=[b"x" * 5000, b"y"])
        await home.quiet()
    assert home.offsets("a") == [0, 1]
    assert len(home.port.batches) == 2


async def test_when_the_log_of_plans_fails_the_lane_begins_again(home: Home) -> None:
    async with home.running():
        home.plans.failing = ErrorCode.KAFKA_STORAGE_ERROR
        home.produce("a")
        await home.quiet()
        assert home.offsets("a") == []
        home.plans.failing = None
        await home.quiet()
    assert home.offsets("a") == [0]


async def test_plans_that_a_power_cut_took_lose_nothing(home: Home) -> None:
    """The target is ahead of what the log of plans knows: what is decided anew goes behind it."""
    async with home.running():
        home.produce("a")
        await home.quiet()
        known = len(home.plans.records)
        home.produce("a", "b", "a")
        await home.quiet()
    del home.plans.records[known:]
    home.plans.end_offset = home.plans.high_watermark = known
    async with home.running():
        home.produce("a")
        await home.quiet()
    assert set(home.offsets("a")) == {0, 1, 3, 4}
    assert home.offsets("a")[-1] == 4


async def test_records_that_a_power_cut_took_from_the_ingress_log_are_not_mistaken_for_others(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    home.port.unavailable.add(NAMES["a"])
    async with home.running():
        home.produce("a")
        home.produce("a")
        home.produce("a")
        await home.quiet()
    home.source.truncate_to(1)
    home.source.lead(1)
    home.produce("b")
    home.produce("b")
    home.port.unavailable.clear()
    async with home.running():
        await home.quiet()
        assert not home.lane.plans
    assert (home.offsets("a"), home.offsets("b")) == ([0], [1, 2])
    assert "has lost records" in caplog.text


async def test_records_in_damage_are_passed_over(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        home.produce("a")
    _garble_the_middle(home.source.log.directory / "00000000000000000000.log")
    async with home.running():
        await home.quiet()
        assert home.lane.settled == 3
    assert home.offsets("a") == [0, 2]
    assert "lost to damage" in caplog.text


async def test_compressed_batches_are_taken_apart_once(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_module, "PLAN_RECORDS", 10)
    opened: list[int] = []

    def counting(batch: Buffer, pos: int, max_bytes: int) -> Buffer:
        opened.append(pos)
        return payload_of(batch, pos, max_bytes)

    monkeypatch.setattr("pykbroker.forwarding.reading.payload_of", counting)
    async with home.running():
        batch = encode_batch([RecordData(b"a", b"v")] * 100, timestamp_ms=1, codec=1)
        home.source.append_as_leader(bytearray(batch), now_ms=1)
        await home.quiet()
    assert home.offsets("a") == list(range(100))
    assert len(opened) == 1
    assert {header.codec for _, header in home.port.batches} == {1}
