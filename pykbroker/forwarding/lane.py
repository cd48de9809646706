"""The work of a lane in front of a *face*: an exchange, or a topic with a partitioner.

Records of the ingress log are taken in order, below the last stable offset; where each of them goes is
decided once, by bindings and partitioners.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import trio

from pykbroker.events import RecordUnroutable
from pykbroker.forwarding.accounting import Account
from pykbroker.forwarding.copying import Copier, Source, provenance
from pykbroker.forwarding.deciding import Decided, Deciding, Find, Steps, Table
from pykbroker.forwarding.machine import Lane, Name
from pykbroker.forwarding.plan import LaneValue, Move, Place, Plan, Route
from pykbroker.forwarding.reading import Reader
from pykbroker.forwarding.runner import Around
from pykbroker.forwarding.work import Records, Step, Work

if TYPE_CHECKING:
    from pykbroker.partitions.partition import Partition

PLAN_RECORDS = 1000
PLAN_BYTES = 1024 * 1024
"""What one plan takes at most (a single larger record comes all the same): some milliseconds of work."""
SLICE_S = 0.001


class RoutesPort(Protocol):
    """What is asked of :class:`~pykbroker.routing.Routes`."""

    def at(self, topic_id: bytes, partition: int, offset: int) -> tuple[Table, int | None]: ...


@dataclass(slots=True, kw_only=True)
class Surroundings(Around):
    """What the lanes of exchanges and partitioners share beside that."""

    routes: RoutesPort
    find: Find
    on_unroutable: Callable[[RecordUnroutable], None] | None = None


class FaceWork(Work):
    """``face`` is the exchange, or the topic whose hidden ingress log ``source`` is."""

    same_suffix = True

    def __init__(self, ingress: Place, face: str, source: Partition, around: Surroundings) -> None:
        self.label = f"{face}-{ingress.partition}"
        self._ingress = ingress
        self._is_exchange = source.topic == face
        self._source = source
        self._around = around
        self._deciding = Deciding(face, ingress.partition, around.find)
        self._copier = Copier(provenance(face, ingress.partition) if self._is_exchange else None)
        self._account = Account(
            face, ingress.partition, around.counters, around.clock.monotonic, around.on_unroutable
        )
        keep = not self._is_exchange
        self._reader = Reader(source, around.max_decompressed, keep_provenance=keep)
        self._again = Reader(source, around.max_decompressed, keep_provenance=keep)
        self._reading_again = trio.Lock()
        self._amending: dict[Name, Decided] = {}

    def begin_position(self) -> int:
        return self._source.log_start_offset

    def leader_epoch(self) -> int:
        return self._source.leader_epoch

    def end_of_decided(self, value: LaneValue) -> int:
        """A power cut may have taken records, and others may have come in their place since, in a later
        leader epoch."""
        source = self._source
        if value.leader_epoch == source.leader_epoch:
            return source.log_end_offset
        _, end = source.end_offset_for_epoch(value.leader_epoch)
        return min(source.log_end_offset, value.position) if end < 0 else end

    async def resumed(self, lane: Lane | None, value: LaneValue) -> None:
        self._amending.clear()

    async def step(self, position: int) -> Step | None:
        source, end = self._source, self._source.last_stable_offset
        if position >= end:
            return None
        table: Table | None = None
        if self._is_exchange:
            table, until = self._around.routes.at(*self._ingress, position)
            if until is not None:
                end = min(end, until)
        chunk = await self._reader.take(position, end, max_records=PLAN_RECORDS, max_bytes=PLAN_BYTES)
        if chunk.next_offset <= position:
            return None
        decided = Decided()
        now_ms = self._around.clock.time_ms()
        if table is None:
            await _drive(self._deciding.partitioned(chunk.records, now_ms, decided))
        else:
            dead_letter = source.config.pykbroker_dead_letter_topic
            await _drive(self._deciding.exchange(chunk.records, table, dead_letter, now_ms, decided))
        return Step(
            next_position=chunk.next_offset,
            routes=_routes(decided),
            records={None: {record.offset: record for record in chunk.records}},
            data=(len(chunk.records), decided),
        )

    async def planned(self, step: Step, plan: Plan) -> None:
        assert isinstance(step.data, tuple)
        self._account.decided(*step.data)

    async def read(self, source: Place | None, offsets: Sequence[int]) -> Records:
        async with self._reading_again:
            found = await self._again.pick(sorted(offsets))
        return {record.offset: record for record in found}

    def suffix(self, move: Move, index: int, record: Source) -> bytes:
        return self._copier.suffix(record)

    def validators(self, target: Place) -> bool:
        """Copies of an exchange are new to their targets.  What has come to a topic with a partitioner was
        let in by its validators, or is a dead letter, which they are not asked about."""
        return self._is_exchange

    async def refused(self, move: Move, refused: Mapping[int, str], records: Records) -> Sequence[Route]:
        """To the dead-letter topic of the exchange, or nowhere."""
        decided = self._amending[move.name] = Decided()
        topic, now_ms = self._around.name_of(move.target.topic_id), self._around.clock.time_ms()
        dead_letter = self._source.config.pykbroker_dead_letter_topic if self._is_exchange else ""
        for offset, reason in sorted(refused.items()):
            if (record := records.get(offset)) is not None:
                self._deciding.refuse(record, topic, reason, dead_letter, now_ms, decided)
        return _routes(decided)

    async def amended(self, move: Move, refused: Mapping[int, str], instead: Sequence[Route]) -> None:
        self._account.refused(self._amending.pop(move.name))


def _routes(decided: Decided) -> list[Route]:
    return [Route(place, tuple(offsets)) for place, offsets in decided.offsets.items()]


async def _drive(steps: Steps) -> None:
    """Run the steps, letting others have their turn after a millisecond."""
    started = time.perf_counter()
    for _ in steps:
        if time.perf_counter() - started > SLICE_S:
            await trio.lowlevel.checkpoint()
            started = time.perf_counter()
