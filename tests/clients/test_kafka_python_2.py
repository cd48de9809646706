"""Produce, consume, group and commit with whatever kafka-python is installed: 2.0.2, 2.3.3, 3.

tox runs this module in an environment per version; only what all of them have is used.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.structs import OffsetAndMetadata

PATIENCE_S = 30.0
QUICK = {"heartbeat_interval_ms": 200, "session_timeout_ms": 6000}


def offset_and_metadata(offset: int, text: str) -> OffsetAndMetadata:
    """3 and 2.3 have a leader epoch in it, 2.0 does not."""
    fields = OffsetAndMetadata._fields
    return OffsetAndMetadata(offset, text, -1) if len(fields) == 3 else OffsetAndMetadata(offset, text)


def make_topic(bootstrap: str, topic: str, partitions: int) -> None:
    with closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
        admin.create_topics([NewTopic(topic, partitions, 1)])


def produce(bootstrap: str, topic: str, values: Sequence[bytes], **options: object) -> list[int]:
    """Send the values, spread over nothing but partition 0; returns their offsets."""
    with closing(KafkaProducer(bootstrap_servers=bootstrap, **options)) as producer:
        sent = [
            producer.send(topic, value=value, key=b"k", headers=[("h", value)], partition=0)
            for value in values
        ]
        return [future.get(PATIENCE_S).offset for future in sent]


def consumer(bootstrap: str, *topics: str, **options: object) -> KafkaConsumer:
    made = KafkaConsumer(*topics, bootstrap_servers=bootstrap, auto_offset_reset="earliest", **options)
    for topic in topics:
        made.partitions_for_topic(topic)  # known before the first join: see members.know
    return made


class Reader(threading.Thread):
    """A member of a group in a thread of its own: kafka-python 2.0's poll waits for the whole group."""

    def __init__(self, bootstrap: str, topic: str, group: str) -> None:
        super().__init__(daemon=True)
        self.values: list[bytes] = []
        self.shares: set[TopicPartition] = set()
        self.consumer = consumer(bootstrap, topic, group_id=group, enable_auto_commit=False, **QUICK)
        self.commit: dict[TopicPartition, OffsetAndMetadata] | None = None
        self._ending = threading.Event()

    def run(self) -> None:
        while not self._ending.is_set():
            # With less time 3 may join again and again: see members.
            for records in self.consumer.poll(timeout_ms=500).values():
                self.values += [record.value for record in records]
            self.shares = set(self.consumer.assignment())
        if self.commit is not None:
            self.consumer.commit(self.commit)
        self.consumer.close(autocommit=False)

    def end(self, commit: dict[TopicPartition, OffsetAndMetadata] | None = None) -> None:
        """Commit, if something is given, and leave the group."""
        self.commit = commit
        self._ending.set()
        self.join(PATIENCE_S)
        assert not self.is_alive()


def wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
def test_what_was_produced_is_consumed(bootstrap: str, topic: str, codec: str | None) -> None:
    values = [b"value %d " % number * 20 for number in range(50)]
    offsets = produce(bootstrap, topic, values, compression_type=codec, acks="all", linger_ms=20)
    assert offsets == list(range(50))
    with closing(consumer(bootstrap, topic, consumer_timeout_ms=PATIENCE_S * 1000)) as reader:
        records = [next(reader) for _ in values]
    assert [(record.offset, record.key, record.value) for record in records] == [
        (offset, b"k", value) for offset, value in enumerate(values)
    ]
    assert records[7].headers == [("h", values[7])]


def test_a_group_shares_partitions_and_goes_on_from_its_commit(
    bootstrap: str, topic: str, group: str
) -> None:
    make_topic(bootstrap, topic, 2)
    produce(bootstrap, topic, [b"a", b"b", b"c"])
    first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)
    members = [Reader(bootstrap, topic, group) for _ in range(2)]
    for each in members:
        each.start()
    wait_until(lambda: sorted(each.shares for each in members) in ([{first}, {second}], [{second}, {first}]))
    wait_until(lambda: {b"a", b"b", b"c"} <= {value for each in members for value in each.values})
    owner, other = sorted(members, key=lambda each: first not in each.shares)
    owner.end(commit={first: offset_and_metadata(2, "two")})
    other.end()
    heir = Reader(bootstrap, topic, group)
    heir.start()
    wait_until(lambda: bool(heir.values))
    heir.end()
    assert heir.values == [b"c"]
    with closing(consumer(bootstrap, group_id=group)) as reader:
        assert reader.committed(first) == 2


def test_offsets_by_time_and_at_both_ends(bootstrap: str, topic: str) -> None:
    with closing(KafkaProducer(bootstrap_servers=bootstrap)) as producer:
        for stamp in (1000, 2000, 3000):
            producer.send(topic, b"x", partition=0, timestamp_ms=stamp).get(PATIENCE_S)
    partition = TopicPartition(topic, 0)
    with closing(consumer(bootstrap)) as reader:
        reader.assign([partition])
        found = reader.offsets_for_times({partition: 1500})[partition]
        assert (found.offset, found.timestamp) == (1, 2000)
        assert reader.beginning_offsets([partition]) == {partition: 0}
        assert reader.end_offsets([partition]) == {partition: 3}


def test_topics_are_listed_and_deleted(bootstrap: str, topic: str) -> None:
    make_topic(bootstrap, topic, 3)
    with closing(consumer(bootstrap)) as reader:
        assert topic in reader.topics()
        assert reader.partitions_for_topic(topic) == {0, 1, 2}
    with closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
        assert topic in admin.list_topics()
        admin.delete_topics([topic])
        assert topic not in admin.list_topics()
