"""What the lanes of one shard have decided: the state machine on a partition of ``__pykbroker_forward``.

A lane, per ingress partition::

    absent --open--> idle at position p --plan--> plans open, position behind the last of them
                       ^                              |        |
                       +------ finish (all done) -----+        +-- amend: a target refused for good

* Plans are decided in the order of the ingress log and never again: after a crash they are executed.
* Sequences of a target are given out in the order of deciding, also those of an amended move; so moves to
  one target are executed in the order of their sequences.  A target that is ahead of what the lane knows
  has copies of a plan that a power cut took from the log of plans: sequences go on behind them, or what
  is decided anew would count as there already.
* A move whose target refuses some records keeps its base sequence and has fewer of them.  The gap behind
  it does no harm: whoever executes compares sequences, and never demands that they follow each other.
* A slot is free again once its plan is done, so that the keys of a compacted log stay few.  Plans that
  wait for targets are merged into one.

Deciding raises nothing: callers ask about lanes that they have opened, in the order of their decisions.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pykbroker.coordinator.machine import Decision
from pykbroker.coordinator.shard_log import NewRecord, StoredRecord
from pykbroker.forwarding import plan as form
from pykbroker.forwarding.moves import cut, merged, planned
from pykbroker.forwarding.plan import LaneValue, Move, Place, Plan, PlanError, Route
from pykbroker.records.batch import MAX_SEQUENCE

log = logging.getLogger(__name__)

Name = tuple[Place, int]
"""What tells a move from the others of its plan."""
Answer = Plan | LaneValue
"""What a decision answers: the plan as it now is, or the lane."""
ForwardDecision = Decision[None, Answer]


@dataclass(slots=True)
class Lane:
    """The durable state of one ingress partition."""

    value: LaneValue
    plans: dict[int, Plan] = field(default_factory=dict)
    """The open ones, by slot."""
    sequences: dict[Place, int] = field(default_factory=dict)
    """The sequence of the next record to each target."""
    extras: dict[bytes, bytes] = field(default_factory=dict)
    """Small values of whoever decides, by name."""

    @property
    def settled(self) -> int:
        """The offset below which everything is moved."""
        return min((plan.first_offset for plan in self.plans.values()), default=self.value.position)

    def open_moves(self) -> list[tuple[Plan, Move]]:
        """What is to be executed: of each target, in the order of sequences."""
        moves = [(plan, move) for plan in self.plans.values() for move in plan.moves]
        # Open sequences lie in the half of the circle behind the next one, so that this order is theirs.
        moves.sort(key=lambda each: (each[1].base_sequence - self._next(each[1])) & MAX_SEQUENCE)
        return moves

    def _next(self, move: Move) -> int:
        return self.sequences.get(move.target, 0)


class ForwardMachine:
    """A :class:`~pykbroker.coordinator.machine.Machine` without deadlines and volatile changes."""

    def __init__(self) -> None:
        self.lanes: dict[Place, Lane] = {}
        self.by_producer: dict[int, Lane] = {}
        """The same by their producer ids."""
        self.busy: dict[Place, Lane] = {}
        """Those that have open plans."""

    # -- deciding

    def open(
        self, ingress: Place, producer_id: int, position: int, leader_epoch: int, token: int
    ) -> ForwardDecision:
        """Begin a lane at ``position``; one that is there already stays as it is."""
        known = self.lanes.get(ingress)
        if known is not None:
            return Decision(replies=((token, known.value),))
        value = LaneValue(producer_id, 0, position, leader_epoch)
        return Decision(records=(_lane_record(ingress, value),), replies=((token, value),))

    def plan(
        self,
        ingress: Place,
        next_offset: int,
        leader_epoch: int,
        routes: Sequence[Route],
        done: Iterable[int],
        token: int,
        extras: Sequence[tuple[bytes, bytes | None]] = (),
    ) -> ForwardDecision:
        """Decide about everything from the lane's position to below ``next_offset``; ``done`` are slots
        of plans that are.  Without routes there is nothing to execute, and only the position moves.
        ``extras`` are set, or removed (None), in the same batch."""
        lane = self.lanes[ingress]
        done = tuple(done)
        slot = _free_slot(lane, done)
        moves, sequences = planned(routes, lane.sequences)
        plan = Plan(slot=slot, first_offset=lane.value.position, next_offset=next_offset, moves=moves)
        records = [_done_record(ingress, each) for each in done if each != slot or not moves]
        if moves:
            records.append(_plan_record(ingress, plan))
        records += _sequence_records(ingress, sequences)
        records += [NewRecord(form.extra_key(ingress, name), value) for name, value in extras]
        value = lane.value._replace(position=next_offset, leader_epoch=leader_epoch)
        if value != lane.value:
            records.append(_lane_record(ingress, value))
        return Decision(records=tuple(records), replies=((token, plan),))

    def finish(self, ingress: Place, done: Iterable[int], token: int) -> ForwardDecision:
        """These plans are executed, and the high watermarks of their targets have passed them."""
        lane = self.lanes[ingress]
        records = tuple(_done_record(ingress, slot) for slot in done if slot in lane.plans)
        return Decision(records=records, replies=((token, lane.value),))

    def amend(
        self,
        ingress: Place,
        slot: int,
        name: Name,
        keep: Sequence[int],
        instead: Sequence[Route],
        token: int,
    ) -> ForwardDecision:
        """The target of the move ``name`` refuses all but the offsets ``keep``, which begin with those
        that it has already; ``instead``: where the others go."""
        lane = self.lanes[ingress]
        plan = lane.plans[slot]
        more, sequences = planned(instead, lane.sequences)
        moves: list[Move] = []
        for move in plan.moves:
            if move.name != name:
                moves.append(move)
            elif keep:
                moves.append(replace(move, offsets=tuple(keep)))
        amended = Plan(
            slot=slot, first_offset=plan.first_offset, next_offset=plan.next_offset, moves=(*moves, *more)
        )
        records = (_plan_record(ingress, amended), *_sequence_records(ingress, sequences))
        return Decision(records=records, replies=((token, amended),))

    def merge(self, ingress: Place, waiting: Mapping[int, Collection[Name]], token: int) -> ForwardDecision:
        """Make one plan of several, by slot, of which only these moves are left."""
        lane = self.lanes[ingress]
        plans = [lane.plans[slot] for slot in waiting]
        left = [move for plan, move in lane.open_moves() if move.name in waiting.get(plan.slot, ())]
        joined = Plan(
            slot=min(waiting),
            first_offset=min(plan.first_offset for plan in plans),
            next_offset=max(plan.next_offset for plan in plans),
            moves=merged(left),
        )
        records = [_plan_record(ingress, joined)]
        records += [_done_record(ingress, plan.slot) for plan in plans if plan.slot != joined.slot]
        return Decision(records=tuple(records), replies=((token, joined),))

    def restart(self, ingress: Place, position: int, leader_epoch: int, token: int) -> ForwardDecision:
        """Go on at ``position``: the ingress log has lost what lay behind it, and what is there or comes
        there now is something else than what was decided about.  Moves from other logs stay as they are."""
        lane = self.lanes[ingress]
        value = lane.value._replace(position=position, leader_epoch=leader_epoch)
        records = [_lane_record(ingress, value)]
        for plan in lane.plans.values():
            left = cut(plan, position)
            if not left.moves:
                records.append(_done_record(ingress, plan.slot))
            elif left != plan:
                records.append(_plan_record(ingress, left))
        return Decision(records=tuple(records), replies=((token, value),))

    def forget(self, ingress: Place, token: int) -> ForwardDecision:
        """The ingress partition is gone."""
        lane = self.lanes[ingress]
        keys = [form.plan_key(ingress, slot) for slot in lane.plans]
        keys += [form.sequence_key(ingress, target) for target in lane.sequences]
        keys += [form.extra_key(ingress, name) for name in lane.extras]
        keys.append(form.lane_key(ingress))
        return Decision(records=tuple(NewRecord(key, None) for key in keys), replies=((token, lane.value),))

    def forget_targets(self, ingress: Place, targets: Iterable[Place], token: int) -> ForwardDecision:
        """These targets are gone; those that an open plan names are kept until it is done."""
        lane = self.lanes[ingress]
        named = {move.target for plan in lane.plans.values() for move in plan.moves}
        keys = [form.sequence_key(ingress, each) for each in targets if each not in named]
        return Decision(records=tuple(NewRecord(key, None) for key in keys), replies=((token, lane.value),))

    # -- applying

    def apply(self, record: StoredRecord) -> None:
        try:
            self._apply(record)
        except PlanError as error:
            log.error("a record of forwarding is not understood: offset=%d: %s", record.offset, error)

    def _apply(self, record: StoredRecord) -> None:
        key, value = form.decode_key(record.key), record.value
        if key.kind == form.LANE:
            self._apply_lane(key.ingress, None if value is None else form.decode_lane(value))
            return
        lane = self.lanes.get(key.ingress)
        if lane is None:
            # After compaction the lane's own record may come last; what it is then says that record.
            if value is None:
                return
            lane = self.lanes[key.ingress] = Lane(LaneValue(-1, -1, 0, 0))
        if key.kind == form.PLAN:
            if value is None:
                lane.plans.pop(key.slot, None)
                if not lane.plans:
                    self.busy.pop(key.ingress, None)
            else:
                lane.plans[key.slot] = form.decode_plan(key.slot, value)
                self.busy[key.ingress] = lane
        elif key.kind == form.EXTRA:
            if value is None:
                lane.extras.pop(key.name, None)
            else:
                lane.extras[key.name] = value
        elif key.target is not None:
            if value is None:
                lane.sequences.pop(key.target, None)
            else:
                lane.sequences[key.target] = form.decode_sequence(value)

    def _apply_lane(self, ingress: Place, value: LaneValue | None) -> None:
        lane = self.lanes.get(ingress)
        if lane is not None:
            self.by_producer.pop(lane.value.producer_id, None)
        if value is None:
            self.lanes.pop(ingress, None)
            self.busy.pop(ingress, None)
            return
        if lane is None:
            lane = self.lanes[ingress] = Lane(value)
        lane.value = value
        self.by_producer[value.producer_id] = lane

    def settle(self, changes: tuple[None, ...]) -> None:
        assert not changes

    def loaded(self, now: float) -> None:
        for ingress in [each for each, lane in self.lanes.items() if lane.value.producer_id < 0]:
            log.error("a lane is lost to damage and begins anew: ingress=%s-%d", *ingress)
            del self.lanes[ingress]
            self.busy.pop(ingress, None)

    def next_deadline(self) -> float:
        return math.inf

    def on_deadline(self, now: float, now_ms: int) -> ForwardDecision:
        raise AssertionError("nothing is ever due")

    def postpone(self, until: float) -> None:
        raise AssertionError("nothing is ever due")


def _free_slot(lane: Lane, done: Sequence[int]) -> int:
    taken = lane.plans.keys() - set(done)
    slot = 0
    while slot in taken:
        slot += 1
    return slot


def _lane_record(ingress: Place, value: LaneValue) -> NewRecord:
    return NewRecord(form.lane_key(ingress), form.encode_numbers(*value))


def _sequence_records(ingress: Place, sequences: Mapping[Place, int]) -> list[NewRecord]:
    return [
        NewRecord(form.sequence_key(ingress, target), form.encode_numbers(sequence))
        for target, sequence in sequences.items()
    ]


def _plan_record(ingress: Place, plan: Plan) -> NewRecord:
    return NewRecord(form.plan_key(ingress, plan.slot), form.encode_plan(plan))


def _done_record(ingress: Place, slot: int) -> NewRecord:
    return NewRecord(form.plan_key(ingress, slot), None)
