"""What a partition of a flow works with: its two lanes, made for what the flow is.

Behind a retry topic a policy decides; behind a topic that delays, the header or the topic's delay; letters
that are replayed are held without having arrived.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pykbroker.catalog.retrying import delayed_name, flow_id_of, role_of
from pykbroker.delivery.arriving import ArrivingLane, Decider, DelayDecider
from pykbroker.delivery.deciders import RetryDecider
from pykbroker.delivery.destinations import Destinations
from pykbroker.delivery.releasing import ReleaseWork

if TYPE_CHECKING:
    from pykbroker.catalog.catalog import Catalog
    from pykbroker.clock import Clock
    from pykbroker.delivery.asking import Policies
    from pykbroker.delivery.flow_lane import FlowPartition
    from pykbroker.delivery.index import Index
    from pykbroker.delivery.telling import Telling
    from pykbroker.delivery.tidying import Tidying
    from pykbroker.delivery.topics import DeliveryTopics
    from pykbroker.partitions.manager import Partitions
    from pykbroker.partitions.partition import Partition


class Equipment:
    """Makes the lanes of partitions of flows."""

    def __init__(
        self,
        clock: Clock,
        catalog: Catalog,
        topics: DeliveryTopics,
        partitions: Partitions,
        policies: Policies,
        telling: Telling,
        index: Index,
        tidying: Tidying,
    ) -> None:
        self._clock = clock
        self._catalog = catalog
        self._topics = topics
        self._partitions = partitions
        self._policies = policies
        self._telling = telling
        self._index = index
        self._tidying = tidying
        self._max_decompressed = catalog.broker_config.pykbroker_max_decompressed_bytes

    def of(self, flow: FlowPartition) -> tuple[ArrivingLane | None, ReleaseWork]:
        """The lanes of one partition; its logs are made where they are not there.

        Raises :class:`KafkaError` where that cannot be.
        """
        if flow.held is None:
            self._partitions.get(flow.flow, flow.index)  # made: the flow is told
        assert flow.held is not None
        return self._arriving(flow, flow.held), self._releasing(flow, flow.held)

    def _arriving(self, flow: FlowPartition, held: Partition) -> ArrivingLane | None:
        delayed = flow.delayed
        if delayed is None:
            flow_id = flow_id_of(flow.flow)
            if flow_id is None:
                return None
            delayed = self._partitions.get(delayed_name(flow_id), flow.index)
        return ArrivingLane(delayed, held, self._decider(held), self._clock, self._max_decompressed)

    def _releasing(self, flow: FlowPartition, held: Partition) -> ReleaseWork:
        return ReleaseWork(
            held,
            Destinations(held.topic, self._catalog, self._topics, self._clock.monotonic),
            self._index,
            self._clock,
            self._max_decompressed,
            label=f"{self._label(held)}-{held.index}",
            on_released=partial(self._tidying.released, flow),
        )

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
