"""kafka-python and topics that delay: nothing to know but a header."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, NewTopic

from pykbroker.testing import BrokerThread


def create(bootstrap: str, topic: str, partitions: int = 1, delay_ms: int = 3_600_000) -> None:
    settings = {"pykbroker.delay.enable": "true", "pykbroker.delay.ms": str(delay_ms)}
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=settings)])
    admin.close()


@contextmanager
def reader(bootstrap: str, topic: str) -> Iterator[KafkaConsumer]:
    consumer = KafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    yield consumer
    consumer.close()


def take(consumer: KafkaConsumer, count: int, patience_s: float = 30.0) -> list[bytes]:
    """Values, as many as come."""
    found: list[bytes] = []
    end = time.monotonic() + patience_s
    while len(found) < count and time.monotonic() < end:
        for records in consumer.poll(timeout_ms=100).values():
            found += [record.value for record in records]
    return found


def send(bootstrap: str, topic: str, *values: bytes, delay_ms: int | None = None) -> set[int]:
    """Send, and say which offsets the answers name."""
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    headers = [] if delay_ms is None else [("pykbroker-delay-ms", b"%d" % delay_ms)]
    sent = [producer.send(topic, value, key=b"k", headers=headers) for value in values]
    offsets = {future.get(10).offset for future in sent}
    producer.close()
    return offsets


def test_records_come_when_their_time_has_come(pykbroker: BrokerThread, topic: str) -> None:
    bootstrap = pykbroker.bootstrap
    create(bootstrap, topic)
    assert send(bootstrap, topic, b"in an hour") == {-1}
    send(bootstrap, topic, b"in a minute", b"likewise", delay_ms=60_000)
    send(bootstrap, topic, b"now", delay_ms=0)
    with reader(bootstrap, topic) as consumer:
        assert take(consumer, 1) == [b"now"]
        pykbroker.advance(30)  # the clock goes on besides: the rest is for a slow machine
        assert take(consumer, 1, 0.5) == []
        pykbroker.advance(30)
        assert take(consumer, 2) == [b"in a minute", b"likewise"]
        pykbroker.advance(3540)
        assert take(consumer, 1) == [b"in an hour"]


def test_the_delay_of_a_topic_is_altered_by_any_admin_client(pykbroker: BrokerThread, topic: str) -> None:
    bootstrap = pykbroker.bootstrap
    create(bootstrap, topic)
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    altered = ConfigResource(ConfigResourceType.TOPIC, topic, configs={"pykbroker.delay.ms": "60000"})
    admin.alter_configs([altered])
    admin.close()
    send(bootstrap, topic, b"v")
    with reader(bootstrap, topic) as consumer:
        assert take(consumer, 1, 0.3) == []
        pykbroker.advance(60)
        assert take(consumer, 1) == [b"v"]


def test_what_waits_is_there_after_a_restart(pykbroker: BrokerThread, topic: str) -> None:
    bootstrap = pykbroker.bootstrap
    create(bootstrap, topic, partitions=3)
    values = {b"%d" % number for number in range(300)}
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    for number, value in enumerate(sorted(values)):
        producer.send(topic, value, partition=number % 3)
    producer.close()
    pykbroker.restart()
    bootstrap = pykbroker.bootstrap
    with reader(bootstrap, topic) as consumer:
        assert take(consumer, 1, 0.3) == []
        pykbroker.advance(3600)
        found = take(consumer, len(values))
        assert len(found) == len(values)
        assert set(found) == values


def test_how_late_a_record_is(pykbroker: BrokerThread, topic: str) -> None:
    """The best of some: a machine that was busy elsewhere makes any single one late."""
    create(pykbroker.bootstrap, topic)
    with reader(pykbroker.bootstrap, topic) as consumer:
        send(pykbroker.bootstrap, topic, b"warm", delay_ms=0)
        assert take(consumer, 1) == [b"warm"]
        taken: list[float] = []
        while len(taken) < 20 and min(taken, default=9.9) > 0.6:
            begun = time.monotonic()
            send(pykbroker.bootstrap, topic, b"v", delay_ms=300)
            assert take(consumer, 1) == [b"v"]
            taken.append(time.monotonic() - begun)
        assert 0.3 <= min(taken) <= 0.6, taken


@pytest.mark.parametrize("value", [b"soon", b"-5", b"", b"1.5"])
def test_a_header_that_says_nothing_counts_as_none(pykbroker: BrokerThread, topic: str, value: bytes) -> None:
    bootstrap = pykbroker.bootstrap
    create(bootstrap, topic, delay_ms=60_000)
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    producer.send(topic, b"v", headers=[("pykbroker-delay-ms", value)]).get(10)
    producer.close()
    with reader(bootstrap, topic) as consumer:
        pykbroker.advance(30)
        assert take(consumer, 1, 0.2) == []
        pykbroker.advance(30)
        assert take(consumer, 1) == [b"v"]
