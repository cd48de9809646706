"""The whole machine of failed deliveries over logs in memory, one step at a time, and it can crash.

What is decided and how it is kept is the real thing: nacks and what counts of them, headers, decisions,
held records, the schedule, the log of plans, the executor.  What only carries things from one to the other
is written anew here, as ``docs/decisions/delivery.md`` has it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import NamedTuple

import trio

from pykbroker.catalog.retrying import RetrySettings, Role
from pykbroker.clock import MovableClock
from pykbroker.coordinator.machine import Decision
from pykbroker.coordinator.runtime import Shard
from pykbroker.coordinator.shard_log import MemoryLog
from pykbroker.delivery import headers, held, nacks
from pykbroker.delivery.counted import Changes, Counted, Holder
from pykbroker.delivery.deciding import Ask, Fate, Outcome, decide
from pykbroker.delivery.index import Indexed, LaneView, MemoryIndex
from pykbroker.delivery.released import Released, Row
from pykbroker.delivery.schedule import Batch, Schedule
from pykbroker.delivery.settled import Needed, ranges_of
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.forwarding.copying import Building, Source, sources
from pykbroker.forwarding.executing import Executor
from pykbroker.forwarding.machine import Answer, ForwardMachine, Lane
from pykbroker.forwarding.plan import Move, Place, Plan, Route
from pykbroker.forwarding.shards import ForwardShard
from pykbroker.forwarding.targets import Rules
from pykbroker.partitions.admission import Pipeline
from pykbroker.records.batch import read_header
from pykbroker.records.build import RecordData, encode_batch
from pykbroker.records.compression import Codec
from pykbroker.records.decode import payload_of
from pykbroker.records.varint import append_varint

COMMITS, HELD, DELAYED, LETTERS = (Place(bytes([each]) * 16, 0) for each in b"chdl")
LANES = {COMMITS: 7, HELD: 8}
"""The lane that follows commits and the one that releases, with their producer ids."""
RELEASED = b"R"
PARTITION = 0


class Crash(Exception):
    """The broker is gone."""


class Commit(NamedTuple):
    """What the offsets topic says."""

    topic_id: bytes
    offset: int
    metadata: str


class Logs:
    """A :class:`~pykbroker.forwarding.targets.TargetPort` over lists of records; they outlive crashes."""

    def __init__(self, max_bytes: int) -> None:
        self.records: dict[Place, list[Source]] = defaultdict(list)
        self.gone: dict[Place, list[Source]] = {}
        """Deleted ones, and what was in them."""
        self.forgetful = False
        """Whether no producer is known any more."""
        self.appends_left: int | None = None
        """Appends that still work; the one after them brings the broker down, ``after`` it is made or not."""
        self.after = False
        self._max_bytes = max_bytes
        self._sequences: dict[Place, list[tuple[int, int]]] = defaultdict(list)

    def produce(self, place: Place, record: RecordData) -> None:
        """A client's record."""
        self._add(place, encode_batch([record], timestamp_ms=0))

    def delete(self, place: Place) -> None:
        self.gone[place] = self.records.pop(place, [])

    def _check(self, target: Place) -> None:
        if target in self.gone:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_ID)

    def rules(self, target: Place) -> Rules:
        self._check(target)
        return Rules(self._max_bytes, None, None, False, True)

    def end(self, target: Place) -> int:
        self._check(target)
        return len(self.records[target])

    def last_sequence(self, target: Place, producer_id: int, since: int) -> int:
        self._check(target)
        begin = since if self.forgetful else 0
        mine = [sequence for who, sequence in self._sequences[target][begin:] if who == producer_id]
        return mine[-1] if mine else -1

    def append(self, target: Place, batch: bytearray, *, now_ms: int) -> int:
        self._check(target)
        if self.appends_left == 0:
            if self.after:
                self._add(target, batch)
            raise Crash
        if self.appends_left is not None:
            self.appends_left -= 1
        self._add(target, batch)
        return len(self.records[target])

    def _add(self, place: Place, batch: bytes | bytearray) -> None:
        header = read_header(batch)
        records, known = self.records[place], self._sequences[place]
        for index, record in enumerate(sources(header, bytes(payload_of(batch)), keep_provenance=True)):
            records.append(record._replace(offset=len(records)))
            known.append((header.producer_id, (header.base_sequence + index) & 0x7FFF_FFFF))

    def settled(self, target: Place, offset: int) -> bool:
        return True

    async def wait_settled(self, target: Place, offset: int) -> None:
        raise AssertionError("everything is settled at once")

    def validators(self, target: Place) -> Pipeline | None:
        return None


