"""Memory and restart with many records waiting: see :mod:`bench.delivery`."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing

from confluent_kafka import TopicPartition

from bench.delivery_parts import (
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
    resident_mb,
    wait_until_idle,
)
from pykbroker.testing import BrokerProcess

INDEX = "pykbroker-held.sqlite"
HOUR_MS = 3_600_000
Headers = list[tuple[str, str | bytes | None]]


def produce_waiting(bootstrap: str, count: int, step: Step) -> None:
    """``count`` records that are due in an hour or two, in no order."""
    random_ = random.Random(2)
    producer = a_producer(bootstrap)
    for number in range(count):
        delay: bytes | str | None = b"%d" % random_.randrange(HOUR_MS, 2 * HOUR_MS)
        producer.produce(
            "sleeping",
            VALUE[:100],
            partition=number % PARTITIONS,
            headers=[("pykbroker-delay-ms", delay)],
        )
        if number % 1000 == 0:
            producer.poll(0)
        if number % 50_000 == 0:
            step(f"{number:,} of {count:,} records wait")
            flush(producer)
    flush(producer)


def due_while_away(broker: BrokerProcess, end: Callable[[], object]) -> tuple[float, float]:
    """``end`` the broker with a record waiting that falls due meanwhile; seconds from its next start
    until it listens, and until a consumer has the record."""
    delay_ms = 3000
    with closing(a_consumer(broker.bootstrap)) as consumer:
        edges = consumer.get_watermark_offsets(TopicPartition("sleeping", 0), timeout=30)
    assert edges is not None
    producer = a_producer(broker.bootstrap)
    headers: Headers = [("pykbroker-delay-ms", b"%d" % delay_ms)]
    producer.produce("sleeping", b"probe", partition=0, headers=headers)
    flush(producer)
    del producer
    due = time.monotonic() + delay_ms / 1000
    time.sleep(0.5)
    end()
    time.sleep(max(0.0, due - time.monotonic()) + 0.5)
    started = time.perf_counter()
    broker.start(PATIENCE_S)
    listening = time.perf_counter() - started
    # A new one: it has no broken connections to get over first.
    with closing(a_consumer(broker.bootstrap)) as consumer:
        consumer.assign([TopicPartition("sleeping", 0, edges[1])])
        while True:
            assert time.perf_counter() - started < PATIENCE_S, "what is due does not come"
            message = consumer.poll(0.05)
            if message is not None and message.error() is None:
                assert message.value() == b"probe", message.value()
                return listening, time.perf_counter() - started


def memory_and_restart(sizes: Sizes, step: Step) -> Iterator[Figure]:
    """With records waiting."""
    with a_broker() as broker:
        create(broker.bootstrap, "sleeping", PARTITIONS, delay_enable="true")
        step("warming up")
        produce_waiting(broker.bootstrap, 20_000, step)
        wait_until_idle(broker)
        before = resident_mb(broker)
        started = time.perf_counter()
        produce_waiting(broker.bootstrap, sizes.waiting, step)
        step("until all are indexed")
        wait_until_idle(broker)
        took = time.perf_counter() - started
        after, highest = resident_mb(broker), resident_mb(broker, "VmHWM")
        many = f"with {sizes.waiting:,} waiting"
        yield Figure(what="resident memory before", unit="MB", value=before)
        yield Figure(what=f"more {many}", unit="MB", value=after - before, asked="at most 20")
        yield Figure(what="at its highest while they came", unit="MB", value=highest)
        yield Figure(what="from the first until all are indexed", unit="s", value=took)

        def lose_the_index() -> None:
            broker.kill()
            for path in broker.data_dir.glob(f"{INDEX}*"):
                path.unlink()

        ways: dict[str, Callable[[], object]] = {
            "a stop": broker.stop,
            "kill -9": broker.kill,
            "kill -9, the index gone": lose_the_index,
        }
        for name, end in ways.items():
            step(f"restart after {name}")
            listening, released = due_while_away(broker, end)
            yield Figure(what=f"restart after {name}: listens", unit="s", value=listening)
            yield Figure(what=f"restart after {name}: what is due is read", unit="s", value=released)
            wait_until_idle(broker)
            yield Figure(what=f"memory after {name} and restart", unit="MB", value=resident_mb(broker))
