"""Retry and dead-letter topics: made when a group that has a policy joins, or when a name is asked for.

Everything that creates them comes by here or by :meth:`TopicAdmin.create`, and is decided on the newest
image: two who want the same topic get the same one.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykbroker.catalog import role_topics
from pykbroker.catalog.catalog import Catalog
from pykbroker.catalog.changes import Change, ObjectTooLarge
from pykbroker.catalog.image import Image, Topic
from pykbroker.catalog.retrying import (
    DEAD_LETTER_TOPIC,
    NO_POLICY,
    ROLE,
    RetrySettings,
    Role,
    RoleKind,
    flow_of_role,
    held_name,
)
from pykbroker.catalog.topics import TopicAdmin
from pykbroker.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from pykbroker.partitions.manager import Partitions

log = logging.getLogger(__name__)

KnownGroups = Callable[[], Awaitable[Collection[str]]]
"""The ids of all groups that the coordinator knows."""

_TOLD = 1_000
"""Refusals remembered, so that a group that joins again and again does not fill the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensured:
    """The two topics of a group on a topic, as they are now.  ``dead_letter`` may be any topic."""

    retry: Topic
    dead_letter: Topic


class DeliveryTopics:
    """Makes retry and dead-letter topics, and the hidden topics behind them.

    Every call raises :class:`KafkaError` when a topic cannot be had: INVALID_TOPIC_EXCEPTION with the
    setting that would fix it (the name is too long, taken, or two groups would have it), INVALID_CONFIG
    for a dead-letter topic that cannot keep letters, or what the catalog says when it cannot be written.
    """

    def __init__(
        self,
        catalog: Catalog,
        topics: TopicAdmin,
        known_groups: KnownGroups,
        partitions: Partitions | None = None,
    ) -> None:
        """``partitions`` tell whether a topic that is in the way was ever used; without them, it was."""
        self._catalog = catalog
        self._partitions = partitions
        self._topics = topics
        self._known_groups = known_groups
        self._told: set[str] = set()

    async def ensure(self, origin: str, group: str) -> Ensured:
        """Both topics of ``group`` on ``origin``, and the flow, made or grown where they are not there.

        Nothing waits when all is there.  Raises INVALID_CONFIG when the group has no policy there.
        """
        settings = self._catalog.retrying.settings(origin, group)
        there = self._there(origin, group, settings)
        if there is not None:
            return there
        known = await self._known()
        names = [settings.retry_topic, settings.dead_letter_topic]

        def decide(image: Image) -> Sequence[Change]:
            changes, *names[:] = role_topics.pair(
                image, self._catalog.broker_config, origin, group, known, self._untouched
            )
            return changes

        image = await self._update(decide)
        retry, dead_letter = (_made(image.topics.get(name)) for name in names)
        return Ensured(retry=retry, dead_letter=dead_letter)

    def _untouched(self, topic: Topic) -> bool:
        if self._partitions is None:
            return False
        try:
            found = [self._partitions.get(topic.name, state.index) for state in topic.partitions]
        except KafkaError:
            return False  # it cannot be told
        return all(partition.log_end_offset == 0 for partition in found)

    def _there(self, origin: str, group: str, settings: RetrySettings) -> Ensured | None:
        """Both topics, if they are there as they have to be."""
        rules, image = self._catalog.retrying, self._catalog.image
        topic = image.topics.get(origin)
        role = Role(RoleKind.RETRY, origin, group)
        retry = rules.by_role.get(role.text)
        held = image.topics.get(held_name(flow_of_role(role)))
        dead_letter = image.topics.get(settings.dead_letter_topic)
        if settings.policy == NO_POLICY or not (topic and retry and held and dead_letter):
            return None
        if not settings.shared_dead_letter:
            own = rules.by_role.get(Role(RoleKind.DEAD_LETTER, origin, group).text)
            if own is None or len(own.partitions) < len(topic.partitions):
                return None
        if min(len(retry.partitions), len(held.partitions)) < len(topic.partitions):
            return None
        return Ensured(retry=retry, dead_letter=dead_letter)

    async def ensure_topic(self, role: Role) -> Topic:
        """The topic with this role, made again if it was deleted, whether the origin is there or not.

        It gets the partitions of the origin, or of its flow, or one.
        """
        there = self._catalog.retrying.by_role.get(role.text)
        if there is not None:
            return there
        image = await self._update(
            lambda image: role_topics.one(
                image, self._catalog.broker_config, role, role_topics.partitions_for(image, role)
            )
        )
        found = (topic for topic in image.topics.values() if topic.overrides.get(ROLE) == role.text)
        return _made(next((topic for topic in found if not topic.hidden), None))

    async def ensure_dead_letter(self, name: str, role: Role, partitions: int) -> Topic:
        """The topic ``name`` for dead letters of ``role``, made with ``partitions`` if it is not there.

        It gets the role if the name is the one that the settings give this role alone.
        """
        there = self._catalog.image.topics.get(name)
        if there is not None:
            broker = self._catalog.broker_config
            role_topics.check_target(self._catalog.image, broker, name, role.origin, DEAD_LETTER_TOPIC)
            return there
        letters = Role(RoleKind.DEAD_LETTER, role.origin, role.group)
        settings = self._catalog.retrying.settings(role.origin, role.group)

        def decide(image: Image) -> Sequence[Change]:
            if not settings.shared_dead_letter and name == settings.dead_letter_topic:
                return role_topics.one(image, self._catalog.broker_config, letters, partitions)
            return role_topics.shared(image, self._catalog.broker_config, name, letters, partitions)

        return _made((await self._update(decide)).topics.get(name))

    async def prepare(self, group: str, topics: Iterable[str]) -> None:
        """Make what ``group`` needs to join with a subscription to ``topics``; never raises, but logs."""
        if not self._catalog.retrying.any_policy:
            return
        for topic in sorted(topics):
            if topic not in self._catalog.image.topics:
                continue
            settings = self._catalog.retrying.settings(topic, group)
            if settings.policy == NO_POLICY or self._there(topic, group, settings) is not None:
                continue
            try:
                await self.ensure(topic, group)
            except KafkaError as error:
                self._tell(f"group {group} joins without its retry topic on {topic}: {error}")

    def _tell(self, refusal: str) -> None:
        if refusal not in self._told:
            if len(self._told) >= _TOLD:
                self._told.clear()
            self._told.add(refusal)
            log.warning("%s", refusal)

    async def groups_for(self, names: Iterable[str]) -> Collection[str]:
        """The known groups, if one of ``names`` may be a retry or dead-letter topic; else none."""
        rules, there = self._catalog.retrying, self._catalog.image.topics
        if not rules.any_policy:
            return ()
        missing = [name for name in names if name not in there]
        return await self._known() if any(rules.may_have_role(name, missing) for name in missing) else ()

    async def drop_flow(self, flow_id: bytes, topic_ids: Collection[bytes]) -> bool:
        """Delete the hidden topics of a flow that have these ids, unless a topic in front of it is there
        (again); whether they are gone."""

        def decide(image: Image) -> Sequence[Change]:
            if role_topics.has_front(image, flow_id):
                return []
            return [each for each in role_topics.drop_flow(image, flow_id) if each.topic_id in topic_ids]

        image = await self._update(decide)
        return image.names_by_id.keys().isdisjoint(topic_ids)

    async def _known(self) -> Collection[str]:
        try:
            return frozenset(await self._known_groups())
        except KafkaError as error:
            # While groups are loaded: an answer that every client understands as "ask again".
            message = f"it is not known yet which groups there are: {error}"
            raise KafkaError(ErrorCode.LEADER_NOT_AVAILABLE, message) from error

    async def _update(self, decide: Callable[[Image], Sequence[Change]]) -> Image:
        before = self._catalog.image
        try:
            image = await self._catalog.update(decide)
        except ObjectTooLarge as error:
            raise KafkaError(ErrorCode.INVALID_REQUEST, str(error)) from error
        for name in image.topics.keys() - before.topics.keys():
            role = image.topics[name].overrides.get(ROLE)
            if role is not None and not image.topics[name].hidden:
                log.info("topic made: topic=%s role=%s", name, role)
        return image


def _made(topic: Topic | None) -> Topic:
    """A topic that was there or has been made; somebody may have deleted it by the time we hear of that."""
    if topic is None:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "the topic was deleted just now")
    return topic
