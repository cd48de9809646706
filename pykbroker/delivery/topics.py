"""Retry and dead-letter topics: made when a group that has a policy joins, or when a name is asked for.

Everything that creates them comes by here or by :meth:`TopicAdmin.create`, and is decided on the newest
image: two who want the same topic get the same one.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass

from pykbroker.catalog.catalog import Catalog
from pykbroker.catalog.image import Topic
from pykbroker.catalog.retrying import Role
from pykbroker.catalog.topics import TopicAdmin

log = logging.getLogger(__name__)

KnownGroups = Callable[[], Awaitable[Collection[str]]]
"""The ids of all groups that the coordinator knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensured:
    """The two topics of a group on a topic, as they are now.  ``dead_letter`` may be any topic."""

    retry: Topic
    dead_letter: Topic


class DeliveryTopics:
    """Makes retry and dead-letter topics, and the hidden topics behind them.

    Every call raises :class:`KafkaError` when a topic cannot be had: INVALID_TOPIC_EXCEPTION with the
    setting that would fix it (the name is too long, taken, or two groups would have it), or what the
    catalog says when it cannot be written.
    """

    def __init__(self, catalog: Catalog, topics: TopicAdmin, known_groups: KnownGroups) -> None:
        self._catalog = catalog
        self._topics = topics
        self._known_groups = known_groups

    async def ensure(self, origin: str, group: str) -> Ensured:
        """Both topics of ``group`` on ``origin``, and the flow, made or grown where they are not there.

        Nothing waits when all is there.  Raises INVALID_CONFIG when the group has no policy there.
        """
        raise NotImplementedError

    async def ensure_topic(self, role: Role) -> Topic:
        """The topic with this role, made again if it was deleted, whether the origin is there or not.

        It gets the partitions of the origin, or of its flow, or one.
        """
        raise NotImplementedError

    async def ensure_dead_letter(self, name: str, role: Role, partitions: int) -> Topic:
        """The topic ``name`` for dead letters of ``role``, made with ``partitions`` if it is not there.

        It gets the role if the name is the one that the settings give this role alone.
        """
        raise NotImplementedError

    async def prepare(self, group: str, topics: Iterable[str]) -> None:
        """Make what ``group`` needs to join with a subscription to ``topics``; never raises, but logs."""
        raise NotImplementedError

    async def resolve(self, name: str) -> Topic | None:
        """The topic ``name`` if it is, or may become, a retry or dead-letter topic; None if not."""
        raise NotImplementedError

    async def groups_for(self, names: Iterable[str]) -> Collection[str]:
        """The known groups, if one of ``names`` may be a retry or dead-letter topic; else none."""
        raise NotImplementedError

    async def drop_flow(self, flow_id: bytes) -> bool:
        """Delete the hidden topics of a flow, unless a topic in front of it is there (again)."""
        raise NotImplementedError
