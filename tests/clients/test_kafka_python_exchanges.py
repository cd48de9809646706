"""kafka-python sends to exchanges and to topics whose partitioner is the broker's."""

from __future__ import annotations

import json
from collections import Counter

from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic


def read(bootstrap: str, topic: str, count: int) -> list[tuple[int, bytes | None, bytes]]:
    """Partition, key and value of ``count`` records, as a consumer gets them."""
    consumer = KafkaConsumer(
        topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=30_000
    )
    found = []
    for record in consumer:
        found.append((record.partition, record.key, record.value))
        if len(found) == count:
            break
    consumer.close()
    return found


def create(bootstrap: str, *topics: tuple[str, int, dict[str, str]]) -> None:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    for name, partitions, configs in topics:
        admin.create_topics([NewTopic(name, partitions, 1, topic_configs=configs)])
    admin.close()


def test_a_record_is_copied_to_every_queue_that_is_bound(bootstrap: str, topic: str) -> None:
    bindings = [{"to": f"{topic}-eu", "key": "eu.#"}, {"to": f"{topic}-all", "key": "#"}]
    exchange = {"pykbroker.exchange.type": "topic", "pykbroker.exchange.bindings": json.dumps(bindings)}
    create(bootstrap, (f"{topic}-eu", 1, {}), (f"{topic}-all", 3, {}), (topic, 1, exchange))
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    for number, key in enumerate([b"eu.order", b"us.order", b"eu", b"us.order"]):
        assert producer.send(topic, b"%d" % number, key=key).get(10).offset == number
    producer.close()
    assert [value for _, _, value in read(bootstrap, f"{topic}-eu", 2)] == [b"0", b"2"]
    everywhere = read(bootstrap, f"{topic}-all", 4)
    assert sorted(value for _, _, value in everywhere) == [b"0", b"1", b"2", b"3"]
    assert len({partition for partition, key, _ in everywhere if key == b"us.order"}) == 1
    assert len(read(bootstrap, topic, 4)) == 4


def test_the_broker_chooses_the_partition_where_the_topic_says_so(bootstrap: str, topic: str) -> None:
    create(bootstrap, (topic, 3, {"pykbroker.partitioner": "round-robin"}))
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    sent = [producer.send(topic, b"%d" % number, key=b"always the same") for number in range(30)]
    assert {future.get(10).offset for future in sent} == {-1}
    producer.close()
    found = read(bootstrap, topic, 30)
    assert Counter(partition for partition, _, _ in found) == {0: 10, 1: 10, 2: 10}
    assert sorted(int(value) for _, _, value in found) == list(range(30))
