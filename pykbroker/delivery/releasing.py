"""The second half of a flow: what is due is moved to where it goes, each record once.

The lane of a held partition indexes what is appended there, and plans moves of what is due.  Which records
are released is a small value of the lane (:class:`~pykbroker.delivery.released.Released`), in the batch of
the plan that follows from it; the lane's position is how far that reaches.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from pykbroker.delivery import held as form
from pykbroker.delivery.alarm import Alarm
from pykbroker.delivery.destinations import Destinations, somewhere, with_a_key
from pykbroker.delivery.held import HeldError
from pykbroker.delivery.index import Index, IndexClosed, IndexLost, IndexUnavailable
from pykbroker.delivery.indexing import Indexing
from pykbroker.delivery.released import Released
from pykbroker.delivery.schedule import Batch, Schedule
from pykbroker.errors import KafkaError
from pykbroker.forwarding.copying import Source
from pykbroker.forwarding.machine import Lane
from pykbroker.forwarding.plan import LaneValue, Move, Place, Plan, Route
from pykbroker.forwarding.reading import SourceReader
from pykbroker.forwarding.work import Records, Step, Work

if TYPE_CHECKING:
    from pykbroker.clock import Clock
    from pykbroker.delivery.waiting import Stuck
    from pykbroker.partitions.partition import Partition

log = logging.getLogger(__name__)

RELEASED: Final = b"released"
RESTS: Final = b"rests"
"""Names of the lane's small values: what is released, and how everything lay when the lane last stopped."""
STEP_RECORDS: Final = 1000
STEP_BYTES: Final = 1024 * 1024
LOOK_RECORDS: Final = 100
USUAL_BYTES: Final = 16 * 1024
"""Records are read some at a time, or a thousand large ones would be in memory; their size at first."""
AGAIN_S: Final = 1.0
REPEAT_S: Final = 60.0


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
        self.indexing = Indexing(held, index, clock, max_decompressed, label)
        self.alarm = Alarm(clock, self._ring)
        """To be run beside the runner."""
        self._held = held
        self._destinations = destinations
        self._clock = clock
        self._on_released = on_released
        self._reader = SourceReader(held, max_decompressed)
        self._durable = Released.nothing(held.log_start_offset)
        self._schedule: Schedule | None = None
        self._told = self._lost_at = -REPEAT_S
        self._usual_bytes = USUAL_BYTES
        self._resting: bytes | None = None

    # -- where it is

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits to be released."""
        plan = self._schedule
        return plan is not None and plan.is_empty and plan.indexed_end >= self._held.log_end_offset

    @property
    def unindexed(self) -> int:
        """Records that are held, not released and not in the index; 0 where that is not known yet."""
        plan = self._schedule
        if plan is None:
            return 0
        return max(0, self._held.log_end_offset - max(plan.indexed_end, plan.released.end))

    @property
    def is_indexing(self) -> bool:
        """Whether something that is held is not in the index yet."""
        plan = self._schedule
        return plan is None or plan.indexed_end < self._held.log_end_offset

    @property
    def is_lost(self) -> bool:
        """Whether the index is to be looked up, or cannot be."""
        return self._schedule is None

    def begin_position(self) -> int:
        return self._held.log_start_offset

    def leader_epoch(self) -> int:
        return self._held.leader_epoch

    def end_of_decided(self, value: LaneValue) -> int:
        """A power cut may have taken held records; they arrive again, in a later leader epoch."""
        return min(value.position, self.indexing.end_of(value.leader_epoch))

    async def resumed(self, lane: Lane | None, value: LaneValue) -> None:
        """Take up what is released; the index is looked at with the first step."""
        self._schedule = None
        self._resting = None
        known = None if lane is None else lane.extras.get(RELEASED)
        released = Released.nothing(self.begin_position())
        if known is not None:
            try:
                released = Released.decode(known)
            except ValueError as error:
                log.error(
                    "%s: what is released is not known, all that is indexed is again: %s", self.label, error
                )
        elif value.position > released.end:
            log.error("%s: what is released is lost, all that is indexed is again", self.label)
        self._durable = released.cut(value.position)

    # -- stepping

    async def step(self, position: int) -> Step | None:
        """Index what is new; then what is due."""
        try:
            return await self._step()
        except IndexLost:
            self._schedule = None
            now, last = self._clock.monotonic(), self._lost_at
            self._lost_at = now
            self.alarm.set(self._clock.time_ms() + (int(AGAIN_S * 1000) if now - last < AGAIN_S else 0))
        except IndexClosed:
            self._schedule = None
        except IndexUnavailable as error:
            self._schedule = None
            now = self._clock.monotonic()
            if now - self._told >= REPEAT_S:
                self._told = now
                log.error("delays wait, the due-time index cannot be used: from=%s: %s", self.label, error)
            self.alarm.set(self._clock.time_ms() + int(AGAIN_S * 1000))
        return None

    async def _step(self) -> Step | None:
        plan = self._schedule
        if plan is None:
            plan = self._schedule = await self.indexing.begin(self._durable, STEP_RECORDS)
            self._on_released()  # before a restart, maybe
        plan.ended(self.indexing.floor)
        while True:
            more = await self.indexing.more(plan, self._durable)
            batch = await plan.next(self._clock.time_ms())
            if batch is not None:
                return await self._moves(batch)
            if not more:
                break
        self.alarm.set(plan.next_due_ms)
        return self._rest(plan)

    async def _moves(self, batch: Batch) -> Step:
        """The step that releases a batch, or as much of it as is moved at once."""
        batch, found = await self._some(batch)
        offsets: dict[Place, list[int]] = {}
        for row in batch.in_order:
            record = found.get(row.offset)
            if record is None:
                self.indexing.damaged(1, row.offset + 1, "it cannot be read")
                continue
            held = form.decision(record)
            if held.due_ms != row.due_ms:
                await self.indexing.distrust(row)  # or it would be released at another time
            place = self._destinations.find(held, has_key=record.key is not None)
            offsets.setdefault(somewhere(held) if place is None else place, []).append(row.offset)
        after = batch.after
        return Step(
            next_position=after.end,
            routes=[Route(place, tuple(each)) for place, each in offsets.items()],
            extras=[(RELEASED, after.encode())],
            records={None: found},
            data=batch,
        )

    async def _some(self, batch: Batch) -> tuple[Batch, dict[int, Source]]:
        """As much of a batch as is moved at once, with the records; one at least."""
        found: dict[int, Source] = {}
        rows, size, number = batch.rows, 0, 0
        while number < len(rows):
            count = min(LOOK_RECORDS, max(1, (STEP_BYTES - size) // self._usual_bytes))
            looked = rows[number : number + count]
            records = await self._read([row.offset for row in looked])
            read = sum(record.size for record in records.values())
            self._usual_bytes = max(1, read // len(looked))
            for row in looked:
                record = records.get(row.offset)
                if record is not None:
                    size += record.size
                    if size > STEP_BYTES and number:
                        return batch.first(number), found
                    found[row.offset] = record
                number += 1
        return batch, found

    async def planned(self, step: Step, plan: Plan) -> None:
        """The batch is released."""
        assert self._schedule is not None
        if isinstance(step.data, Batch):
            self._schedule.took(step.data)
            self.released += len(step.data.rows)
            self.indexing.waiting = max(0, self.indexing.waiting - len(step.data.rows))
        elif isinstance(step.data, Released):
            self._schedule.released = step.data
        self._durable = self._schedule.released
        self._on_released()

    # -- moving

    async def read(self, source: Place | None, offsets: Sequence[int]) -> Records:
        """Held records, as the codec has them in which they came; what is none is left out."""
        return await self._read(offsets)

    async def _read(self, offsets: Sequence[int]) -> dict[int, Source]:
        found: dict[int, Source] = {}
        for offset, record in (await self._reader.pick(offsets)).items():
            try:
                found[offset] = record._replace(codec=form.decision(record).codec)
            except HeldError as error:
                log.error("%s: a record that is held is none: %s", self.label, error)
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
            if record is None:
                continue
            held = form.decision(record)
            try:
                place = await self._destinations.make(
                    held, but_not=move.target, has_key=record.key is not None
                )
            except KafkaError as error:
                no_key = move.target == with_a_key(held)
                why = str(error) if no_key else f"{error} ({refused[offset]})"
                self._destinations.waits(held, len(refused), why, at=move.target, no_key=no_key)
                return None
            offsets.setdefault(place, []).append(offset)
        return [Route(place, tuple(each)) for place, each in offsets.items()]

    def stuck_at(self, target: bytes) -> Stuck:
        """Why records wait for a target, by its topic id."""
        return self._destinations.stuck_at(target)

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

    def _ring(self) -> None:
        self.wake()

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
            await self.indexing.tidy(plan, released)
        except IndexClosed:
            return
        except (IndexLost, IndexUnavailable) as error:
            log.warning("%s: the due-time index is not tidied: %s", self.label, error)
            self.wake()
