"""Settings that a topic takes from another one, now and when they are altered.

What an acknowledgement promises is a matter of the topic that was produced to: what lies behind it (its
ingress log, its flow) keeps that promise.  A retry or dead-letter topic takes it from its origin.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from pykbroker.catalog.image import Image, Topic
from pykbroker.catalog.ingress import face_id, ingress_name
from pykbroker.catalog.retrying import delayed_name, flow_id_of, flow_of, held_name, role_of

INHERITED: Final = ("flush.messages", "flush.ms", "min.insync.replicas", "pykbroker.corruption.policy")
"""The settings that are taken over."""


def inherited(image: Image, by_role: Mapping[str, Topic], topic: Topic) -> Mapping[str, str]:
    """The settings of ``topic`` as its own, with those that it takes from others.

    ``by_role``: the retry and dead-letter topics, by the text of their role.
    """
    taken: dict[str, str] = {}
    for source in _sources(image, by_role, topic):
        taken |= {name: source.overrides[name] for name in INHERITED if name in source.overrides}
    if not taken:
        return topic.overrides
    # Hidden topics have no will of their own; clients may have set these on all others.
    return {**topic.overrides, **taken} if topic.hidden else {**taken, **topic.overrides}


def _sources(image: Image, by_role: Mapping[str, Topic], topic: Topic) -> Iterator[Topic]:
    """The topics from which this one takes settings; a later one wins."""
    role = role_of(topic)
    found: list[Topic | None] = []
    if role is not None:
        found = [image.topics.get(role.origin), by_role.get(role.text) if topic.hidden else None]
    elif topic.hidden:
        face = face_id(topic.name) or flow_id_of(topic.name)
        found = [None if face is None else image.topic_by_id(face)]
    return (source for source in found if source is not None)


def taking_from(image: Image, topic: Topic) -> Iterator[Topic]:
    """The topics that take settings from ``topic``."""
    hidden = [ingress_name(topic.topic_id)]
    if (flow_id := flow_of(topic)) is not None:
        hidden += [delayed_name(flow_id), held_name(flow_id)]
    yield from (image.topics[name] for name in hidden if name in image.topics)
    for other in image.topics.values():
        role = role_of(other)
        if role is not None and role.origin == topic.name:
            yield other
