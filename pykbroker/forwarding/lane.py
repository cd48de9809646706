"""One ingress partition: reading, deciding, planning, executing, one after the other and for ever.

Moves are appended at once where that is possible.  A move that is not possible now waits in an outbox of
its target, and so do all later ones to that target, while the lane goes on: an unavailable target delays
only its own moves.  A plan is done when the high watermarks of all its targets have passed it; that is
noted with the next plan, or when there is nothing else to do.

Sequences are given out when something is planned, and a target takes them in their order only: what comes
late would count as there already.  So whoever plans keeps the *turn* until the moves are appended or stand
in their outboxes.

Whatever fails in the log of plans ends in a new beginning: the lane looks up what is planned, as after a
start, and goes on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import trio

from pykbroker.coordinator.machine import Decision
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.events import RecordUnroutable
from pykbroker.forwarding.accounting import Account, Counters
from pykbroker.forwarding.copying import Copier, Source, provenance
from pykbroker.forwarding.deciding import Decided, Deciding, Find, Steps, Table
from pykbroker.forwarding.executing import Executor
from pykbroker.forwarding.machine import Answer, ForwardMachine, Lane, Name
from pykbroker.forwarding.outboxes import RETRY_S, Outboxes
from pykbroker.forwarding.plan import LaneValue, Move, Place, Plan, Route
from pykbroker.forwarding.reading import Chunk, Reader
from pykbroker.forwarding.refusing import GONE, is_gone, refusals
from pykbroker.forwarding.shards import ForwardShard
from pykbroker.forwarding.targets import TargetPort

if TYPE_CHECKING:
    from pykbroker.clock import Clock
    from pykbroker.partitions.partition import Partition

log = logging.getLogger(__name__)

PLAN_RECORDS = 1000
PLAN_BYTES = 1024 * 1024
"""What one plan takes at most (a single larger record comes all the same): some milliseconds of work."""
MERGE_AT = 200
"""Open plans of one lane at which those that wait for targets are made one."""
MERGED_RECORDS = 50_000
"""Copies in a plan that is not merged with others any more: a few hundred kilobytes in the log."""
MAX_OPEN = 1000
MAX_WAITING = 1_000_000
"""Open plans of one lane, and copies that wait for unavailable targets (some 40 bytes each); with more it
moves nothing until there are less, so that memory has a bound."""
SLICE_S = 0.001
AGAIN_S = 1.0
"""After a failure of the log of plans, a lane begins again after this long."""

_Decide = Callable[[ForwardMachine, int], Decision[None, Answer]]


class RoutesPort(Protocol):
    """What is asked of :class:`~pykbroker.routing.Routes`."""

    def at(self, topic_id: bytes, partition: int, offset: int) -> tuple[Table, int | None]: ...


@dataclass(slots=True, kw_only=True)
class Surroundings:
    """What the lanes of a broker share.  ``name_of`` a topic id is for log lines."""

    clock: Clock
    routes: RoutesPort
    find: Find
    port: TargetPort
    name_of: Callable[[bytes], str]
    next_producer_id: Callable[[], Awaitable[int]]
    max_decompressed: int
    on_unroutable: Callable[[RecordUnroutable], None] | None = None
    counters: Counters = field(default_factory=Counters)


class LaneDriver:
    """See the module.  ``face`` is the exchange, or the topic whose hidden ingress log ``source`` is."""

    def __init__(
        self, ingress: Place, face: str, source: Partition, shard: ForwardShard, around: Surroundings
    ) -> None:
        self.ingress = ingress
        self.passed = 0
        """Offset below which everything is decided, durably."""
        self._label = f"{face}-{ingress.partition}"
        self._is_exchange = source.topic == face
        self._source = source
        self._shard = shard
        self._around = around
        self._port = around.port
        self._deciding = Deciding(face, ingress.partition, around.find)
        self._copier = Copier(provenance(face, ingress.partition) if self._is_exchange else None)
        self._account = Account(
            face, ingress.partition, around.counters, around.clock.monotonic, around.on_unroutable
        )
        keep = not self._is_exchange
        self._reader = Reader(source, around.max_decompressed, keep_provenance=keep)
        self._again = Reader(source, around.max_decompressed, keep_provenance=keep)
        self._reading_again = trio.Lock()
        self._turn = trio.Lock()
        self._failure: KafkaError | None = None
        self._began = False
        self._nursery: trio.Nursery
        self._executor: Executor
        self._outboxes: Outboxes | None = None
        self._position = 0
        self._open: dict[int, set[Name]] = {}
        self._done: list[int] = []
        self._merge_at = MERGE_AT
        self._wake = trio.Event()

    @property
    def open_plans(self) -> int:
        """Plans that are not done."""
        return len(self._open)

    @property
    def waiting_moves(self) -> int:
        """Moves whose target is not available."""
        return sum(1 for _ in self._outboxes or ())

    def wake(self) -> None:
        """There may be something to do.  Called for every append, so it must be quick."""
        self._wake.set()

    async def run(self) -> None:
        """Move records until cancelled."""
        clock = self._around.clock
        while True:
            self._failure, self._began = None, False
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                try:
                    await self._resume()
                    await self._follow()
                except KafkaError as error:
                    self._failure = error
                nursery.cancel_scope.cancel()
            log.warning("forwarding begins again in a moment: from=%s: %s", self._label, self._failure)
            await clock.wait_until(clock.monotonic() + AGAIN_S)

    async def _ask(self, decide: _Decide) -> Answer:
        """Decide, and wait until the log of plans has it.  Raises :class:`KafkaError`: then it is not known
        whether it was decided, and all that this lane does ends here."""
        machine = self._shard.machine
        try:
            if self._began and self.ingress not in machine.lanes:
                raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "the ingress partition is gone")
            return await self._shard.ask(lambda token, _now, _now_ms: decide(machine, token))
        except KafkaError as error:
            self._failure = error
            self._nursery.cancel_scope.cancel()
            raise

    async def _plan(self, decide: _Decide) -> Plan:
        answer = await self._ask(decide)
        assert isinstance(answer, Plan)
        return answer

    async def _lane(self, decide: _Decide) -> LaneValue:
        answer = await self._ask(decide)
        assert isinstance(answer, LaneValue)
        return answer

    # -- beginning

    async def _resume(self) -> None:
        """Take up what is planned; everything of it is below the high watermark when this returns."""
        ingress, around = self.ingress, self._around
        lane = await self._shard.view(lambda machine: machine.lanes.get(ingress))
        value = await self._opened() if lane is None else lane.value
        self._began = True
        end = self._end_of_decided(value)
        if value.position > end:
            log.error(
                "%s has lost records that were moved or planned already: offsets=%d-%d",
                self._label, end, value.position - 1,
            )  # fmt: skip
            epoch = self._source.leader_epoch
            value = await self._lane(lambda machine, token: machine.restart(ingress, end, epoch, token))
        self._executor = Executor(around.port, self._copier, value, around.clock.time_ms)
        self._position = self.passed = value.position
        self._open, self._done, self._merge_at = {}, [], MERGE_AT
        self._outboxes = Outboxes(
            self._label, around.clock, self._nursery, self._turn, self._deliver, around.name_of
        )
        if lane is not None:
            self._take_up(lane, self._outboxes)

    def _end_of_decided(self, value: LaneValue) -> int:
        """Where the records end that the ingress log had when the lane decided last.  A power cut may have
        taken some, and others may have come in their place since, in a later leader epoch."""
        source = self._source
        if value.leader_epoch == source.leader_epoch:
            return source.log_end_offset
        _, end = source.end_offset_for_epoch(value.leader_epoch)
        return min(source.log_end_offset, value.position) if end < 0 else end

    async def _opened(self) -> LaneValue:
        producer_id = await self._around.next_producer_id()
        start, epoch = self._source.log_start_offset, self._source.leader_epoch
        return await self._lane(
            lambda machine, token: machine.open(self.ingress, producer_id, start, epoch, token)
        )

    def _take_up(self, lane: Lane, outboxes: Outboxes) -> None:
        for plan in lane.plans.values():
            if plan.moves:
                self._open[plan.slot] = {move.name for move in plan.moves}
            else:
                self._done.append(plan.slot)
        for plan, move in lane.open_moves():
            outboxes.put(plan.slot, move)

    # -- the next records

    async def _follow(self) -> None:
        while True:
            self._wake = trio.Event()
            if len(self._open) >= self._merge_at:
                await self._merge()
            if self._has_room() and await self._forward_next():
                await trio.lowlevel.checkpoint()
            elif self._done:
                done, self._done = self._done, []
                await self._ask(lambda machine, token: machine.finish(self.ingress, done, token))  # noqa: B023
            else:
                await self._wake.wait()

    def _has_room(self) -> bool:
        return len(self._open) < MAX_OPEN and self._waiting_records() < MAX_WAITING

    def _waiting_records(self) -> int:
        return sum(len(move.offsets) for _, move in self._outboxes or ())

    async def _forward_next(self) -> bool:
        """Decide about the next records and move them; False if there are none."""
        source, at, end = self._source, self._position, self._source.last_stable_offset
        if at >= end:
            return False
        table: Table | None = None
        if self._is_exchange:
            table, until = self._around.routes.at(*self.ingress, at)
            if until is not None:
                end = min(end, until)
        chunk = await self._reader.take(at, end, max_records=PLAN_RECORDS, max_bytes=PLAN_BYTES)
        if chunk.next_offset <= at:
            return False
        decided = Decided()
        now_ms = self._around.clock.time_ms()
        if table is None:
            await _drive(self._deciding.partitioned(chunk.records, now_ms, decided))
        else:
            dead_letter = source.config.pykbroker_dead_letter_topic
            await _drive(self._deciding.exchange(chunk.records, table, dead_letter, now_ms, decided))
        async with self._turn:
            plan = await self._planned(chunk, decided)
            self._account.decided(len(chunk.records), decided)
            if plan.moves:
                self._open[plan.slot] = {move.name for move in plan.moves}
                await self._execute(plan, {record.offset: record for record in chunk.records})
        return True

    async def _planned(self, chunk: Chunk, decided: Decided) -> Plan:
        ingress, routes, epoch = self.ingress, self._routes(decided), self._source.leader_epoch
        done, self._done = self._done, []
        plan = await self._plan(
            lambda machine, token: machine.plan(ingress, chunk.next_offset, epoch, routes, done, token)
        )
        self._position = self.passed = chunk.next_offset
        return plan

    def _routes(self, decided: Decided) -> list[Route]:
        return [self._route(place, tuple(offsets)) for place, offsets in decided.offsets.items()]

    def _route(self, target: Place, offsets: tuple[int, ...]) -> Route:
        port = self._port
        try:
            end = port.end(target)
            return Route(target, offsets, end, port.last_sequence(target, self._executor.producer_id, end))
        except KafkaError:
            return Route(target, offsets, 0)  # not there now: whoever needs to know looks through all of it

    async def _merge(self) -> None:
        """Make one plan of those of which nothing is left but moves that stand in line."""
        assert self._outboxes is not None
        async with self._turn:
            plans = self._plans()
            waiting: dict[int, set[Name]] = {}
            records = 0
            for slot, names in self._outboxes.idle().items():
                size = sum(len(move.offsets) for move in plans[slot].moves)
                if names == self._open[slot] and records + size <= MERGED_RECORDS:
                    waiting[slot] = names
                    records += size
            if len(waiting) > 1:
                plan = await self._plan(lambda machine, token: machine.merge(self.ingress, waiting, token))
                for slot in waiting:
                    del self._open[slot]
                self._open[plan.slot] = {move.name for move in plan.moves}
                self._outboxes.merged(waiting, plan)
        self._merge_at = min(MAX_OPEN, len(self._open) + MERGE_AT)

    def _plans(self) -> Mapping[int, Plan]:
        lane = self._shard.machine.lanes.get(self.ingress)
        if lane is None:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "the ingress partition is gone")
        return lane.plans

    # -- executing

    async def _execute(self, plan: Plan, records: Mapping[int, Source]) -> None:
        assert self._outboxes is not None
        suffixes: dict[int, bytes] = {}
        for move in plan.moves:
            if move.target not in self._outboxes:
                try:
                    if self._port.validators(move.target) is None:
                        self._appended(plan.slot, move, await self._append(move, records, suffixes))
                        continue
                except KafkaError:
                    pass  # the outbox finds out what to do about it
            self._outboxes.put(plan.slot, move)

    async def _append(
        self, move: Move, records: Mapping[int, Source], suffixes: dict[int, bytes] | None = None
    ) -> int:
        before = self._executor.copies
        try:
            return await self._executor.append(move, records, suffixes)
        finally:
            self._around.counters.copies += self._executor.copies - before

    def _appended(self, slot: int, move: Move, reached: int) -> None:
        try:
            settled = self._port.settled(move.target, reached)
        except KafkaError:
            settled = False  # whoever waits finds out why
        if settled:
            self._settled(slot, move.name)
        else:
            self._nursery.start_soon(self._wait_settled, slot, move, reached)

    async def _wait_settled(self, slot: int, move: Move, reached: int) -> None:
        clock = self._around.clock
        while True:
            try:
                await self._port.wait_settled(move.target, reached)
                break
            except KafkaError as error:
                if is_gone(error):
                    break  # with its topic, and what was in it
                await clock.wait_until(clock.monotonic() + RETRY_S)
        self._settled(slot, move.name)

    def _settled(self, slot: int, name: Name) -> None:
        left = self._open[slot]
        left.discard(name)
        if not left:
            del self._open[slot]
            self._done.append(slot)
            self._wake.set()

    async def _deliver(self, slot: int, move: Move) -> None:
        """Append one move of an outbox, or what its target takes of it.  Raises :class:`KafkaError`."""
        try:
            first = self._executor.already_there(move)
            records = await self._read_again(move.offsets[first:])
            now_ms = self._around.clock.time_ms()
            refused = await refusals(self._port, self._executor, move, first, records, now_ms)
        except KafkaError as error:
            if not is_gone(error):
                raise
            refused = dict.fromkeys(move.offsets, GONE)
            records = await self._read_again(move.offsets)
        left = await self._amend(slot, move, refused, records) if refused else move
        if left is not None:
            self._appended(slot, left, await self._append(left, records))

    async def _read_again(self, offsets: Sequence[int]) -> dict[int, Source]:
        if not offsets:
            return {}
        async with self._reading_again:
            found = await self._again.pick(offsets)
        return {record.offset: record for record in found}

    async def _amend(
        self, slot: int, move: Move, refused: Mapping[int, str], records: Mapping[int, Source]
    ) -> Move | None:
        """Plan where the refused copies go instead, and take up those moves; what is left of this one."""
        assert self._outboxes is not None
        decided, left = Decided(), None
        topic, now_ms = self._around.name_of(move.target.topic_id), self._around.clock.time_ms()
        dead_letter = self._source.config.pykbroker_dead_letter_topic if self._is_exchange else ""
        for offset, reason in sorted(refused.items()):
            if (record := records.get(offset)) is not None:
                self._deciding.refuse(record, topic, reason, dead_letter, now_ms, decided)
        keep = [offset for offset in move.offsets if offset not in refused]
        async with self._turn:
            instead = self._routes(decided)
            known = {each.name for each in self._plans()[slot].moves}
            plan = await self._plan(
                lambda machine, token: machine.amend(self.ingress, slot, move.name, keep, instead, token)
            )
            for each in plan.moves:
                if each.name == move.name:
                    left = each
                elif each.name not in known:
                    self._open[slot].add(each.name)
                    self._outboxes.put(slot, each)
        self._account.refused(decided)
        if left is None:
            self._settled(slot, move.name)
        else:
            self._outboxes.amended(slot, left)
        return left


async def _drive(steps: Steps) -> None:
    """Run the steps, letting others have their turn after a millisecond."""
    started = time.perf_counter()
    for _ in steps:
        if time.perf_counter() - started > SLICE_S:
            await trio.lowlevel.checkpoint()
            started = time.perf_counter()
