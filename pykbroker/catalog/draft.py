"""An image being changed: checks each change against what it was decided on, and applies it.

Sans-IO and the same for live proposals and for replay, so that a restart gives the same image.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from pykbroker.catalog.changes import (
    AddPartitions,
    Change,
    Conflict,
    CreateTopic,
    DeleteTopic,
    Elect,
    ForgetExchange,
    RegisterBroker,
    SetExchange,
    SetPartition,
    SetSettings,
    SetTopicConfig,
    TakeProducerIds,
)
from pykbroker.catalog.exchange import Exchange
from pykbroker.catalog.image import BrokerInfo, Image, PartitionState, Settings, Topic


class Draft:
    """Collects changes on top of ``image``, which stays as it is; :meth:`finish` is the new one."""

    def __init__(self, image: Image) -> None:
        self._before = image
        self._topics = dict(image.topics)
        self._names_by_id = dict(image.names_by_id)
        self._brokers = dict(image.brokers)
        self._settings = dict(image.settings)
        self._exchanges = image.exchanges
        self._next_producer_id = image.next_producer_id
        self._count = 0

    def apply(self, change: Change) -> None:
        """Apply one change; raises :class:`Conflict`, and then nothing of it happened."""
        match change:
            case CreateTopic():
                self._create(change)
            case DeleteTopic():
                self._delete(change)
            case AddPartitions():
                self._add(change)
            case SetPartition():
                self._set_partition(change)
            case SetTopicConfig():
                self._set_topic_config(change)
            case SetExchange():
                self._set_exchange(change)
            case ForgetExchange():
                self._forget_exchange(change)
            case SetSettings():
                self._set_settings(change)
            case RegisterBroker():
                self._register(change)
            case Elect():
                self._elect(change.node_id)
            case TakeProducerIds():
                self._take_producer_ids(change)
        self._count += 1

    def view(self) -> Image:
        """The image with the changes so far.  It moves with the draft: look, and let go of it."""
        return self.finish()

    def finish(self) -> Image:
        """The image with all changes applied; the draft must not be used afterwards."""
        return dataclasses.replace(
            self._before,
            version=self._before.version + self._count,
            topics=self._topics,
            names_by_id=self._names_by_id,
            brokers=self._brokers,
            settings=self._settings,
            next_producer_id=self._next_producer_id,
            exchanges=self._exchanges,
        )

    def _topic(self, name: str) -> Topic:
        topic = self._topics.get(name)
        if topic is None:
            raise Conflict(f"topic {name}", "a topic of this name", "none")
        return topic

    def _create(self, change: CreateTopic) -> None:
        if change.name in self._topics:
            raise Conflict(f"topic {change.name}", "no topic of this name", "one")
        if change.topic_id in self._names_by_id:
            raise Conflict(f"topic id of {change.name}", "an unused id", "a used one")
        self._topics[change.name] = Topic(
            name=change.name,
            topic_id=change.topic_id,
            partitions=_partitions(change.replicas, 0),
            overrides=dict(change.overrides),
        )
        self._names_by_id[change.topic_id] = change.name

    def _delete(self, change: DeleteTopic) -> None:
        topic = self._topic(change.name)
        if topic.topic_id != change.topic_id:
            raise Conflict(f"topic {change.name}", change.topic_id.hex(), topic.topic_id.hex())
        if change.name in self._exchanges and self._exchanges[change.name].kind is not None:
            raise Conflict(f"topic {change.name}", "no exchange", "an exchange")
        for name, exchange in self._exchanges.items():
            if change.name in exchange.current.targets:
                raise Conflict(f"topic {change.name}", "nothing bound to it", f"exchange {name}")
        del self._topics[change.name]
        del self._names_by_id[change.topic_id]

    def _add(self, change: AddPartitions) -> None:
        topic = self._topic(change.name)
        _check(f"topic {change.name}", change.version, topic.version)
        more = _partitions(change.replicas, len(topic.partitions))
        self._topics[change.name] = dataclasses.replace(
            topic, partitions=topic.partitions + more, version=topic.version + 1
        )

    def _set_partition(self, change: SetPartition) -> None:
        topic = self._topic(change.name)
        index = change.state.index
        if not 0 <= index < len(topic.partitions):
            raise Conflict(f"partition {change.name}-{index}", "a partition", "none")
        now = topic.partitions[index].partition_epoch
        _check(f"partition {change.name}-{index}", change.version, now)
        partitions = list(topic.partitions)
        partitions[index] = dataclasses.replace(change.state, partition_epoch=now + 1)
        self._topics[change.name] = dataclasses.replace(topic, partitions=tuple(partitions))

    def _set_topic_config(self, change: SetTopicConfig) -> None:
        topic = self._topic(change.name)
        _check(f"settings of topic {change.name}", change.version, topic.config_version)
        self._topics[change.name] = dataclasses.replace(
            topic, overrides=dict(change.overrides), config_version=topic.config_version + 1
        )

    def _set_exchange(self, change: SetExchange) -> None:
        known = self._exchanges.get(change.name)
        _check(f"exchange {change.name}", change.version, 0 if known is None else known.version)
        version = change.applied_to(known)
        for name in version.targets:
            self._topic(name)
        kept = () if known is None else tuple(v for v in known.versions if v.number >= change.keep)
        self._exchanges = {
            **self._exchanges,
            change.name: Exchange(name=change.name, versions=(*kept, version)),
        }

    def _forget_exchange(self, change: ForgetExchange) -> None:
        known = self._exchanges.get(change.name)
        _check(f"exchange {change.name}", change.version, 0 if known is None else known.version)
        if known is not None and known.kind is not None:
            raise Conflict(f"exchange {change.name}", "a deleted one", f"one of type {known.kind}")
        self._exchanges = {name: each for name, each in self._exchanges.items() if name != change.name}

    def _set_settings(self, change: SetSettings) -> None:
        key = (change.resource_type, change.name)
        now = self._settings[key].version if key in self._settings else 0
        _check(f"settings of {key}", change.version, now)
        # An emptied object stays, so that its version goes on rising.
        self._settings[key] = Settings(values=dict(change.values), version=now + 1)

    def _register(self, change: RegisterBroker) -> None:
        known = self._brokers.get(change.node_id)
        self._brokers[change.node_id] = BrokerInfo(
            node_id=change.node_id,
            endpoints=change.endpoints,
            rack=change.rack,
            version=0 if known is None else known.version + 1,
        )

    def _elect(self, node_id: int) -> None:
        for name, topic in self._topics.items():
            if any(partition.leader == node_id for partition in topic.partitions):
                partitions = tuple(_elected(partition, node_id) for partition in topic.partitions)
                # Replacing values while iterating is fine: no key comes or goes.
                self._topics[name] = dataclasses.replace(topic, partitions=partitions)

    def _take_producer_ids(self, change: TakeProducerIds) -> None:
        _check("producer ids", change.first, self._next_producer_id)
        self._next_producer_id += change.count


def _check(what: str, expected: int, found: int) -> None:
    if expected != found:
        raise Conflict(what, f"version {expected}", f"version {found}")


def _partitions(replicas: Sequence[tuple[int, ...]], first: int) -> tuple[PartitionState, ...]:
    return tuple(
        PartitionState(index=index, replicas=nodes, isr=nodes, leader=nodes[0])
        for index, nodes in enumerate(replicas, first)
    )


def _elected(partition: PartitionState, node_id: int) -> PartitionState:
    if partition.leader != node_id:
        return partition
    return dataclasses.replace(
        partition,
        leader_epoch=partition.leader_epoch + 1,
        partition_epoch=partition.partition_epoch + 1,
    )
