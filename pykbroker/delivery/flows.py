"""The flows of this broker: found, started when something is in them, emptied, deleted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from pykbroker.catalog.delta import Delta
    from pykbroker.partitions.partition import Partition


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowStatistics:
    """``arrived`` records were decided about and ``released`` ones moved on, since the start.  Now:
    ``lanes`` that are at work, ``waiting`` records that are indexed and not released, ``stuck`` ones whose
    destination refuses them or is not there, and the time at which the next is due."""

    arrived: int = 0
    released: int = 0
    lanes: int = 0
    waiting: int = 0
    stuck: int = 0
    next_due_ms: int | None = None


class Flows:
    """Life: construct (before ``forwarding.run``), subscribe :meth:`on_delta` to the catalog, ``await
    nursery.start(run)`` after forwarding's, ``await shutdown()`` before forwarding's."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        raise NotImplementedError

    async def shutdown(self) -> None:
        raise NotImplementedError

    def on_delta(self, delta: Delta) -> None:
        raise NotImplementedError

    def landing(self, face: Partition) -> Partition:
        """The partition to which Produce and nacks append what is meant for ``face``, a retry topic or one
        with ``pykbroker.delay.enable``: that of the flow's delayed log.  Raises KafkaError."""
        raise NotImplementedError

    def statistics(self) -> FlowStatistics:
        raise NotImplementedError
