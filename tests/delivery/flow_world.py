"""Flows on real logs, with a clock that tests move: a broker without its network."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio
import trio.testing

from pykbroker.catalog.changes import Elect, SetTopicConfig
from pykbroker.catalog.exchange_types import PluginExchangeTypes
from pykbroker.catalog.image import Topic
from pykbroker.catalog.memory import MemoryCatalog
from pykbroker.catalog.producer_ids import ProducerIds
from pykbroker.catalog.retrying import Role, RoleKind, delayed_name, flow_of, held_name
from pykbroker.catalog.topics import NewTopic, TopicAdmin
from pykbroker.clock import MovableClock
from pykbroker.config import BrokerConfig
from pykbroker.delivery.asking import Policies
from pykbroker.delivery.flows import Flows
from pykbroker.delivery.index import Index, MemoryIndex
from pykbroker.delivery.telling import Telling
from pykbroker.delivery.topics import DeliveryTopics
from pykbroker.forwarding.plan import Place
from pykbroker.forwarding.reading import bytes_of
from pykbroker.forwarding.service import Forwarding
from pykbroker.partitions.manager import Partitions
from pykbroker.partitions.partition import Partition
from pykbroker.plugins import Plugins
from pykbroker.records.build import RecordData, encode_batch
from pykbroker.records.compression import Codec
from pykbroker.records.decode import Record, iter_records
from pykbroker.routing import Routes
from pykbroker.routing.compiled import PluginCompiler

Headers = Sequence[tuple[str, bytes | None]]


class StillClock(MovableClock):
    """Moves when it is told to, only; backwards too."""

    def __init__(self, now_ms: int = 1_000_000_000) -> None:
        super().__init__()
        self.now_ms = now_ms

    def time_ms(self) -> int:
        return self.now_ms

    def advance(self, seconds: float, *, sessions: bool = False) -> None:
        self.now_ms += round(seconds * 1000)
        if self._moved is not None:
            self._moved.set()
            self._moved = None


class World:
    """What outlives a broker: its catalog, its directory, its clock."""

    def __init__(self, path: Path, *sets: str) -> None:
        self.path = path
        path.mkdir(exist_ok=True)
        self.clock = StillClock()
        self.config = BrokerConfig.load(sets=[f"log.dirs={path}", *sets])
        self.catalog = MemoryCatalog(self.config)
        self.index: Index = MemoryIndex()
        self.life: Life | None = None

    async def create(self, name: str, partitions: int = 1, **overrides: str) -> Topic:
        """A topic; underscores are dots."""
        given = [(each.replace("_", "."), value) for each, value in overrides.items()]
        (topic,) = await TopicAdmin(self.catalog).create(
            [NewTopic(name=name, partitions=partitions, overrides=given)]
        )
        assert isinstance(topic, Topic), topic
        return topic

    async def delays(self, name: str = "later", partitions: int = 1, delay_ms: int = 0) -> Topic:
        """A topic that delays."""
        return await self.create(
            name, partitions, pykbroker_delay_enable="true", pykbroker_delay_ms=str(delay_ms)
        )

    @asynccontextmanager
    async def running(self, *, clean: bool = True) -> AsyncIterator[Life]:
        """A broker's life."""
        life = Life(self)
        await life.partitions.open_all(self.catalog.image)
        subscribers = len(self.catalog._subscribers)
        life.begin()
        async with trio.open_nursery() as nursery:
            await nursery.start(life.forwarding.run)
            await nursery.start(life.flows.run)
            await settled()
            yield life
            await life.flows.shutdown()
            await life.forwarding.shutdown()
            nursery.cancel_scope.cancel()
        del self.catalog._subscribers[subscribers:]
        await life.partitions.shutdown()

    async def power_cut(self, topic: str, offset: int, partition: int = 0) -> None:
        """Between two lives: the log loses what lies from ``offset`` on, and leader epochs rise."""
        partitions = Partitions(self.catalog, self.path, self.clock)
        await partitions.open_all(self.catalog.image)
        partitions.get(topic, partition).truncate_to(offset)
        await partitions.shutdown()
        await self.catalog.propose([Elect(node_id=self.config.node_id)])

    async def alter(self, topic: str, name: str, value: str) -> None:
        """Set one setting of a topic."""
        known = self.catalog.image.topics[topic]
        overrides = {**known.overrides, name: value}
        await self.catalog.propose(
            [SetTopicConfig(name=topic, version=known.config_version, overrides=overrides)]
        )

    async def delete(self, topic: str) -> None:
        """As a client does."""
        (answer,) = await TopicAdmin(self.catalog).delete([topic])
        assert isinstance(answer, Topic), answer


