"""The catalog as lanes that follow commits see it: what commits mean, and where records go."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from pykbroker.catalog.retrying import (
    NO_POLICY,
    REPLAY_TOPIC,
    Role,
    RoleKind,
    delayed_name,
    flow_of_role,
    retry_settings,
    role_of,
)
from pykbroker.delivery import commits, letters
from pykbroker.delivery.nacks import Purge, Replay
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.forwarding.plan import Place
from pykbroker.groups.offsets import same_topic

if TYPE_CHECKING:
    from pykbroker.catalog.catalog import Catalog
    from pykbroker.catalog.image import Topic
    from pykbroker.catalog.topics import TopicAdmin
    from pykbroker.delivery.topics import DeliveryTopics


class Arrivals(NamedTuple):
    """Where nacked records of a partition go, and whether they have been retried already."""

    place: Place
    returned: bool


class Places(Protocol):
    """The catalog, as far as it says what commits mean and where records go."""

    def topic_id(self, name: str, committed_for: bytes | None) -> bytes | None:
        """The id of the topic of that name; ``committed_for`` is the one that the commit names, if it
        does.  None: it is gone, and what is there now is another one."""
        ...

    def topic(self, topic_id: bytes) -> Topic | None:
        """The topic of that id."""
        ...

    def meaning(self, topic: Topic, group: str) -> commits.Meaning:
        """See :func:`~pykbroker.delivery.commits.meaning`."""
        ...

    def why_not(self, topic: Topic, asked: Replay | Purge) -> str | None:
        """See :func:`~pykbroker.delivery.letters.why_not`."""
        ...

    def why_not_to(self, topic: Topic, to: str) -> str | None:
        """See :func:`~pykbroker.delivery.letters.why_not_to`."""
        ...

    async def arrivals(self, topic: Topic, partition: int, group: str) -> Arrivals | None:
        """Where nacks of ``group`` go; None: nowhere, its policy is gone and there is no flow.

        Raises :class:`KafkaError` where the topics cannot be made.
        """
        ...

    async def replays(self, partition: int) -> Place:
        """Where dead letters of a partition are held on their way back.  Raises :class:`KafkaError`."""
        ...


class LocalPlaces:
    """That of this broker."""

    def __init__(self, catalog: Catalog, admin: TopicAdmin, topics: DeliveryTopics) -> None:
        self._catalog = catalog
        self._admin = admin
        self._topics = topics

    def topic_id(self, name: str, committed_for: bytes | None) -> bytes | None:
        topic = self._catalog.image.topics.get(name)
        if topic is None or (committed_for is not None and not same_topic(committed_for, topic.topic_id)):
            return None
        return topic.topic_id

    def topic(self, topic_id: bytes) -> Topic | None:
        return self._catalog.image.topic_by_id(topic_id)

    def meaning(self, topic: Topic, group: str) -> commits.Meaning:
        return commits.meaning(self._catalog, topic, group)

    def why_not(self, topic: Topic, asked: Replay | Purge) -> str | None:
        return letters.why_not(self._catalog, topic, asked)

    def why_not_to(self, topic: Topic, to: str) -> str | None:
        return letters.why_not_to(self._catalog, topic, to)

    async def arrivals(self, topic: Topic, partition: int, group: str) -> Arrivals | None:
        role = role_of(topic)
        returned = role is not None
        if role is None:
            role = Role(RoleKind.RETRY, topic.name, group)
            if retry_settings(self._catalog, topic.name, group).policy != NO_POLICY:
                await self._topics.ensure(topic.name, group)
            elif delayed_name(flow_of_role(role)) not in self._catalog.image.topics:
                return None
        else:
            await self._topics.ensure_topic(role)
        name = delayed_name(flow_of_role(role))
        delayed = self._catalog.image.topics.get(name)
        if delayed is None:
            raise KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR, f"the topic {name} is not there")
        return Arrivals(Place(delayed.topic_id, partition % len(delayed.partitions)), returned)

    async def replays(self, partition: int) -> Place:
        topic = await self._admin.ensure_internal(REPLAY_TOPIC)
        return Place(topic.topic_id, partition % len(topic.partitions))
