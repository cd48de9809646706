"""Nacks become moves: one lane per partition of ``__consumer_offsets`` follows the commits there.

A commit record is the durable nack.  The coordinator tells of every record as it is applied
(:meth:`Following.applied`); what asks for something, or concerns a group of which offsets count as nacked,
stands in the queue of a :class:`~pykbroker.delivery.follower.Follower`.  Partitions in whose commits nobody
has ever asked for anything have none, and cost nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from pykbroker.catalog.image import topic_id_text
from pykbroker.clock import pause
from pykbroker.coordinator.partition_log import PartitionLog
from pykbroker.delivery.follower import Follower, Ingress
from pykbroker.delivery.inquiring import Inquiries
from pykbroker.delivery.nacks import may_ask
from pykbroker.delivery.places import LocalPlaces
from pykbroker.delivery.reports import FollowingStatistics, Reports
from pykbroker.delivery.selecting import LocalLogs
from pykbroker.delivery.steps import Doing
from pykbroker.errors import KafkaError
from pykbroker.forwarding.plan import Place
from pykbroker.groups.service import OFFSETS_TOPIC

if TYPE_CHECKING:
    from pykbroker.catalog.catalog import Catalog
    from pykbroker.catalog.delta import Delta
    from pykbroker.catalog.topics import TopicAdmin
    from pykbroker.clock import Clock
    from pykbroker.delivery.telling import Telling
    from pykbroker.delivery.topics import DeliveryTopics
    from pykbroker.forwarding.engine import Engine
    from pykbroker.groups.stored import OffsetRecord
    from pykbroker.partitions.manager import Partitions
    from pykbroker.partitions.partition import Partition

log = logging.getLogger(__name__)

SWEEP_MS: Final = 3_600_000
"""How often it is looked for what counts in vain, because logs have moved on."""
REST_MS: Final = 60_000
"""How often the logs that nacks were read from are let go of."""


class Following:
    """All such lanes of a broker; the :class:`~pykbroker.groups.machine.OnApplied` of its coordinator.

    Life: construct before groups and forwarding run, set ``groups.on_applied`` to it, subscribe
    :meth:`on_delta`, and ``await nursery.start(run)`` after forwarding runs.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        catalog: Catalog,
        admin: TopicAdmin,
        partitions: Partitions,
        topics: DeliveryTopics,
        telling: Telling,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._catalog = catalog
        self._partitions = partitions
        self._places = LocalPlaces(catalog, admin, topics)
        self._reports = Reports(telling, self._name_of, self._hold_source)
        self._followers: dict[int, Follower] = {}
        self.inquiries = Inquiries(engine, clock, catalog, partitions, self._followers)
        """What others ask."""
        self._replayed: set[int] = set()
        self._nursery: trio.Nursery | None = None
        engine.on_opened(self._hold)
        for each in partitions:
            self._hold(each)

    # -- life

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for number, follower in self._followers.items():
                nursery.start_soon(self._start, number, follower)
            self._engine.on_loaded(self._on_loaded)
            nursery.start_soon(self._every, SWEEP_MS, Follower.sweep)
            nursery.start_soon(self._every, REST_MS, Follower.rest)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def _every(self, ms: int, what: Callable[[Follower], None]) -> None:
        while True:
            await pause(self._clock, ms)
            for follower in self._followers.values():
                what(follower)

    def on_delta(self, delta: Delta) -> None:
        """Follow the catalog: what could not be made may be made now; what is gone is forgotten."""
        gone = frozenset(topic.topic_id for topic in delta.deleted)
        for follower in self._followers.values():
            follower.changed(gone)

    def _on_loaded(self, shard: int) -> None:
        """Go on with the lanes of a log of plans."""
        topic = self._catalog.image.topics.get(OFFSETS_TOPIC)
        if topic is None:
            return
        for each in topic.partitions:
            place = Place(topic.topic_id, each.index)
            if self._engine.shards.index_of(place) != shard or each.index in self._followers:
                continue
            lane = self._engine.lane(place)
            if lane is not None:
                self._follow(each.index, lane.value.position)

    def _follow(self, number: int, begin: int) -> None:
        """Begin to follow the commits of one partition, from the offset ``begin`` on if not from before."""
        source = self._partitions.get(OFFSETS_TOPIC, number)
        doing = Doing(
            self._places,
            LocalLogs(self._partitions, self._engine.around.max_decompressed),
            self._clock.time_ms,
            self._reports.ignored_nack,
            self._reports.lost,
        )
        follower = self._followers[number] = Follower(
            source.label,
            Ingress(
                PartitionLog(source),
                lambda: source.leader_epoch,
                lambda epoch: source.end_offset_for_epoch(epoch)[1],
            ),
            begin,
            doing,
            self._places,
            self._clock,
            self._reports,
            partial(self._wake_later, number),
        )
        if self._nursery is not None:
            self._nursery.start_soon(self._start, number, follower)

    async def _start(self, number: int, follower: Follower) -> None:
        topic = self._catalog.image.topics[OFFSETS_TOPIC]
        try:
            await self._engine.start(Place(topic.topic_id, number), follower)
        except KafkaError as error:
            log.info("commits are not followed: partition=%s: %s", follower.label, error)

    def _wake_later(self, number: int, deadline: float) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(self._wake_at, number, deadline)

    async def _wake_at(self, number: int, deadline: float) -> None:
        await self._clock.wait_until(deadline)
        self._followers[number].wake()

    # -- what the coordinator tells

    def applied(self, partition: int, offset: int, record: OffsetRecord) -> None:
        """See :class:`~pykbroker.groups.machine.OnApplied`."""
        follower = self._followers.get(partition)
        if follower is not None:
            follower.applied(offset, record)
        elif record.value is not None and may_ask(record.value.metadata):
            self._follow(partition, offset)

    def loaded(self, partition: int) -> None:
        """See :class:`~pykbroker.groups.machine.OnApplied`."""
        self._replayed.add(partition)

    # -- what must not be deleted yet

    def _hold(self, partition: Partition) -> None:
        """Have compaction of a partition of the offsets topic stop at the first commit that is pending."""
        if partition.topic == OFFSETS_TOPIC:
            partition.needed_from = partial(self._needed_from, partition)
            partition.watch(partial(self._moved, partition))

    def _moved(self, partition: Partition) -> None:
        """The high watermark has moved."""
        follower = self._followers.get(partition.index)
        wanted = None if follower is None else follower.waits_for
        if follower is not None and wanted is not None and partition.high_watermark >= wanted:
            follower.wake()

    def _needed_from(self, partition: Partition) -> int:
        follower = self._followers.get(partition.index)
        place = Place(partition.topic_id, partition.index)
        if partition.index not in self._replayed or not self._engine.is_loaded(place):
            return 0
        if follower is None:
            return partition.high_watermark
        pending = follower.pending_from
        if not follower.has_begun:
            lane = self._engine.lane(place)
            pending = follower.begin_position() if lane is None else lane.value.position
        return partition.high_watermark if pending is None else pending

    def _hold_source(self, place: Place) -> None:
        """Have retention and compaction leave alone what planned moves still read of a log."""
        try:
            partition = self._partitions.get_by_id(*place)
        except KafkaError:
            return  # it is gone
        if partition.needed_from is None:
            partition.needed_from = partial(self._source_needed_from, partition, place)

    def _source_needed_from(self, partition: Partition, place: Place) -> int:
        lowest = self._engine.source_needed_from(place)
        return partition.high_watermark if lowest is None else lowest

    def _name_of(self, topic_id: bytes) -> str:
        return self._catalog.image.names_by_id.get(topic_id) or topic_id_text(topic_id)

    # -- what others ask

    @property
    def is_idle(self) -> bool:
        """Whether all that commits ask is done, but for what is stuck."""
        topic = self._catalog.image.topics.get(OFFSETS_TOPIC)
        if topic is None:
            return True
        runners = (self._engine.runner(Place(topic.topic_id, number)) for number in self._followers)
        return all(follower.is_idle for follower in self._followers.values()) and not any(
            runner is not None and runner.open_plans for runner in runners
        )

    def statistics(self) -> FollowingStatistics:
        """Counters and gauges."""
        reports = self._reports
        return FollowingStatistics(
            nacked=reports.nacked,
            skipped=reports.skipped,
            ignored=reports.ignored,
            replayed=reports.replayed,
            purged=reports.purged,
            waiting=sum(follower.waiting for follower in self._followers.values()),
        )
