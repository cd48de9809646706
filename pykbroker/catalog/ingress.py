"""Logs and topics of forwarding: what stands in front of a topic with a partitioner, and where plans lie.

A topic with ``pykbroker.partitioner`` has a hidden topic of its own, with as many partitions, made, grown and
deleted in the same proposals.  Produce appends there; the broker moves the records on.  Its name is made
of the topic's id, so that a topic of the same name made later has another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pykbroker.catalog.changes import AddPartitions, Change, CreateTopic, DeleteTopic
from pykbroker.catalog.image import HIDDEN_PREFIX, Image, Topic, new_topic_id, topic_id_bytes, topic_id_text

PARTITIONER: Final = "pykbroker.partitioner"
INGRESS_PREFIX: Final = HIDDEN_PREFIX + "ingress_"
FORWARD_TOPIC: Final = HIDDEN_PREFIX + "forward"
"""Compacted: what is decided and not yet done."""

FORWARD_SETTINGS: Final[Mapping[str, str]] = {
    "cleanup.policy": "compact",
    "compression.type": "producer",
    # Small, so that little is read at start: what is not compacted yet is a few segments at most.
    "segment.bytes": str(8 * 1024 * 1024),
    # Its only reader is the broker, at start, from the beginning.
    "delete.retention.ms": "60000",
}

_INGRESS_SETTINGS: Final[Mapping[str, str]] = {
    "cleanup.policy": "delete",
    "compression.type": "producer",
    # What is moved goes with its segment; nothing else does.
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "segment.bytes": str(64 * 1024 * 1024),
}


def ingress_name(topic_id: bytes) -> str:
    """The name of the ingress topic of the topic with this id."""
    return INGRESS_PREFIX + topic_id_text(topic_id)


def face_id(name: str) -> bytes | None:
    """The id of the topic whose ingress topic has this name; None if it is no ingress topic."""
    return topic_id_bytes(name.removeprefix(INGRESS_PREFIX)) if name.startswith(INGRESS_PREFIX) else None


def created_with(topic: CreateTopic) -> list[Change]:
    """What is made together with ``topic``."""
    if not topic.overrides.get(PARTITIONER, "").strip():
        return []
    return [
        CreateTopic(
            name=ingress_name(topic.topic_id),
            topic_id=new_topic_id(),
            replicas=topic.replicas,
            overrides=_INGRESS_SETTINGS,
        )
    ]


def deleted_with(image: Image, topic: Topic) -> list[Change]:
    """What goes together with ``topic``."""
    found = image.topics.get(ingress_name(topic.topic_id))
    return [] if found is None else [DeleteTopic(name=found.name, topic_id=found.topic_id)]


def grown_with(image: Image, growth: AddPartitions) -> list[Change]:
    """What grows together with a topic."""
    found = image.topics.get(ingress_name(image.topics[growth.name].topic_id))
    if found is None:
        return []
    return [AddPartitions(name=found.name, version=found.version, replicas=growth.replicas)]
