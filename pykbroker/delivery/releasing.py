"""The second half of a flow: what is due is moved to where it goes, each record once.

The lane of a held partition indexes what is appended there, and plans moves of what is due.  Which records
are released is a small value of the lane (:class:`~pykbroker.delivery.schedule.Released`), in the batch of
the plan that follows from it; the lane's position is how far that reaches.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import trio

from pykbroker.delivery import held as form
from pykbroker.delivery.destinations import Destinations, somewhere
from pykbroker.delivery.held import Held, HeldError
from pykbroker.delivery.index import Index, Indexed, IndexLost, IndexUnavailable, LaneView
from pykbroker.delivery.schedule import Batch, Released, Row, Schedule
from pykbroker.errors import KafkaError
from pykbroker.forwarding.copying import Source
from pykbroker.forwarding.machine import Lane
from pykbroker.forwarding.plan import LaneValue, Move, Place, Plan, Route
from pykbroker.forwarding.reading import READ_BYTES, SourceReader, bytes_of
from pykbroker.forwarding.work import Records, Step, Work
from pykbroker.log.errors import CorruptRange
from pykbroker.records.batch import BatchError, crc_ok, iter_headers
from pykbroker.records.decode import payload_of

if TYPE_CHECKING:
    from pykbroker.clock import Clock
    from pykbroker.partitions.partition import Partition

log = logging.getLogger(__name__)

RELEASED: Final = b"released"
RESTS: Final = b"rests"
"""Names of the lane's small values: what is released, and how everything lay when the lane last stopped."""
STEP_RECORDS: Final = 1000
STEP_BYTES: Final = 1024 * 1024
SLICE_S: Final = 0.001
AGAIN_S: Final = 1.0
RECHECK_S: Final = 5.0
"""While a due time is waited for, the clock is looked at again after this long: it may have been set."""
REPEAT_S: Final = 60.0
MANY: Final = 100_000
"""Offsets to be indexed beyond which the log says how it goes."""
PROGRESS_S: Final = 5.0
FLOOR_S: Final = 20.0
"""The lowest offset that waits, for which all of a lane is looked through, is looked for no more often."""


