"""Keeps the due-time index of one held partition up with its log."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import trio

from pykbroker.delivery import held as form
from pykbroker.delivery.index import Extent, Index, Indexed, IndexLost, LaneView
from pykbroker.delivery.released import Released, Row
from pykbroker.delivery.schedule import Schedule
from pykbroker.forwarding.plan import Place
from pykbroker.forwarding.reading import READ_BYTES, batches_in, bytes_of
from pykbroker.log.errors import CorruptRange
from pykbroker.records.batch import BatchError, crc_ok
from pykbroker.records.decode import payload_of

if TYPE_CHECKING:
    from pykbroker.clock import Clock
    from pykbroker.partitions.partition import Partition

log = logging.getLogger(__name__)

SLICE_S: Final = 0.001
MANY: Final = 100_000
"""Offsets to be indexed beyond which the log says how it goes."""
PROGRESS_S: Final = 5.0
FLOOR_S: Final = 20.0
"""The lowest offset that waits, for which all of a lane is looked through, is looked for no more often."""


class Indexing:
    """All that is asynchronous raises IndexLost and IndexUnavailable, see
    :mod:`~pykbroker.delivery.index`; then :meth:`begin` again."""

    def __init__(
        self, held: Partition, index: Index, clock: Clock, max_decompressed: int, label: str
    ) -> None:
        self.waiting = 0
        """Records that are indexed and not released."""
        self.lost = 0
        """Offsets passed over because they are damaged."""
        self.floor = 0
        """No record below this offset waits to be released, durably."""
        self.extent: Extent | None = None
        """What waited when :meth:`tidy` last looked; None: it did not look."""
        self.look_again_in: float | None = None
        """After how many seconds :meth:`tidy` would look, which was too early; None: it was not."""
        self._held = held
        self._index = index
        self._lane = Place(held.topic_id, held.index)
        self._clock = clock
        self._max_decompressed = max_decompressed
        self._label = label
        self._progress_at = 0.0
        self._looked = -FLOOR_S
        self._begun = self._flushed = self._below = 0

    def end_of(self, epoch: int) -> int:
        """Where the records end that the held log had in a leader epoch and has still."""
        held = self._held
        if epoch == held.leader_epoch:
            return held.log_end_offset
        _, end = held.end_offset_for_epoch(epoch)
        return held.log_end_offset if end < 0 else end

    async def begin(self, released: Released, limit: int) -> Schedule:
        """Look up what is indexed."""
        self._begun += 1
        held = self._held
        indexed = await self._index.indexed(self._lane)
        if indexed is None:
            indexed = Indexed(held.log_start_offset, held.leader_epoch)
        else:
            end = self.end_of(indexed.leader_epoch)
            if end < indexed.end:
                indexed = Indexed(end, held.leader_epoch)
                await self._index.cut(self._lane, indexed)
        begin = max(indexed.end, held.log_start_offset)
        if held.high_watermark - begin > MANY:
            log.info("due times are indexed: from=%s records=%d", self._label, held.high_watermark - begin)
            self._progress_at = self._clock.monotonic() + PROGRESS_S
        self.waiting = await self._index.waiting(self._lane, released)
        return Schedule(LaneView(self._index, self._lane), released, begin, limit=limit)

    async def more(self, plan: Schedule, released: Released) -> bool:
        """Index the next records; whether there are more."""
        held, at = self._held, plan.indexed_end
        end = held.high_watermark
        if at >= end:
            return False
        self._report_progress(end - at)
        try:
            found = held.log.read(at, READ_BYTES, end)
        except CorruptRange as damage:
            behind = max(damage.hole.next_offset, at + 1)
            self.damaged(behind - at, behind, damage.hole.reason)
            await self._add(plan, [], [], behind)
            return behind < end
        if not found.size:
            await self._add(plan, [], [], end)
            return False
        rows, sizes = await self._rows(bytes_of(found.records), at, released)
        await self._add(plan, rows, sizes, found.next_offset)
        return found.next_offset < end

    async def _rows(self, data: bytes, at: int, released: Released) -> tuple[list[Row], list[int]]:
        """What waits of the records in ``data``, with their bytes."""
        rows: list[Row] = []
        sizes: list[int] = []
        started = time.perf_counter()
        for position, header in batches_in(data, self._held):
            try:
                if not crc_ok(data, position):
                    raise BatchError("the CRC does not match")
                payload = bytes(payload_of(data, position, self._max_decompressed))
                for due_ms, offset, size, goes_somewhere in form.entries(header, payload):
                    row = Row(due_ms, offset)
                    if goes_somewhere and offset >= at and not released.covers(row):
                        rows.append(row)
                        sizes.append(size)
            except BatchError as error:
                self.damaged(header.record_count, header.next_offset, str(error))
            if time.perf_counter() - started > SLICE_S:
                await trio.lowlevel.checkpoint()
                started = time.perf_counter()
        return rows, sizes

    async def _add(self, plan: Schedule, rows: Sequence[Row], sizes: Sequence[int], end: int) -> None:
        await self._index.add(self._lane, rows, Indexed(end, self._held.leader_epoch), sizes)
        plan.indexed(rows, end)
        self.waiting += len(rows)

    def _report_progress(self, left: int) -> None:
        if self._progress_at and self._clock.monotonic() >= self._progress_at:
            log.info("due times are indexed: from=%s left=%d", self._label, left)
            self._progress_at = self._clock.monotonic() + PROGRESS_S

    async def distrust(self, row: Row) -> None:
        """The index says something else of a record than the record does: all of the lane is indexed again.
        Always raises :class:`IndexLost`."""
        why = f"offset {row.offset} is not due at {row.due_ms}"
        log.error("the due-time index is wrong and made anew: from=%s: %s", self._label, why)
        held = self._held
        await self._index.cut(self._lane, Indexed(held.log_start_offset, held.leader_epoch))
        raise IndexLost(why)

    def damaged(self, records: int, next_offset: int, reason: str) -> None:
        """Count, and say, what is lost."""
        self.lost += records
        log.error(
            "held records are lost to damage: partition=%s records=%d next=%d reason=%s",
            self._held.label, records, next_offset, reason,
        )  # fmt: skip

    def before_flush(self, below: int) -> None:
        """The log of plans is about to be flushed; :meth:`tidy` will look how much waits below ``below``."""
        self._flushed = self._begun
        self._below = below
        self.extent, self.look_again_in = None, FLOOR_S

    async def tidy(self, plan: Schedule, released: Released) -> None:
        """Remove what is released, and that is on the disk; look for what is needed still."""
        end, flushed = plan.indexed_end, self._flushed
        await self._index.purge(self._lane, released)
        now = self._clock.monotonic()
        self.look_again_in = None
        if len(self._held.log.segments()) == 1 and len(released.eras) == 1:
            return
        if now < self._looked + FLOOR_S:
            self.look_again_in = self._looked + FLOOR_S - now
            return
        self._looked = now
        extent = await self._index.extent(self._lane, self._below)
        if flushed != self._begun:
            return  # the index was lost meanwhile, and is not full again, or not as it was at the flush
        self.extent = extent
        self.floor = end if extent.floor is None else min(extent.floor, end)
