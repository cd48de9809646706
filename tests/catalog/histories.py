"""Random histories of a catalog, for properties that must hold after any."""

from __future__ import annotations

import random

from pykbroker.catalog.changes import (
    AddPartitions,
    Change,
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
from pykbroker.catalog.image import BROKER, GROUP, Image, PartitionState, new_topic_id
from pykbroker.components import Binding
from pykbroker.config import Endpoint


def change(image: Image, chance: random.Random) -> Change:
    """Some change that ``image`` allows."""
    names = list(image.topics)
    kind = chance.randrange(11)
    if not names or kind <= 1:
        count = chance.randrange(1, 5)
        return CreateTopic(
            name=f"topic-{image.version}",
            topic_id=new_topic_id(),
            replicas=tuple((1, 2) if chance.random() < 0.3 else (1,) for _ in range(count)),
            overrides={"retention.ms": str(image.version)} if chance.random() < 0.5 else {},
        )
    topic = image.topics[chance.choice(names)]
    bound = frozenset().union(*(each.current.targets for each in image.exchanges.values()))
    match kind:
        case 2 if topic.name not in bound and image.exchange(topic.name) is None:
            return DeleteTopic(name=topic.name, topic_id=topic.topic_id)
        case 3:
            return AddPartitions(name=topic.name, version=topic.version, replicas=((1,), (1,)))
        case 4:
            was = chance.choice(topic.partitions)
            state = PartitionState(
                index=was.index, replicas=was.replicas, isr=(1,), leader=1, leader_epoch=was.leader_epoch + 1
            )
            return SetPartition(name=topic.name, version=was.partition_epoch, state=state)
        case 5:
            return SetTopicConfig(
                name=topic.name,
                version=topic.config_version,
                overrides={"segment.ms": str(image.version + 1)},
            )
        case 6:
            resource, name = chance.choice([(BROKER, ""), (BROKER, "1"), (GROUP, "g")])
            key = "log.segment.bytes" if resource == BROKER else "consumer.session.timeout.ms"
            version = image.settings_of(resource, name).version
            values = {key: str(50_000 + image.version)}
            return SetSettings(resource_type=resource, name=name, version=version, values=values)
        case 7:
            endpoint = Endpoint("PLAINTEXT", "localhost", image.version)
            return RegisterBroker(node_id=chance.choice([1, 2]), endpoints=(endpoint,), rack=None)
        case 8 | 9:
            return exchange_change(image, topic.name, chance)
        case _:
            if chance.random() < 0.5:
                return Elect(node_id=chance.choice([1, 2]))
            return TakeProducerIds(first=image.next_producer_id, count=1000)


def exchange_change(image: Image, name: str, chance: random.Random) -> Change:
    """A change of the exchange ``name``, which may become one by it, or be none any more."""
    known = image.exchanges.get(name)
    if known is not None and known.kind is None and chance.random() < 0.5:
        return ForgetExchange(name=name, version=known.version)
    names = list(image.topics)
    some = tuple(
        Binding(chance.choice(names), chance.choice(["", "k"]), chance.choice([None, {"a": None, "b": "c"}]))
        for _ in range(chance.randrange(4))
    )
    return SetExchange(
        name=name,
        version=0 if known is None else known.version,
        kind=chance.choice(["fanout", "direct", None]),
        bind=some,
        unbind=() if known is None else known.bindings[:1],
        replace=chance.random() < 0.3,
        boundaries={image.topics[chance.choice(names)].topic_id: (chance.randrange(9), image.version)},
        keep=0 if known is None else chance.choice([0, known.version]),
    )
