"""A topic is deleted, made again and written to, and then the broker is killed."""

from __future__ import annotations

import time
from pathlib import Path

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from pykbroker.log.checkpoints import LOG_STARTS, RECOVERY_POINTS, read_offsets
from pykbroker.testing import BrokerProcess

TOPIC = "again"


def test_a_kill_after_a_topic_was_made_again_hides_none_of_its_records() -> None:
    """Checkpoints know names only: those of the old topic must not count for the new one."""
    with BrokerProcess() as broker:
        _create(broker.bootstrap)
        _produce(broker.bootstrap, 20)
        with KafkaAdminClient(bootstrap_servers=broker.bootstrap) as admin:
            admin.delete_records({TopicPartition(TOPIC, 0): 8})
        broker.restart()  # writes the checkpoints
        with KafkaAdminClient(bootstrap_servers=broker.bootstrap) as admin:
            admin.delete_topics([TOPIC])
        _create(broker.bootstrap)
        _produce(broker.bootstrap, 10)
        _wait_until_forgotten(broker.data_dir)
        broker.kill()
        broker.start()
        assert _offsets(broker.bootstrap) == list(range(10))


def _create(bootstrap: str) -> None:
    with KafkaAdminClient(bootstrap_servers=bootstrap) as admin:
        admin.create_topics([NewTopic(TOPIC, 1, 1)])


def _produce(bootstrap: str, count: int) -> None:
    with KafkaProducer(bootstrap_servers=bootstrap) as producer:
        for number in range(count):
            producer.send(TOPIC, b"%d" % number, partition=0).get(timeout=10)


def _wait_until_forgotten(data_dir: Path) -> None:
    """They are written in the background, at once; their usual pace is a minute."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        starts = read_offsets(data_dir / LOG_STARTS).get((TOPIC, 0), 0)
        points = read_offsets(data_dir / RECOVERY_POINTS).get((TOPIC, 0), 0)
        if starts == 0 and points <= 10:
            return
        time.sleep(0.01)


def _offsets(bootstrap: str) -> list[int]:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    partition = TopicPartition(TOPIC, 0)
    consumer.assign([partition])
    end = consumer.end_offsets([partition])[partition]
    offsets: list[int] = []
    while consumer.position(partition) < end:
        for records in consumer.poll(timeout_ms=1000).values():
            offsets += [record.offset for record in records]
    consumer.close()
    return offsets
