"""Probes: producer ids, epochs, sequences, and the window of five batches."""

from typing import Any

import pytest

from interop.batches import Record, encode_batch
from interop.conftest import Broker
from interop.messages import Answer
from interop.probing import create_topic, init_producer, produce, unique, wait_until
from interop.raw import Connection

OUT_OF_ORDER, INVALID_EPOCH, INVALID_RECORD = 45, 47, 87
LARGEST = 2**31 - 1


class Producer:
    """An idempotent producer that numbers nothing by itself."""

    def __init__(self, connection: Connection, topic: str, producer_id: int | None = None) -> None:
        self.connection = connection
        self.topic = topic
        self.producer_id = init_producer(connection) if producer_id is None else producer_id

    def send(self, sequence: int, count: int = 1, *, epoch: int = 0) -> Answer:
        """One batch of ``count`` records that starts at ``sequence``."""
        batch = encode_batch(
            [Record()] * count, producer_id=self.producer_id, producer_epoch=epoch, sequence=sequence
        )
        return produce(self.connection, self.topic, batch)


@pytest.fixture
def producer(connection: Connection, topic: str) -> Producer:
    """A producer with a fresh id on a fresh topic."""
    return Producer(connection, topic)


def outcome(part: Answer) -> tuple[int, int]:
    """Error code and base offset."""
    return part.error_code, part.base_offset


def test_the_last_five_batches_are_recognised(producer: Producer) -> None:
    """A batch with the sequence range of one of the last five: success, the original offset, nothing
    appended."""
    for sequence in range(6):
        assert outcome(producer.send(sequence)) == (0, sequence)
    for sequence in range(1, 6):
        assert outcome(producer.send(sequence)) == (0, sequence)
    assert outcome(producer.send(6)) == (0, 6)


def test_the_sixth_back_is_out_of_order(producer: Producer) -> None:
    """45, not 46 DUPLICATE_SEQUENCE_NUMBER; and nothing is appended."""
    for sequence in range(6):
        producer.send(sequence)
    assert producer.send(0).error_code == OUT_OF_ORDER
    assert outcome(producer.send(6)) == (0, 6)


def test_duplicates_keep_their_own_offsets(producer: Producer) -> None:
    """Batches of several records, with another producer's record between them."""
    assert outcome(producer.send(0, 3)) == (0, 0)
    assert produce(producer.connection, producer.topic).base_offset == 3
    assert outcome(producer.send(3, 2)) == (0, 4)
    assert outcome(producer.send(0, 3)) == (0, 0)
    assert outcome(producer.send(3, 2)) == (0, 4)


@pytest.mark.parametrize("count", [1, 3])
def test_same_first_sequence_other_count(producer: Producer, count: int) -> None:
    """45: duplicates are matched on first and last sequence, not on the first alone."""
    assert producer.send(0, 2).error_code == 0
    assert producer.send(0, count).error_code == OUT_OF_ORDER


@pytest.mark.parametrize("sequence", [2, 5, LARGEST])
def test_gap(producer: Producer, sequence: int) -> None:
    """45, and the expected sequence is accepted afterwards."""
    producer.send(0)
    assert producer.send(sequence).error_code == OUT_OF_ORDER
    assert producer.send(1).error_code == 0


@pytest.mark.parametrize("first", [0, 17, LARGEST])
def test_unknown_producer_may_start_anywhere(producer: Producer, first: int) -> None:
    """The state may have been lost; from then on sequences are checked."""
    assert producer.send(first).error_code == 0
    assert producer.send(first).base_offset == 0
    assert producer.send((first + 5) & LARGEST).error_code == OUT_OF_ORDER


def test_producer_id_that_was_never_given_out(connection: Connection, topic: str) -> None:
    """A partition knows only what was produced to it, so any id is as good as another."""
    assert Producer(connection, topic, producer_id=1 << 40).send(0).error_code == 0


def test_higher_epoch_starts_at_zero(producer: Producer) -> None:
    """Any other first sequence is 45; once the new epoch wrote, the old one is 47."""
    producer.send(0)
    assert producer.send(1, epoch=1).error_code == OUT_OF_ORDER
    assert producer.send(1).error_code == 0
    assert producer.send(0, epoch=1).error_code == 0
    assert producer.send(2).error_code == INVALID_EPOCH
    assert producer.send(0, epoch=0).error_code == INVALID_EPOCH
    assert producer.send(1, epoch=1).error_code == 0


