"""kafka-python nacks in its commits, and a reader of dead letters settles them; over kills of the broker."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import InvalidRequestError
from kafka.structs import OffsetAndMetadata

from pykbroker.testing import BrokerProcess

PATIENCE_S = 30.0


@pytest.fixture
def admin(bootstrap: str) -> Iterator[KafkaAdminClient]:
    with closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
        yield admin


def make(admin: KafkaAdminClient, topic: str, partitions: int = 2, attempts: int = 3) -> None:
    configs = {
        "pykbroker.retry.policy": "immediate",
        "pykbroker.retry.max.attempts": str(attempts),
    }
    admin.create_topics({topic: {"num_partitions": partitions, "configs": configs}})


def produce(bootstrap: str, topic: str, count: int, partition: int = 0, begin: int = 0) -> None:
    with closing(KafkaProducer(bootstrap_servers=bootstrap)) as producer:
        sent = [
            producer.send(topic, b"%d" % number, b"key", [("trace", b"x")], partition)
            for number in range(begin, begin + count)
        ]
        for each in sent:
            each.get(PATIENCE_S)


@contextmanager
def consumer(bootstrap: str, group: str | None = None) -> Iterator[KafkaConsumer]:
    made = KafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        client_id=f"client of {group}",
    )
    try:
        yield made
    finally:
        made.close(autocommit=False)


def commit(
    bootstrap: str, group: str, topic: str, offset: int, metadata: object = None, partition: int = 0
) -> None:
    """A simple consumer's commit."""
    text = metadata if isinstance(metadata, str) else json.dumps(metadata)
    with consumer(bootstrap, group) as made:
        made.commit({TopicPartition(topic, partition): OffsetAndMetadata(offset, text, -1)})


def read(bootstrap: str, topic: str, count: int, partition: int = 0) -> list[ConsumerRecord]:
    """The first records of a partition; no more than these come within a moment."""
    place = TopicPartition(topic, partition)
    found: list[ConsumerRecord] = []
    with consumer(bootstrap) as made:
        made.assign([place])
        made.seek_to_beginning(place)
        deadline = time.monotonic() + PATIENCE_S
        while len(found) < count:
            assert time.monotonic() < deadline, f"only {len(found)} records in {topic}"
            found += made.poll(timeout_ms=100).get(place, [])
        found += made.poll(timeout_ms=300).get(place, [])
    assert len(found) == count
    return found


def values(records: Sequence[ConsumerRecord]) -> list[int]:
    return [int(record.value) for record in records]


def settled(admin: KafkaAdminClient, topic: str) -> dict[str, list[object]]:
    """As the broker says it, in pages where it is long."""
    name = "pykbroker.dead.letter.settled"

    def ask(*names: str) -> dict[str, str]:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, dict.fromkeys(names))
        entries = admin.describe_configs([resource])["topic"].get(topic, {})
        assert all(entry["read_only"] for entry in entries.values())
        return {each: entry["value"] for each, entry in entries.items()}

    found: dict[str, list[object]] = json.loads(ask(name)[name])
    if "pages" not in found:
        return found
    together: dict[str, list[object]] = {}
    pages = ask(*(f"{name}.{number}" for number in range(int(str(found["pages"])))))
    assert len(pages) == int(str(found["pages"]))
    for page in pages.values():
        for partition, ranges in json.loads(page).items():
            together.setdefault(partition, []).extend(ranges)
    return together


def test_a_nack_counts_once_until_the_group_goes_back(
    bootstrap: str, admin: KafkaAdminClient, topic: str, group: str
) -> None:
    make(admin, topic)
    produce(bootstrap, topic, 10)
    metadata = '{"nack": [2, [4, 5]], "reason": "no"}'
    for _ in range(3):
        commit(bootstrap, group, topic, 8, metadata)
    commit(bootstrap, group, topic, 9, {"nack": [[4, 6]]})
    retry = f"{topic}.{group}.retry"
    records = read(bootstrap, retry, 4)
    assert values(records) == [2, 4, 5, 6]
    first = dict(records[0].headers)
    assert first["pykbroker-source"] == f"{topic}/0/2".encode()
    assert (first["pykbroker-attempt"], first["pykbroker-reason"]) == (b"1", b"no")
    assert (records[0].key, first["trace"]) == (b"key", b"x")
    assert "pykbroker-reason" not in dict(records[3].headers)
    commit(bootstrap, group, topic, 5)
    commit(bootstrap, group, topic, 9, {"nack": [[4, 6]]})
    assert values(read(bootstrap, retry, 6)) == [2, 4, 5, 6, 5, 6]
    with consumer(bootstrap, group) as made:
        place = TopicPartition(topic, 0)
        found = made.committed(place, metadata=True)
        assert (found.offset, found.metadata) == (9, '{"nack": [[4, 6]]}')


