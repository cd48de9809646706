"""Everything about failed deliveries of one broker: its parts, and their life.

Life: construct before groups and forwarding run, subscribe :meth:`Delivery.on_delta` to the catalog, ``await
nursery.start(run)`` after forwarding runs, ``await shutdown()`` before forwarding's.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from pykbroker.catalog.image import GROUP
from pykbroker.catalog.loops import loops, way_back
from pykbroker.catalog.retrying import DEAD_LETTER_TOPIC
from pykbroker.delivery.asking import Policies
from pykbroker.delivery.commits import CommitChecks
from pykbroker.delivery.flows import Flows
from pykbroker.delivery.following import Following
from pykbroker.delivery.retention import RetryRetention
from pykbroker.delivery.telling import Telling
from pykbroker.delivery.topics import DeliveryTopics

if TYPE_CHECKING:
    from pykbroker.catalog.catalog import Catalog
    from pykbroker.catalog.delta import Delta
    from pykbroker.catalog.topics import TopicAdmin
    from pykbroker.clock import Clock
    from pykbroker.forwarding.service import Forwarding
    from pykbroker.groups.service import GroupCoordinator
    from pykbroker.partitions.manager import Partitions
    from pykbroker.plugins import Plugins

log = logging.getLogger(__name__)

POLL_S: Final = 0.001
"""Who waits for decisions looks this often: tests do."""


class Delivery:
    """``topics`` makes retry and dead-letter topics, ``commits`` checks what commits ask, ``following``
    carries that out, ``flows`` keep records until they are due."""

    def __init__(
        self,
        clock: Clock,
        catalog: Catalog,
        admin: TopicAdmin,
        partitions: Partitions,
        groups: GroupCoordinator,
        forwarding: Forwarding,
        plugins: Plugins,
        data_dir: Path,
    ) -> None:
        self._catalog = catalog
        self._groups = groups
        engine, telling = forwarding.engine, Telling(plugins)
        policies = Policies(plugins, lambda: catalog.image, lambda: catalog.retrying)
        self.topics = DeliveryTopics(catalog, admin, self._known_groups, partitions)
        self.commits = CommitChecks(catalog, self.topics)
        self.flows = Flows(
            clock, catalog, self.topics, partitions, engine, policies, telling, data_dir=data_dir
        )
        self.following = Following(engine, clock, catalog, admin, partitions, self.topics, telling)
        self._retention = RetryRetention(clock, catalog, partitions, groups)
        groups.on_applied = self.following

    async def _known_groups(self) -> Collection[str]:
        """The ids of the groups that have members or offsets, and of those with settings."""
        listed = await self._groups.list()
        settings = (name for kind, name in self._catalog.image.settings if kind == GROUP)
        return {*(group.group_id for group in listed), *settings}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled."""
        self._tell_circles()
        async with trio.open_nursery() as nursery:
            await nursery.start(self.flows.run)
            await nursery.start(self.following.run)
            await nursery.start(self._retention.run)
            task_status.started()

    def _tell_circles(self) -> None:
        """Say on which ways letters are held back: a setting in a file, or a deletion, is not refused."""
        rules = self._catalog.retrying
        for origin, target in sorted(loops(rules)):
            way = way_back(rules, origin, target) or (origin, target)
            log.warning(
                "dead letters would fail again, for ever, and are held back: %s; alter %s, or what is bound "
                "on that way", " > ".join(way), DEAD_LETTER_TOPIC,
            )  # fmt: skip

    async def shutdown(self) -> None:
        """Stop keeping time: what waits is released after the next start."""
        await self.flows.shutdown()

    async def decided(self, patience_s: float = 1.0) -> None:
        """Return when all failures that clients have had acknowledged are decided about: from then on it is
        known when they are due.  Those that cannot be decided now are not waited for longer than that."""
        with trio.move_on_after(patience_s):
            # Only tests wait for this: not worth an event.
            while not (self.following.is_idle and self.flows.is_decided):  # noqa: ASYNC110
                await trio.sleep(POLL_S)

    def on_delta(self, delta: Delta) -> None:
        """Follow the catalog."""
        self.flows.on_delta(delta)
        self.following.on_delta(delta)
