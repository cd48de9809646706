"""One partition of a flow at work: its two lanes, from the first record until nothing is in it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

import trio

from pykbroker.delivery.arriving import ArrivingLane
from pykbroker.delivery.releasing import RESTS, ReleaseWork
from pykbroker.forwarding.plan import Place

if TYPE_CHECKING:
    from pykbroker.forwarding.engine import Engine
    from pykbroker.partitions.partition import Partition

_MARK: Final = struct.Struct(">qiqiq")


class FlowPartition:
    """The logs of one partition of a flow, at work or not.  ``delayed`` is None where records are held
    without having arrived: letters that are replayed."""

    def __init__(self, flow: str, index: int) -> None:
        self.flow = flow
        self.index = index
        self.delayed: Partition | None = None
        self.held: Partition | None = None
        self.arriving: ArrivingLane | None = None
        self.work: ReleaseWork | None = None
        self.scope: trio.CancelScope | None = None
        """That of its tasks, while there are any."""
        self._noted: tuple[int, int] | None = None
        """The end of the held log at some time, and how far the log before it was held then."""
        self._durable = 0
        """The same position, of what the disk has of the held log."""

    @property
    def place(self) -> Place | None:
        """The lane of the held log."""
        return None if self.held is None else Place(self.held.topic_id, self.held.index)

    def wake(self) -> bool:
        """There may be something to do; False: there is nobody to do it."""
        if self.arriving is not None:
            self.arriving.wake()
        if self.work is not None:
            self.work.wake()
        return self.scope is not None

    async def run(self, engine: Engine, arriving: ArrivingLane | None, work: ReleaseWork) -> None:
        """Work until cancelled.  Raises :class:`KafkaError` where that cannot begin."""
        place = self.place
        assert place is not None
        self.arriving, self.work = arriving, work
        try:
            await engine.start(place, work)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(work.alarm.run)
                if arriving is not None:
                    nursery.start_soon(arriving.run)
        finally:
            self.arriving = self.work = None
            engine.stop(place)

    # -- resting

    def is_idle(self, engine: Engine) -> bool:
        """Whether nothing is in it, as far as its tasks know."""
        work, arriving, place = self.work, self.arriving, self.place
        if work is None or place is None or not work.is_idle or (arriving and not arriving.is_idle):
            return False
        lane, runner = engine.lane(place), engine.runner(place)
        return lane is not None and runner is not None and not (lane.plans or runner.open_plans)

    def mark(self, last_batch: int) -> bytes:
        """How everything lies now."""
        delayed, held = self.delayed, self.held
        return _MARK.pack(
            0 if delayed is None else delayed.log_end_offset,
            0 if delayed is None else delayed.leader_epoch,
            0 if held is None else held.log_end_offset,
            0 if held is None else held.leader_epoch,
            last_batch,
        )

    def last_batch(self, engine: Engine) -> int:
        """The base offset of the held log's last batch; 0 if that is not known."""
        if self.arriving is not None:
            return self.arriving.last_batch
        if self.held is not None and self.delayed is None and self.work is not None:
            return self.held.log_end_offset
        mark = self._rested(engine)
        return 0 if mark is None or len(mark) != _MARK.size else int(_MARK.unpack(mark)[-1])

    def _rested(self, engine: Engine) -> bytes | None:
        return None if self.place is None else engine.extras(self.place).get(RESTS)

    def is_at_rest(self, engine: Engine) -> bool:
        """Whether it is known that nothing is in it: everything lies as when it stopped."""
        if self.held is None:
            return self.delayed is None or self.delayed.log_end_offset == self.delayed.log_start_offset == 0
        mark = self._rested(engine)
        if mark is None:
            empty = self.held.log_end_offset == 0
            return empty and (self.delayed is None or self.delayed.log_end_offset == 0)
        return mark == self.mark(self.last_batch(engine))

    def is_empty(self, engine: Engine) -> bool:
        """Whether nobody works on it, because nothing is in it."""
        if self.scope is not None or (self.place is not None and not engine.is_loaded(self.place)):
            return False
        return self.is_at_rest(engine)

    # -- what of the logs is needed

    def held_needed_from(self, engine: Engine) -> int:
        """The offset of the held log from which on records are needed."""
        place, work = self.place, self.work
        if place is None or (work is None and not self.is_at_rest(engine)):
            return 0
        needed = self.last_batch(engine)
        if work is not None:
            needed = min(needed, work.indexing.floor)
            lane = engine.lane(place)
            for plan in () if lane is None else tuple(lane.plans.values()):
                for move in plan.moves:
                    if move.source is None:
                        needed = min(needed, *move.offsets)
        return needed

    def delayed_needed_from(self, engine: Engine) -> int:
        """The same for the log before it.  Until the held log is on the disk, a power cut could take from
        it what is not there any more in this one."""
        held, arriving = self.held, self.arriving
        if held is None or self.delayed is None:
            return 0
        if arriving is not None:
            position = arriving.position
        else:
            position = self.delayed.log_end_offset if self.is_at_rest(engine) else 0
        durable, end = held.log.recovery_point, held.log_end_offset
        if durable >= end:
            return position
        # Asked again, it answers the same: what was noted when the disk had less is what is known.
        if self._noted is not None and durable >= self._noted[0]:
            self._durable = max(self._durable, self._noted[1])
            self._noted = None
        if self._noted is None:
            self._noted = end, position
            held.request_flush()
        return self._durable