def test_epochs_may_be_skipped(producer: Producer) -> None:
    """From 0 to 5."""
    producer.send(0)
    assert producer.send(0, epoch=5).error_code == 0


def test_wrap_between_batches(producer: Producer) -> None:
    """After 2147483647 comes 0."""
    assert producer.send(LARGEST).error_code == 0
    assert producer.send(1).error_code == OUT_OF_ORDER
    assert outcome(producer.send(0)) == (0, 1)
    assert outcome(producer.send(LARGEST)) == (0, 0)


def test_wrap_inside_a_batch(producer: Producer) -> None:
    """A batch of four from 2147483646 ends at 1."""
    assert producer.send(LARGEST - 1, 4).error_code == 0
    assert outcome(producer.send(2)) == (0, 4)
    assert outcome(producer.send(LARGEST - 1, 4)) == (0, 0)


def test_producer_id_without_sequence(producer: Producer) -> None:
    """87 INVALID_RECORD."""
    assert producer.send(-1).error_code == INVALID_RECORD


def test_producer_id_without_epoch(producer: Producer) -> None:
    """Accepted from a producer that the partition does not know; 47 INVALID_PRODUCER_EPOCH once it has an
    epoch."""
    assert producer.send(0, epoch=-1).error_code == 0
    assert producer.send(0).error_code == 0
    assert producer.send(1, epoch=-1).error_code == INVALID_EPOCH


def test_sequence_without_producer_id(connection: Connection, topic: str) -> None:
    """Ignored: without an id there is nothing to check."""
    assert produce(connection, topic, encode_batch(sequence=5, producer_epoch=3)).error_code == 0


def test_partitions_know_producers_separately(connection: Connection, topic: str) -> None:
    """The same id and sequence on another topic is not a duplicate."""
    other = unique("other")
    create_topic(connection, other)
    producer = Producer(connection, topic)
    assert outcome(producer.send(0)) == (0, 0)
    assert outcome(Producer(connection, other, producer.producer_id).send(0)) == (0, 0)


def init(connection: Connection, version: int = 4, **values: Any) -> Answer:
    """One InitProducerId request, of an idempotent producer unless said otherwise."""
    defaults: dict[str, Any] = {"transactional_id": None, "transaction_timeout": 60_000}
    if version >= 3:
        defaults |= {"producer_id": -1, "producer_epoch": -1}
    return connection.ask("init_producer_id", version, **defaults | values)


@pytest.mark.parametrize("version", range(6))
def test_init_gives_a_fresh_id(connection: Connection, version: int) -> None:
    """Always a fresh one, epoch 0."""
    init_producer(connection)
    answers = [init(connection, version) for _ in range(2)]
    assert [(answer.error_code, answer.producer_epoch) for answer in answers] == [(0, 0)] * 2
    assert answers[0].producer_id != answers[1].producer_id


def test_init_with_the_old_id_gives_a_fresh_one(connection: Connection) -> None:
    """Only transactional producers keep their id."""
    old = init_producer(connection)
    answer = init(connection, producer_id=old, producer_epoch=0)
    assert (answer.error_code, answer.producer_epoch) == (0, 0)
    assert answer.producer_id != old


def test_init_with_an_empty_transactional_id(connection: Connection) -> None:
    """42 INVALID_REQUEST."""
    assert init(connection, transactional_id="").error_code == 42


@pytest.mark.parametrize("timeout", [0, -1, 900_001])
def test_init_without_transactions_takes_any_timeout(connection: Connection, timeout: int) -> None:
    """Nobody will look at it."""
    init_producer(connection)
    assert init(connection, transaction_timeout=timeout).error_code == 0


@pytest.mark.parametrize("timeout", [0, -1, 900_001])
def test_init_with_an_impossible_transaction_timeout(
    broker: Broker, connection: Connection, timeout: int
) -> None:
    """50 INVALID_TRANSACTION_TIMEOUT, up to transaction.max.timeout.ms (15 min) is possible."""
    if 26 not in {row.api_key for row in connection.ask("api_versions", 0).api_keys}:
        pytest.skip(f"{broker.name} serves no transactions (EndTxn) yet")
    name = unique("transactional")

    def is_ready() -> bool:
        return bool(connection.ask("find_coordinator", 3, key=name, key_type=1).error_code == 0) and (
            init(connection, transactional_id=name, transaction_timeout=timeout).error_code
            not in (14, 15, 16)
        )

    wait_until(is_ready)
    assert init(connection, transactional_id=name, transaction_timeout=timeout).error_code == 50
