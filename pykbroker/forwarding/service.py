"""All lanes of this broker: started when there is something to do, found by who produces and who alters.

Life: construct, subscribe :meth:`Forwarding.on_delta` to the catalog, ``await nursery.start(run)``, and at
the end, before the logs are closed, ``await shutdown()``.

What was planned before is loaded beside everything else at start; until then nothing is known of a lane, so
nothing is deleted, forgotten or expired on its account.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio

from pykbroker.catalog.image import topic_id_text
from pykbroker.catalog.ingress import INGRESS_PREFIX, face_id, ingress_name
from pykbroker.forwarding.accounting import Counters
from pykbroker.forwarding.doors import doors, refused, unroutable_steps
from pykbroker.forwarding.engine import Engine
from pykbroker.forwarding.lane import FaceWork, Surroundings
from pykbroker.forwarding.plan import Place
from pykbroker.forwarding.runner import Around, Runner
from pykbroker.forwarding.shards import Shards
from pykbroker.forwarding.targets import Directory, LocalTargets
from pykbroker.records.batch import Buffer

if TYPE_CHECKING:
    from pykbroker.catalog.catalog import Catalog
    from pykbroker.catalog.delta import Delta
    from pykbroker.catalog.image import Topic
    from pykbroker.catalog.producer_ids import ProducerIds
    from pykbroker.catalog.topics import TopicAdmin
    from pykbroker.clock import Clock
    from pykbroker.events import RecordsAppended
    from pykbroker.partitions.manager import Partitions
    from pykbroker.partitions.partition import Partition
    from pykbroker.plugins import Plugins
    from pykbroker.routing import Routes

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardingStatistics:
    """Counted since the start.  ``copies`` were appended to targets, ``unroutable`` records went nowhere,
    ``refused`` ones would have and were refused at the door.  Copies that a target refused went to a
    dead-letter topic (``dead_letters``) or, where there is none, were ``dropped``.  Now: ``lanes`` that
    have begun, ``open_plans``, ``waiting_moves`` for targets that are unavailable."""

    records: int = 0
    copies: int = 0
    unroutable: int = 0
    refused: int = 0
    dead_letters: int = 0
    dropped: int = 0
    lanes: int = 0
    open_plans: int = 0
    waiting_moves: int = 0


class _Started:
    """One ingress partition that is open here; its task begins with the first thing to do."""

    def __init__(self, ingress: Place, source: Partition) -> None:
        self.ingress = ingress
        self.source = source
        self.driver: Runner | None = None
        self.scope: trio.CancelScope | None = None


class Forwarding:
    """Used in the loop's thread only."""

    def __init__(
        self,
        clock: Clock,
        catalog: Catalog,
        topics: TopicAdmin,
        partitions: Partitions,
        producer_ids: ProducerIds,
        plugins: Plugins,
        routes: Routes,
        on_appended: Callable[[RecordsAppended], None] | None = None,
    ) -> None:
        self._clock = clock
        self._catalog = catalog
        self._topics = topics
        self._partitions = partitions
        self._routes = routes
        self.doors = doors(catalog, catalog.image)
        """Exchanges that refuse what they would send nowhere, by name and by id."""
        self._directory = Directory(catalog, plugins)
        self._around = Surroundings(
            clock=clock,
            routes=routes,
            find=self._directory.find,
            port=LocalTargets(catalog, partitions, plugins, on_appended),
            name_of=self._name_of,
            next_producer_id=producer_ids.next_id,
            max_decompressed=catalog.broker_config.pykbroker_max_decompressed_bytes,
            on_unroutable=plugins.listeners("pykbroker_record_unroutable"),
        )
        self._shards = Shards(clock, catalog, topics, partitions)
        self._shards.on_loaded(self._on_loaded)
        self.engine = Engine(self._shards, self._apart())
        """For others that move records."""
        self._lanes: dict[Place, _Started] = {}
        self._nursery: trio.Nursery | None = None
        # From the beginning: nothing may be deleted or forgotten before it is known what is needed.
        partitions.upkeep.is_producer_needed = self.is_needed
        for partition in partitions:
            self._hold(partition)

    # -- life

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Load what was decided before, go on with it, and move what arrives, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._partitions.on_opened = self._opened
            try:
                self.engine.begin(nursery)
                self._shards.begin(nursery)
                for partition in tuple(self._partitions):
                    self._attach(partition)
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._partitions.on_opened = None
                self._nursery = None
                self.engine.shutdown()

    async def shutdown(self) -> None:
        """Stop all lanes, also those of the engine; what is planned is executed after the next start."""
        self.engine.shutdown()
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()
        self._shards.resigned()

    def on_delta(self, delta: Delta) -> None:
        """Follow the catalog: targets that changed, ingress partitions and targets that are gone."""
        self._directory.on_delta(delta)
        if delta.exchanges or delta.reconfigured or delta.broker_settings:
            self.doors = doors(self._catalog, delta.after)
        gone = {topic.topic_id for topic in delta.deleted}
        if not gone:
            return
        for ingress in [each for each in self._lanes if each.topic_id in gone]:
            started = self._lanes.pop(ingress)
            if started.scope is not None:
                started.scope.cancel()
        self.engine.on_deleted(gone)
        self._shards.forget(gone)

    def _apart(self) -> Around:
        """What lanes share that are not those of exchanges and partitioners: they are counted apart."""
        around = self._around
        return Around(
            clock=around.clock,
            port=around.port,
            name_of=around.name_of,
            next_producer_id=around.next_producer_id,
            max_decompressed=around.max_decompressed,
        )

    # -- lanes

    def _hold(self, partition: Partition) -> bool:
        """Keep what is not moved yet of an ingress log; whether the partition is one."""
        is_ingress = partition.topic.startswith(INGRESS_PREFIX)
        if is_ingress or partition.config.pykbroker_exchange_type:
            partition.needed_from = partial(self.position, partition.topic_id, partition.index)
            return True
        return False

    def _opened(self, partition: Partition) -> None:
        self._attach(partition)
        self.engine.opened(partition)

    def _attach(self, partition: Partition) -> None:
        """Have an eye on a partition, if it is one of an ingress log."""
        if not self._hold(partition):
            return
        ingress = Place(partition.topic_id, partition.index)
        started = self._lanes[ingress] = _Started(ingress, partition)
        partition.watch(partial(self._wake, started))
        self._look(started)

    def _look(self, started: _Started) -> None:
        """Begin with a partition if something of it is not moved yet."""
        if self._shards.is_loading(started.ingress):
            return  # loading ends with a look
        # A position behind the end is that of a log which has lost records.
        if self.position(*started.ingress) != started.source.log_end_offset:
            self._wake(started)

    def _on_loaded(self, index: int) -> None:
        for started in tuple(self._lanes.values()):
            if self._shards.index_of(started.ingress) == index:
                self._look(started)

    def _wake(self, started: _Started) -> None:
        if started.driver is not None:
            started.driver.wake()
        elif started.scope is None and self._nursery is not None and not started.source.closed:
            started.scope = trio.CancelScope()
            self._nursery.start_soon(self._run_lane, started)

    async def _run_lane(self, started: _Started) -> None:
        assert started.scope is not None
        source = started.source
        face = face_id(source.topic)
        name = source.topic if face is None else self._name_of(face)
        with started.scope:
            shard = await self._shards.of(started.ingress)
            work = FaceWork(started.ingress, name, source, self._around)
            started.driver = Runner(started.ingress, work, shard, self._around)
            await started.driver.run()

    def _name_of(self, topic_id: bytes) -> str:
        return self._catalog.image.names_by_id.get(topic_id) or topic_id_text(topic_id)

    # -- what others ask

    def position(self, topic_id: bytes, partition: int) -> int:
        """The offset of an ingress partition below which everything is moved, durably: what lies there may
        be deleted.  0 while that is not known yet."""
        return self.engine.settled(Place(topic_id, partition))

    def passed(self, topic_id: bytes, partition: int) -> int:
        """The offset of an ingress partition below which everything is decided, durably: bindings of before
        are not needed there.  0 while that is not known yet."""
        ingress = Place(topic_id, partition)
        started = self._lanes.get(ingress)
        if started is not None and started.driver is not None:
            return started.driver.passed
        lane = self._shards.lane(ingress)
        return 0 if lane is None else lane.value.position

    def is_needed(self, producer_id: int) -> bool:
        """Whether targets must remember this producer id: it is a lane's, and a plan is open."""
        if not self._shards.begun.is_set():
            return True
        for machine in self._shards.machines():
            if machine is None:
                return True
            lane = machine.by_producer.get(producer_id)  # asked for each of very many
            if lane is not None:
                return bool(lane.plans)
        return False

    def boundaries(self) -> Mapping[bytes, Sequence[int]]:
        """The log end offsets of all exchanges now, by topic id and partition."""
        topics = self._catalog.image.topics
        found = (topics[name] for name in self._catalog.image.exchanges if name in topics)
        return {topic.topic_id: self._ends(topic) for topic in found}

    def _ends(self, topic: Topic) -> tuple[int, ...]:
        opened = (self._partitions.opened(topic.name, each.index) for each in topic.partitions)
        return tuple(0 if each is None else each.log_end_offset for each in opened)

    def landing(self, face: Partition) -> Partition:
        """The partition to which Produce appends what is meant for ``face``: ``face`` itself unless its
        topic has a partitioner, or delays, or is a retry topic.

        Raises :class:`~pykbroker.errors.KafkaError`: POLICY_VIOLATION where the topic's partitioner or
        exchange type is missing.
        """
        if self.engine.landing is not None and (where := self.engine.landing(face)) is not None:
            return where
        if face.config.pykbroker_partitioner:
            self._directory.check_partitioner(face.topic)
            return self._partitions.get(ingress_name(face.topic_id), face.index)
        exchange = self._routes.current.exchanges.get(face.topic)
        if exchange is not None and exchange.missing is not None:
            raise exchange.missing
        return face

    def unroutable_steps(self, exchange: Partition, batch: Buffer) -> Generator[None, None, None]:
        """Look at a batch at the door of an exchange: see
        :func:`~pykbroker.forwarding.doors.unroutable_steps`."""
        around = self._around
        wrong = yield from unroutable_steps(
            self._routes.current, exchange, batch, around.max_decompressed, around.on_unroutable
        )
        around.counters.refused += len(wrong)
        if wrong:
            raise refused(wrong)

    def statistics(self) -> ForwardingStatistics:
        """Counters and gauges."""
        counters: Counters = self._around.counters
        drivers = [each.driver for each in self._lanes.values() if each.driver is not None]
        return ForwardingStatistics(
            records=counters.records,
            copies=counters.copies,
            unroutable=counters.unroutable,
            refused=counters.refused,
            dead_letters=counters.dead_letters,
            dropped=counters.dropped,
            lanes=len(drivers),
            open_plans=sum(each.open_plans for each in drivers),
            waiting_moves=sum(each.waiting_moves for each in drivers),
        )
