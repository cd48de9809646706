"""kafka-python 3's producer, as applications use it, against a whole broker."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaTimeoutError, MessageSizeTooLargeError

from pykbroker.testing import BrokerThread

PATIENCE_S = 20.0


def read_all(bootstrap: str, topic: str, count: int, partition: int = 0) -> list[Any]:
    """The first ``count`` records of a partition; the client checks every CRC."""
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=PATIENCE_S * 1000
    )
    with closing(consumer):
        consumer.assign([TopicPartition(topic, partition)])
        return [next(consumer) for _ in range(count)]


@pytest.mark.parametrize("acks", [0, 1, "all"])
def test_acks(bootstrap: str, topic: str, acks: int | str) -> None:
    with closing(KafkaProducer(bootstrap_servers=bootstrap, acks=acks, enable_idempotence=False)) as producer:
        sent = [producer.send(topic, b"%d" % number) for number in range(10)]
        producer.flush(PATIENCE_S)
        offsets = [future.get(PATIENCE_S).offset for future in sent]
    if acks != 0:  # without an answer the client makes one up
        assert offsets == list(range(10))
    assert [record.value for record in read_all(bootstrap, topic, 10)] == [b"%d" % n for n in range(10)]


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_codecs(bootstrap: str, topic: str, codec: str) -> None:
    values = [bytes([number]) * 3000 for number in range(40)]
    with closing(
        KafkaProducer(bootstrap_servers=bootstrap, compression_type=codec, linger_ms=50)
    ) as producer:
        for value in values:
            producer.send(topic, value)
        producer.flush(PATIENCE_S)
    assert [record.value for record in read_all(bootstrap, topic, 40)] == values


def test_nulls_headers_and_timestamps_come_back_as_sent(bootstrap: str, topic: str) -> None:
    sent = [
        (b"only a key", None, [], 1),
        (b"", b"", [("empty", b"")], 1_600_000_000_000),
        (b"key", None, [("twice", b"1"), ("twice", b"2")], 1_600_000_000_500),
        (None, b"value", [("größe", b"\xff\x00")], 1_500_000_000_000),
    ]
    with closing(KafkaProducer(bootstrap_servers=bootstrap)) as producer:
        for key, value, headers, stamp in sent:
            producer.send(topic, value, key=key, headers=headers, timestamp_ms=stamp, partition=0)
        producer.flush(PATIENCE_S)
    got = read_all(bootstrap, topic, 4)
    assert [(each.key, each.value, list(each.headers), each.timestamp) for each in got] == sent


def test_several_topics_and_partitions_in_one_request(pykbroker_session: BrokerThread, topic: str) -> None:
    bootstrap = pykbroker_session.bootstrap
    with closing(KafkaProducer(bootstrap_servers=bootstrap, linger_ms=200)) as producer:
        for name in (f"{topic}-a", f"{topic}-b"):
            producer.partitions_for(name)
        sent = [producer.send(f"{topic}-{name}", b"%d" % n) for n in range(5) for name in "ab"]
        producer.flush(PATIENCE_S)
        assert [future.get(PATIENCE_S).offset for future in sent] == [n for n in range(5) for _ in "ab"]
    for name in "ab":
        assert [each.value for each in read_all(bootstrap, f"{topic}-{name}", 5)] == [
            b"%d" % n for n in range(5)
        ]


def test_a_lost_answer_does_not_double_a_record(pykbroker: BrokerThread, topic: str) -> None:
    """The connection is cut instead of the answer: the producer sends again, the broker knows the batch."""
    with closing(KafkaProducer(bootstrap_servers=pykbroker.bootstrap, retry_backoff_ms=20)) as producer:
        assert producer.send(topic, b"first").get(PATIENCE_S).offset == 0
        pykbroker.fail("Produce", drop=True)
        assert producer.send(topic, b"second").get(PATIENCE_S).offset == 1
        pykbroker.fail("Produce", error="NOT_LEADER_OR_FOLLOWER")
        assert producer.send(topic, b"third").get(PATIENCE_S).offset == 2
    assert [each.value for each in read_all(pykbroker.bootstrap, topic, 3)] == [b"first", b"second", b"third"]


@pytest.mark.pykbroker(settings={"message.max.bytes": 1000})
def test_a_batch_above_the_limit_is_refused(pykbroker: BrokerThread, topic: str) -> None:
    producer = KafkaProducer(bootstrap_servers=pykbroker.bootstrap)
    with closing(producer), pytest.raises(MessageSizeTooLargeError):
        producer.send(topic, b"x" * 1000).get(PATIENCE_S)
    # kafka-python gives an idempotent producer up after this error.
    with closing(KafkaProducer(bootstrap_servers=pykbroker.bootstrap)) as producer:
        assert producer.send(topic, b"x" * 500).get(PATIENCE_S).offset == 0


@pytest.mark.pykbroker(settings={"auto.create.topics.enable": False})
def test_without_auto_creation_an_unknown_topic_stays_unknown(pykbroker: BrokerThread, topic: str) -> None:
    producer = KafkaProducer(bootstrap_servers=pykbroker.bootstrap, max_block_ms=1000)
    with closing(producer), pytest.raises(KafkaTimeoutError):
        producer.send(topic, b"x").get(PATIENCE_S)
    with closing(KafkaConsumer(bootstrap_servers=pykbroker.bootstrap)) as consumer:
        assert topic not in consumer.topics()
