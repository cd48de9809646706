"""All lanes of this broker: started when there is something to do, found by who produces and who alters.

Life: construct, subscribe :meth:`Forwarding.on_delta` to the catalog, ``await nursery.start(run)``, and at
the end, before the logs are closed, ``await shutdown()``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from pykbroker.catalog.delta import Delta
    from pykbroker.partitions.partition import Partition


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardingStatistics:
    """Counted since the start.  ``copies`` were appended to targets, ``unroutable`` went nowhere,
    ``dead_letters`` went to dead-letter topics in place of a target that refused them, ``dropped`` were
    refused where there is none.  Now: ``lanes`` that have begun, ``open_plans``, ``waiting_moves`` for
    targets that are unavailable."""

    records: int = 0
    copies: int = 0
    unroutable: int = 0
    dead_letters: int = 0
    dropped: int = 0
    lanes: int = 0
    open_plans: int = 0
    waiting_moves: int = 0


class Forwarding:
    """Used in the loop's thread only."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Load what was decided before, go on with it, and move what arrives, until cancelled."""
        raise NotImplementedError

    async def shutdown(self) -> None:
        """Stop all lanes; what is planned is executed after the next start."""
        raise NotImplementedError

    def on_delta(self, delta: Delta) -> None:
        """Follow the catalog."""
        raise NotImplementedError

    def position(self, topic_id: bytes, partition: int) -> int:
        """The offset of an ingress partition below which everything is moved, durably: what lies there may
        be deleted.  0 while that is not known yet."""
        raise NotImplementedError

    def passed(self, topic_id: bytes, partition: int) -> int:
        """The offset of an ingress partition below which everything is decided, durably: bindings of before
        are not needed there.  0 while that is not known yet."""
        raise NotImplementedError

    def boundaries(self) -> Mapping[bytes, Sequence[int]]:
        """The log end offsets of all exchanges now, by topic id and partition."""
        raise NotImplementedError

    def ingress(self, face: Partition) -> Partition:
        """The partition to which Produce appends what is meant for ``face``: ``face`` itself unless its
        topic has a partitioner.  Raises :class:`~pykbroker.errors.KafkaError`."""
        raise NotImplementedError

    def statistics(self) -> ForwardingStatistics:
        """Counters and gauges."""
        raise NotImplementedError
