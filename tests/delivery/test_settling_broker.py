"""A whole broker with a record that waits for a week among many that do not: its disk, and the record."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from pykbroker.catalog import role_topics
from pykbroker.delivery import indexing, settling, tidying
from pykbroker.delivery.sqlite_file import FILE
from pykbroker.partitions.check import check
from pykbroker.testing import BrokerThread

WEEK_S = 7 * 24 * 3600
MOST = 120_000
"""Bytes of a held log of which a million has passed: the active segment, and less than another one."""
PLACE = TopicPartition("later", 0)


@pytest.fixture(autouse=True)
def _small_and_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {**role_topics.FLOW_SETTINGS, "segment.bytes": "50000"}
    monkeypatch.setattr(role_topics, "FLOW_SETTINGS", settings)
    for module, name in (
        (indexing, "FLOOR_S"), (tidying, "TIDY_S"), (tidying, "SOON_S"), (settling, "SOON_S"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, 0.05)


def send(broker: BrokerThread, values: list[bytes], delay_ms: int) -> None:
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, linger_ms=5)
    headers = [("pykbroker-delay-ms", b"%d" % delay_ms)]
    sent = [producer.send("later", value, headers=headers) for value in values]
    for each in sent:
        each.get(timeout=20)
    producer.close()


def values_there(broker: BrokerThread, count: int) -> list[bytes]:
    """All that can be read, when there are so many."""
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest")
    consumer.assign([PLACE])
    found: list[bytes] = []
    deadline = time.monotonic() + 30
    while len(found) < count and time.monotonic() < deadline:
        for records in consumer.poll(timeout_ms=200).values():
            found += [record.value for record in records]
    end = consumer.end_offsets([PLACE])[PLACE]
    consumer.close()
    assert len(found) == count == end
    return found


def held_bytes(data_dir: Path) -> int:
    size = 0
    for path in data_dir.glob("__pykbroker_held_*/*.log"):
        with suppress(FileNotFoundError):  # replaced just then
            size += path.stat().st_size
    return size


def wait_for_disk(broker: BrokerThread, most: int) -> None:
    """Until the held log has given back what it can, which the broker does by itself."""

    async def wait() -> None:
        with trio.fail_after(30):
            while held_bytes(broker.data_dir) >= most:  # noqa: ASYNC110  # a process writes them
                await trio.sleep(0.02)

    broker.run_async(wait)


def test_its_disk_is_that_of_what_waits(tmp_path: Path) -> None:
    passed: list[bytes] = []

    def pass_many(broker: BrokerThread) -> None:
        values = [b"%d:" % (len(passed) + number) + bytes(300) for number in range(800)]
        send(broker, values, 1000)
        broker.advance(2)
        passed.extend(values)
        assert sorted(values_there(broker, len(passed))) == sorted(passed)

    with BrokerThread(data_dir=tmp_path) as broker:
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
        configs = {"pykbroker.delay.enable": "true", "retention.ms": "-1"}
        admin.create_topics([NewTopic("later", 1, 1, topic_configs=configs)])
        admin.close()
        send(broker, [b"long"], WEEK_S * 1000)
        for _ in range(2):
            pass_many(broker)
            wait_for_disk(broker, MOST)
        broker.restart()
        pass_many(broker)
        wait_for_disk(broker, MOST)
        broker.stop()
        for path in tmp_path.glob(FILE + "*"):
            path.unlink()
        broker.start()
        pass_many(broker)
        wait_for_disk(broker, MOST)
        broker.advance(WEEK_S - 3600)
        assert len(values_there(broker, len(passed))) == 3200
        broker.advance(3600)
        assert values_there(broker, len(passed) + 1)[-1] == b"long"
    assert check(tmp_path).problems == []
