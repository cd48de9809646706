"""confluent-kafka (librdkafka): produce, consume, group, commit, and what its admin client needs."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.cimpl import NewTopic

from pykbroker.testing import BrokerThread

PATIENCE_S = 30.0


def produce(bootstrap: str, topic: str, values: list[bytes], **options: Any) -> list[int]:
    """Send to partition 0; returns the offsets that were acknowledged."""
    offsets: list[int] = []

    def acknowledged(error: object, message: Message) -> None:
        assert error is None, error
        offsets.append(message.offset() or 0)

    producer = Producer({"bootstrap.servers": bootstrap, **options})
    for value in values:
        producer.produce(topic, value, key=b"k", headers=[("h", b"1")], partition=0, on_delivery=acknowledged)
    assert producer.flush(PATIENCE_S) == 0
    return offsets


def consumer(bootstrap: str, group: str) -> Consumer:
    settings = {
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "heartbeat.interval.ms": 200,
    }
    return Consumer(settings)


def poll_until(members: list[Consumer], done: Callable[[list[Message]], bool]) -> list[Message]:
    messages: list[Message] = []
    deadline = time.monotonic() + PATIENCE_S
    while not done(messages):
        assert time.monotonic() < deadline, messages
        for each in members:
            message = each.poll(0.05)
            if message is not None:
                assert message.error() is None, message.error()
                messages.append(message)
    return messages


def make_topic(bootstrap: str, topic: str, partitions: int) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})  # must outlive its futures
    admin.create_topics([NewTopic(topic, partitions)])[topic].result(PATIENCE_S)


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
@pytest.mark.parametrize("idempotence", [True, False])
def test_what_was_produced_is_consumed(
    bootstrap: str, topic: str, group: str, codec: str, idempotence: bool
) -> None:
    make_topic(bootstrap, topic, 1)
    values = [b"%d " % number * 50 for number in range(100)]
    options = {"compression.type": codec, "enable.idempotence": idempotence, "linger.ms": 20}
    assert produce(bootstrap, topic, values, **options) == list(range(100))
    with closing(consumer(bootstrap, group)) as reader:
        reader.subscribe([topic])
        got = poll_until([reader], lambda messages: len(messages) == 100)
    assert [message.value() for message in got] == values
    assert (got[0].key(), got[0].headers()) == (b"k", [("h", b"1")])


def test_a_group_shares_and_goes_on_from_its_commit(bootstrap: str, topic: str, group: str) -> None:
    make_topic(bootstrap, topic, 2)
    produce(bootstrap, topic, [b"a", b"b", b"c"])
    with closing(consumer(bootstrap, group)) as one, closing(consumer(bootstrap, group)) as two:
        members = [one, two]
        for each in members:
            each.subscribe([topic])
        messages = poll_until(members, lambda _: all(len(each.assignment()) == 1 for each in members))
        # Whoever was alone before has read some of them, and the owner of now reads them again.
        values = {message.value() for message in messages}
        poll_until(members, lambda more: values | {message.value() for message in more} == {b"a", b"b", b"c"})
        owner = next(each for each in members if each.assignment()[0].partition == 0)
        owner.commit(offsets=[TopicPartition(topic, 0, 2)], asynchronous=False)
    with closing(consumer(bootstrap, group)) as heir:
        heir.subscribe([topic])
        assert [message.value() for message in poll_until([heir], lambda got: len(got) == 1)] == [b"c"]
        (committed,) = heir.committed([TopicPartition(topic, 0)], timeout=PATIENCE_S)
        assert committed.offset == 2


def test_seek_and_times(bootstrap: str, topic: str, group: str) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    for stamp in (1000, 2000, 3000):
        producer.produce(topic, b"%d" % stamp, partition=0, timestamp=stamp)
    assert producer.flush(PATIENCE_S) == 0
    with closing(consumer(bootstrap, group)) as reader:
        (found,) = reader.offsets_for_times([TopicPartition(topic, 0, 1500)], timeout=PATIENCE_S)
        assert found.offset == 1
        assert reader.get_watermark_offsets(TopicPartition(topic, 0), timeout=PATIENCE_S) == (0, 3)
        reader.assign([TopicPartition(topic, 0, 2)])
        assert [message.value() for message in poll_until([reader], lambda got: len(got) == 1)] == [b"3000"]


def test_the_admin_client(bootstrap: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 3, config={"retention.ms": "5000"})])[topic].result(PATIENCE_S)
    described = admin.list_topics(timeout=PATIENCE_S)
    assert len(described.topics[topic].partitions) == 3
    assert described.controller_id in described.brokers
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    configs = admin.describe_configs([resource])[resource].result(PATIENCE_S)
    assert configs["retention.ms"].value == "5000"
    admin.delete_topics([topic])[topic].result(PATIENCE_S)
    assert topic not in admin.list_topics(timeout=PATIENCE_S).topics


def test_transactions_are_refused_by_name(pykbroker: BrokerThread) -> None:
    """Not with a time-out: librdkafka tries until its patience ends, and then says what it was told."""
    settings = {"bootstrap.servers": pykbroker.bootstrap, "transactional.id": "t", "log_level": 0}
    with pytest.raises(KafkaException) as refused:
        Producer(settings).init_transactions(1)
    assert refused.value.args[0].code() == KafkaError.UNSUPPORTED_VERSION
