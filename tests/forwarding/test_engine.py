"""Runners on real logs: started, stopped, deleted, started again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import cast

import pytest
import trio
import trio.testing

from pykbroker.catalog.catalog import Delta
from pykbroker.catalog.ingress import FORWARD_TOPIC
from pykbroker.catalog.topics import TopicAdmin
from pykbroker.errors import KafkaError
from pykbroker.events import RecordsAppended
from pykbroker.forwarding.copying import Copier, Source
from pykbroker.forwarding.engine import Engine
from pykbroker.forwarding.machine import Lane
from pykbroker.forwarding.plan import LaneValue, Move, Place, Route
from pykbroker.forwarding.reading import SourceReader
from pykbroker.forwarding.runner import Around
from pykbroker.forwarding.shards import Shards
from pykbroker.forwarding.targets import LocalTargets
from pykbroker.forwarding.work import Records, Step, Work
from pykbroker.partitions.partition import Partition
from pykbroker.plugins import Plugins
from tests.partitions.kit import Bench

HIDDEN = "__pykbroker_other"


class Backwards(Work):
    """Moves what is in a log to another one, the last record first, once there are three of them more."""

    def __init__(self, source: Partition, target: Place) -> None:
        self.label = source.label
        self.source = source
        self.target = target
        self.reader = SourceReader(source, 1 << 20)
        self.resumptions = 0

    def begin_position(self) -> int:
        return 0

    async def resumed(self, lane: Lane | None, value: LaneValue) -> None:
        self.resumptions += 1

    async def step(self, position: int) -> Step | None:
        if self.source.high_watermark < position + 3:
            return None
        offsets = tuple(range(position + 2, position - 1, -1))
        return Step(
            next_position=position + 3,
            routes=[Route(self.target, offsets)],
            extras=[(b"last", b"%d" % position)],
        )

    async def read(self, source: Place | None, offsets: Sequence[int]) -> Records:
        return await self.reader.pick(offsets)

    def suffix(self, move: Move, index: int, record: Source) -> bytes:
        return Copier(None).suffix(record)

    async def refused(
        self, move: Move, refused: Mapping[int, str], records: Records
    ) -> Sequence[Route] | None:
        return None


class Topics:
    """Makes the log of plans."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    async def ensure_internal(self, name: str) -> None:
        if name not in self._bench.catalog.image.topics:
            self._bench.catalog.create(name, 2, {"cleanup.policy": "compact"})


