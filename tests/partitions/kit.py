"""A catalog in memory, and partitions on real logs, for the tests of partitions and of their APIs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from pykbroker.apis._fetch_sessions import FetchSessions
from pykbroker.apis._registry import RequestContext, Services
from pykbroker.catalog.catalog import Catalog, Delta
from pykbroker.catalog.changes import Change
from pykbroker.catalog.image import BrokerInfo, Image, PartitionState, Topic, new_topic_id
from pykbroker.clock import MovableClock
from pykbroker.config import BrokerConfig, Endpoint
from pykbroker.log.files import Files
from pykbroker.partitions.manager import Partitions
from pykbroker.partitions.partition import Partition
from pykbroker.records.build import RecordData, encode_batch

NODE = 1


class MemoryCatalog(Catalog):
    """A catalog that tests change directly; each change is announced to the subscribers."""

    def __init__(self, config: BrokerConfig) -> None:
        endpoint = Endpoint("PLAINTEXT", "broker", 9092)
        broker = BrokerInfo(node_id=config.node_id, endpoints=(endpoint,))
        super().__init__(Image(cluster_id="test", brokers={config.node_id: broker}), config)

    async def settle(self) -> None:
        """Nothing is ever on its way here."""

    async def propose(self, changes: Sequence[Change]) -> Image:
        raise NotImplementedError

    def create(
        self,
        name: str,
        partitions: int = 1,
        overrides: Mapping[str, str] | None = None,
        leader_epoch: int = 0,
    ) -> Topic:
        node = self._config.node_id
        states = tuple(
            PartitionState(index=i, replicas=(node,), isr=(node,), leader=node, leader_epoch=leader_epoch)
            for i in range(partitions)
        )
        topic = Topic(name=name, topic_id=new_topic_id(), partitions=states, overrides=dict(overrides or {}))
        self._put(topic, Delta(before=self._image, after=self._image, created=(topic,)))
        return topic

    def elect(self, name: str, leader_epoch: int) -> None:
        topic = self._image.topics[name]
        changed = replace(
            topic, partitions=tuple(replace(p, leader_epoch=leader_epoch) for p in topic.partitions)
        )
        self._put(changed, Delta(before=self._image, after=self._image, changed=(changed,)))

    def configure(self, name: str, overrides: Mapping[str, str]) -> None:
        changed = replace(self._image.topics[name], overrides=dict(overrides))
        self._put(changed, Delta(before=self._image, after=self._image, reconfigured=(changed,)))

    def delete(self, name: str) -> None:
        topics = dict(self._image.topics)
        gone = topics.pop(name)
        self._announce(topics, Delta(before=self._image, after=self._image, deleted=(gone,)))

    def _put(self, topic: Topic, delta: Delta) -> None:
        self._announce({**self._image.topics, topic.name: topic}, delta)

    def _announce(self, topics: Mapping[str, Topic], delta: Delta) -> None:
        names = {topic.topic_id: topic.name for topic in topics.values()}
        self._image = replace(self._image, topics=topics, names_by_id=names)
        for subscriber in self._subscribers:
            subscriber(replace(delta, after=self._image))


class Bench:
    """A data directory with its partitions, once ``open`` was awaited."""

    def __init__(self, data_dir: Path, *, files: Files | None = None, **settings: str) -> None:
        self.data_dir = data_dir
        self.clock = MovableClock()
        self.config = broker_config(data_dir, settings)
        self.catalog = MemoryCatalog(self.config)
        self.files = files
        self.partitions = Partitions(self.catalog, data_dir, self.clock, files=files)
        self.catalog.subscribe(self.partitions.on_delta)
        self.services: Services | None = None

    async def open(self) -> None:
        await self.partitions.open_all(self.catalog.image)

    async def reopen(self, *, clean: bool = True) -> None:
        """Stop (or just let go, as a kill would) and start again on the same directory."""
        if clean:
            await self.partitions.shutdown()
        self.partitions = Partitions(self.catalog, self.data_dir, self.clock, files=self.files)
        self.catalog._subscribers[:] = [self.partitions.on_delta]
        await self.partitions.open_all(self.catalog.image)

    def topic(self, name: str = "t", **overrides: str) -> Partition:
        """A new topic of one partition, underscores in settings standing for dots; its partition."""
        self.catalog.create(
            name, overrides={key.replace("_", "."): value for key, value in overrides.items()}
        )
        return self.partitions.get(name, 0)

    def append(self, partition: Partition, *values: bytes, timestamp_ms: int | None = None) -> int:
        """Append one batch of ``values``; returns its base offset."""
        batch = self.batch(*values, timestamp_ms=timestamp_ms)
        return partition.append_as_leader(batch, now_ms=self.clock.time_ms()).base_offset

    def batch(self, *values: bytes, timestamp_ms: int | None = None, **options: Any) -> bytes:
        """The bytes of one batch."""
        at = self.clock.time_ms() if timestamp_ms is None else timestamp_ms
        return encode_batch([RecordData(value=value) for value in values], timestamp_ms=at, **options)


def broker_config(data_dir: Path, settings: Mapping[str, str]) -> BrokerConfig:
    """A broker's settings; underscores in names stand for dots."""
    sets = [f"{key.replace('_', '.')}={value}" for key, value in settings.items()]
    return BrokerConfig.load(None, {}, [f"log.dirs={data_dir}", f"node.id={NODE}", *sets])


class CountingIds:
    """Producer ids from 1000 on."""

    def __init__(self) -> None:
        self.next = 1000

    async def next_id(self) -> int:
        self.next += 1
        return self.next - 1


def services(bench: Bench) -> Services:
    """What handlers of this room's APIs look at; the rest is not there."""
    absent = cast(Any, None)
    return Services(
        config=bench.config,
        clock=bench.clock,
        catalog=bench.catalog,
        topics=absent,
        partitions=bench.partitions,
        groups=absent,
        producer_ids=cast(Any, CountingIds()),
        fetch_sessions=FetchSessions(bench.config.max_incremental_fetch_session_cache_slots),
    )


def context(bench: Bench, key: int, version: int, client_id: str | None = "test") -> RequestContext:
    """A request that arrives now."""
    if bench.services is None:
        bench.services = services(bench)
    bench.services.partitions = bench.partitions
    return RequestContext(
        services=bench.services,
        api_key=key,
        version=version,
        client_id=client_id,
        client_host="127.0.0.1",
        connection_id=1,
        now_ms=bench.clock.time_ms(),
        now=bench.clock.monotonic(),
    )
