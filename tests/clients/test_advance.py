"""The clock of the fixture and what clients see of it."""

from __future__ import annotations

from pathlib import Path

from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic

from pykbroker.testing import BrokerThread


def test_a_delay_begins_before_the_clock_is_moved(tmp_path: Path) -> None:
    """What was acknowledged just before counts from the time before."""
    with BrokerThread(data_dir=tmp_path) as broker:
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
        settings = {"pykbroker.delay.enable": "true", "pykbroker.delay.ms": "60000"}
        admin.create_topics([NewTopic("later", 1, 1, topic_configs=settings)])
        admin.close()
        producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
        consumer = KafkaConsumer(
            "later",
            bootstrap_servers=broker.bootstrap,
            auto_offset_reset="earliest",
            consumer_timeout_ms=30_000,
        )
        for number in range(10):
            producer.send("later", b"%d" % number).get(10)
            broker.advance(60)
            assert next(consumer).value == b"%d" % number
        producer.close()
        consumer.close()
