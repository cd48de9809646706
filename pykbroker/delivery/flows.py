"""The flows of this broker: found, put to work when something is in them, emptied, deleted.

A flow is two hidden topics, the *delayed* and the *held* log, behind a retry topic or a topic that delays
(:mod:`~pykbroker.catalog.retrying`).  A partition of it has tasks only while something is in it; when it
has been empty for a while it writes down how everything lies, and stops.  A flow whose retry topic is gone
is deleted when it is empty.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
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
    role_of,
)
from pykbroker.clock import pause
from pykbroker.delivery.arriving import ArrivingLane, Decider, DelayDecider
from pykbroker.delivery.deciders import RetryDecider
from pykbroker.delivery.destinations import Destinations
from pykbroker.delivery.dropping import Dropping
from pykbroker.delivery.flow_lane import FlowPartition
from pykbroker.delivery.index import Index
from pykbroker.delivery.releasing import ReleaseWork
from pykbroker.delivery.sqlite_index import SqliteIndex
from pykbroker.delivery.tidying import Tidying
from pykbroker.delivery.waiting import Waiting, waiting_in
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


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowStatistics:
    """``arrived`` records were decided about and ``released`` ones moved on, since the start.  Now:
    ``lanes`` that are at work, ``waiting`` records that are indexed and not released, ``stuck`` moves whose
    destination refuses them or is not there, and the time at which the next record is due."""

    arrived: int = 0
    released: int = 0
    lanes: int = 0
    waiting: int = 0
    stuck: int = 0
    next_due_ms: int | None = None


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
        self._policies = policies
        self._telling = telling
        self._max_decompressed = catalog.broker_config.pykbroker_max_decompressed_bytes
        self.index: Index = SqliteIndex(data_dir) if index is None else index
        self._flows: dict[tuple[str, int], FlowPartition] = {}
        self._nursery: trio.Nursery | None = None
        self._dropping = Dropping(catalog, topics, partitions, engine, self._flows)
        self._tidying = Tidying(self.index, catalog, partitions, engine)
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
        if flow.held is None:
            self._partitions.get(flow.flow, flow.index)  # made: we are told
        assert flow.held is not None
        held, delayed, arriving = flow.held, flow.delayed, None
        work = ReleaseWork(
            held,
            Destinations(held.topic, self._catalog, self._topics, self._clock.monotonic),
            self.index,
            self._clock,
            self._max_decompressed,
            label=f"{self._label(held)}-{held.index}",
            on_released=partial(self._tidying.released, flow),
        )
        if delayed is not None:
            arriving = ArrivingLane(delayed, held, self._decider(held), self._clock, self._max_decompressed)
        elif flow.flow != REPLAY_TOPIC:
            arriving = self._arriving_later(flow, held)
        try:
            await flow.run(self._engine, arriving, work)
        finally:
            self._moved += work.released
            if arriving is not None:
                self._arrived += arriving.arrived

    def _arriving_later(self, flow: FlowPartition, held: Partition) -> ArrivingLane | None:
        flow_id = flow_id_of(flow.flow)
        assert flow_id is not None
        delayed = self._partitions.get(delayed_name(flow_id), flow.index)
        return ArrivingLane(delayed, held, self._decider(held), self._clock, self._max_decompressed)

    def _label(self, held: Partition) -> str:
        topic = self._catalog.image.topics.get(held.topic)
        role = None if topic is None else role_of(topic)
        if role is not None:
            return role.text
        face = self._face(held)
        return held.topic if face is None else face

    def _face(self, held: Partition) -> str | None:
        flow_id = flow_id_of(held.topic)
        return None if flow_id is None else self._catalog.image.names_by_id.get(flow_id)

    def _decider(self, held: Partition) -> Decider:
        topic = self._catalog.image.topics[held.topic]
        role = role_of(topic)
        if role is not None:
            return RetryDecider(role, held.index, self._catalog, self._policies, self._telling)
        return DelayDecider(held.index, partial(self._delay_ms, held))

    def _delay_ms(self, held: Partition) -> int:
        name = self._face(held)
        topic = None if name is None else self._catalog.image.topics.get(name)
        return 0 if topic is None else self._catalog.topic_config(topic).pykbroker_delay_ms

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

    def statistics(self) -> FlowStatistics:
        """Counters and gauges."""
        works = {flow: flow.work for flow in self._flows.values() if flow.work is not None}
        arriving = [flow.arriving for flow in works if flow.arriving is not None]
        runners = [self._engine.runner(flow.place) for flow in works if flow.place is not None]
        due = [work.alarm.due_ms for work in works.values() if work.alarm.due_ms is not None]
        return FlowStatistics(
            arrived=self._arrived + sum(each.arrived for each in arriving),
            released=self._moved + sum(work.released for work in works.values()),
            lanes=len(works),
            waiting=sum(work.indexing.waiting for work in works.values()),
            stuck=sum(runner.waiting_moves for runner in runners if runner is not None),
            next_due_ms=min(due, default=None),
        )

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
