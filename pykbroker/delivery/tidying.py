"""Removing from the due-time index what is not needed any more.

What is released is only removed when the log of plans, which says so, is on the disk: a power cut can then
never leave a record in neither.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

import trio

from pykbroker.catalog.ingress import FORWARD_TOPIC
from pykbroker.delivery.index import Index, IndexLost, IndexUnavailable
from pykbroker.log.errors import StorageError

if TYPE_CHECKING:
    from pykbroker.catalog.catalog import Catalog
    from pykbroker.delivery.flow_lane import FlowPartition
    from pykbroker.forwarding.engine import Engine
    from pykbroker.partitions.manager import Partitions

log = logging.getLogger(__name__)

TIDY_S: Final = 1.0
"""What was released is removed after this long, which costs a sync of the log of plans."""


class Tidying:
    """Does so for all flows of a broker."""

    def __init__(self, index: Index, catalog: Catalog, partitions: Partitions, engine: Engine) -> None:
        self._index = index
        self._catalog = catalog
        self._partitions = partitions
        self._engine = engine
        self._released: set[FlowPartition] = set()
        self._gone: set[bytes] = set()
        self._swept = False
        self._something = trio.Event()

    def released(self, flow: FlowPartition) -> None:
        """Something of it was."""
        self._released.add(flow)
        self._something.set()

    def deleted(self, topic_ids: Collection[bytes]) -> None:
        """These held logs were."""
        self._gone.update(topic_ids)
        self._something.set()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._something.wait()
            await trio.sleep(TIDY_S)
            await self.tidy()

    async def tidy(self) -> None:
        """Remove what has come up so far."""
        self._something = trio.Event()
        flows, self._released = self._released, set()
        await self._forget(sweep=bool(flows))
        works = [
            (self._engine.shards.index_of(flow.place), flow.work, flow.work.durable)
            for flow in flows
            if flow.work is not None and flow.place is not None
        ]
        shards = {shard for shard, _, _ in works if shard is not None}
        flushed = {shard for shard in shards if await self._flush_plans(shard)}
        for shard, work, released in works:
            if shard in flushed:
                await work.tidy(released)

    async def _flush_plans(self, shard: int) -> bool:
        """Whether the disk has what the log of plans had before."""
        plans = self._partitions.opened(FORWARD_TOPIC, shard)
        if plans is None:
            return False
        try:
            await plans.flush()
        except StorageError as error:
            log.error("the due-time index is not tidied: partition=%s: %s", plans.label, error)
            return False
        return True

    async def _forget(self, *, sweep: bool) -> None:
        """Forget held logs that are gone; once after a start, those that went unnoticed."""
        gone, self._gone = self._gone, set()
        try:
            if gone:
                await self._index.forget(gone)
            if sweep and not self._swept:
                lanes = await self._index.lanes()
                known = self._catalog.image.names_by_id
                await self._index.forget({lane.topic_id for lane in lanes} - known.keys())
                self._swept = True
        except (IndexLost, IndexUnavailable) as error:
            log.warning("the due-time index is not tidied: %s", error)