class Home:
    """A data directory with a log and a target."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.source, self.target = bench.topic("source"), bench.topic(HIDDEN)
        self.ingress = Place(self.source.topic_id, 0)
        self.heard: list[RecordsAppended] = []

    async def next_producer_id(self) -> int:
        return 7

    def work(self) -> Backwards:
        return Backwards(self.source, Place(self.target.topic_id, 0))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Engine]:
        bench = self.bench
        catalog = bench.catalog
        shards = Shards(bench.clock, catalog, cast(TopicAdmin, Topics(bench)), bench.partitions)
        around = Around(
            clock=bench.clock,
            port=LocalTargets(
                catalog, bench.partitions, Plugins(bench.config, bench.clock.time_ms), self.heard.append
            ),
            name_of=str,
            next_producer_id=self.next_producer_id,
            max_decompressed=1 << 20,
        )
        engine = Engine(shards, around)

        def on_delta(delta: Delta) -> None:
            gone = {topic.topic_id for topic in delta.deleted}
            if gone:
                engine.on_deleted(gone)
                shards.forget(gone)

        catalog.subscribe(on_delta)
        async with trio.open_nursery() as nursery:
            engine.begin(nursery)
            shards.begin(nursery)
            yield engine
            nursery.cancel_scope.cancel()
        engine.shutdown()
        shards.resigned()

    async def arrived(self) -> list[bytes]:
        """The bodies of what is in the target."""
        await trio.testing.wait_all_tasks_blocked()
        end = self.target.log_end_offset
        found = await SourceReader(self.target, 1 << 20).pick(range(end))
        assert len(found) == end
        return [record.body[-1:] for record in found.values()]


@pytest.fixture
def home(bench: Bench) -> Home:
    return Home(bench)


async def test_a_lane_lives_on_over_stops_and_starts(home: Home) -> None:
    bench, ingress = home.bench, home.ingress
    async with home.running() as engine:
        await engine.loaded(ingress)
        assert (engine.lane(ingress), engine.extras(ingress), engine.settled(ingress)) == (None, {}, 0)
        bench.append(home.source, b"a", b"b", b"c", b"d")
        work = home.work()
        runner = await engine.start(ingress, work)
        assert await home.arrived() == [b"c", b"b", b"a"]
        assert await engine.start(ingress, home.work()) is runner
        assert (engine.settled(ingress), engine.extras(ingress)) == (3, {b"last": b"0"})
        bench.append(home.source, b"e", b"f")
        work.wake()
        assert await home.arrived() == [b"c", b"b", b"a", b"f", b"e", b"d"]
        engine.stop(ingress)
        assert (engine.runner(ingress), engine.runners()) == (None, {})
        again = await engine.start(ingress, home.work())
        assert again is not runner
        assert engine.runners() == {ingress: again}
    await bench.reopen(clean=False)
    home.source, home.target = bench.partitions.get("source", 0), bench.partitions.get(HIDDEN, 0)
    async with home.running() as engine:
        told: list[int] = []
        engine.on_loaded(told.append)
        await engine.loaded(ingress)
        assert engine.is_loaded(ingress)
        assert (engine.settled(ingress), engine.extras(ingress)) == (6, {b"last": b"3"})
        await trio.testing.wait_all_tasks_blocked()
        assert engine.shards.index_of(ingress) in told
        late: list[int] = []
        engine.on_loaded(late.append)
        assert sorted(late) == sorted(told)
        bench.append(home.source, b"g", b"h", b"i")
        await engine.start(ingress, home.work())
        assert (await home.arrived())[6:] == [b"i", b"h", b"g"]
    assert home.heard == []  # nobody hears of hidden logs


async def test_the_lane_of_a_topic_that_is_deleted_is_forgotten(home: Home) -> None:
    ingress = home.ingress
    async with home.running() as engine:
        home.bench.append(home.source, b"a", b"b", b"c")
        await engine.start(ingress, home.work())
        await home.arrived()
        assert engine.lane(ingress) is not None
        home.bench.catalog.delete("source")
        await trio.testing.wait_all_tasks_blocked()
        assert (engine.lane(ingress), engine.runners()) == (None, {})


async def test_what_open_plans_still_need_of_other_logs(home: Home) -> None:
    ingress, origin = home.ingress, Place(home.bench.topic("origin").topic_id, 0)
    shards = Shards(
        home.bench.clock, home.bench.catalog, cast(TopicAdmin, Topics(home.bench)), home.bench.partitions
    )
    assert Engine(shards, None).source_needed_from(origin) == 0  # type: ignore[arg-type]  # not asked
    async with home.running() as engine:
        assert engine.source_needed_from(origin) is None
        shard = await engine.shards.of(ingress)
        machine = shard.machine
        await shard.ask(lambda token, _now, _ms: machine.open(ingress, 7, 0, 0, token))
        routes = [Route(Place(b"t" * 16, 0), (9, 4, 6), source=origin), Route(Place(b"t" * 16, 0), (1,))]
        await shard.ask(lambda token, _now, _ms: machine.plan(ingress, 1, 0, routes, (), token))
        assert engine.source_needed_from(origin) == 4
        assert engine.source_needed_from(ingress) is None
        await shard.ask(lambda token, _now, _ms: machine.finish(ingress, [0], token))
        assert engine.source_needed_from(origin) is None


async def test_after_the_shutdown_nothing_starts(home: Home) -> None:
    async with home.running() as engine:
        pass
    with pytest.raises(KafkaError):
        await engine.start(home.ingress, home.work())


async def test_who_asks_hears_of_partitions_that_are_opened(home: Home) -> None:
    async with home.running() as engine:
        heard: list[Partition] = []
        engine.on_opened(heard.append)
        engine.opened(home.source)
        assert heard == [home.source]
    assert FORWARD_TOPIC not in home.bench.catalog.image.topics
