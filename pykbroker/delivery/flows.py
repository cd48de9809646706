"""The flows of this broker: found, put to work when something is in them, emptied, deleted.

A flow is two hidden topics, the *delayed* and the *held* log, behind a retry topic or a topic that delays
(:mod:`~pykbroker.catalog.retrying`).  A partition of it has tasks only while something is in it; when it
has been empty for a while it writes down how everything lies, and stops.  A flow whose retry topic is gone
is deleted when it is empty.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from pykbroker.catalog.retrying import (
    DELAYED_PREFIX,
    HELD_PREFIX,
    REPLAY_TOPIC,
    delayed_name,
    flow_id_of,
    flow_of,
    held_name,
)
from pykbroker.clock import pause
from pykbroker.delivery.dropping import Dropping
from pykbroker.delivery.equipping import Equipment
from pykbroker.delivery.flow_lane import FlowPartition
from pykbroker.delivery.flow_statistics import FlowStatistics, counted
from pykbroker.delivery.index import Index
from pykbroker.delivery.sqlite_index import SqliteIndex
from pykbroker.delivery.tidying import Tidying
from pykbroker.delivery.waiting import Stuck, Waiting, stuck_in, together, waiting_in
from pykbroker.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from pykbroker.catalog.catalog import Catalog
    from pykbroker.catalog.delta import Delta
    from pykbroker.catalog.image import Topic
    from pykbroker.clock import Clock
    from pykbroker.delivery.asking import Policies
    from pykbroker.delivery.telling import Telling
    from pykbroker.delivery.topics import DeliveryTopics
    from pykbroker.forwarding.engine import Engine
    from pykbroker.partitions.manager import Partitions
    from pykbroker.partitions.partition import Partition

log = logging.getLogger(__name__)

IDLE_MS: Final = 10_000
"""How often it is looked which flows are empty; one that twice was stops."""
LOOK: Final = 20
"""Partitions looked at between two checkpoints of the loop."""
AGAIN_S: Final = 1.0
REPEAT_S: Final = 60.0
"""A flow that cannot work gets another log line after this long."""


class Flows:
    """Life: construct (before forwarding runs), subscribe :meth:`on_delta` to the catalog, ``await
    nursery.start(run)`` after forwarding's, ``await shutdown()`` before forwarding's.  Used in the loop's
    thread only."""

    def __init__(
        self,
        clock: Clock,
        catalog: Catalog,
        topics: DeliveryTopics,
        partitions: Partitions,
        engine: Engine,
        policies: Policies,
        telling: Telling,
        *,
        data_dir: Path,
        index: Index | None = None,
    ) -> None:
        self._clock = clock
        self._catalog = catalog
        self._topics = topics
        self._partitions = partitions
        self._engine = engine
        self.index: Index = SqliteIndex(data_dir) if index is None else index
        self._flows: dict[tuple[str, int], FlowPartition] = {}
        self._nursery: trio.Nursery | None = None
        self._dropping = Dropping(catalog, topics, partitions, engine, self._flows)
        self._tidying = Tidying(self.index, catalog, partitions, engine)
        self._equipment = Equipment(
            clock, catalog, topics, partitions, policies, telling, self.index, self._tidying
        )
        self._arrived = self._moved = 0
        engine.landing = self._landing
        # From the beginning: nothing may be deleted before it is known what is needed.
        for partition in partitions:
            self._hold(partition)

    # -- life

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Put to work what has something to do, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                self._engine.on_opened(self._opened)
                for flow in tuple(self._flows.values()):
                    self._look(flow)
                self._engine.on_loaded(self._on_loaded)
                nursery.start_soon(self._tidying.run)
                nursery.start_soon(self._look_for_idle)
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def shutdown(self) -> None:
        """Stop; what waits is released after the next start."""
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()
        for flow in self._flows.values():
            if flow.place is not None:
                self._engine.stop(flow.place)
        await self.index.aclose()

    def on_delta(self, delta: Delta) -> None:
        """Follow the catalog: flows that are deleted."""
        gone = {topic.topic_id for topic in delta.deleted if topic.name.startswith(HELD_PREFIX)}
        names = {topic.name for topic in delta.deleted}
        for key, flow in tuple(self._flows.items()):
            for partition in (flow.delayed, flow.held):
                if partition is not None and partition.topic in names:
                    self._flows.pop(key, None)
                    if flow.scope is not None:
                        flow.scope.cancel()
        if gone:
            self._tidying.deleted(gone)

    # -- finding flows

    def _opened(self, partition: Partition) -> None:
        flow = self._hold(partition)
        if flow is not None:
            self._look(flow)

    def _hold(self, partition: Partition) -> FlowPartition | None:
        """Keep what is needed of a log of a flow; that partition of the flow, if it is one."""
        name, flow_id = partition.topic, flow_id_of(partition.topic)
        if flow_id is None and name != REPLAY_TOPIC:
            return None
        key = (name if flow_id is None else held_name(flow_id), partition.index)
        flow = self._flows.get(key)
        if flow is None:
            flow = self._flows[key] = FlowPartition(*key)
        if name.startswith(DELAYED_PREFIX):
            flow.delayed = partition
            partition.needed_from = partial(flow.delayed_needed_from, self._engine)
        else:
            flow.held = partition
            partition.needed_from = partial(flow.held_needed_from, self._engine)
        partition.watch(partial(self._wake, flow))
        return flow

    def _on_loaded(self, shard: int) -> None:
        for flow in tuple(self._flows.values()):
            place = flow.place
            if place is None or self._engine.shards.index_of(place) == shard:
                self._look(flow)

    def _look(self, flow: FlowPartition) -> None:
        """Put a partition to work if something is in it."""
        if self._nursery is None or flow.scope is not None:
            return
        place = flow.place
        if place is not None and not self._engine.is_loaded(place):
            return  # loading ends with a look
        if not flow.is_at_rest(self._engine):
            self._wake(flow)

    def _wake(self, flow: FlowPartition) -> None:
        if not flow.wake() and self._nursery is not None and not _is_closed(flow):
            flow.scope = trio.CancelScope()
            self._nursery.start_soon(self._work, flow)

    async def _work(self, flow: FlowPartition) -> None:
        assert flow.scope is not None
        told = -REPEAT_S
        try:
            with flow.scope:
                while not _is_closed(flow):
                    try:
                        await self._work_on(flow)
                    except KafkaError as error:
                        now = self._clock.monotonic()
                        if now - told >= REPEAT_S:
                            told = now
                            log.error(
                                "a flow cannot work, trying again: flow=%s-%d: %s",
                                flow.flow, flow.index, error,
                            )  # fmt: skip
                        await self._clock.wait_until(now + AGAIN_S)
        finally:
            flow.scope = None
        # Something may have come just then.
        self._look(flow)

    async def _work_on(self, flow: FlowPartition) -> None:
        arriving, work = self._equipment.of(flow)
        try:
            await flow.run(self._engine, arriving, work)
        finally:
            self._moved += work.released
            if arriving is not None:
                self._arrived += arriving.arrived

    # -- what others ask

    def _landing(self, face: Partition) -> Partition | None:
        config = face.config
        if config.pykbroker_delay_enable or config.pykbroker_role.startswith("retry:"):
            return self.landing(face)
        return None

    def landing(self, face: Partition) -> Partition:
        """The partition to which Produce and nacks append what is meant for ``face``, a retry topic or one
        with ``pykbroker.delay.enable``: that of the flow's delayed log.

        Raises :class:`KafkaError`: UNKNOWN_TOPIC_OR_PARTITION where there is no such topic (any more).
        """
        topic = self._catalog.image.topics.get(face.topic)
        flow_id = None if topic is None else flow_of(topic)
        if flow_id is None:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        return self._partitions.get(delayed_name(flow_id), face.index)

    @property
    def is_decided(self) -> bool:
        """Whether everything that has arrived is decided about."""
        return all(
            flow.arriving.is_idle if flow.arriving is not None else flow.scope is None
            for flow in self._flows.values()
            if flow.delayed is not None
        )

    async def waiting(self, topic: Topic) -> Mapping[int, Waiting] | None:
        """What waits to get into ``topic``, by partition; None: into it, nothing ever does."""
        flow_id = flow_of(topic)
        if flow_id is None:
            return None
        name = held_name(flow_id)
        parts = [(each.index, self._flows.get((name, each.index))) for each in topic.partitions]
        found: dict[int, Waiting] = {}
        for number, flow in parts:
            if flow is not None:
                await trio.lowlevel.checkpoint()
                found[number] = await waiting_in(flow, self._engine, self.index)
        return found

    def stuck_letters(self) -> tuple[Stuck, ...]:
        """Letters on their way back that have come to their time, and cannot go where they should."""
        topic = self._catalog.image.topics.get(REPLAY_TOPIC)
        parts = () if topic is None else (self._flows.get((REPLAY_TOPIC, e.index)) for e in topic.partitions)
        return together(
            reason for flow in parts if flow is not None for reason in stuck_in(flow, self._engine)
        )

    def statistics(self) -> FlowStatistics:
        """Counters and gauges."""
        return counted(self._flows.values(), self._engine, arrived=self._arrived, released=self._moved)

    # -- tidying up

    async def tidy(self) -> None:
        """Remove from the index what was released, once the disk has it."""
        await self._tidying.tidy()

    async def rest(self) -> None:
        """Have partitions that nothing is in write that down, and those that have done so stop."""
        for number, flow in enumerate(tuple(self._flows.values()), 1):
            if not number % LOOK:
                await trio.lowlevel.checkpoint()
            if flow.scope is not None and flow.is_idle(self._engine):
                if flow.is_at_rest(self._engine):
                    flow.scope.cancel()
                elif flow.work is not None:
                    flow.work.rest(flow.mark(flow.last_batch(self._engine)))
        await self._dropping.drop_empty()

    async def _look_for_idle(self) -> None:
        while True:
            await pause(self._clock, IDLE_MS)
            await self.rest()


def _is_closed(flow: FlowPartition) -> bool:
    return any(each is not None and each.closed for each in (flow.delayed, flow.held))
