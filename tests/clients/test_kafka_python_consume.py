"""kafka-python 3's consumer without a group: positions, times, limits, long polls."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import OffsetOutOfRangeError

PATIENCE_S = 20.0


@pytest.fixture
def producer(bootstrap: str) -> Iterator[KafkaProducer]:
    with closing(KafkaProducer(bootstrap_servers=bootstrap)) as producer:
        yield producer


@pytest.fixture
def consumer(bootstrap: str) -> Iterator[KafkaConsumer]:
    options = {"auto_offset_reset": "earliest", "consumer_timeout_ms": PATIENCE_S * 1000}
    with closing(KafkaConsumer(bootstrap_servers=bootstrap, **options)) as consumer:
        yield consumer


def fill(producer: KafkaProducer, topic: str, count: int, *, first_stamp: int = 1000) -> TopicPartition:
    for number in range(count):
        producer.send(topic, b"%d" % number, partition=0, timestamp_ms=first_stamp + number * 10)
    producer.flush(PATIENCE_S)
    return TopicPartition(topic, 0)


def test_seek(producer: KafkaProducer, consumer: KafkaConsumer, topic: str) -> None:
    partition = fill(producer, topic, 20)
    consumer.assign([partition])
    consumer.seek(partition, 13)
    assert [next(consumer).offset for _ in range(3)] == [13, 14, 15]
    consumer.seek_to_beginning(partition)
    assert next(consumer).offset == 0
    consumer.seek_to_end(partition)
    assert consumer.position(partition) == 20
    producer.send(topic, b"late", partition=0).get(PATIENCE_S)
    assert next(consumer).value == b"late"


def test_offsets_for_times(producer: KafkaProducer, consumer: KafkaConsumer, topic: str) -> None:
    partition = fill(producer, topic, 10, first_stamp=5000)
    consumer.assign([partition])
    found = consumer.offsets_for_times({partition: 5045})[partition]
    assert (found.offset, found.timestamp) == (5, 5050)
    assert consumer.offsets_for_times({partition: 1})[partition].offset == 0
    assert consumer.offsets_for_times({partition: 9999})[partition] is None
    assert consumer.beginning_offsets([partition]) == {partition: 0}
    assert consumer.end_offsets([partition]) == {partition: 10}


def test_an_offset_beyond_the_end_is_out_of_range(
    producer: KafkaProducer, bootstrap: str, topic: str
) -> None:
    partition = fill(producer, topic, 3)
    with closing(KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="none")) as consumer:
        consumer.assign([partition])
        consumer.seek(partition, 99)
        with pytest.raises(OffsetOutOfRangeError):
            poll_for_ever(consumer)


def poll_for_ever(consumer: KafkaConsumer) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        consumer.poll(timeout_ms=200)


def test_small_limits_do_not_lose_large_records(producer: KafkaProducer, bootstrap: str, topic: str) -> None:
    values = [bytes([number]) * 5000 for number in range(10)]
    for value in values:
        producer.send(topic, value, partition=0).get(PATIENCE_S)
    options = {"fetch_max_bytes": 1024, "max_partition_fetch_bytes": 512, "consumer_timeout_ms": 20000}
    with closing(
        KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", **options)
    ) as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        assert [next(consumer).value for _ in values] == values


def test_a_long_poll_wakes_on_append(producer: KafkaProducer, bootstrap: str, topic: str) -> None:
    """The fetch may wait 25 s; the record arrives in a fraction of that."""
    partition = fill(producer, topic, 1)
    with closing(KafkaConsumer(bootstrap_servers=bootstrap, fetch_max_wait_ms=25_000)) as consumer:
        consumer.assign([partition])
        consumer.seek(partition, 1)
        late = threading.Timer(0.3, lambda: producer.send(topic, b"now", partition=0))
        late.start()
        begun = time.monotonic()
        got = consumer.poll(timeout_ms=25_000)
        assert [record.value for record in got[partition]] == [b"now"]
        assert time.monotonic() - begun < 20
        late.join()


def test_several_partitions_are_read_in_the_order_of_each(
    producer: KafkaProducer, consumer: KafkaConsumer, topic: str
) -> None:
    names = [f"{topic}-{number}" for number in range(3)]
    for number in range(30):
        producer.send(names[number % 3], b"%d" % number, partition=0)
    producer.flush(PATIENCE_S)
    consumer.assign([TopicPartition(name, 0) for name in names])
    got: dict[str, list[int]] = {name: [] for name in names}
    for _ in range(30):
        record = next(consumer)
        got[record.topic].append(int(record.value))
    assert got == {name: list(range(number, 30, 3)) for number, name in enumerate(names)}
