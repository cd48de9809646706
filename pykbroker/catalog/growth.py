"""More partitions for a topic: which change that is, and every rule that refuses it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pykbroker.catalog import placement
from pykbroker.catalog.changes import AddPartitions
from pykbroker.catalog.image import Image, Topic
from pykbroker.catalog.retrying import role_of
from pykbroker.errors import ErrorCode, KafkaError

MAX_NEW_PARTITIONS = 10_000
"""Kafka's ceiling for the partitions that one request may make."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MorePartitions:
    """A topic that is to have ``count`` partitions; ``assignments`` are node ids per new one."""

    name: str
    count: int
    assignments: Sequence[Sequence[int]] | None = None


def growth(image: Image, wanted: MorePartitions) -> AddPartitions:
    """The change that gives a topic more partitions; raises KafkaError where a client may not."""
    topic = image.topics.get(wanted.name)
    if topic is None or topic.hidden:
        raise KafkaError(
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "This server does not host this topic-partition."
        )
    if topic.internal:
        raise KafkaError(
            ErrorCode.INVALID_TOPIC_EXCEPTION,
            f"The partitions of {topic.name} are fixed: keys are placed by their number.",
        )
    if (role := role_of(topic)) is not None:
        raise KafkaError(
            ErrorCode.INVALID_PARTITIONS,
            f"{topic.name} is the {role.kind.words} of {role.origin} and grows with it: give "
            f"{role.origin} more partitions.",
        )
    have = len(topic.partitions)
    if wanted.count == have:
        raise KafkaError(ErrorCode.INVALID_PARTITIONS, f"Topic already has {have} partition(s).")
    if wanted.count < have:
        raise KafkaError(
            ErrorCode.INVALID_PARTITIONS,
            f"The topic {topic.name} currently has {have} partition(s); {wanted.count} would not be an "
            "increase.",
        )
    more = wanted.count - have
    if more > MAX_NEW_PARTITIONS:
        raise too_many_partitions(more)
    return AddPartitions(
        name=topic.name, version=topic.version, replicas=_more_replicas(image, topic, more, wanted)
    )


def _more_replicas(image: Image, topic: Topic, more: int, wanted: MorePartitions) -> placement.Replicas:
    factor = len(topic.partitions[0].replicas)
    if wanted.assignments is None:
        return placement.spread(more, factor, image.brokers, first=len(topic.partitions))
    if len(wanted.assignments) != more:
        raise KafkaError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"Attempted to add {more} additional partition(s), but only {len(wanted.assignments)} "
            "assignment(s) were specified.",
        )
    return placement.check_manual(wanted.assignments, image.brokers)


def too_many_partitions(count: int) -> KafkaError:
    """The error for a request beyond :data:`MAX_NEW_PARTITIONS`."""
    return KafkaError(
        ErrorCode.POLICY_VIOLATION,
        f"Excessively large number of partitions per request: {count}, allowed: {MAX_NEW_PARTITIONS}",
    )
