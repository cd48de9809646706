"""Removing from the due-time index, and then from the held logs, what is not needed any more.

What is released is only removed when the log of plans, which says so, is on the disk: a power cut can then
never leave a record in neither.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

import trio

from pykbroker.catalog.ingress import FORWARD_TOPIC
from pykbroker.delivery.index import Index, IndexClosed, IndexLost, IndexUnavailable
from pykbroker.delivery.settling import SOON_S, Moment, Settling, moment
from pykbroker.log.errors import StorageError

if TYPE_CHECKING:
    from pykbroker.catalog.catalog import Catalog
    from pykbroker.delivery.flow_lane import FlowPartition
    from pykbroker.delivery.releasing import ReleaseWork
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
        self.settling = Settling(catalog, partitions)
        self._released: set[FlowPartition] = set()
        self._later: dict[FlowPartition, float] = {}
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
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.settling.run)
            while True:
                with trio.move_on_at(min(self._later.values(), default=math.inf)):
                    await self._something.wait()
                await trio.sleep(TIDY_S)
                await self.tidy()

    async def tidy(self) -> None:
        """Remove what has come up so far."""
        self._something = trio.Event()
        flows, self._released = self._released, set()
        now = trio.current_time()
        late = [flow for flow, at in self._later.items() if at <= now or flow in flows]
        for flow in late:
            del self._later[flow]
        flows.update(late)
        await self._forget(sweep=bool(flows))
        found = [(flow, flow.work, moment(flow, self._engine)) for flow in flows]
        works = [(flow, work, then) for flow, work, then in found if work is not None and then is not None]
        for _, work, then in works:
            work.indexing.before_flush(then.below)
        shards = {flow: self._shard_of(flow) for flow, _, _ in works}
        flushed = {
            shard for shard in set(shards.values()) if shard is not None and await self._flush_plans(shard)
        }
        for flow, work, then in works:
            if shards[flow] in flushed:
                await self._tidy(flow, work, then)

    def _shard_of(self, flow: FlowPartition) -> int | None:
        return None if flow.place is None else self._engine.shards.index_of(flow.place)

    async def _tidy(self, flow: FlowPartition, work: ReleaseWork, then: Moment) -> None:
        await work.tidy(then.released)
        indexing = work.indexing
        again = indexing.look_again_in
        if again is not None:
            self._later[flow] = trio.current_time() + again
        elif indexing.extent is not None:
            at = self.settling.consider(then, indexing.extent)
            now = moment(flow, self._engine)
            if at is None and now is not None and now.below > then.below:
                at = trio.current_time() + SOON_S  # more is on the disk by now
            if at is not None:
                self._later[flow] = at

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
        except IndexClosed:
            return
        except (IndexLost, IndexUnavailable) as error:
            log.warning("the due-time index is not tidied: %s", error)
