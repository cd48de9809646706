"""Produce, consume, group and commit with whatever kafka-python is installed: 2.0.2, 2.3.3, 3.

tox runs this module in an environment per version; only what all of them have is used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.structs import OffsetAndMetadata

PATIENCE_S = 30.0


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


def take(members: Sequence[KafkaConsumer], done: Callable[[list[bytes]], bool]) -> list[bytes]:
    """Poll the members in turn until ``done(values so far)``."""
    values: list[bytes] = []
    deadline = time.monotonic() + PATIENCE_S
    while not done(values):
        assert time.monotonic() < deadline, f"after {PATIENCE_S} s: {values}"
        for member in members:
            for records in member.poll(timeout_ms=100).values():
                values += [record.value for record in records]
    return values


@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
def test_what_was_produced_is_consumed(bootstrap: str, topic: str, codec: str | None) -> None:
    values = [b"value %d " % number * 20 for number in range(50)]
    try:
        offsets = produce(bootstrap, topic, values, compression_type=codec, acks="all", linger_ms=20)
    except AssertionError as error:
        pytest.skip(f"this kafka-python cannot compress with {codec} here: {error}")
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
    partition = TopicPartition(topic, 0)
    options = {"group_id": group, "enable_auto_commit": False}
    with ExitStack() as stack:
        members = [stack.enter_context(closing(consumer(bootstrap, topic, **options))) for _ in range(2)]
        take(members, lambda _: all(len(member.assignment()) == 1 for member in members))
        assert {one for member in members for one in member.assignment()} == {
            partition,
            TopicPartition(topic, 1),
        }
        owner = next(member for member in members if partition in member.assignment())
        owner.seek(partition, 0)
        assert take([owner], lambda values: len(values) == 3) == [b"a", b"b", b"c"]
        owner.commit({partition: offset_and_metadata(2, "two")})
    with closing(consumer(bootstrap, topic, **options)) as heir:
        assert take([heir], lambda values: len(values) == 1) == [b"c"]
        assert heir.committed(partition) == 2


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
