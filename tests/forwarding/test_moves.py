"""Moves that are joined, and what of plans stays in the log."""

from __future__ import annotations

from pykbroker.coordinator.shard_log import StoredRecord
from pykbroker.forwarding.machine import ForwardDecision, ForwardMachine
from pykbroker.forwarding.moves import merged
from pykbroker.forwarding.plan import Move, Place, Route

HERE, SOURCE, TARGET = (Place(bytes([each]) * 16, 0) for each in b"hst")


def move(offset: int, sequence: int, *, source: Place | None = SOURCE, note: bytes = b"1") -> Move:
    return Move(target=TARGET, offsets=(offset,), since=0, base_sequence=sequence, source=source, note=note)


def test_only_moves_of_one_source_and_one_note_are_joined() -> None:
    assert [each.offsets for each in merged([move(5, 0), move(6, 1)])] == [(5, 6)]
    for other in (move(6, 1, note=b"2"), move(6, 1, source=None), move(6, 2), move(5, 1)):
        assert merged([move(5, 0), other]) == (move(5, 0), other)


class Log:
    """A machine whose decisions are applied at once."""

    def __init__(self) -> None:
        self.machine = ForwardMachine()
        self.apply(self.machine.open(HERE, 7, 0, 0, 1))

    def apply(self, decision: ForwardDecision) -> None:
        for number, record in enumerate(decision.records):
            self.machine.apply(StoredRecord(number, record.key, record.value))

    def plan(self, end: int, *offsets: int, done: tuple[int, ...] = ()) -> None:
        routes = [Route(TARGET, offsets)] if offsets else []
        self.apply(self.machine.plan(HERE, end, 0, routes, done, 1))


def test_a_plan_that_is_done_goes_when_the_next_step_moves_nothing() -> None:
    log = Log()
    log.plan(3, 0, 1, 2)
    lane = log.machine.lanes[HERE]
    assert list(lane.plans) == [0]
    log.plan(5, done=(0,))
    assert (lane.plans, lane.value.position, lane.settled) == ({}, 5, 5)
    assert not log.machine.busy


def test_of_plans_that_are_made_one_nothing_counts_as_settled() -> None:
    log = Log()
    log.plan(3, 0)
    log.plan(9, 7)
    lane = log.machine.lanes[HERE]
    waiting = {slot: {each.name for each in plan.moves} for slot, plan in lane.plans.items()}
    log.apply(log.machine.merge(HERE, waiting, 1))
    (plan,) = lane.plans.values()
    assert (plan.first_offset, plan.next_offset, lane.settled) == (0, 9, 0)


def test_moves_to_one_target_are_open_in_the_order_of_their_sequences() -> None:
    log = Log()
    log.plan(3, 0)
    log.plan(5, 4)
    log.plan(7, 6, done=(0,))  # takes the slot of the first
    moves = [each for _, each in log.machine.lanes[HERE].open_moves()]
    assert [(each.base_sequence, each.offsets) for each in moves] == [(1, (4,)), (2, (6,))]
