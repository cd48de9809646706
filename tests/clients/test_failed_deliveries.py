"""Records that fail: every client tells the broker both ways, and gets them back with the count.

tox runs this module with each version of kafka-python; the other clients take part where they are
installed.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import closing

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from pykbroker.testing import BrokerThread
from tests.clients.failing import CLIENTS, PATIENCE_S, Client, Got

DELAY_MS = 100
ATTEMPTS = 3
OWN_HEADERS = (("trace", b"\x00\xff"), ("empty", b""), ("trace", b"again"))
STAMP = 1_600_000_000_000
"""The timestamp of every record: it is old, and stays."""

WAYS = ["produce", "nack"]
A_CLIENT = pytest.mark.parametrize("client", sorted(CLIENTS))


@pytest.fixture
def group() -> str:
    """A group id that has characters which a topic may not have."""
    return "the billing/group"


def names(topic: str) -> tuple[str, str]:
    """The retry topic and the dead-letter topic of the group."""
    return f"{topic}.the_billing_group.retry", f"{topic}.the_billing_group.dlq"


def make_topic(bootstrap: str, topic: str) -> None:
    configs = {
        "pykbroker.retry.policy": "fixed",
        "pykbroker.retry.delay.ms": str(DELAY_MS),
        "pykbroker.retry.max.attempts": str(ATTEMPTS),
    }
    with closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
        admin.create_topics([NewTopic(topic, 2, 1, topic_configs=configs)])


def produce(bootstrap: str, topic: str, *values: bytes) -> None:
    """The values to partition 1."""
    with closing(KafkaProducer(bootstrap_servers=bootstrap)) as producer:
        for value in values:
            producer.send(topic, value, b"key of " + value, list(OWN_HEADERS), 1, STAMP).get(PATIENCE_S)


class Application:
    """A consumer that fails to process some records some times, and says so one way or the other."""

    def __init__(self, client: Client, topic: str, way: str, failures: Mapping[bytes, int]) -> None:
        self._client, self._topic, self._way, self._failures = client, topic, way, failures
        self.seen: dict[bytes, list[Got]] = defaultdict(list)
        self.processed: list[bytes] = []

    def run_until(self, processed: int, letters: int = 0) -> None:
        """Until so many records are processed and so many have failed for the last time."""
        deadline = time.monotonic() + PATIENCE_S
        last = 0
        while len(self.processed) < processed or last < letters:
            seen = {value: len(records) for value, records in self.seen.items()}
            assert time.monotonic() < deadline, f"processed {self.processed}, seen {seen}"
            assert max(seen.values(), default=0) < 10, f"a record comes back and back: {seen}"
            for record in self._client.poll():
                assert record.value is not None
                self.seen[record.value].append(record)
                if record.attempt < self._failures.get(record.value, 0):
                    self._fail(record)
                    last += record.attempt == ATTEMPTS
                else:
                    self.processed.append(record.value)
                    self._client.commit(record.topic, record.partition, record.offset + 1, "")

    def _fail(self, record: Got) -> None:
        metadata = "mine"
        if self._way == "produce":
            reason = (("pykbroker-reason", b"no luck"),)
            headers = tuple(each for each in record.headers if each[0] != "pykbroker-reason") + reason
            self._client.send(names(self._topic)[0], record._replace(headers=headers))
        else:
            metadata = json.dumps({"nack": [record.offset], "reason": "no luck"})
        self._client.commit(record.topic, record.partition, record.offset + 1, metadata)


@pytest.fixture
def broker(pykbroker: BrokerThread, topic: str) -> BrokerThread:
    make_topic(pykbroker.bootstrap, topic)
    return pykbroker


def read(bootstrap: str, topic: str, partition: int, count: int) -> list[Got]:
    """The records of a partition, of which there are ``count``."""
    reader = KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    with closing(reader):
        place = TopicPartition(topic, partition)
        reader.assign([place])
        found: list[Got] = []
        deadline = time.monotonic() + PATIENCE_S
        while len(found) < count:
            assert time.monotonic() < deadline, found
            for records in reader.poll(timeout_ms=100).values():
                found += [
                    Got(topic, partition, r.offset, r.key, r.value, tuple(r.headers), r.timestamp, 0)
                    for r in records
                ]
        assert reader.end_offsets([place])[place] == count
    return found


@A_CLIENT
@pytest.mark.parametrize("way", WAYS)
def test_what_fails_comes_back_and_what_fails_again_and_again_is_a_dead_letter(
    broker: BrokerThread, topic: str, group: str, client: str, way: str
) -> None:
    retry, dead_letters = names(topic)
    produce(broker.bootstrap, topic, b"good", b"flaky", b"poison")
    with closing(CLIENTS[client](broker.bootstrap, group, [topic, retry])) as member:
        application = Application(member, topic, way, {b"flaky": 2, b"poison": ATTEMPTS + 1})
        application.run_until(processed=2, letters=1)
    letters = read(broker.bootstrap, dead_letters, 1, 1)
    seen = application.seen
    assert {value: [record.attempt for record in records] for value, records in seen.items()} == {
        b"good": [0],
        b"flaky": [0, 1, 2],
        b"poison": [0, 1, 2, 3],
    }
    assert application.processed == [b"good", b"flaky"]
    for value, records in seen.items():
        assert [record.topic for record in records] == [topic] + [retry] * (len(records) - 1)
        check_retried(records[1:], records[0], group, way)
        assert {record.partition for record in records} == {1}, value
    assert [letter.value for letter in letters] == [b"poison"]
    check_letter(letters[0], seen[b"poison"], group, way)


def check_retried(records: list[Got], origin: Got, group: str, way: str) -> None:
    """What the broker says of its own in records that it gave back, and that nothing else is changed."""
    for before, record in zip([origin, *records], records, strict=False):
        assert record[3:5] == origin[3:5]
        assert (record.own_headers, record.timestamp) == (OWN_HEADERS, STAMP)
        assert record.header("pykbroker-attempt") == str(before.attempt + 1)
        assert record.header("pykbroker-group") == group
        assert record.header("pykbroker-policy") == "fixed"
        assert record.header("pykbroker-reason") == "no luck"
        first, last = record.header("pykbroker-first-failure-ms"), record.header("pykbroker-last-failure-ms")
        assert first is not None
        assert last is not None
        assert first == (before.header("pykbroker-first-failure-ms") or last)
        assert before.seen_ms <= int(last) <= record.seen_ms - DELAY_MS
        source = record.header("pykbroker-source")
        assert source is not None
        if way == "nack":
            assert source == f"{origin.topic}/{origin.partition}/{origin.offset}"
        else:  # the client has not said where it had the record from
            assert source == origin.topic


def check_letter(letter: Got, seen: list[Got], group: str, way: str) -> None:
    """What a dead letter says."""
    origin, last = seen[0], seen[-1]
    assert (letter.key, letter.value, letter.timestamp) == (origin.key, origin.value, STAMP)
    assert letter.own_headers == OWN_HEADERS
    assert letter.attempt == ATTEMPTS + 1
    assert letter.header("pykbroker-source") == last.header("pykbroker-source")
    assert letter.header("pykbroker-first-failure-ms") == last.header("pykbroker-first-failure-ms")
    theirs = {name: letter.header(name) for name, _ in letter.headers if name.startswith("__dlq.")}
    expected: dict[str, str | None] = {
        "__dlq.errors.topic": origin.topic,
        "__dlq.errors.group": group,
        "__dlq.errors.delivery.count": str(ATTEMPTS + 1),
        "__dlq.errors.message": "no luck",
    }
    if way == "nack":
        expected |= {"__dlq.errors.partition": "1", "__dlq.errors.offset": str(origin.offset)}
    assert theirs == expected


@A_CLIENT
def test_commit_metadata_comes_back_as_it_was(
    broker: BrokerThread, topic: str, group: str, client: str
) -> None:
    produce(broker.bootstrap, topic, b"a", b"b", b"c")
    with closing(CLIENTS[client](broker.bootstrap, group, [topic, names(topic)[0]])) as member:
        Application(member, topic, "nack", {}).run_until(processed=3)
        for metadata in ("größe", '{"nack": "all of them"}', ' {"nack" : [0, [1,2]], "reason":"é"} ', ""):
            member.commit(topic, 1, 3, metadata)
            assert member.committed(topic, 1) == (3, metadata)
    retried = read(broker.bootstrap, names(topic)[0], 1, 3)
    assert [(record.value, record.header("pykbroker-reason")) for record in retried] == [
        (b"a", "é"),
        (b"b", "é"),
        (b"c", "é"),
    ]


@A_CLIENT
def test_what_is_not_committed_yet_cannot_be_nacked(
    broker: BrokerThread, topic: str, group: str, client: str
) -> None:
    produce(broker.bootstrap, topic, b"a", b"b")
    with closing(CLIENTS[client](broker.bootstrap, group, [topic, names(topic)[0]])) as member:
        Application(member, topic, "nack", {}).run_until(processed=2)
        member.commit(topic, 1, 1, "before")
        with pytest.raises(Exception, match=r"(?i)invalid.?request"):
            member.commit(topic, 1, 2, '{"nack": [2]}')
        assert member.committed(topic, 1) == (1, "before")


@A_CLIENT
def test_a_commit_that_is_repeated_counts_once(
    broker: BrokerThread, topic: str, group: str, client: str
) -> None:
    produce(broker.bootstrap, topic, b"a", b"b")
    retry, _ = names(topic)
    with closing(CLIENTS[client](broker.bootstrap, group, [topic, retry])) as member:
        application = Application(member, topic, "nack", {b"a": 1})
        application.run_until(processed=2)
        for _ in range(3):
            member.commit(topic, 1, 2, '{"nack": [0]}')
        member.commit(topic, 1, 2, '{"nack": [[0, 1]]}')
        application.run_until(processed=3)
    assert [record.value for record in read(broker.bootstrap, retry, 1, 2)] == [b"a", b"b"]
    assert [record.attempt for record in application.seen[b"b"]] == [0, 1]