class ReleaseWork(Work):
    """See the module; a :class:`~pykbroker.forwarding.work.Work`."""

    same_suffix = True

    def __init__(
        self,
        held: Partition,
        destinations: Destinations,
        index: Index,
        clock: Clock,
        max_decompressed: int,
        *,
        label: str,
        on_released: Callable[[], None] = lambda: None,
    ) -> None:
        self.label = label
        self.released = 0
        """Records moved on, or planned to be."""
        self.lost = 0
        """Offsets passed over because they are damaged."""
        self.floor = 0
        """No record below this offset waits to be released, durably."""
        self._held = held
        self._lane = Place(held.topic_id, held.index)
        self._destinations = destinations
        self._index = index
        self._clock = clock
        self._max_decompressed = max_decompressed
        self._on_released = on_released
        self._reader = SourceReader(held, max_decompressed)
        self._durable = Released.nothing(held.log_start_offset)
        self._schedule: Schedule | None = None
        self._alarm_ms: int | None = None
        self._alarm_moved = trio.Event()
        self._told = -REPEAT_S
        self._resting: bytes | None = None
        self._progress_at = 0.0
        self._look_at = 0.0
        self.waiting_records = 0
        """Records that are indexed and not released; about that number after the clock was set back."""

    # -- where it is

    @property
    def next_due_ms(self) -> int | None:
        """When the next record is due, if that is known."""
        return self._alarm_ms

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits to be released."""
        plan = self._schedule
        return plan is not None and plan.is_empty and plan.indexed_end >= self._held.log_end_offset

    def begin_position(self) -> int:
        return self._held.log_start_offset

    def leader_epoch(self) -> int:
        return self._held.leader_epoch

    def end_of_decided(self, value: LaneValue) -> int:
        """A power cut may have taken held records; they arrive again, in a later leader epoch."""
        return min(value.position, self._end_of(value.leader_epoch))

    def _end_of(self, epoch: int) -> int:
        """Where the records end that the held log had in a leader epoch and has still."""
        held = self._held
        if epoch == held.leader_epoch:
            return held.log_end_offset
        _, end = held.end_offset_for_epoch(epoch)
        return held.log_end_offset if end < 0 else end

    async def resumed(self, lane: Lane | None, value: LaneValue) -> None:
        """Take up what is released; the index is looked at with the first step."""
        self._schedule = None
        self._resting = None
        known = None if lane is None else lane.extras.get(RELEASED)
        released = Released.nothing(value.position)
        if known is not None:
            try:
                released = Released.decode(known)
            except ValueError as error:
                log.error("%s: what is released is not known, all is again: %s", self.label, error)
        self._durable = released.cut(value.position)

    # -- stepping

    async def step(self, position: int) -> Step | None:
        """Index what is new; then what is due."""
        try:
            return await self._step()
        except IndexLost:
            self._schedule = None
            self._ring_at(self._clock.time_ms())
        except IndexUnavailable as error:
            self._schedule = None
            now = self._clock.monotonic()
            if now - self._told >= REPEAT_S:
                self._told = now
                log.error("delays wait, the due-time index cannot be used: from=%s: %s", self.label, error)
            self._ring_at(self._clock.time_ms() + int(AGAIN_S * 1000))
        return None

    async def _step(self) -> Step | None:
        plan = self._schedule
        if plan is None:
            plan = self._schedule = await self._begun()
        plan.ended(self.floor)
        while True:
            more = await self._index_some(plan)
            batch = await plan.next(self._clock.time_ms())
            if batch is not None:
                return await self._moves(batch)
            if not more:
                break
            self._report_progress(plan)
        self._ring_at(plan.next_due_ms)
        return self._rest(plan)

    async def _begun(self) -> Schedule:
        """Look up what is indexed."""
        held = self._held
        indexed = await self._index.indexed(self._lane)
        if indexed is None:
            indexed = Indexed(held.log_start_offset, held.leader_epoch)
        else:
            end = self._end_of(indexed.leader_epoch)
            if end < indexed.end:
                indexed = Indexed(end, held.leader_epoch)
                await self._index.cut(self._lane, indexed)
        begin = max(indexed.end, held.log_start_offset)
        if held.high_watermark - begin > MANY:
            log.info("due times are indexed: from=%s records=%d", self.label, held.high_watermark - begin)
            self._progress_at = self._clock.monotonic() + PROGRESS_S
        self.waiting_records = await self._index.count(self._lane, self._durable.eras[-1].horizon)
        return Schedule(LaneView(self._index, self._lane), self._durable, begin, limit=STEP_RECORDS)

    def _report_progress(self, plan: Schedule) -> None:
        if self._progress_at and self._clock.monotonic() >= self._progress_at:
            left = self._held.high_watermark - plan.indexed_end
            log.info("due times are indexed: from=%s left=%d", self.label, left)
            self._progress_at = self._clock.monotonic() + PROGRESS_S

    async def _index_some(self, plan: Schedule) -> bool:
        """Index the next records; whether there are more."""
        held, at = self._held, plan.indexed_end
        end = held.high_watermark
        if at >= end:
            return False
        try:
            found = held.log.read(at, READ_BYTES, end)
        except CorruptRange as damage:
            behind = max(damage.hole.next_offset, at + 1)
            self._damaged(behind - at, behind, damage.hole.reason)
            await self._indexed(plan, [], behind)
            return behind < end
        if not found.size:
            await self._indexed(plan, [], end)
            return False
        data, released = bytes_of(found.records), self._durable
        rows: list[Row] = []
        started = time.perf_counter()
        for position, header in iter_headers(data):
            try:
                if not crc_ok(data, position):
                    raise BatchError("the CRC does not match")
                for key in form.keys(header, bytes(payload_of(data, position, self._max_decompressed))):
                    row = Row(*key)
                    if row.offset >= at and not released.covers(row):
                        rows.append(row)
            except BatchError as error:
                self._damaged(header.record_count, header.next_offset, str(error))
            if time.perf_counter() - started > SLICE_S:
                await trio.lowlevel.checkpoint()
                started = time.perf_counter()
        await self._indexed(plan, rows, found.next_offset)
        return found.next_offset < end

    async def _indexed(self, plan: Schedule, rows: Sequence[Row], end: int) -> None:
        if rows or end - plan.indexed_end:
            await self._index.add(self._lane, rows, Indexed(end, self._held.leader_epoch))
        plan.indexed(rows, end)
        self.waiting_records += len(rows)

    def _damaged(self, records: int, next_offset: int, reason: str) -> None:
        self.lost += records
        log.error(
            "held records are lost to damage: partition=%s records=%d next=%d reason=%s",
            self._held.label, records, next_offset, reason,
        )  # fmt: skip

    async def _moves(self, batch: Batch) -> Step:
        """The step that releases a batch, or as much of it as is moved at once."""
        found = await self.read(None, [row.offset for row in batch.rows])
        size = 0
        for number, row in enumerate(batch.rows):
            record = found.get(row.offset)
            if record is None:
                continue
            size += record.size
            if size > STEP_BYTES and number:
                batch = batch.first(number)
                break
        offsets: dict[Place, list[int]] = {}
        for row in batch.in_order:
            record = found.get(row.offset)
            if record is None:
                self._damaged(1, row.offset + 1, "it cannot be read")
                continue
            held = self._decision(record)
            if held is not None:
                place = self._destinations.find(held)
                offsets.setdefault(somewhere(held) if place is None else place, []).append(row.offset)
        after = batch.after
        return Step(
            next_position=after.end,
            routes=[Route(place, tuple(each)) for place, each in offsets.items()],
            extras=[(RELEASED, after.encode())],
            records={None: found},
            data=batch,
        )

    def _decision(self, record: Source) -> Held | None:
        try:
            return form.decision(record)
        except HeldError as error:
            self._damaged(1, record.offset + 1, str(error))
            return None

    async def planned(self, step: Step, plan: Plan) -> None:
        """The batch is released."""
        assert self._schedule is not None
        if isinstance(step.data, Batch):
            self._schedule.took(step.data)
            self.released += len(step.data.rows)
            self.waiting_records = max(0, self.waiting_records - len(step.data.rows))
        elif isinstance(step.data, Released):
            self._schedule.released = step.data
        self._durable = self._schedule.released
        self._on_released()

    # -- moving

    async def read(self, source: Place | None, offsets: Sequence[int]) -> Records:
        """Held records, as the codec has them in which they came."""
        found = await self._reader.pick(offsets)
        for offset, record in found.items():
            decided = self._decision(record)
            if decided is not None and decided.codec != record.codec:
                found[offset] = record._replace(codec=decided.codec)
        return found

    def suffix(self, move: Move, index: int, record: Source) -> bytes:
        return form.delivered(record)

    async def refused(
        self, move: Move, refused: Mapping[int, str], records: Records
    ) -> Sequence[Route] | None:
        """Nothing is dropped: the topic is looked up again, made again, or waited for."""
        offsets: dict[Place, list[int]] = {}
        for offset in (each for each in move.offsets if each in refused):
            record = records.get(offset)
            held = None if record is None else self._decision(record)
            if held is None:
                continue
            try:
                place = await self._destinations.make(held, but_not=move.target)
            except KafkaError as error:
                self._destinations.waits(held, len(refused), f"{error} ({refused[offset]})")
                return None
            offsets.setdefault(place, []).append(offset)
        return [Route(place, tuple(each)) for place, each in offsets.items()]

    # -- resting

    def rest(self, mark: bytes | None) -> None:
        """Have ``mark`` written down with what is released, if nothing waits; None: rather not."""
        self._resting = mark
        self.wake()

    def _rest(self, plan: Schedule) -> Step | None:
        mark, self._resting = self._resting, None
        if mark is None or not self.is_idle:
            return None
        released = plan.released._replace(end=plan.indexed_end)
        return Step(
            next_position=released.end,
            extras=[(RELEASED, released.encode()), (RESTS, mark)],
            data=released,
        )

    # -- the alarm

    def _ring_at(self, due_ms: int | None) -> None:
        if due_ms != self._alarm_ms:
            self._alarm_ms = due_ms
            self._alarm_moved.set()

    async def alarm(self) -> None:
        """Wake the lane when the next record is due; runs beside it."""
        while True:
            self._alarm_moved = moved = trio.Event()
            due_ms = self._alarm_ms
            if due_ms is None:
                await moved.wait()
                continue
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._until, due_ms, nursery.cancel_scope)
                with trio.move_on_after(RECHECK_S):
                    await moved.wait()
                nursery.cancel_scope.cancel()
            if not moved.is_set() and self._clock.time_ms() >= due_ms:
                self._alarm_ms = None
                self.wake()

    async def _until(self, due_ms: int, scope: trio.CancelScope) -> None:
        await self._clock.wait_until_ms(due_ms)
        scope.cancel()

    # -- what is not needed any more

    @property
    def durable(self) -> Released:
        """What is released; the log of plans has it, which may not be on the disk yet."""
        return self._durable

    async def tidy(self, released: Released) -> None:
        """Remove from the index what is released, and that is on the disk; look what is needed still."""
        plan = self._schedule
        if plan is None or not plan.is_complete:
            return
        try:
            end = plan.indexed_end
            await self._index.purge(self._lane, released)
            now = self._clock.monotonic()
            if now >= self._look_at and (len(self._held.log.segments()) > 1 or len(released.eras) > 1):
                self._look_at = now + FLOOR_S
                floor = await self._index.floor(self._lane)
                self.floor = end if floor is None else min(floor, end)
        except (IndexLost, IndexUnavailable) as error:
            log.warning("%s: the due-time index is not tidied: %s", self.label, error)
            self.wake()
