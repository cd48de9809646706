"""Nacks become moves: one lane per partition of ``__consumer_offsets`` follows the commits there.

A commit record is the durable nack.  The coordinator tells of every record as it is applied
(:meth:`Following.applied`); what asks for something, or concerns a group of which offsets count as nacked,
stands in a queue until it is below the high watermark.  Each step takes orders from the queue and plans
moves from the origin to the flow's log of arrivals; which offsets count is in the same batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from pykbroker.catalog.delta import Delta
from pykbroker.delivery.nacks import Ranges

if TYPE_CHECKING:
    from pykbroker.catalog.catalog import Catalog
    from pykbroker.catalog.image import Topic
    from pykbroker.clock import Clock
    from pykbroker.delivery.telling import Telling
    from pykbroker.delivery.topics import DeliveryTopics
    from pykbroker.forwarding.engine import Engine
    from pykbroker.groups.service import GroupCoordinator
    from pykbroker.groups.stored import OffsetRecord
    from pykbroker.partitions.manager import Partitions
    from pykbroker.partitions.partition import Partition


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowingStatistics:
    """Counted since the start: records that were ``nacked``, ``replayed``, ``purged``; offsets of nacks that
    are not there (``skipped``); commits that ask where nothing is interpreted (``ignored``).  Now: commits
    that ``wait``, because the topics that they need cannot be made."""

    nacked: int = 0
    skipped: int = 0
    ignored: int = 0
    replayed: int = 0
    purged: int = 0
    waiting: int = 0


class Following:
    """All such lanes of a broker; the :class:`~pykbroker.groups.machine.OnApplied` of its coordinator.

    Life: construct before groups, partitions and forwarding run, set ``groups.on_applied`` to it, subscribe
    :meth:`on_delta`, call :meth:`hold` for partitions of the offsets topic as they are opened, and ``await
    nursery.start(run)`` after forwarding runs.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        catalog: Catalog,
        partitions: Partitions,
        groups: GroupCoordinator,
        topics: DeliveryTopics,
        telling: Telling,
    ) -> None:
        raise NotImplementedError

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow until cancelled."""
        raise NotImplementedError

    def on_delta(self, delta: Delta) -> None:
        """Follow the catalog: what could not be made may be made now; what is gone is forgotten."""
        raise NotImplementedError

    def hold(self, partition: Partition) -> None:
        """Have compaction of a partition of the offsets topic stop at the first commit that is pending."""
        raise NotImplementedError

    def applied(self, partition: int, offset: int, record: OffsetRecord) -> None:
        """See :class:`~pykbroker.groups.machine.OnApplied`."""
        raise NotImplementedError

    def loaded(self, partition: int) -> None:
        """See :class:`~pykbroker.groups.machine.OnApplied`."""
        raise NotImplementedError

    async def settled(self, topic: Topic) -> Mapping[int, Ranges]:
        """The dead letters of ``topic`` that are replayed or purged, by partition; orders that are applied
        when this is called are waited for, up to a second.  Partitions without any are left out."""
        raise NotImplementedError

    def statistics(self) -> FollowingStatistics:
        """Counters and gauges."""
        raise NotImplementedError
