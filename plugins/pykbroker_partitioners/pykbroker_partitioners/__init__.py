"""Partitioners of pykbroker: ``default round-robin random sticky consistent-hash header map key-first``,
and :func:`for_kafka_python`, which puts those that need only the key into a client."""

from __future__ import annotations

from collections.abc import Iterable

from pykbroker import Component, Kind, Partitioner, PluginSetting, hookimpl
from pykbroker_partitioners.kafka_python import KafkaPythonPartitioner, for_kafka_python
from pykbroker_partitioners.keys import ConsistentHash, Default, Header, KeyFirst, Map
from pykbroker_partitioners.murmur2 import murmur2, partition_of
from pykbroker_partitioners.spreading import BATCH_BYTES, Random, RoundRobin, Sticky

__all__ = [
    "ConsistentHash",
    "Default",
    "Header",
    "KafkaPythonPartitioner",
    "KeyFirst",
    "Map",
    "Random",
    "RoundRobin",
    "Sticky",
    "for_kafka_python",
    "murmur2",
    "partition_of",
]

_ANYWHERE = frozenset({"broker", "topic"})


@hookimpl
def pykbroker_register_partitioners() -> Iterable[Component[Partitioner]]:
    """What topics may name in ``pykbroker.partitioner``."""
    return [
        Component("default", lambda build: Default(build.random), doc="By the key, as Kafka's clients."),
        Component("round-robin", lambda build: RoundRobin(), doc="One partition after the other."),
        Component("random", lambda build: Random(build.random), doc="Any partition."),
        Component(
            "sticky",
            lambda build: Sticky(build.settings.integer("batch.bytes"), build.random),
            settings=[
                PluginSetting(
                    key="batch.bytes",
                    kind=Kind.INT,
                    default=BATCH_BYTES,
                    minimum=1,
                    doc="Bytes of keys and values that go to one partition before another one is taken.",
                    scopes=_ANYWHERE,
                )
            ],
            doc="Where the last record went, until there is enough for a batch.",
        ),
        Component(
            "consistent-hash",
            lambda build: ConsistentHash(build.random),
            doc="By the key; adding partitions moves as few keys as possible.",
        ),
        Component(
            "header",
            lambda build: Header(build.settings.text("name"), build.random),
            settings=[
                PluginSetting(
                    key="name",
                    kind=Kind.STRING,
                    default="",
                    doc="The header whose value decides. Needed.",
                    scopes=_ANYWHERE,
                )
            ],
            doc="By the value of a header.",
        ),
        Component(
            "map",
            lambda build: Map(build.settings.text("table"), build.settings.text("header"), build.random),
            settings=[
                PluginSetting(
                    key="table",
                    kind=Kind.STRING,
                    default="{}",
                    doc="""Partition numbers as a JSON object, as in `{"eu": 0, "us": 1, "*": 2}`;
                    `*` is for what is not in it.""",
                    scopes=_ANYWHERE,
                ),
                PluginSetting(
                    key="header",
                    kind=Kind.STRING,
                    default="",
                    doc="The header whose value is looked up. Empty: the key is.",
                    scopes=_ANYWHERE,
                ),
            ],
            doc="As a table says.",
        ),
        Component(
            "key-first",
            lambda build: KeyFirst(),
            doc="By the key, else where the client said, else one partition after the other.",
        ),
    ]