class Machinery:
    """One partition of an origin, with the flow of one group."""

    def __init__(self, role: Role, face: Place, max_bytes: int) -> None:
        self.role = role
        self.face = face
        """The retry topic as it is now."""
        self.origins: dict[bytes, bool] = {}
        """By topic id, whether it is a retry topic: that of the group or the origin."""
        self.now_ms = 1_000_000
        self.logs = Logs(max_bytes)
        self.commits: list[Commit] = []
        self.plans = MemoryLog()
        self.index = MemoryIndex()
        self.cleaned: set[int] = set()
        """Offsets of the held log that were given up."""
        self.start()
        for lane, producer_id in LANES.items():
            self.ask(
                partial(
                    ForwardMachine.open, ingress=lane, producer_id=producer_id, position=0, leader_epoch=0
                )
            )
        self.start()

    # -- life

    def start(self) -> None:
        """A broker that knows nothing but what lies in logs, and perhaps an index."""
        self.shard: ForwardShard = Shard[None, Answer, ForwardMachine](
            "plans", ForwardMachine(), self.plans, MovableClock()
        )
        trio.run(self.shard.elected, 0)
        self.logs.appends_left = None
        self.done: dict[Place, list[int]] = defaultdict(list)
        self.executed: dict[tuple[Place, int], set[tuple[Place, int]]] = defaultdict(set)
        lanes = self.shard.machine.lanes
        self.counted = Counted(lanes[COMMITS].extras if COMMITS in lanes else None)
        extras = lanes[HELD].extras if HELD in lanes else {}
        released = Released.decode(extras[RELEASED]) if RELEASED in extras else Released.nothing(0)
        known = trio.run(self.index.indexed, HELD)
        self.schedule = Schedule(
            LaneView(self.index, HELD), released, 0 if known is None else known.end, limit=5
        )

    def older_index(self) -> Callable[[], None]:
        """What puts the index back to what it is now."""
        before = deepcopy(self.index)

        def back() -> None:
            self.index = before

        return back

    def ask(self, decision: Callable[..., Decision[None, Answer]]) -> Answer:
        async def asked() -> Answer:
            machine = self.shard.machine
            return await self.shard.ask(lambda token, _now, _ms: decision(machine, token=token))

        return trio.run(asked)

    def lane(self, ingress: Place) -> Lane:
        return self.shard.machine.lanes[ingress]

    # -- following commits

    @property
    def is_following_done(self) -> bool:
        """Whether nothing of what was committed is still to be copied."""
        return not self.uncopied_commits and self.next_move(COMMITS) is None

    @property
    def uncopied_commits(self) -> int:
        """Commits of which it is not planned yet what they ask for."""
        return len(self.commits) - self.lane(COMMITS).value.position

    def follow(self, count: int) -> None:
        """Plan what the next commits ask for."""
        position = self.lane(COMMITS).value.position
        routes: list[Route] = []
        changes: Changes = {}
        for commit in self.commits[position : position + count]:
            holder = Holder(self.role.group, commit.topic_id, PARTITION)
            self.counted.rewind(holder, commit.offset, changes)
            asked = nacks.parse(commit.metadata)
            if not isinstance(asked, nacks.Nack) or commit.topic_id not in self.origins:
                continue
            place = Place(commit.topic_id, PARTITION)
            new = [
                offset
                for first, last in asked.ranges
                for begin, end in self.counted.gaps(holder, first, last)
                for offset in range(begin, end + 1)
            ]
            self.counted.add(holder, asked.ranges, changes)
            there = tuple(offset for offset in new if offset < len(self.logs.records.get(place, ())))
            if there:
                returned = self.origins[commit.topic_id]
                note = headers.Nack(
                    returned, self.role.origin, PARTITION, self.role.group, asked.reason
                ).encode()
                routes.append(self._route(COMMITS, Route(DELAYED, there, source=place, note=note)))
        self._plan(COMMITS, min(position + count, len(self.commits)), routes, list(changes.items()))

    # -- arriving

    @property
    def decided(self) -> int:
        """Where the held log says that arriving goes on."""
        records = self.logs.records[HELD]
        return held.decision(records[-1]).ingress_offset + 1 if records else 0

    @property
    def undecided(self) -> int:
        """Records that have arrived and are not held."""
        return len(self.logs.records[DELAYED]) - self.decided

    def arrive(self, count: int, settings: RetrySettings, ask: Ask) -> list[Outcome]:
        """Decide about the next records, and hold them: one append."""
        building = Building(Codec.NONE)
        outcomes = []
        for record in self.logs.records[DELAYED][self.decided :][:count]:
            outcome = decide(self.role, PARTITION, record, settings, ask, self.now_ms)
            kind = {Fate.RETRY: held.Kind.FACE, Fate.DEAD_LETTER: held.Kind.NAMED}.get(
                outcome.fate, held.Kind.NOTHING
            )
            decision = held.Held(
                due_ms=outcome.due_ms,
                kind=kind,
                partition=PARTITION,
                name=outcome.topic or "",
                ingress_offset=record.offset,
                ingress_epoch=0,
            )
            if kind is held.Kind.NOTHING:
                building.add(record.timestamp, held.marker(decision))
            else:
                building.add(record.timestamp, held.suffix(outcome.record, decision))
            outcomes.append(outcome)
        if outcomes:
            batch = building.finish(
                producer_id=-1, epoch=-1, base_sequence=-1, append_time_ms=None, level=None
            )
            self.logs.append(HELD, batch, now_ms=self.now_ms)
        return outcomes

    @property
    def unindexed(self) -> int:
        """Held records that the index does not have."""
        return len(self.logs.records[HELD]) - self.schedule.indexed_end

    def index_more(self, count: int) -> None:
        """The next held records, into the index and the schedule."""
        first = self.schedule.indexed_end
        records = self.logs.records[HELD][first : first + count]
        if not records:
            return
        rows = []
        for record in (each for each in records if each.offset not in self.cleaned):
            decision = held.decision(record)
            row = Row(decision.due_ms, record.offset)
            if decision.kind is not held.Kind.NOTHING and not self.schedule.released.covers(row):
                rows.append(row)
        end = first + len(records)
        trio.run(self.index.add, HELD, rows, Indexed(end, 0))
        self.schedule.indexed(rows, end)

    def forget_index(self) -> None:
        """Its file is lost."""
        self.index = MemoryIndex()

    # -- releasing

    @property
    def unreleased(self) -> bool:
        """Whether anything waits, or is in the index still."""
        return bool(self.index.rows.get(HELD))

    def release(self) -> Batch | None:
        """Plan what is due."""
        batch = trio.run(self.schedule.next, self.now_ms)
        if batch is None:
            return None
        by_target: dict[Place, list[int]] = defaultdict(list)
        for row in batch.in_order:
            assert row.offset not in self.cleaned
            decision = held.decision(self.logs.records[HELD][row.offset])
            assert (decision.due_ms, decision.kind == held.Kind.NAMED) == (row.due_ms, bool(decision.name))
            by_target[LETTERS if decision.name else self.face].append(row.offset)
        routes = [self._route(HELD, Route(target, tuple(offsets))) for target, offsets in by_target.items()]
        self._plan(HELD, 0, routes, [(RELEASED, batch.after.encode())])
        self.schedule.took(batch)
        return batch

    def purge(self) -> None:
        """Rows that are released and durably so need not be kept; nor eras of which nothing waits."""
        extras = self.lane(HELD).extras
        if RELEASED in extras:
            trio.run(self.index.purge, HELD, Released.decode(extras[RELEASED]))
        if self.schedule.is_complete:
            floor = trio.run(self.index.extent, HELD, 0).floor
            self.schedule.ended(self.schedule.indexed_end if floor is None else floor)

    def clean(self) -> None:
        """What is settled goes from the held log, but for the last record, which says where to go on."""
        lane = self.lane(HELD)
        if RELEASED not in lane.extras:
            return
        moving = [move.offsets for plan in lane.plans.values() for move in plan.moves]
        settled = Needed(Released.decode(lane.extras[RELEASED]), ranges_of(moving)).settled()
        for record in self.logs.records[HELD][:-1]:
            building = Building(Codec.NONE)
            count = bytearray()
            append_varint(count, record.header_count)
            building.add(record.timestamp, b"".join((record.body, count, record.tail)))
            batch = building.finish(
                producer_id=-1, epoch=-1, base_sequence=-1, append_time_ms=None, level=None
            )
            header = read_header(batch)._replace(base_offset=record.offset)
            self.cleaned.update(settled(header, bytes(payload_of(batch))))

    # -- plans

    def _route(self, ingress: Place, route: Route) -> Route:
        since, last = self.logs.end(route.target), self.logs.last_sequence(route.target, LANES[ingress], 0)
        return route._replace(since=since, last_sequence=last)

    def _plan(
        self,
        ingress: Place,
        position: int,
        routes: Sequence[Route],
        extras: Sequence[tuple[bytes, bytes | None]],
    ) -> None:
        done = self.done.pop(ingress, [])
        for slot in done:
            self.executed.pop((ingress, slot), None)
        self.ask(
            partial(
                ForwardMachine.plan,
                ingress=ingress,
                next_offset=position,
                leader_epoch=0,
                routes=routes,
                done=done,
                extras=extras,
            )
        )

    def next_move(self, ingress: Place) -> tuple[Plan, Move] | None:
        """Of some target, the first that is not executed yet."""
        for plan, move in self.lane(ingress).open_moves():
            if move.name not in self.executed[ingress, plan.slot] and plan.slot not in self.done[ingress]:
                return plan, move
        return None

    def execute(self, ingress: Place) -> None:
        """Execute the next move, or find out that its target is gone."""
        found = self.next_move(ingress)
        assert found is not None
        plan, move = found
        if move.target in self.logs.gone:
            instead = [
                self._route(ingress, Route(self.face, move.offsets, source=move.source, note=move.note))
            ]
            self.ask(
                partial(
                    ForwardMachine.amend,
                    ingress=ingress,
                    slot=plan.slot,
                    name=move.name,
                    keep=(),
                    instead=instead,
                )
            )
            return
        executor = Executor(self.logs, self._suffix, self.lane(ingress).value, lambda: self.now_ms)
        trio.run(executor.append, move, self._records(move.source or ingress, move.offsets))
        names = self.executed[ingress, plan.slot]
        names.add(move.name)
        if names >= {each.name for each in plan.moves}:
            self.done[ingress].append(plan.slot)

    def _records(self, place: Place, offsets: Iterable[int]) -> Mapping[int, Source]:
        there = self.logs.records.get(place, [])
        assert place != HELD or self.cleaned.isdisjoint(offsets)
        return {offset: there[offset] for offset in offsets if offset < len(there)}

    def _suffix(self, move: Move, index: int, record: Source) -> bytes:
        if move.source is not None:
            return headers.nacked_suffix(record, move.note)
        return held.delivered(record)

    def finish(self, ingress: Place) -> None:
        """Note which plans are done."""
        done = self.done.pop(ingress, [])
        for slot in done:
            self.executed.pop((ingress, slot), None)
        self.ask(partial(ForwardMachine.finish, ingress=ingress, done=done))

    def merge(self, ingress: Place) -> None:
        """Make one plan of those of which nothing is executed."""
        waiting = {
            slot: {move.name for move in plan.moves}
            for slot, plan in self.lane(ingress).plans.items()
            if slot not in self.done[ingress] and not self.executed[ingress, slot]
        }
        if len(waiting) > 1:
            self.ask(partial(ForwardMachine.merge, ingress=ingress, waiting=waiting))
