"""kafka-python where its user has overlooked something."""

from __future__ import annotations

import json
import time
from contextlib import closing

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, NewTopic
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import InvalidRequestError
from kafka.structs import OffsetAndMetadata

from pykbroker.testing import BrokerThread
from tests.clients.members import POLL_MS, know

PATIENCE_S = 20.0
POLICY = {
    "pykbroker.retry.policy": "fixed",
    "pykbroker.retry.delay.ms": "60000",
    "pykbroker.retry.max.attempts": "2",
}


def consumer(broker: BrokerThread, group: str | None, *topics: str) -> KafkaConsumer:
    with closing(KafkaProducer(bootstrap_servers=broker.bootstrap)) as producer:
        for topic in topics:
            producer.partitions_for(topic)  # a retry topic is made now, and not while the consumer joins
    found = KafkaConsumer(
        *topics,
        bootstrap_servers=broker.bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        metadata_max_age_ms=300,
    )
    know(found, topics)
    return found


def create(broker: BrokerThread, topic: str, settings: dict[str, str]) -> None:
    with KafkaAdminClient(bootstrap_servers=broker.bootstrap) as admin:
        admin.create_topics([NewTopic(topic, 1, 1, topic_configs=settings)])


def produce(broker: BrokerThread, topic: str, *values: bytes) -> None:
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
    for value in values:
        producer.send(topic, value).get(10)
    producer.close()


def nack(group: KafkaConsumer, record: ConsumerRecord, upto: int | None = None) -> None:
    """Commit behind the record, and say that it failed."""
    offset = record.offset + 1 if upto is None else upto
    place = TopicPartition(record.topic, record.partition)
    group.commit({place: OffsetAndMetadata(offset, json.dumps({"nack": [record.offset]}), -1)})


def poll(group: KafkaConsumer, count: int, seconds: float = PATIENCE_S) -> list[str]:
    """Nack all that comes, until that is ``count`` records or the time is over; where it came from."""
    topics: list[str] = []
    deadline = time.monotonic() + seconds
    while len(topics) < count and time.monotonic() < deadline:
        for records in group.poll(timeout_ms=POLL_MS).values():
            for record in records:
                topics.append(record.topic)
                nack(group, record)
    return topics


def test_a_group_that_subscribes_to_everything_that_begins_like_the_topic(pykbroker: BrokerThread) -> None:
    """Its retry topic, its dead letters, and the retry topics of others: what fails there goes nowhere."""
    create(pykbroker, "orders", POLICY)
    produce(pykbroker, "orders", b"poison")
    other = consumer(pykbroker, "other", "orders")
    assert poll(other, 1) == ["orders"]
    other.close(autocommit=False)
    group = consumer(pykbroker, "billing")
    group.subscribe(pattern="^orders.*")
    seen = poll(group, 1)
    for more in (2, 1):  # its retry topic and the other's; its retry topic again
        pykbroker.advance(60)
        seen += poll(group, more)
    seen += poll(group, 1)
    seen += poll(group, 1, seconds=1)
    assert sorted(seen) == [
        "orders",
        "orders.billing.dlq",
        "orders.billing.retry",
        "orders.billing.retry",
        "orders.other.retry",
    ]
    group.close(autocommit=False)


def test_a_refused_nack_is_an_exception_and_the_offset_stays(pykbroker: BrokerThread) -> None:
    create(pykbroker, "orders", POLICY)
    produce(pykbroker, "orders", b"0", b"1")
    group = consumer(pykbroker, "billing", "orders", "orders.billing.retry")
    deadline = time.monotonic() + PATIENCE_S
    polled: list[ConsumerRecord] = []
    while len(polled) < 2 and time.monotonic() < deadline:
        polled += [record for records in group.poll(timeout_ms=POLL_MS).values() for record in records]
    with pytest.raises(InvalidRequestError):
        nack(group, polled[1], upto=1)
    assert group.committed(TopicPartition("orders", 0)) is None
    nack(group, polled[1])
    assert group.committed(TopicPartition("orders", 0)) == 2
    pykbroker.advance(60)
    assert poll(group, 1) == ["orders.billing.retry"]
    group.close(autocommit=False)


def test_a_consumer_that_came_before_there_was_a_policy(pykbroker: BrokerThread) -> None:
    """Its retry topic was made as an ordinary one, in which nothing is: it becomes one that retries."""
    create(pykbroker, "orders", {})
    create(pykbroker, "orders.billing.retry", {})
    produce(pykbroker, "orders", b"poison")
    group = consumer(pykbroker, "billing", "orders", "orders.billing.retry")
    (record,) = polled_by(group)
    with KafkaAdminClient(bootstrap_servers=pykbroker.bootstrap) as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, "orders", configs=POLICY)])
    nack(group, record)
    pykbroker.advance(60)
    assert poll(group, 1) == ["orders.billing.retry"]
    group.close(autocommit=False)


def test_a_topic_in_use_that_has_the_name_of_a_retry_topic(
    pykbroker: BrokerThread, caplog: pytest.LogCaptureFixture
) -> None:
    """It stays what it is: the log says what helps, and that helps."""
    create(pykbroker, "orders", {})
    create(pykbroker, "orders.billing.retry", {})
    produce(pykbroker, "orders.billing.retry", b"something else")
    produce(pykbroker, "orders", b"poison")
    group = consumer(pykbroker, "billing", "orders")
    (record,) = polled_by(group)
    with KafkaAdminClient(bootstrap_servers=pykbroker.bootstrap) as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, "orders", configs=POLICY)])
        with pytest.raises(InvalidRequestError):
            nack(group, record)
        assert "set pykbroker.retry.topic on the topic or the group, or delete that one" in caplog.text
        admin.delete_topics(["orders.billing.retry"])
    nack(group, record)
    group.close(autocommit=False)


def polled_by(group: KafkaConsumer) -> list[ConsumerRecord]:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := [record for records in group.poll(timeout_ms=POLL_MS).values() for record in records]:
            return found
    return []
