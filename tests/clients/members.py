"""Consumers of one group, each polled by a thread of its own, as the members of real groups are.

Polling several in turn from one thread does not work with kafka-python 3.0.12: a join that completes
between two polls of its member is thrown away, and the member joins again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

PATIENCE_S = 30.0
POLL_MS = 500
QUICK = {"heartbeat_interval_ms": 100, "session_timeout_ms": 6000, "enable_auto_commit": False}
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
    """Fetch the topics' metadata before the first join: without it the first assignment is empty."""
    for topic in topics:
        consumer.partitions_for_topic(topic)


def poll_until(members: Iterable[KafkaConsumer], done: Callable[[], bool]) -> list[ConsumerRecord]:
    """Poll all members until ``done()``; returns what they got."""
    got: list[ConsumerRecord] = []
    _poll(list(members), got, done)
    return got


def poll_records(members: Iterable[KafkaConsumer], count: int) -> list[ConsumerRecord]:
    """Poll all members until they got ``count`` records."""
    got: list[ConsumerRecord] = []
    _poll(list(members), got, lambda: len(got) >= count)
    return got


def _poll(members: list[KafkaConsumer], got: list[ConsumerRecord], done: Callable[[], bool]) -> None:
    ending = threading.Event()

    def poll(each: KafkaConsumer) -> None:
        while not ending.is_set():
            for records in each.poll(timeout_ms=POLL_MS).values():
                got.extend(records)
            if done():
                ending.set()

    with ThreadPoolExecutor(len(members)) as pool:
        polling = [pool.submit(poll, each) for each in members]
        deadline = time.monotonic() + PATIENCE_S
        while not ending.wait(0.02) and not any(future.done() for future in polling):
            if done() or time.monotonic() > deadline:
                ending.set()
        ending.set()
        for future in polling:
            future.result()
    assert done(), f"after {PATIENCE_S} s: {got}, {[each.assignment() for each in members]}"


def settled(members: Iterable[KafkaConsumer], topic: str, partitions: int) -> Callable[[], bool]:
    """Whether every partition of the topic is with exactly one member, and nobody is without."""
    members = list(members)
    everything = sorted(TopicPartition(topic, number) for number in range(partitions))

    def check() -> bool:
        shares = [each.assignment() for each in members]
        return all(shares) and sorted(one for share in shares for one in share) == everything

    return check
