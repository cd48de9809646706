"""The moves of one lane, from one beginning to the next.

Moves are appended at once where that is possible.  A move that is not possible now waits in an outbox of
its target, and so do all later ones to that target: an unavailable target delays only its own moves.  A plan
is done when the high watermarks of all its targets have passed it.

Sequences are given out when something is planned, and a target takes them in their order only: what comes
late would count as there already.  So whoever plans keeps the *turn* until the moves are appended or stand
in their outboxes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import trio

from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.forwarding.accounting import Counters
from pykbroker.forwarding.asking import Asking
from pykbroker.forwarding.executing import Executor
from pykbroker.forwarding.machine import Lane, Name
from pykbroker.forwarding.outboxes import RETRY_S, Outboxes
from pykbroker.forwarding.plan import LaneValue, Move, Place, Plan, Route
from pykbroker.forwarding.refusing import GONE, is_gone, refusals
from pykbroker.forwarding.targets import TargetPort
from pykbroker.forwarding.work import Records, Work

if TYPE_CHECKING:
    from pykbroker.clock import Clock

MERGE_AT = 200
"""Open plans of one lane at which those that wait for targets are made one."""
MERGED_RECORDS = 50_000
"""Copies in a plan that is not merged with others any more: a few hundred kilobytes in the log."""
PIECE = 500
"""Records of a move in line that are read at once."""
MAX_OPEN = 1000
MAX_WAITING = 1_000_000
"""Open plans of one lane, and copies that wait for unavailable targets (some 40 bytes each); with more it
moves nothing until there are less, so that memory has a bound."""


@dataclass(slots=True, kw_only=True)
class Around:
    """What the runners of a broker share.  ``name_of`` a topic id is for log lines."""

    clock: Clock
    port: TargetPort
    name_of: Callable[[bytes], str]
    next_producer_id: Callable[[], Awaitable[int]]
    max_decompressed: int
    counters: Counters = field(default_factory=Counters)


class Moving:
    """``nursery`` has the tasks of outboxes; ``wake`` is called when a plan is done."""

    def __init__(
        self,
        ingress: Place,
        asking: Asking,
        work: Work,
        around: Around,
        value: LaneValue,
        nursery: trio.Nursery,
        wake: Callable[[], None],
    ) -> None:
        self.turn = trio.Lock()
        self.open: dict[int, set[Name]] = {}
        """The moves that are not settled, by the slots of their plans."""
        self.done: list[int] = []
        """Slots of plans of which nothing is left to do, which nobody knows yet."""
        self._ingress = ingress
        self._asking = asking
        self._work = work
        self._around = around
        self._port = around.port
        self._nursery = nursery
        self._wake = wake
        self._merge_at = MERGE_AT
        self._executor = Executor(around.port, work.suffix, value, around.clock.time_ms)
        self._outboxes = Outboxes(work.label, around.clock, nursery, self.turn, self._deliver, around.name_of)

    @property
    def waiting_moves(self) -> int:
        """Moves whose target is not available."""
        return sum(1 for _ in self._outboxes)

    @property
    def waiting_records(self) -> int:
        """The copies of these moves."""
        return sum(len(move.offsets) for _, move in self._outboxes)

    def waiting_at(self) -> dict[Place, int]:
        """The same by target."""
        found: dict[Place, int] = {}
        for _, move in self._outboxes:
            found[move.target] = found.get(move.target, 0) + len(move.offsets)
        return found

    def has_room(self) -> bool:
        """Whether more may be planned."""
        return len(self.open) < MAX_OPEN and self.waiting_records < MAX_WAITING

    def take_up(self, lane: Lane) -> None:
        """Go on with the plans that are open."""
        for plan in lane.plans.values():
            if plan.moves:
                self.open[plan.slot] = {move.name for move in plan.moves}
            else:
                self.done.append(plan.slot)
        for plan, move in lane.open_moves():
            self._outboxes.put(plan.slot, move)

    def take_done(self) -> list[int]:
        """The slots that are done; somebody else makes that known."""
        done, self.done = self.done, []
        return done

    def completed(self, route: Route) -> Route:
        """The route as its target is now."""
        port, target = self._port, route.target
        try:
            end = port.end(target)
            last = port.last_sequence(target, self._executor.producer_id, end)
        except KafkaError:
            end, last = 0, -1  # not there now: whoever needs to know looks through all of it
        return route._replace(since=end, last_sequence=last)

    async def merge(self) -> None:
        """Where there are many plans, make one of those of which nothing is left but moves in line."""
        if len(self.open) < self._merge_at:
            return
        async with self.turn:
            plans = self._asking.plans()
            waiting: dict[int, set[Name]] = {}
            records = 0
            for slot, names in self._outboxes.idle().items():
                size = sum(len(move.offsets) for move in plans[slot].moves)
                if names == self.open[slot] and records + size <= MERGED_RECORDS:
                    waiting[slot] = names
                    records += size
            if len(waiting) > 1:
                plan = await self._asking.plan(
                    lambda machine, token: machine.merge(self._ingress, waiting, token)
                )
                for slot in waiting:
                    del self.open[slot]
                self.open[plan.slot] = {move.name for move in plan.moves}
                self._outboxes.merged(waiting, plan)
        self._merge_at = min(MAX_OPEN, len(self.open) + MERGE_AT)

    async def execute(self, plan: Plan, known: Mapping[Place | None, Records]) -> None:
        """Move what is planned, or have it wait.  ``known`` are records that have been read, by source."""
        if not plan.moves:
            return
        self.open[plan.slot] = {move.name for move in plan.moves}
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
        left = self.open[slot]
        left.discard(name)
        if not left:
            del self.open[slot]
            self.done.append(slot)
            self._wake()

    async def _deliver(self, slot: int, move: Move) -> None:
        """Append one move of an outbox, or what its target takes of it, some records at a time: merged moves
        are many.  Raises :class:`KafkaError`."""
        left: Move | None = move
        looked = 0
        while left is not None:
            piece = self._piece(left, looked)
            looked = len(piece.offsets)
            is_all = looked == len(left.offsets)
            refused, records = await self._refusals(piece)
            if refused:
                left, looked = await self._amend(slot, left, refused, records), 0
                if not is_all:
                    continue
                piece = left or piece
            if left is not None:
                reached = await self._append(piece, records)
                if is_all:
                    self._appended(slot, left, reached)
                    break

    def _piece(self, move: Move, looked: int) -> Move:
        """The move as far as it is executed now: what is there already, or was lost, and some more."""
        try:
            looked = max(looked, self._executor.already_there(move))
        except KafkaError as error:
            if not is_gone(error):
                raise
        end = looked + PIECE
        return move if end >= len(move.offsets) else replace(move, offsets=move.offsets[:end])

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
        work, left = self._work, None
        routes = await work.refused(move, refused, records)
        if routes is None:
            reason = next(iter(refused.values()))
            raise KafkaError(ErrorCode.POLICY_VIOLATION, f"{reason}; there is nowhere else to go")
        keep = [offset for offset in move.offsets if offset not in refused]
        async with self.turn:
            instead = [self.completed(route) for route in routes]
            known = {each.name for each in self._asking.plans()[slot].moves}
            plan = await self._asking.plan(
                lambda machine, token: machine.amend(self._ingress, slot, move.name, keep, instead, token)
            )
            try:
                await work.amended(move, refused, routes)
            except KafkaError as error:
                self._asking.fail(error)
                raise
            for each in plan.moves:
                if each.name == move.name:
                    left = each
                elif each.name not in known:
                    self.open[slot].add(each.name)
                    self._outboxes.put(slot, each)
        if left is None:
            self._settled(slot, move.name)
        else:
            self._outboxes.amended(slot, left)
        return left