async def settled() -> None:
    """Until nothing happens any more; not where threads do it."""
    for _ in range(3):
        await trio.testing.wait_all_tasks_blocked()


class Life:
    """One run of the broker."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clock, self.catalog = world.clock, world.catalog
        self.partitions = Partitions(world.catalog, world.path, world.clock)

    def begin(self) -> None:
        """Make what works on the logs, which are open."""
        catalog, clock, partitions = self.catalog, self.clock, self.partitions
        catalog.subscribe(partitions.on_delta)
        self.plugins = plugins = self.loaded()
        plugins.reconfigure(catalog.broker_config)
        catalog.exchange_rules.types = PluginExchangeTypes(plugins)
        topics = TopicAdmin(catalog)
        routes = Routes(PluginCompiler(plugins), catalog.image)
        catalog.subscribe(lambda delta: routes.follow(delta.after))
        self.forwarding = Forwarding(
            clock, catalog, topics, partitions, ProducerIds(catalog), plugins, routes
        )
        catalog.subscribe(self.forwarding.on_delta)
        self.topics = DeliveryTopics(catalog, topics, self._groups)
        self.flows = Flows(
            clock,
            catalog,
            self.topics,
            partitions,
            self.forwarding.engine,
            Policies(plugins, lambda: catalog.image),
            Telling(plugins),
            data_dir=self.world.path,
            index=self.world.index,
        )
        catalog.subscribe(self.flows.on_delta)

    def loaded(self) -> Plugins:
        """The plugins."""
        return Plugins.load(self.world.config, time_ms=self.clock.time_ms)

    async def _groups(self) -> Sequence[str]:
        return ()

    def produce(
        self,
        name: str,
        *values: bytes,
        partition: int = 0,
        headers: Headers = (),
        codec: Codec = Codec.NONE,
    ) -> int:
        """One batch to a topic, as Produce appends it; the end of the log that it landed in."""
        face = self.partitions.get(name, partition)
        where = self.flows.landing(face) if face.is_face else face
        records = [RecordData(b"key", value, headers=tuple(headers)) for value in values]
        now_ms = self.clock.time_ms()
        batch = bytearray(encode_batch(records, codec=codec, timestamp_ms=now_ms))
        return where.append_as_leader(batch, now_ms=now_ms).next_offset

    def delayed(self, name: str, partition: int = 0) -> Partition:
        """The log in which what arrives for a topic lands."""
        flow_id = flow_of(self.catalog.image.topics[name])
        assert flow_id is not None
        return self.partitions.get(delayed_name(flow_id), partition)

    def held(self, name: str, partition: int = 0) -> Partition:
        """The log in which it is held."""
        flow_id = flow_of(self.catalog.image.topics[name])
        assert flow_id is not None
        return self.partitions.get(held_name(flow_id), partition)

    def records(self, name: str, partition: int = 0) -> list[Record]:
        """What a consumer would read."""
        log = self.partitions.get(name, partition)
        found: list[Record] = []
        at = log.log_start_offset
        while at < log.high_watermark:
            read = log.read(at, 1 << 20)
            data = bytes_of(read.records)
            position = 0
            while position < len(data):
                size = 12 + int.from_bytes(data[position + 8 : position + 12], "big")
                found += iter_records(data[position : position + size])
                position += size
            at = read.next_offset
        return found

    def values(self, name: str, partition: int = 0) -> list[bytes | None]:
        """Their values."""
        return [record.value for record in self.records(name, partition)]

    async def advance(self, ms: int) -> None:
        """Move the clock when all has happened, and let everything that follows from that happen."""
        await settled()
        self.clock.advance(ms / 1000)
        await settled()


def role(origin: str = "orders", group: str = "billing") -> Role:
    """That of a retry topic."""
    return Role(RoleKind.RETRY, origin, group)


def place(partition: Partition) -> Place:
    """Of a log."""
    return Place(partition.topic_id, partition.index)


__all__ = ["Life", "StillClock", "World", "place", "role", "settled"]