def test_a_nack_ahead_of_the_commit_is_refused(
    bootstrap: str, admin: KafkaAdminClient, topic: str, group: str
) -> None:
    make(admin, topic)
    produce(bootstrap, topic, 3)
    with consumer(bootstrap, group) as made:
        good, bad = TopicPartition(topic, 0), TopicPartition(topic, 1)
        nack = '{"nack": [1]}'
        with pytest.raises(InvalidRequestError):
            made.commit({bad: OffsetAndMetadata(1, nack, -1), good: OffsetAndMetadata(2, nack, -1)})
        assert made.committed(good) == 2
        assert made.committed(bad) is None
    assert values(read(bootstrap, f"{topic}.{group}.retry", 1)) == [1]


def failed_for_good(bootstrap: str, admin: KafkaAdminClient, topic: str, group: str, count: int) -> str:
    """The dead-letter topic with so many letters in partition 0."""
    make(admin, topic, attempts=0)
    produce(bootstrap, topic, count)
    commit(bootstrap, group, topic, count, {"nack": [[0, count - 1]]})
    letters = f"{topic}.{group}.dlq"
    assert values(read(bootstrap, letters, count)) == list(range(count))
    return letters


def test_letters_are_replayed_once_and_purged(
    bootstrap: str, admin: KafkaAdminClient, topic: str, group: str
) -> None:
    letters = failed_for_good(bootstrap, admin, topic, group, 20)
    assert settled(admin, letters) == {}
    for _ in range(2):
        commit(bootstrap, "pykbroker.dlq", letters, 20, {"replay": [0, [2, 4]]})
    assert settled(admin, letters) == {"0": [0, [2, 4]]}
    back = read(bootstrap, topic, 24)[20:]
    assert values(back) == [0, 2, 3, 4]
    assert all(record.headers == [("trace", b"x")] for record in back), "they count from 1 again"
    commit(bootstrap, "pykbroker.dlq", letters, 20, {"purge": [[5, 9]]})
    admin.create_topics({f"{topic}-other": {"num_partitions": 1}})
    commit(bootstrap, "pykbroker.dlq", letters, 20, {"replay": [[0, 19]], "to": f"{topic}-other"})
    assert values(read(bootstrap, f"{topic}-other", 11)) == [1, *range(10, 20)]
    assert settled(admin, letters) == {"0": [[0, 19]]}
    with pytest.raises(InvalidRequestError):
        commit(bootstrap, "pykbroker.dlq", letters, 20, {"replay": [1], "to": letters})
    listed = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, letters)])["topic"][letters]
    assert "pykbroker.dead.letter.settled" not in listed, "only for those who name it"


def test_letters_go_back_at_a_rate(bootstrap: str, admin: KafkaAdminClient, topic: str, group: str) -> None:
    letters = failed_for_good(bootstrap, admin, topic, group, 10)
    begun = time.monotonic()
    commit(bootstrap, "pykbroker.dlq", letters, 10, {"replay": [[0, 9]], "rate": 10})
    assert values(read(bootstrap, topic, 20)[10:]) == list(range(10))
    assert time.monotonic() - begun >= 0.9


def test_many_settled_letters_come_in_pages(
    bootstrap: str, admin: KafkaAdminClient, topic: str, group: str
) -> None:
    count = 14_000
    make(admin, topic, 1)
    produce(bootstrap, topic, count)
    for begin in range(0, count, 1000):
        offsets = list(range(begin, begin + 1000, 2))
        commit(
            bootstrap, "pykbroker.dlq", topic, count, json.dumps({"purge": offsets}, separators=(",", ":"))
        )
    assert settled(admin, topic) == {"0": list(range(0, count, 2))}


def test_nacks_and_orders_outlive_the_broker() -> None:
    """Killed right after it has answered, or after it has moved something."""
    topic, group = "orders", "billing"
    with BrokerProcess() as broker:
        with closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap)) as admin:
            make(admin, topic)
        produce(broker.bootstrap, topic, 3000)
        for begin in range(0, 3000, 1000):
            nack = {"nack": [[begin, begin + 999]]}
            commit(broker.bootstrap, group, topic, begin + 1000, nack)
            broker.kill()
            broker.start()
            commit(broker.bootstrap, group, topic, begin + 1000, nack)
        assert sorted(values(read(broker.bootstrap, "orders.billing.retry", 3000))) == list(range(3000))
        broker.kill()
        broker.start()
        commit(broker.bootstrap, group, topic, 3000, {"nack": [[0, 2999]]})
        produce(broker.bootstrap, topic, 1, begin=3000)
        commit(broker.bootstrap, group, topic, 3001, {"nack": [3000]})
        assert values(read(broker.bootstrap, "orders.billing.retry", 3001))[3000:] == [3000]
