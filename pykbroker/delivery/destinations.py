"""Where a held record goes, looked up when it is released: topics come and go while it waits.

A destination that is not there, or that refuses what cannot be refused, is made or waited for; what waits
stands in line for a place of its own (:func:`somewhere`, :func:`with_a_key`), and is in nobody's way.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pykbroker.catalog.ingress import ingress_name
from pykbroker.catalog.loops import way_back
from pykbroker.catalog.retrying import (
    REPLAY_TOPIC,
    Role,
    RoleKind,
    delayed_name,
    flow_id_of,
    flow_of,
    retry_settings,
    role_of,
)
from pykbroker.delivery.held import Held, Kind
from pykbroker.delivery.waiting import Stuck
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.forwarding.plan import Place

if TYPE_CHECKING:
    from pykbroker.catalog.catalog import Catalog
    from pykbroker.catalog.image import Topic
    from pykbroker.delivery.topics import DeliveryTopics

log = logging.getLogger(__name__)

REMEMBERED: Final = 1000
"""Destinations of which it is remembered why records wait for them."""
REPEAT_S: Final = 60.0
"""What waits for a destination gets another log line after this long."""


def somewhere(held: Held) -> Place:
    """A place that stands for a destination that is not there: no topic has its id."""
    return _standing_for(held, b"pykbroker-held")


def with_a_key(held: Held) -> Place:
    """The same for one that is compacted, where the record has no key: those that have one pass it by."""
    return _standing_for(held, b"pykbroker-nokey")


def _standing_for(held: Held, person: bytes) -> Place:
    name = f"{held.kind}:{held.name}".encode("utf-8", "surrogateescape")
    return Place(hashlib.blake2b(name, digest_size=16, person=person).digest(), held.partition)


def _letters(role: Role) -> Role:
    return Role(RoleKind.DEAD_LETTER, role.origin, role.group)


class Destinations:
    """Those of one flow: of the held log of this name."""

    def __init__(
        self, held_topic: str, catalog: Catalog, topics: DeliveryTopics, monotonic: Callable[[], float]
    ) -> None:
        self._held_topic = held_topic
        self._catalog = catalog
        self._topics = topics
        self._monotonic = monotonic
        self._told: dict[tuple[Kind, str, bool], float] = {}
        self._stuck: dict[bytes, Stuck] = {}
        self._image: object = None
        self._known: dict[tuple[int, str, int, bool], Place | None] = {}

    @property
    def role(self) -> Role | None:
        """The role of the retry topic, if this is the flow of one."""
        topic = self._catalog.image.topics.get(self._held_topic)
        return None if topic is None else role_of(topic)

    def find(self, held: Held, *, has_key: bool = True) -> Place | None:
        """Where the record goes; None: there is no such topic now.  :func:`with_a_key` where there is one
        that does not take it."""
        if self._image is not self._catalog.image:
            self._image = self._catalog.image
            self._known.clear()
        key = (held.kind, held.name, held.partition, has_key)
        try:
            return self._known[key]
        except KeyError:
            topic = self._topic(held)
            found = self._known[key] = None if topic is None else self._place(topic, held, has_key)
            return found

    def _topic(self, held: Held) -> Topic | None:
        image = self._catalog.image
        if held.kind != Kind.FACE:
            topic = image.topics.get(held.name)
            return None if topic is None or topic.internal or self._leads_back(held) else topic
        role = self.role
        if role is None:
            flow_id = flow_id_of(self._held_topic)
            return None if flow_id is None else image.topic_by_id(flow_id)
        return self._catalog.retrying.by_role.get(role.text)

    def _leads_back(self, held: Held) -> bool:
        """Whether a dead letter would fail again: bindings may have been made since it was decided."""
        role = self.role
        if held.kind != Kind.NAMED or role is None:
            return False
        return way_back(self._catalog.retrying, role.origin, held.name) is not None

    def _place(self, topic: Topic, held: Held, has_key: bool) -> Place | None:
        """The partition of ``topic``, or of the log in front of it."""
        number = held.partition % len(topic.partitions)
        behind = topic.topic_id
        config = self._catalog.topic_config(topic)
        if not has_key and config.compacted:
            # A log in front of it would take the record, and what moves it on then drop it.
            return with_a_key(held)
        if held.kind != Kind.FACE and config.pykbroker_delay_enable and (flow := flow_of(topic)) is not None:
            name = delayed_name(flow)
        elif config.pykbroker_partitioner:
            name = ingress_name(topic.topic_id)
        else:
            return Place(behind, number)
        front = self._catalog.image.topics.get(name)
        return None if front is None else Place(front.topic_id, number)

    async def make(self, held: Held, but_not: Place, *, has_key: bool = True) -> Place:
        """Where the record goes, made if need be; not to ``but_not``, which refuses it.

        Raises :class:`KafkaError` with what is in the way.
        """
        found = self.find(held, has_key=has_key)
        if found is None:
            topic = await self._made(held)
            found = None if topic is None else self._place(topic, held, has_key)
        if found == but_not:
            topic = await self._usual(held)
            found = None if topic is None else self._place(topic, held, has_key)
        if but_not == with_a_key(held) and found in (None, but_not):
            raise KafkaError(ErrorCode.POLICY_VIOLATION, "it is compacted, and they have no key")
        if found is None or found == but_not:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "there is no such topic that takes them")
        return found

    async def _made(self, held: Held) -> Topic | None:
        role = self.role
        if role is None or held.kind not in (Kind.FACE, Kind.NAMED):
            return None
        if held.kind == Kind.FACE:
            return await self._topics.ensure_topic(role)
        try:
            return await self._topics.ensure_dead_letter(held.name, _letters(role), self._partitions)
        except KafkaError as error:
            if error.code not in (ErrorCode.INVALID_TOPIC_EXCEPTION, ErrorCode.INVALID_CONFIG):
                raise
            topic = await self._usual(held)
            if topic is None:
                raise
            return topic

    async def _usual(self, held: Held) -> Topic | None:
        """Where dead letters go if their policy's idea, another topic, cannot take them; else None."""
        role = self.role
        if held.kind != Kind.NAMED or role is None:
            return None
        usual = retry_settings(self._catalog, role.origin, role.group).dead_letter_topic
        if usual == held.name:
            return None
        return await self._topics.ensure_dead_letter(usual, _letters(role), self._partitions)

    @property
    def _partitions(self) -> int:
        topic = self._catalog.image.topics.get(self._held_topic)
        return 1 if topic is None else len(topic.partitions)

    def name(self, held: Held, role: Role | None) -> str:
        """What to call the destination in a log line."""
        if held.name:
            return held.name
        return self._held_topic if role is None else role.text

    def waits(self, held: Held, records: int, why: object, *, at: Place, no_key: bool) -> None:
        """Say, once a minute per destination, that records wait (``no_key``: for want of a key), and what
        would help.  They stand in line for the place ``at``."""
        role, help_ = self.role, self._help(held, no_key=no_key)
        if len(self._stuck) >= REMEMBERED:
            self._stuck.clear()
        name = self.name(held, role)
        self._stuck[at.topic_id] = Stuck(to=name, records=0, why=str(why), help=help_)
        now = self._monotonic()
        key = (held.kind, held.name, no_key)
        if now - self._told.get(key, -REPEAT_S) < REPEAT_S:
            return
        self._told[key] = now
        log.warning(
            "records wait for a topic that cannot be had: topic=%s records=%d: %s; %s",
            name, records, why, help_,
        )  # fmt: skip

    def _help(self, held: Held, *, no_key: bool) -> str:
        """What would help."""
        if no_key:
            return "alter its cleanup.policy to delete"
        if held.kind == Kind.REPLAY or self._held_topic == REPLAY_TOPIC:
            return "create the topic, or the letters stay where they are until then"
        if held.kind == Kind.NAMED:
            return "make room for that topic, or alter pykbroker.dead.letter.topic for what fails later"
        return "make room for the retry topic of that role"

    def stuck_at(self, target: bytes) -> Stuck:
        """Why records wait for a target, by its topic id."""
        found = self._stuck.get(target)
        if found is not None:
            return found
        name = self._catalog.image.names_by_id.get(target, "")
        return Stuck(to=name, records=0, why="it is not available now", help="the broker's log says why")
