"""Held logs give back the disk of what is released, whatever else in them has to wait for long.

By its start alone a held log can give nothing back while one record in front waits for a week.  So when
closed segments hold more than about as much of what is released as of what waits, they are rewritten
without it (:mod:`pykbroker.log.settling`), by a process of its own.

What may go is said by what is released at some moment, with the log of plans on the disk since then
(:mod:`~pykbroker.delivery.tidying`), and the moves that were open at that moment.  That stays true however
much later it is carried out: what was released stays released, and new plans move what was not.  The
due-time index only says when it is worth while.

Where it ends: before the batch that says how far the log in front has been decided about, and before the
last batch that is on the disk; a power cut would make that the last one.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from pykbroker.delivery.index import Extent
from pykbroker.delivery.released import Released
from pykbroker.delivery.settled import Needed, ranges_of
from pykbroker.delivery.settled_worker import COMMAND
from pykbroker.errors import KafkaError
from pykbroker.log.compaction import CompactionError, last_offsets
from pykbroker.log.settling import SettlingJob
from pykbroker.records.batch import HEADER_SIZE

if TYPE_CHECKING:
    from pykbroker.catalog.catalog import Catalog
    from pykbroker.delivery.flow_lane import FlowPartition
    from pykbroker.delivery.indexing import Indexing
    from pykbroker.forwarding.engine import Engine
    from pykbroker.partitions.manager import Partitions
    from pykbroker.partitions.partition import Partition

log = logging.getLogger(__name__)

LEAST_BYTES: Final = 1 << 20
"""With less to gain a log is not rewritten, if its segments are not as small as that."""
MANY: Final = 10_000
"""Offsets that are being moved of which it takes too long to find the lowest."""
SOON_S: Final = 5.0
"""What is on its way to the disk, or is being rewritten, is looked at again after this long."""
REST_S: Final = 600.0
MOST_REST_S: Final = 3600.0
LITTLE: Final = 0.75
"""A log that still has more than this share of its bytes is left alone for so long, or until it has twice as
many; one that could not be rewritten, too.  For twice as long when it was so the last time."""


class Moment(NamedTuple):
    """What was released of a held log, which offsets were being moved, and the bound of what may go."""

    held: Partition
    indexing: Indexing
    released: Released
    moving: Sequence[Sequence[int]]
    end: int

    @property
    def closed(self) -> Mapping[int, int]:
        """The segments that may be rewritten (base offset: bytes); those that go as a whole are not among
        them."""
        held = self.held
        gone = max(held.log_start_offset, min(self.indexing.floor, self._lowest_moving))
        segments = held.log.segments()
        return {base: segments[base] for base, behind in pairwise(segments) if gone < behind <= self.end}

    @property
    def _lowest_moving(self) -> int:
        if sum(map(len, self.moving)) > MANY:
            return 0  # not worth the time: what goes as a whole is looked at then, too
        return min(map(min, self.moving), default=self.end)

    @property
    def below(self) -> int:
        """The offset behind those segments; 0 if there are none."""
        return max(
            (behind for _, behind in pairwise(self.held.log.segments()) if behind <= self.end), default=0
        )


def moment(flow: FlowPartition, engine: Engine) -> Moment | None:
    """How a lane that is at work lies now; None where that is not known."""
    held, work, place = flow.held, flow.work, flow.place
    lane = None if place is None else engine.lane(place)
    if held is None or work is None or lane is None:
        return None
    plans = lane.plans.values()
    moving = [move.offsets for plan in plans for move in plan.moves if move.source is None and move.offsets]
    # What is not on the disk yet must not be all that says where to go on.
    end = min(flow.last_batch(engine), held.log.recovery_point - 1, held.high_watermark)
    return Moment(held, work.indexing, work.durable, moving, end)


def is_due(closed: int, extent: Extent, segment_bytes: int) -> bool:
    """Whether of ``closed`` bytes more than about half are not needed for what waits.

    A record that waits alone of its batch takes the batch's header with it.
    """
    needed = extent.size + extent.records * HEADER_SIZE
    return closed - needed >= max(needed, min(LEAST_BYTES, segment_bytes // 4))


class Rest(NamedTuple):
    """A log is left alone until a time, or until it has so many bytes; ``length`` is for how long."""

    until: float
    size: float
    length: float


class Settling:
    """Rewrites the held logs of a broker, one at a time."""

    def __init__(self, catalog: Catalog, partitions: Partitions) -> None:
        self._catalog = catalog
        self._partitions = partitions
        self._due: dict[Partition, Moment] = {}
        self._at_work: Partition | None = None
        self._rests: dict[Partition, Rest] = {}
        self._something = trio.Event()
        self._turn = trio.Lock()
        self.runs = 0
        """How often a log was rewritten."""

    def consider(self, moment: Moment, extent: Extent) -> float | None:
        """Have a log rewritten if that is worth while: ``extent`` waits below ``moment.below``, and the log
        of plans was flushed since.  Answers when to ask again (trio's clock), where that is known."""
        if not self._catalog.broker_config.log_cleaner_enable:
            return None
        held, now = moment.held, trio.current_time()
        closed = sum(moment.closed.values())
        due = is_due(closed, extent, held.config.segment_bytes)
        if held.log.recovery_point <= max(held.log.segments()) < held.log_end_offset:
            held.request_flush()  # there are closed segments that may not be on the disk
        elif not due:
            return None
        if due and held is not self._at_work:
            rest = self._rests.get(held)
            if rest is not None and now < rest.until and closed < rest.size:
                return rest.until
            self._due[held] = moment
            self._something.set()
        return now + SOON_S

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._something.wait()
            self._something = trio.Event()
            await self.rewrite_due()

    async def rewrite_due(self) -> None:
        """Rewrite what is due now; that is done when this returns, whoever has begun it."""
        async with self._turn:
            while self._due:
                held = next(iter(self._due))
                self._at_work = held
                try:
                    await self._rewrite(self._due.pop(held))
                finally:
                    self._at_work = None

    async def _rewrite(self, moment: Moment) -> None:
        held, closed, below = moment.held, moment.closed, moment.below
        if held.closed or not closed:
            return
        moving = await trio.to_thread.run_sync(ranges_of, moment.moving)
        config = held.config
        job = SettlingJob(
            directory=str(held.log.directory),
            segments=list(closed),
            next_base=below,
            segment_bytes=config.segment_bytes,
            index_interval_bytes=config.index_interval_bytes,
            last_offsets=last_offsets(held.log.producers),
            needed=Needed(moment.released, moving).encode(),
        )
        before = sum(closed.values())
        length = self._next_rest(held, before)
        until = trio.current_time() + length
        try:
            await self._partitions.upkeep.cleaner.rewrite(held, COMMAND, job.encode())
        except (OSError, KafkaError, CompactionError) as error:
            if held.closed or not closed.keys() <= held.log.segments().keys():
                log.info("a held log is not rewritten, it has changed: partition=%s", held.label)
            else:
                log.error("what is released stays on the disk: partition=%s: %s", held.label, error)
                self._rests[held] = Rest(until, math.inf, length)
            return
        self.runs += 1
        after = sum(moment.closed.values())
        if after > LITTLE * before:
            self._rests[held] = Rest(until, 2 * after, length)

    def _next_rest(self, held: Partition, closed: int) -> float:
        """How long a log will be left alone if nothing is gained now; that it was is forgotten."""
        for gone in [each for each in self._rests if each.closed]:
            del self._rests[gone]
        last = self._rests.pop(held, None)
        if last is None or closed >= last.size:
            return REST_S
        return min(2 * last.length, MOST_REST_S)
