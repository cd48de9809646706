"""Consumers of one group, polled in turn by the test's own thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

PATIENCE_S = 30.0
QUICK = {"heartbeat_interval_ms": 200, "session_timeout_ms": 6000, "enable_auto_commit": False}
"""Members that notice a rebalance soon; nothing waits for these times."""


@contextmanager
def member(bootstrap: str, group: str, *topics: str, **options: Any) -> Iterator[KafkaConsumer]:
    """A consumer of the group; it leaves at the end."""
    settings = {**QUICK, "auto_offset_reset": "earliest", **options}
    consumer = KafkaConsumer(*topics, bootstrap_servers=bootstrap, group_id=group, **settings)
    try:
        know(consumer, topics)
        yield consumer
    finally:
        consumer.close(autocommit=False)


def know(consumer: KafkaConsumer, topics: Iterable[str]) -> None:
    """Fetch the topics' metadata before the first join.

    Otherwise the first assignment is empty and a second join follows, and kafka-python 3.0.12 forgets
    that join if a poll's timeout ends during it: it never looks at the answer and sends no heartbeats.
    """
    for topic in topics:
        consumer.partitions_for_topic(topic)


def poll_until(
    members: Iterable[KafkaConsumer], done: Callable[[], bool], *, timeout_ms: int = 100
) -> list[ConsumerRecord]:
    """Poll all members in turn until ``done()``; returns what they got.

    Give a ``timeout_ms`` longer than a rebalance takes where new metadata causes one (see :func:`know`).
    """
    members = list(members)
    got: list[ConsumerRecord] = []
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline, {each: each.assignment() for each in members}
        for each in members:
            got += [record for records in each.poll(timeout_ms=timeout_ms).values() for record in records]
    return got


def poll_records(members: Iterable[KafkaConsumer], count: int) -> list[ConsumerRecord]:
    """Poll all members in turn until they got ``count`` records."""
    members = list(members)
    got: list[ConsumerRecord] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(got) < count:
        assert time.monotonic() < deadline, f"{len(got)} of {count}: {got}"
        for each in members:
            got += [record for records in each.poll(timeout_ms=100).values() for record in records]
    return got


def settled(members: Iterable[KafkaConsumer], topic: str, partitions: int) -> Callable[[], bool]:
    """Whether every partition of the topic is with exactly one member, and nobody is without."""
    members = list(members)
    everything = sorted(TopicPartition(topic, number) for number in range(partitions))

    def check() -> bool:
        shares = [each.assignment() for each in members]
        return all(shares) and sorted(one for share in shares for one in share) == everything

    return check
