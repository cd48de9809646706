"""One lane: deciding, planning, executing, one after the other and for ever.

What is decided, and what is read for it, is the business of a :class:`~pykbroker.forwarding.work.Work`.

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
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from pykbroker.coordinator.machine import Decision
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.forwarding.accounting import Counters
from pykbroker.forwarding.executing import Executor
from pykbroker.forwarding.machine import Answer, ForwardMachine, Lane, Name
from pykbroker.forwarding.outboxes import RETRY_S, Outboxes
from pykbroker.forwarding.plan import LaneValue, Move, Place, Plan, Route
from pykbroker.forwarding.refusing import GONE, is_gone, refusals
from pykbroker.forwarding.shards import ForwardShard
from pykbroker.forwarding.targets import TargetPort
from pykbroker.forwarding.work import Records, Step, Work

if TYPE_CHECKING:
    from pykbroker.clock import Clock

log = logging.getLogger(__name__)

MERGE_AT = 200
"""Open plans of one lane at which those that wait for targets are made one."""
MERGED_RECORDS = 50_000
"""Copies in a plan that is not merged with others any more: a few hundred kilobytes in the log."""
MAX_OPEN = 1000
MAX_WAITING = 1_000_000
"""Open plans of one lane, and copies that wait for unavailable targets (some 40 bytes each); with more it
moves nothing until there are less, so that memory has a bound."""
AGAIN_S = 1.0
"""After a failure of the log of plans, a lane begins again after this long."""

_Decide = Callable[[ForwardMachine, int], Decision[None, Answer]]


@dataclass(slots=True, kw_only=True)
class Around:
    """What the runners of a broker share.  ``name_of`` a topic id is for log lines."""

    clock: Clock
    port: TargetPort
    name_of: Callable[[bytes], str]
    next_producer_id: Callable[[], Awaitable[int]]
    max_decompressed: int
    counters: Counters = field(default_factory=Counters)


class Runner:
    """Runs ``work`` as the lane of ``ingress``; see the module."""

    def __init__(self, ingress: Place, work: Work, shard: ForwardShard, around: Around) -> None:
        self.ingress = ingress
        self.passed = 0
        """Position up to which everything is decided, durably."""
        self._work = work
        self._shard = shard
        self._around = around
        self._port = around.port
        self._turn = trio.Lock()
        self._failure: KafkaError | None = None
        self._began = False
        self._nursery: trio.Nursery
        self._executor: Executor
        self._outboxes: Outboxes | None = None
        self._open: dict[int, set[Name]] = {}
        self._done: list[int] = []
        self._merge_at = MERGE_AT
        self._wake = trio.Event()
        work.wake = self.wake

    @property
    def open_plans(self) -> int:
        """Plans that are not done."""
        return len(self._open)

    @property
    def waiting_moves(self) -> int:
        """Moves whose target is not available."""
        return sum(1 for _ in self._outboxes or ())

    def wake(self) -> None:
        """There may be something to do.  May be called for every append, so it is quick."""
        self._wake.set()

    async def run(self) -> None:
        """Do the work until cancelled."""
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
            log.warning("forwarding begins again in a moment: from=%s: %s", self._work.label, self._failure)
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
            self._fail(error)
            raise

    def _fail(self, error: KafkaError) -> None:
        """Have all that this lane does end here, and begin again."""
        self._failure = error
        self._nursery.cancel_scope.cancel()

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
        ingress, around, work = self.ingress, self._around, self._work
        lane = await self._shard.view(lambda machine: machine.lanes.get(ingress))
        value = await self._opened() if lane is None else lane.value
        self._began = True
        end = work.end_of_decided(value)
        if value.position > end:
            log.error(
                "%s has lost records that were moved or planned already: offsets=%d-%d",
                work.label, end, value.position - 1,
            )  # fmt: skip
            epoch = work.leader_epoch()
            value = await self._lane(lambda machine, token: machine.restart(ingress, end, epoch, token))
        self._executor = Executor(around.port, work.suffix, value, around.clock.time_ms)
        self.passed = value.position
        self._open, self._done, self._merge_at = {}, [], MERGE_AT
        self._outboxes = Outboxes(
            work.label, around.clock, self._nursery, self._turn, self._deliver, around.name_of
        )
        await work.resumed(lane, value)
        if lane is not None:
            self._take_up(lane, self._outboxes)

    async def _opened(self) -> LaneValue:
        producer_id = await self._around.next_producer_id()
        start, epoch = self._work.begin_position(), self._work.leader_epoch()
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

    # -- the next step

    async def _follow(self) -> None:
        while True:
            self._wake = trio.Event()
            if len(self._open) >= self._merge_at:
                await self._merge()
            step = await self._work.step(self.passed) if self._has_room() else None
            if step is not None:
                await self._carry_out(step)
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

    async def _carry_out(self, step: Step) -> None:
        ingress, epoch = self.ingress, self._work.leader_epoch()
        async with self._turn:
            routes = [self._completed(route) for route in step.routes]
            done, self._done = self._done, []
            plan = await self._plan(
                lambda machine, token: machine.plan(
                    ingress, step.next_position, epoch, routes, done, token, step.extras
                )
            )
            self.passed = step.next_position
            await self._work.planned(step, plan)
            if plan.moves:
                self._open[plan.slot] = {move.name for move in plan.moves}
                await self._execute(plan, step.records)

    def _completed(self, route: Route) -> Route:
        port, target = self._port, route.target
        try:
            end = port.end(target)
            last = port.last_sequence(target, self._executor.producer_id, end)
        except KafkaError:
            end, last = 0, -1  # not there now: whoever needs to know looks through all of it
        return route._replace(since=end, last_sequence=last)

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

    async def _execute(self, plan: Plan, known: Mapping[Place | None, Records]) -> None:
        assert self._outboxes is not None
        suffixes: dict[Place | None, dict[int, bytes]] = {}
        for move in plan.moves:
            if move.target not in self._outboxes:
                try:
                    records = known.get(move.source)
                    if records is None:
                        records = await self._work.read(move.source, move.offsets)
                    if self._takes_all(move, records):
                        shared = suffixes.setdefault(move.source, {}) if self._work.same_suffix else None
                        self._appended(plan.slot, move, await self._append(move, records, shared))
                        continue
                except KafkaError:
                    pass  # the outbox finds out what to do about it
            self._outboxes.put(plan.slot, move)

    def _takes_all(self, move: Move, records: Records) -> bool:
        """Whether it is certain that the target refuses nothing."""
        target, port = move.target, self._port
        if self._work.validators(target) and port.validators(target) is not None:
            return False
        if port.rules(target).keyless:
            return True
        return all(record.key is not None for offset in move.offsets if (record := records.get(offset)))

    async def _append(self, move: Move, records: Records, suffixes: dict[int, bytes] | None = None) -> int:
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
        refused, records = await self._refusals(move)
        left = await self._amend(slot, move, refused, records) if refused else move
        if left is not None:
            self._appended(slot, left, await self._append(left, records))

    async def _refusals(self, move: Move) -> tuple[Mapping[int, str], Records]:
        """What the target refuses for good, and the records that it does not have yet."""
        work = self._work
        try:
            first = self._executor.already_there(move)
        except KafkaError as error:
            if is_gone(error):
                return dict.fromkeys(move.offsets, GONE), await work.read(move.source, move.offsets)
            raise
        records = await self._read(move, first)
        validated, now_ms = work.validators(move.target), self._around.clock.time_ms()
        try:
            refused = await refusals(
                self._port, self._executor, move, first, records, now_ms, validated=validated
            )
        except KafkaError as error:
            if is_gone(error):
                return dict.fromkeys(move.offsets, GONE), await work.read(move.source, move.offsets)
            raise
        return refused, records

    async def _read(self, move: Move, first: int) -> Records:
        offsets = move.offsets[first:]
        return await self._work.read(move.source, offsets) if offsets else {}

    async def _amend(
        self, slot: int, move: Move, refused: Mapping[int, str], records: Records
    ) -> Move | None:
        """Plan where the refused copies go instead, and take up those moves; what is left of this one."""
        assert self._outboxes is not None
        work, left = self._work, None
        routes = await work.refused(move, refused, records)
        if routes is None:
            reason = next(iter(refused.values()))
            raise KafkaError(ErrorCode.POLICY_VIOLATION, f"{reason}; there is nowhere else to go")
        keep = [offset for offset in move.offsets if offset not in refused]
        async with self._turn:
            instead = [self._completed(route) for route in routes]
            known = {each.name for each in self._plans()[slot].moves}
            plan = await self._plan(
                lambda machine, token: machine.amend(self.ingress, slot, move.name, keep, instead, token)
            )
            try:
                await work.amended(move, refused, routes)
            except KafkaError as error:
                self._fail(error)
                raise
            for each in plan.moves:
                if each.name == move.name:
                    left = each
                elif each.name not in known:
                    self._open[slot].add(each.name)
                    self._outboxes.put(slot, each)
        if left is None:
            self._settled(slot, move.name)
        else:
            self._outboxes.amended(slot, left)
        return left
