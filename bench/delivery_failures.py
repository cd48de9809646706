"""Failures per second, and how late what was delayed comes: see :mod:`bench.delivery`."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from statistics import median, quantiles

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from bench.delivery_parts import (
    GROUP,
    PARTITIONS,
    PATIENCE_S,
    VALUE,
    Figure,
    Sizes,
    Step,
    a_broker,
    a_consumer,
    a_producer,
    create,
    flush,
)


def send_all(producer: Producer, topic: str, count: int, partitions: int) -> None:
    """``count`` records over the partitions, acknowledged."""
    for number in range(count):
        producer.produce(topic, VALUE, partition=number % partitions)
        if number % 1000 == 0:
            producer.poll(0)
    flush(producer)


def wait_for(consumer: Consumer, topic: str, count: int) -> None:
    """Until that many records are readable."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        ends = [
            consumer.get_watermark_offsets(TopicPartition(topic, each), timeout=30)
            for each in range(PARTITIONS)
        ]
        there = sum(end[1] for end in ends if end is not None)
        if there >= count:
            return
        assert time.monotonic() < deadline, f"{there} of {count} after {PATIENCE_S:.0f} s"
        time.sleep(0.005)


def by_produce(bootstrap: str, number: int, count: int) -> float:
    """Failures per second, by produce to the retry topic."""
    origin = f"produce{number}"
    create(bootstrap, origin, PARTITIONS, retry_policy="immediate")
    retry = f"{origin}.{GROUP}.retry"
    producer = a_producer(bootstrap)
    producer.list_topics(retry, timeout=30)
    with closing(a_consumer(bootstrap)) as consumer:
        consumer.list_topics(retry, timeout=30)
        started = time.perf_counter()
        send_all(producer, retry, count, PARTITIONS)
        wait_for(consumer, retry, count)
        return count / (time.perf_counter() - started)


def by_nack(bootstrap: str, number: int, count: int) -> float:
    """Failures per second, by nack: half of all records of each commit fail."""
    origin = f"nack{number}"
    create(bootstrap, origin, PARTITIONS, retry_policy="immediate")
    send_all(a_producer(bootstrap), origin, 2 * count, PARTITIONS)
    retry = f"{origin}.{GROUP}.retry"
    with closing(a_consumer(bootstrap)) as consumer:
        consumer.list_topics(retry, timeout=30)
        started = time.perf_counter()
        for offset in range(400, 2 * count // PARTITIONS + 1, 400):
            nack = json.dumps({"nack": list(range(offset - 400, offset, 2)), "reason": "bench"})
            places = [TopicPartition(origin, each, offset, nack) for each in range(PARTITIONS)]
            for place in consumer.commit(offsets=places, asynchronous=False) or ():
                assert place.error is None, place.error
        failed = 2 * count // PARTITIONS // 400 * 200 * PARTITIONS
        wait_for(consumer, retry, failed)
        return failed / (time.perf_counter() - started)


def failures(sizes: Sizes, step: Step) -> Iterator[Figure]:
    """Both ways in turn."""
    rates: dict[str, list[float]] = {"produce": [], "nack": []}
    with a_broker() as broker:
        for number in range(sizes.rounds + 1):  # round 0 warms everything up
            for way, measure in (("produce", by_produce), ("nack", by_nack)):
                step(f"failures by {way}")
                rate = measure(broker.bootstrap, number, sizes.failures if number else 4000)
                if number:
                    rates[way].append(rate)
    for way, found in rates.items():
        what = f"failures by {way}"
        yield Figure(what=what, unit="records/s", value=median(found), asked="at least 2,000", samples=found)


class Waiting(threading.Thread):
    """Reads the topics all the time; ``late_ms`` says how late a record is."""

    def __init__(self, bootstrap: str, topic: str, late_ms: Callable[[Message, float], float]) -> None:
        super().__init__(daemon=True)
        self._consumer = a_consumer(bootstrap)
        self._consumer.list_topics(topic, timeout=30)
        self._consumer.assign([TopicPartition(topic, each, 0) for each in range(PARTITIONS)])
        self._late_ms = late_ms
        self.late: list[float] = []

    def run(self) -> None:
        while True:
            message = self._consumer.poll(0.1)
            if message is None or message.error() is not None:
                if not self.wanted:
                    break
                continue
            self.late.append(self._late_ms(message, time.time() * 1000))
        self._consumer.close()

    wanted = True


def header(message: Message, name: str) -> int:
    """The number in a header."""
    headers = message.headers()
    assert isinstance(headers, list)
    (value,) = (value for each, value in headers if each == name)
    assert isinstance(value, bytes)
    return int(value)


RETRY_DELAY_MS = 500


def after_failure(message: Message, now_ms: float) -> float:
    """How late a retried record is, by the broker's headers."""
    return now_ms - header(message, "pykbroker-last-failure-ms") - RETRY_DELAY_MS


def after_delay(message: Message, now_ms: float) -> float:
    """How late a record of the delay topic is, by its value."""
    value = message.value()
    assert isinstance(value, bytes)
    sent_ms, _, delay_ms = value.partition(b":")
    return now_ms - float(sent_ms) - float(delay_ms)


def lateness(sizes: Sizes, step: Step) -> Iterator[Figure]:
    """50 failures and 50 delayed records a second."""
    random_ = random.Random(1)
    with a_broker() as broker:
        create(
            broker.bootstrap, "light", PARTITIONS, retry_policy="fixed", retry_delay_ms=str(RETRY_DELAY_MS)
        )
        create(broker.bootstrap, "delayed", PARTITIONS, delay_enable="true")
        retry = f"light.{GROUP}.retry"
        readers = [
            Waiting(broker.bootstrap, retry, after_failure),
            Waiting(broker.bootstrap, "delayed", after_delay),
        ]
        producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 0})
        for reader in readers:
            reader.start()
        step("lateness under light load")
        began = time.monotonic()
        count = round(sizes.light_s * 50)
        for number in range(count):
            while (left := began + number / 50 - time.monotonic()) > 0:
                producer.poll(left)
            producer.produce(retry, VALUE, partition=number % PARTITIONS)
            delay_ms = random_.randrange(200, 3000)
            producer.produce(
                "delayed",
                b"%d:%d" % (time.time() * 1000, delay_ms),
                partition=number % PARTITIONS,
                headers=[("pykbroker-delay-ms", b"%d" % delay_ms)],
            )
        flush(producer)
        deadline = time.monotonic() + 30
        while any(len(reader.late) < count for reader in readers):
            assert time.monotonic() < deadline, [len(reader.late) for reader in readers]
            time.sleep(0.1)
        for reader in readers:
            reader.wanted = False
            reader.join()
    for what, late in zip(("lateness, retried", "lateness, delayed"), (r.late for r in readers), strict=True):
        cuts = quantiles(late, n=100)
        yield Figure(what=f"{what}, median", unit="ms", value=median(late))
        yield Figure(what=f"{what}, 99th percentile", unit="ms", value=cuts[98], asked="at most 250")
        yield Figure(what=f"{what}, worst", unit="ms", value=max(late))
        yield Figure(what=f"{what}, earliest", unit="ms", value=min(late), asked="at least 0")
