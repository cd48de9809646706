"""The partitioners inside a kafka-python producer.

kafka-python 2 calls ``partitioner(key_bytes, all_partitions, available_partitions)``; kafka-python 3
calls ``partitioner.partition(topic, key, serialized_key, value, serialized_value, cluster)`` of a
subclass of ``kafka.partitioner.Partitioner``.  One object serves both.  kafka-python is not imported
here: whoever makes a producer has done that.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from pykbroker import PartitionContext, Partitioner


class _Cluster(Protocol):
    """What is needed of kafka-python's ``ClusterMetadata``."""

    def partitions_for_topic(self, topic: str) -> Collection[int] | None: ...

    def available_partitions_for_topic(self, topic: str) -> Collection[int] | None: ...


class KafkaPythonPartitioner:
    """What :func:`for_kafka_python` returns."""

    def __init__(self, partitioner: Partitioner) -> None:
        self._partitioner = partitioner
        self._calls = threading.Lock()  # producers are used from several threads, partitioners are not

    def __call__(
        self, key: bytes | None, all_partitions: Iterable[int], available: Iterable[int] | None
    ) -> int:
        """The call of kafka-python 2."""
        return self._choose("", key, None, sorted(all_partitions), sorted(available or ()))

    def partition(
        self,
        topic: str,
        key: object,
        serialized_key: bytes | None,
        value: object,
        serialized_value: bytes | None,
        cluster: _Cluster,
    ) -> int:
        """The call of kafka-python 3.  Raises ValueError for a topic without metadata, as its own do."""
        found = cluster.partitions_for_topic(topic)
        if not found:
            raise ValueError(f"Topic {topic} not found in ClusterMetadata")
        available = cluster.available_partitions_for_topic(topic)
        size = None if serialized_value is None else len(serialized_value)
        return self._choose(topic, serialized_key, size, sorted(found), sorted(available or ()))

    def _choose(
        self,
        topic: str,
        key: bytes | None,
        size: int | None,
        numbers: Sequence[int],
        available: Sequence[int],
    ) -> int:
        ctx = PartitionContext(
            topic=topic, partitions=len(numbers), available=available, key=key, value_size=size
        )
        with self._calls:
            return numbers[self._partitioner.choose(ctx)]


def for_kafka_python(partitioner: Partitioner) -> KafkaPythonPartitioner:
    """``partitioner`` as the argument ``partitioner=`` of a KafkaProducer, versions 2 and 3.

    It must be one that needs only the key (attribute ``key_only``), or nothing of the record: a producer
    does not tell its partitioner the headers.  Import ``kafka`` first.
    """
    if not getattr(partitioner, "key_only", True):
        raise ValueError(f"{type(partitioner).__name__} needs more than the key")
    theirs = getattr(sys.modules.get("kafka.partitioner"), "Partitioner", None)
    if theirs is not None:
        theirs.register(KafkaPythonPartitioner)  # version 3 asks whether it is one of its own class
    return KafkaPythonPartitioner(partitioner)
