"""What is measured: each scenario takes a broker's address and a new topic, and returns figures.

The load comes from confluent-kafka (librdkafka) where the client would otherwise be the limit, and
from kafka-python where its users' own experience is the question.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import quantiles

from confluent_kafka import Consumer, Message, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

_KILOBYTE = b"k" * 1000
_TIMEOUT_S = 120.0
_FILLED = 100_000
"""Records of 1 KB that the throughput scenarios write or find."""

Figures = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One line of the table: ``prepare`` is not measured, ``run`` is; both take address and topic."""

    name: str
    run: Callable[[str, str], Figures]
    prepare: Callable[[str, str], object] | None = None


def create_topic(bootstrap: str, name: str, partitions: int = 1) -> None:
    """Create ``name`` and wait until it can be produced to."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([NewTopic(name, partitions, 1)]).values():
        future.result(30)


def delete_topic(bootstrap: str, name: str) -> None:
    """Delete ``name``, so that the disk holds one scenario at a time."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.delete_topics([name]).values():
        future.result(30)


def _produce(bootstrap: str, topic: str, count: int, value: bytes, **config: str | int) -> float:
    """Seconds until ``count`` records are acknowledged."""
    failures: list[str] = []

    def delivered(error: object, _: Message) -> None:
        if error is not None:
            failures.append(str(error))

    producer = Producer(
        {"bootstrap.servers": bootstrap, "queue.buffering.max.messages": 1_000_000, "acks": "all"} | config
    )
    producer.list_topics(topic, timeout=30)
    start = time.perf_counter()
    for _ in range(count):
        producer.produce(topic, value, partition=0, on_delivery=delivered)
        producer.poll(0)
    left = producer.flush(_TIMEOUT_S)
    elapsed = time.perf_counter() - start
    assert not left, f"{left} records were not acknowledged within {_TIMEOUT_S:.0f} s"
    assert not failures, failures[:3]
    return elapsed


def _fill(bootstrap: str, topic: str) -> None:
    _produce(bootstrap, topic, _FILLED, _KILOBYTE, **{"linger.ms": 5})


def produce_1kb(bootstrap: str, topic: str) -> Figures:
    """Records of 1 KB, batched for 5 ms, acks=all."""
    count = _FILLED
    return {"records/s": count / _produce(bootstrap, topic, count, _KILOBYTE, **{"linger.ms": 5})}


def produce_single(bootstrap: str, topic: str) -> Figures:
    """One 100-byte record a batch, five requests in flight, acks=all."""
    count = 20_000
    config: dict[str, str | int] = {"linger.ms": 0, "batch.num.messages": 1, "max.in.flight": 5}
    return {"records/s": count / _produce(bootstrap, topic, count, b"x" * 100, **config)}


def consume_1kb(bootstrap: str, topic: str) -> Figures:
    """Read records of 1 KB from the beginning."""
    count = _FILLED
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": topic,
            "auto.offset.reset": "earliest",
            "check.crcs": True,
        }
    )
    consumer.subscribe([topic])
    seen, start = 0, None
    deadline = time.perf_counter() + _TIMEOUT_S
    while seen < count:
        assert time.perf_counter() < deadline, f"{seen} of {count} records in {_TIMEOUT_S:.0f} s"
        messages = consumer.consume(2_000, timeout=1.0)
        if messages and start is None:  # joining the group is no part of what is measured
            start = time.perf_counter()
            count -= len(messages)
            continue
        seen += len(messages)
    assert start is not None
    elapsed = time.perf_counter() - start
    consumer.close()
    return {"records/s": seen / elapsed}


def latency_500(bootstrap: str, topic: str) -> Figures:
    """Milliseconds from produce() to the consumer, 500 records a second, one a batch."""
    count, per_second = 2_500, 500
    arrivals: list[float] = []
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": topic,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 500,
        }
    )
    consumer.subscribe([topic])

    def consume() -> None:
        deadline = time.perf_counter() + 60
        while len(arrivals) < count and time.perf_counter() < deadline:
            message = consumer.poll(1.0)
            value = message.value() if message is not None and message.error() is None else None
            if value is not None:
                arrivals.append(time.perf_counter() - float(value))

    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0, "acks": "all"})
    producer.list_topics(topic, timeout=30)
    thread = threading.Thread(target=consume)
    thread.start()
    time.sleep(1.0)  # let the group settle: its first rebalance is no part of what is measured
    start = time.perf_counter()
    for i in range(count):
        time.sleep(max(0.0, start + i / per_second - time.perf_counter()))
        producer.produce(topic, repr(time.perf_counter()).encode())
        producer.poll(0)
    producer.flush(30)
    thread.join()
    consumer.close()
    assert len(arrivals) == count, f"{len(arrivals)} of {count} records arrived"
    settled = sorted(arrivals[per_second:])
    percentiles = quantiles(settled, n=100)
    return {"p50 ms": percentiles[49] * 1e3, "p99 ms": percentiles[98] * 1e3}


def kafka_python_produce(bootstrap: str, topic: str) -> Figures:
    """kafka-python 3's default producer, records of 1 KB."""
    count = 20_000
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=5)
    producer.partitions_for(topic)
    start = time.perf_counter()
    futures = [producer.send(topic, _KILOBYTE, partition=0) for _ in range(count)]
    producer.flush(_TIMEOUT_S)
    elapsed = time.perf_counter() - start
    for future in futures:
        future.get(0)
    producer.close()
    return {"records/s": count / elapsed}


def kafka_python_consume(bootstrap: str, topic: str) -> Figures:
    """kafka-python 3's default consumer, records of 1 KB."""
    count = 40_000
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=20_000
    )
    consumer.assign([TopicPartition(topic, 0)])
    next(consumer)
    start = time.perf_counter()
    seen = sum(1 for _ in zip(range(count - 1), consumer, strict=False))
    elapsed = time.perf_counter() - start
    consumer.close()
    assert seen == count - 1, f"{seen} of {count - 1} records"
    return {"records/s": seen / elapsed}


SCENARIOS = (
    Scenario(name="produce-1kb", run=produce_1kb),
    Scenario(name="consume-1kb", prepare=_fill, run=consume_1kb),
    Scenario(name="produce-single", run=produce_single),
    Scenario(name="latency-500", run=latency_500),
    Scenario(name="kafka-python-produce", run=kafka_python_produce),
    Scenario(name="kafka-python-consume", prepare=_fill, run=kafka_python_consume),
)
