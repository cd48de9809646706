"""Idempotence: Kafka's answers row by row, then a machine against a slow, obvious model."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.records.batch import CONTROL_BIT, TRANSACTIONAL_BIT, BatchHeader
from pykbroker.records.producers import Duplicate, ProducerEntry, ProducerStates
from pykbroker.records.snapshot import decode_snapshot, encode_snapshot

MAX = 0x7FFF_FFFF


def header(
    sequence: int,
    count: int = 1,
    *,
    offset: int = 0,
    pid: int = 7,
    epoch: int = 0,
    attributes: int = 0,
    timestamp: int = 50,
) -> BatchHeader:
    """A batch header as producers send it."""
    return BatchHeader(
        offset, 49, 0, 2, 0, attributes, count - 1, timestamp, timestamp, pid, epoch, sequence, count
    )


def append(states: ProducerStates, sequence: int, count: int = 1, now_ms: int = 100, **more: int) -> int:
    """Check and update as a partition does; returns the base offset."""
    offset = states.next_offset
    assert states.check(header(sequence, count, **more)) is None
    states.update(header(sequence, count, offset=offset, **more), now_ms)
    return offset


def refused(states: ProducerStates, sequence: int, count: int = 1, **more: int) -> ErrorCode:
    """The code of the refusal, which must not change anything."""
    before = encode_snapshot(states)
    with pytest.raises(KafkaError) as error:
        states.check(header(sequence, count, **more))
    assert encode_snapshot(states) == before
    return error.value.code


def test_the_last_five_batches_are_duplicates_the_sixth_is_not() -> None:
    states = ProducerStates()
    offsets = [append(states, sequence * 3, 3) for sequence in range(6)]
    for sequence in range(1, 6):
        assert states.check(header(sequence * 3, 3)) == Duplicate(
            offsets[sequence], offsets[sequence] + 2, 50
        )
    assert refused(states, 0, 3) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    append(states, 18)


def test_duplicates_match_first_and_last_sequence() -> None:
    states = ProducerStates()
    append(states, 0, 3)
    for sequence, count in ((0, 2), (0, 4), (1, 2), (2, 1)):
        assert refused(states, sequence, count) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_a_gap() -> None:
    states = ProducerStates()
    append(states, 0)
    assert refused(states, 2) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_an_unknown_producer_may_start_anywhere_and_is_checked_then() -> None:
    states = ProducerStates()
    append(states, 500)
    assert refused(states, 0) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    append(states, 501)


def test_a_higher_epoch_starts_at_zero_and_fences_the_old_one() -> None:
    states = ProducerStates()
    append(states, 0)
    append(states, 1)
    assert refused(states, 2, epoch=1) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    append(states, 0, epoch=1)
    assert refused(states, 2, epoch=0) is ErrorCode.INVALID_PRODUCER_EPOCH
    assert refused(states, 1, epoch=0) is ErrorCode.INVALID_PRODUCER_EPOCH, "its window is gone, too"
    append(states, 1, epoch=1)


def test_sequences_wrap_between_and_inside_batches() -> None:
    states = ProducerStates()
    append(states, MAX - 1, 2)
    first = append(states, 0, 2)
    assert states.check(header(0, 2)) == Duplicate(first, first + 1, 50)
    other = ProducerStates()
    offset = append(other, MAX - 1, 4)
    assert other.check(header(MAX - 1, 4)) == Duplicate(offset, offset + 3, 50)
    append(other, 2)


def test_sequence_missing() -> None:
    states = ProducerStates()
    assert refused(states, -1) is ErrorCode.INVALID_RECORD
    append(states, 0)
    assert refused(states, -1) is ErrorCode.INVALID_RECORD


def test_epoch_missing_is_let_through_until_there_is_one() -> None:
    states = ProducerStates()
    append(states, 3, epoch=-1)
    append(states, 9, epoch=-1)
    assert states.check(header(9, epoch=-1)) == Duplicate(1, 1, 50)
    append(states, 5)
    assert refused(states, 6, epoch=-1) is ErrorCode.INVALID_PRODUCER_EPOCH


def test_batches_without_producer_id_leave_no_trace() -> None:
    states = ProducerStates()
    append(states, -1, 4, pid=-1, epoch=-1)
    assert (len(states), states.next_offset) == (0, 4)


def test_state_lives_from_the_last_append_whatever_the_clients_clock_says() -> None:
    states = ProducerStates()
    append(states, 0, now_ms=1000, timestamp=1)
    append(states, 0, pid=8, now_ms=1500, timestamp=1)
    assert states.expire(1999, 1000) == 0
    assert states.expire(2000, 1000) == 1
    assert states.get(7) is None
    append(states, 77)
    assert [entry.producer_id for entry in states] == [8, 7]


def test_transactions_hold_the_stable_offset_until_the_marker_is_replicated() -> None:
    states = ProducerStates()
    append(states, -1, 10, pid=-1)
    assert states.first_unstable_offset(10) is None
    append(states, 0, attributes=TRANSACTIONAL_BIT)
    append(states, 0, pid=8, attributes=TRANSACTIONAL_BIT)
    append(states, 1, attributes=TRANSACTIONAL_BIT)
    assert states.first_unstable_offset(13) == 10
    assert refused(states, 2) is ErrorCode.INVALID_TXN_STATE
    assert states.expire(10**9, 1) == 0, "open transactions keep their producer"
    marker = header(-1, offset=13, attributes=TRANSACTIONAL_BIT | CONTROL_BIT)
    assert states.update(marker, 100) == (7, 10, 13)
    assert states.first_unstable_offset(13) == 10
    assert states.first_unstable_offset(14) == 11
    assert states.update(marker._replace(base_offset=14), 100) is None, "a marker without transaction"
    append(states, 2, attributes=TRANSACTIONAL_BIT)


def test_a_marker_with_a_new_epoch_starts_sequences_at_zero() -> None:
    states = ProducerStates()
    append(states, 0, attributes=TRANSACTIONAL_BIT)
    states.update(header(-1, offset=1, epoch=1, attributes=TRANSACTIONAL_BIT | CONTROL_BIT), 100)
    assert refused(states, 1, epoch=0) is ErrorCode.INVALID_PRODUCER_EPOCH
    assert refused(states, 1, epoch=1) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    append(states, 0, epoch=1)


def test_truncate_says_whether_the_state_is_exact() -> None:
    states = ProducerStates()
    for sequence in range(3):
        append(states, sequence)
    append(states, 0, pid=8, attributes=TRANSACTIONAL_BIT)
    assert states.truncate(4)
    assert states.truncate(99)
    assert states.next_offset == 4
    assert not states.truncate(2)
    assert states.next_offset == 2
    assert states.get(8) is None
    assert states.first_unstable_offset(9) is None
    append(states, 2)


def test_truncate_above_everything_known_is_exact() -> None:
    states = ProducerStates()
    append(states, 0)
    append(states, -1, 5, pid=-1)
    assert states.truncate(3)
    append(states, 1)


class AgainstAModel(RuleBasedStateMachine):
    """One producer with random batches; the model keeps the whole history and thinks slowly."""

    def __init__(self) -> None:
        super().__init__()
        self.states = ProducerStates()
        self.epoch = 0
        self.batches: list[tuple[int, int, int]] = []  # offset, first sequence, count of this epoch

    def next_sequence(self) -> int:
        if not self.batches:
            return 0
        _, first, count = self.batches[-1]
        return (first + count) % (MAX + 1)

    @rule(start=st.sampled_from([0, 5, MAX - 3, MAX]), count=st.integers(1, 6))
    @precondition(lambda self: not self.batches and self.epoch == 0)
    def first(self, start: int, count: int) -> None:
        self.batches.append((append(self.states, start, count), start, count))

    @rule(count=st.integers(1, 6))
    @precondition(lambda self: self.batches or self.epoch)
    def good(self, count: int) -> None:
        first = self.next_sequence()
        self.batches.append((append(self.states, first, count, epoch=self.epoch), first, count))

    @rule(back=st.integers(1, 8))
    @precondition(lambda self: self.batches)
    def again(self, back: int) -> None:
        back = min(back, len(self.batches))
        offset, first, count = self.batches[-back]
        if back <= 5:
            duplicate = self.states.check(header(first, count, epoch=self.epoch))
            assert duplicate == Duplicate(offset, offset + count - 1, 50)
        else:
            assert refused(self.states, first, count, epoch=self.epoch) is (
                ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
            )

    @rule(skip=st.integers(1, 5))
    @precondition(lambda self: self.batches)
    def gap(self, skip: int) -> None:
        first = (self.next_sequence() + skip) % (MAX + 1)
        assert refused(self.states, first, epoch=self.epoch) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER

    @rule()
    @precondition(lambda self: self.batches)
    def bump(self) -> None:
        self.epoch += 1
        self.batches = [(append(self.states, 0, epoch=self.epoch), 0, 1)]

    @rule()
    def restart(self) -> None:
        self.states = decode_snapshot(encode_snapshot(self.states), self.states.next_offset)

    @invariant()
    def at_most_five_are_kept(self) -> None:
        assert all(len(entry.window) <= 5 for entry in self.states)


TestAgainstAModel = AgainstAModel.TestCase


def test_an_entry_is_small_and_typed() -> None:
    entry = ProducerEntry(producer_id=1)
    assert entry.last_sequence == -1
    assert not hasattr(entry, "__dict__")
