"""Planned moves become batches in their targets, each record once.

The target's last sequence for the lane's producer id says how many records of a move are there already:
records of one move have consecutive sequences, and moves to one target are executed in the order of their
sequences, so that what is there is always a beginning.  How a move is cut into batches does not matter.

What if the target has forgotten the producer?  It does not while a plan is open
(:meth:`~pykbroker.forwarding.service.Forwarding.is_needed` is asked before producers expire), compaction
keeps the last batch of each producer, and retention keeps its state.  Where it is lost all the same (a
snapshot that a power cut took), the target's log is looked through from where it ended when the move was
planned: every copy that is there lies behind that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import trio

from pykbroker.forwarding.copying import Building, Source
from pykbroker.forwarding.moves import HALF
from pykbroker.forwarding.plan import LaneValue, Move
from pykbroker.forwarding.targets import Rules, TargetPort
from pykbroker.records.batch import HEADER_SIZE, MAX_SEQUENCE, add_sequence
from pykbroker.records.compression import Codec

SLICE_S = 0.001
LOOK = 32
"""Records between two looks at the clock."""
LARGE = 16 * 1024
"""Bytes beyond which compressing is worth a thread."""


def already_there(last_sequence: int, move: Move) -> int:
    """How many of the move's first records have been appended, by the target's last sequence."""
    if last_sequence < 0:
        return 0
    ahead = (last_sequence + 1 - move.base_sequence) & MAX_SEQUENCE
    return min(ahead, len(move.offsets)) if ahead < HALF else 0


Suffix = Callable[[Move, int, Source], bytes]
"""Key, value and headers of the copy of a record, number so much of a move, as they lie in a batch."""


class Executor:
    """Appends the moves of one lane."""

    def __init__(self, port: TargetPort, suffix: Suffix, lane: LaneValue, time_ms: Callable[[], int]) -> None:
        self._port = port
        self._suffix = suffix
        self._lane = lane
        self._time_ms = time_ms
        self.copies = 0
        """Records appended so far."""

    @property
    def producer_id(self) -> int:
        """The producer id of the lane."""
        return self._lane.producer_id

    def already_there(self, move: Move) -> int:
        """How many of the move's first records are in the target.  Raises as :class:`TargetPort`."""
        return already_there(self._port.last_sequence(move.target, self._lane.producer_id, move.since), move)

    async def append(
        self, move: Move, records: Mapping[int, Source], suffixes: dict[int, bytes] | None = None
    ) -> int:
        """Append what is not there yet; the offset that the target's high watermark must then reach.

        ``records`` by offset; one that is missing was lost to damage, and left out.  ``suffixes``, by
        offset, are kept from one call to the next where a plan has the same records in several moves and
        copies of a record are the same.  Raises as :class:`TargetPort`; what was appended before that
        stays, and is not appended again.
        """
        port, target, suffix_of = self._port, move.target, self._suffix
        rules = port.rules(target)
        first = self.already_there(move)
        reached = port.end(target)
        building: Building | None = None
        base = first  # of the batch that is being built
        started = time.perf_counter()
        for index in range(first, len(move.offsets)):
            offset = move.offsets[index]
            record = records.get(offset)
            if record is None:
                if building is not None:
                    reached = await self._finish(move, base, building, rules)
                    building = None
                continue
            suffix = None if suffixes is None else suffixes.get(offset)
            if suffix is None:
                suffix = suffix_of(move, index, record)
                if suffixes is not None:
                    suffixes[offset] = suffix
            if building is not None and not building.fits(record.timestamp, suffix, rules.max_bytes):
                reached = await self._finish(move, base, building, rules)
                building = None
            if building is None:
                building, base = Building(record.codec if rules.codec is None else rules.codec), index
            building.add(record.timestamp, suffix)
            if not index % LOOK and time.perf_counter() - started > SLICE_S:
                await trio.lowlevel.checkpoint()
                started = time.perf_counter()
        if building is not None:
            reached = await self._finish(move, base, building, rules)
        return reached

    async def _finish(self, move: Move, base: int, building: Building, rules: Rules) -> int:
        batch = await self._built(move, base, building, rules)
        reached = self._port.append(move.target, batch, now_ms=self._time_ms())
        self.copies += building.count
        return reached

    async def _built(self, move: Move, base: int, building: Building, rules: Rules) -> bytearray:
        """The finished batch of the records from number ``base`` of the move on."""

        def finish() -> bytearray:
            return building.finish(
                producer_id=self._lane.producer_id,
                epoch=self._lane.epoch,
                base_sequence=add_sequence(move.base_sequence, base),
                append_time_ms=self._time_ms() if rules.stamps else None,
                level=rules.level,
            )

        if building.codec != Codec.NONE and building.size > HEADER_SIZE + LARGE:
            return await trio.to_thread.run_sync(finish)
        return finish()

    async def preview(self, move: Move, records: Mapping[int, Source]) -> bytearray:
        """One batch of all records of a move, all of which must be in ``records``: what validators see."""
        building = Building(Codec.NONE)
        for index, offset in enumerate(move.offsets):
            record = records[offset]
            building.add(record.timestamp, self._suffix(move, index, record))
        return await self._built(move, 0, building, self._port.rules(move.target))
