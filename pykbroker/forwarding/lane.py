"""One ingress partition: reading, deciding, planning, executing, one after the other and for ever.

Moves are appended at once where that is possible.  A move that is not possible now waits in an *outbox* of
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
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import trio

from pykbroker.coordinator.machine import Decision
from pykbroker.coordinator.runtime import Shard
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.events import RecordUnroutable
from pykbroker.forwarding.copying import Copier, Source, provenance
from pykbroker.forwarding.deciding import Decided, Deciding, Find, Steps, Table
from pykbroker.forwarding.executing import Executor
from pykbroker.forwarding.machine import Answer, ForwardMachine, Lane
from pykbroker.forwarding.plan import LaneValue, Move, Place, Plan, Route
from pykbroker.forwarding.reading import Chunk, Reader
from pykbroker.forwarding.targets import TargetPort
from pykbroker.partitions.admission import Origin, Pipeline
from pykbroker.records.batch import read_header
from pykbroker.records.validate import RecordsError

if TYPE_CHECKING:
    from pykbroker.clock import Clock
    from pykbroker.partitions.partition import Partition

log = logging.getLogger(__name__)

ForwardShard = Shard[None, Answer, ForwardMachine]

PLAN_RECORDS = 1000
PLAN_BYTES = 1024 * 1024
"""What one plan takes at most (a single larger record comes all the same): some milliseconds of work."""
MAX_OPEN = 1000
"""Open plans of one lane; beyond that it waits for targets, so that memory has a bound."""
SLICE_S = 0.001
RETRY_S, MAX_RETRY_S = 0.1, 5.0
"""How long an unavailable target is left alone, at first and at last."""
REPEAT_S = 60.0
"""A target that stays unavailable, or refuses copies, gets another log line after this long."""

_GONE = frozenset({ErrorCode.UNKNOWN_TOPIC_ID, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION})
_Decide = Callable[[ForwardMachine, int], Decision[None, Answer]]


class RoutesPort(Protocol):
    """What is asked of :class:`~pykbroker.routing.Routes`."""

    def at(self, topic_id: bytes, partition: int, offset: int) -> tuple[Table, int | None]: ...


@dataclass(slots=True, kw_only=True)
class Counters:
    """What all lanes of a broker have done."""

    records: int = 0
    copies: int = 0
    unroutable: int = 0
    refused: int = 0
    dead_letters: int = 0
    dropped: int = 0


@dataclass(slots=True, kw_only=True)
class Surroundings:
    """What the lanes of a broker share."""

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
        self.face = face
        self.passed = 0
        """Offset below which everything is decided, durably."""
        self._is_exchange = source.topic == face
        self._source = source
        self._shard = shard
        self._around = around
        self._deciding = Deciding(face, ingress.partition, around.find)
        self._copier = Copier(provenance(face, ingress.partition) if self._is_exchange else None)
        self._reader = Reader(source, around.max_decompressed)
        self._reader_again = Reader(source, around.max_decompressed)
        self._rereading = trio.Lock()
        self._turn = trio.Lock()
        self._failure: KafkaError | None = None
        self._told: dict[str, float] = {}
        self._executor: Executor
        self._nursery: trio.Nursery
        self._position = 0
        self._open: dict[int, set[tuple[Place, int]]] = {}
        self._done: list[int] = []
        self._outboxes: dict[Place, deque[tuple[int, Move]]] = {}
        self._wake = trio.Event()

    @property
    def open_plans(self) -> int:
        """Plans that are not done."""
        return len(self._open)

    @property
    def waiting_moves(self) -> int:
        """Moves whose target is not available."""
        return sum(map(len, self._outboxes.values()))

    def wake(self) -> None:
        """There may be something to do.  Called for every append, so it must be quick."""
        self._wake.set()

    async def run(self) -> None:
        """Move records until cancelled."""
        clock = self._around.clock
        while True:
            self._failure = None
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                try:
                    await self._resume()
                    await self._follow()
                except KafkaError as error:
                    self._failure = error
                nursery.cancel_scope.cancel()
            log.warning("forwarding begins again in a moment: from=%s: %s", self._label, self._failure)
            await clock.wait_until(clock.monotonic() + MAX_RETRY_S / 5)

    @property
    def _label(self) -> str:
        return f"{self.face}-{self.ingress.partition}"

    async def _ask(self, decide: _Decide) -> Answer:
        """Decide, and wait until the log of plans has it.  Raises :class:`KafkaError`: then it is not known
        whether it was decided, and all that this lane does ends here."""
        machine = self._shard.machine
        try:
            return await self._shard.ask(lambda token, _now, _now_ms: decide(machine, token))
        except KafkaError as error:
            self._failure = error
            self._nursery.cancel_scope.cancel()
            raise

    async def _resume(self) -> None:
        """Take up what is planned; everything of it is below the high watermark when this returns."""
        lane = await self._shard.view(lambda machine: machine.lanes.get(self.ingress))
        value = await self._opened() if lane is None else lane.value
        end = self._source.log_end_offset
        if value.position > end:
            log.error(
                "%s has lost records that were moved already: offsets=%d-%d",
                self._label, end, value.position - 1,
            )  # fmt: skip
            answer = await self._ask(lambda machine, token: machine.restart(self.ingress, end, token))
            assert isinstance(answer, LaneValue)
            value = answer
        around = self._around
        self._executor = Executor(around.port, self._copier, value, around.clock.time_ms)
        self._position = self.passed = value.position
        self._open, self._done, self._outboxes = {}, [], {}
        if lane is not None:
            self._take_up(lane)

    async def _opened(self) -> LaneValue:
        producer_id = await self._around.next_producer_id()
        start = self._source.log_start_offset
        answer = await self._ask(lambda machine, token: machine.open(self.ingress, producer_id, start, token))
        assert isinstance(answer, LaneValue)
        return answer

    def _take_up(self, lane: Lane) -> None:
        for plan in lane.plans.values():
            if plan.moves:
                self._open[plan.slot] = {move.name for move in plan.moves}
            else:
                self._done.append(plan.slot)
        for plan, move in lane.open_moves():
            self._enqueue(plan.slot, move)

    # -- the next records

    async def _follow(self) -> None:
        while True:
            self._wake = trio.Event()
            room = len(self._open) < MAX_OPEN
            if room and await self._forward_next():
                await trio.lowlevel.checkpoint()
            elif self._done:
                await self._note_done()
            else:
                await self._wake.wait()

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
            self._account(chunk, decided)
            if plan.moves:
                self._open[plan.slot] = {move.name for move in plan.moves}
                await self._execute(plan, {record.offset: record for record in chunk.records})
        return True

    async def _planned(self, chunk: Chunk, decided: Decided) -> Plan:
        routes = [
            Route(place, tuple(offsets), self._end_of(place)) for place, offsets in decided.offsets.items()
        ]
        done, self._done = self._done, []
        plan = await self._ask(
            lambda machine, token: machine.plan(self.ingress, chunk.next_offset, routes, done, token)
        )
        assert isinstance(plan, Plan)
        self._position = self.passed = chunk.next_offset
        return plan

    def _end_of(self, target: Place) -> int:
        try:
            return self._around.port.end(target)
        except KafkaError:
            return 0  # not there now: whoever needs to know looks through all of it

    def _account(self, chunk: Chunk, decided: Decided) -> None:
        counters, tell = self._around.counters, self._around.on_unroutable
        counters.records += len(chunk.records)
        counters.unroutable += len(decided.unroutable)
        if tell is not None:
            for offset, key in decided.unroutable:
                tell(
                    RecordUnroutable(
                        exchange=self.face,
                        partition=self.ingress.partition,
                        offset=offset,
                        routing_key=key,
                    )
                )
        self._account_refused(decided)

    def _account_refused(self, decided: Decided) -> None:
        counters, now = self._around.counters, self._around.clock.monotonic()
        for refused in decided.refused:
            if refused.dead_letter:
                counters.dead_letters += 1
            else:
                counters.dropped += 1
            if now - self._told.get(refused.target, -REPEAT_S) >= REPEAT_S:
                self._told[refused.target] = now
                log.warning(
                    "a copy is refused for good, later ones are only counted for a while: from=%s offset=%d "
                    "to=%s, it is %s: %s",
                    self._label, refused.offset, refused.target,
                    "a dead letter" if refused.dead_letter else "dropped", refused.reason,
                )  # fmt: skip

    async def _note_done(self) -> None:
        done, self._done = self._done, []
        await self._ask(lambda machine, token: machine.finish(self.ingress, done, token))

    # -- executing

    async def _execute(self, plan: Plan, records: Mapping[int, Source]) -> None:
        port = self._around.port
        suffixes: dict[int, bytes] = {}
        for move in plan.moves:
            if move.target not in self._outboxes:
                try:
                    if port.validators(move.target) is None:
                        reached = await self._append(move, records, suffixes)
                        self._appended(plan.slot, move, reached)
                        continue
                except KafkaError:
                    pass  # the outbox finds out what to do about it
            self._enqueue(plan.slot, move)

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
            settled = self._around.port.settled(move.target, reached)
        except KafkaError:
            settled = False  # whoever waits finds out why
        if settled:
            self._settled(slot, move.name)
        else:
            self._nursery.start_soon(self._wait_settled, slot, move, reached)

    async def _wait_settled(self, slot: int, move: Move, reached: int) -> None:
        while True:
            try:
                await self._around.port.wait_settled(move.target, reached)
                break
            except KafkaError as error:
                if error.code in _GONE:
                    break  # with its topic, and what was in it
                await self._pause(RETRY_S)
        self._settled(slot, move.name)

    def _settled(self, slot: int, name: tuple[Place, int]) -> None:
        left = self._open[slot]
        left.discard(name)
        if not left:
            del self._open[slot]
            self._done.append(slot)
            self._wake.set()

    async def _pause(self, seconds: float) -> None:
        clock = self._around.clock
        await clock.wait_until(clock.monotonic() + seconds)

    # -- outboxes

    def _enqueue(self, slot: int, move: Move) -> None:
        box = self._outboxes.get(move.target)
        if box is None:
            box = self._outboxes[move.target] = deque()
            self._nursery.start_soon(self._empty, move.target, box)
        box.append((slot, move))

    async def _empty(self, target: Place, box: deque[tuple[int, Move]]) -> None:
        """Execute the moves to one target in order, again and again until they are done."""
        delay, told = RETRY_S, 0.0
        while box:
            slot, move = box[0]
            try:
                left = await self._deliver(slot, move)
            except KafkaError as error:
                now = self._around.clock.monotonic()
                if now - told > REPEAT_S or not told:
                    told = now
                    log.warning(
                        "a target is not available, its copies wait: from=%s to=%s moves=%d: %s",
                        self._label, target, len(box), error,
                    )  # fmt: skip
                await self._pause(delay)
                delay = min(2 * delay, MAX_RETRY_S)
                continue
            delay = RETRY_S
            box.popleft()
            if left is not None:
                self._appended(slot, *left)
            await trio.lowlevel.checkpoint()
        if told:
            log.info("copies that waited are there: from=%s to=%s", self._label, target)
        del self._outboxes[target]

    async def _deliver(self, slot: int, move: Move) -> tuple[Move, int] | None:
        """Append one move, or what its target takes of it; the move as it is now, and what the target's
        high watermark must reach.  None: nothing of it is left.  Raises :class:`KafkaError`."""
        try:
            first = self._executor.already_there(move)
            records = await self._read_again(move.offsets[first:])
            refused = await self._refusals(move, first, records)
        except KafkaError as error:
            if error.code not in _GONE:
                raise
            first, refused = 0, dict.fromkeys(move.offsets, "there is no such topic any more")
            records = await self._read_again(move.offsets)
        if refused:
            amended = await self._amend(slot, move, refused, records)
            if amended is None:
                return None
            move = amended
        return move, await self._append(move, records)

    async def _read_again(self, offsets: Sequence[int]) -> dict[int, Source]:
        if not offsets:
            return {}
        async with self._rereading:
            found = await self._reader_again.pick(offsets)
        return {record.offset: record for record in found}

    async def _refusals(self, move: Move, first: int, records: Mapping[int, Source]) -> dict[int, str]:
        """Why the target refuses which of the records that it does not have yet."""
        port = self._around.port
        refused: dict[int, str] = {}
        if not port.rules(move.target).keyless:
            for offset, record in records.items():
                if record.key is None:
                    refused[offset] = "it is compacted, the record has no key"
        pipeline = port.validators(move.target)
        if pipeline is not None:
            there = [o for o in move.offsets[first:] if o in records and o not in refused]
            if there:
                refused |= await self._ask_validators(pipeline, move, there, records)
        return refused

    async def _ask_validators(
        self, pipeline: Pipeline, move: Move, offsets: Sequence[int], records: Mapping[int, Source]
    ) -> dict[int, str]:
        shown = Move(
            target=move.target, offsets=tuple(offsets), since=move.since, base_sequence=move.base_sequence
        )
        batch = await self._executor.preview(shown, 0, records)
        origin = Origin(
            topic=pipeline.topic,
            partition=move.target.partition,
            client_id=None,
            now_ms=self._around.clock.time_ms(),
        )
        try:
            await pipeline.admit(origin, batch, read_header(batch))
        except RecordsError as error:
            return {offsets[index]: why for index, why in error.records}
        return {}

    async def _amend(
        self, slot: int, move: Move, refused: Mapping[int, str], records: Mapping[int, Source]
    ) -> Move | None:
        """Plan where the refused copies go instead, and take up those moves; what is left of this one."""
        decided = Decided()
        topic = self._name_of(move.target)
        now_ms = self._around.clock.time_ms()
        dead_letter = self._source.config.pykbroker_dead_letter_topic if self._is_exchange else ""
        for offset, reason in sorted(refused.items()):
            if (record := records.get(offset)) is not None:
                self._deciding.refuse(record, topic, reason, dead_letter, now_ms, decided)
        keep = [offset for offset in move.offsets if offset not in refused]
        instead = [
            Route(place, tuple(offsets), self._end_of(place)) for place, offsets in decided.offsets.items()
        ]
        known = {each.name for each in self._shard.machine.lanes[self.ingress].plans[slot].moves}
        left: Move | None = None
        async with self._turn:
            plan = await self._ask(
                lambda machine, token: machine.amend(self.ingress, slot, move.name, keep, instead, token)
            )
            assert isinstance(plan, Plan)
            for each in plan.moves:
                if each.name == move.name:
                    left = each
                elif each.name not in known:
                    self._open[slot].add(each.name)
                    self._enqueue(slot, each)
        self._account_refused(decided)
        if left is None:
            self._settled(slot, move.name)
        return left

    def _name_of(self, target: Place) -> str:
        return self._around.name_of(target.topic_id)


async def _drive(steps: Steps) -> None:
    """Run the steps, letting others have their turn after a millisecond."""
    started = time.perf_counter()
    for _ in steps:
        if time.perf_counter() - started > SLICE_S:
            await trio.lowlevel.checkpoint()
            started = time.perf_counter()
