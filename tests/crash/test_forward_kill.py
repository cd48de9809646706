"""kill -9 while an exchange forwards and is bound and unbound: every copy that is due is there once."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaError

from pykbroker.testing import BrokerProcess
from tests.scale import scaled, seeded

ENTRY_PARTITIONS = 2
SPREAD = 3
"""Partitions of the target with a round-robin partitioner."""
TARGETS = {"all": 1, "fan": 1, "spread": SPREAD, "even": 1, "switched": 1}
SWITCH = {"to": "switched", "key": "switch"}


class Sender(threading.Thread):
    """Sends numbered records to every partition until stopped; a send that fails is a failure."""

    def __init__(self, bootstrap: str, topic: str, partitions: int, prefix: str = "") -> None:
        super().__init__(name="sender", daemon=True)
        self._address, self._topic, self._partitions, self._prefix = bootstrap, topic, partitions, prefix
        self._stopping = threading.Event()
        self.failures: list[str] = []
        self.acknowledged: set[bytes] = set()
        self.sent: dict[bytes, set[bytes]] = defaultdict(set)
        """The values by key, each of which is acknowledged in the end."""

    def run(self) -> None:
        producer = a_producer(self._address)
        futures, number = [], 0
        while not self._stopping.is_set():
            for partition in range(self._partitions):
                value = f"{self._prefix}{partition}:{number}".encode()
                key = b"even.0" if number % 2 == 0 else b"odd"
                self.sent[key].add(value)
                future = producer.send(self._topic, value, key=key, partition=partition)
                future.add_callback(lambda _, value: self.acknowledged.add(value), value=value)
                futures.append(future)
            number += 1
            if number % 4 == 0:
                time.sleep(0.002)
        producer.flush(timeout=120)
        for future in futures:
            try:
                future.get(timeout=1)
            except KafkaError as error:
                self.failures.append(repr(error))
        producer.close()

    def stop(self) -> None:
        self._stopping.set()
        self.join(180)
        assert not self.is_alive(), "sends are neither acknowledged nor refused"


class Switcher(threading.Thread):
    """Binds and unbinds a target over and over; sends some records in between and waits for each."""

    def __init__(self, bootstrap: str) -> None:
        super().__init__(name="switcher", daemon=True)
        self._address = bootstrap
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "reconnect.backoff.max.ms": 200})
        self._stopping = threading.Event()
        self.due: set[bytes] = set()
        self.not_due: set[bytes] = set()
        self.failures: list[str] = []
        self.rounds = 0

    def run(self) -> None:
        producer = a_producer(self._address)
        while not self._stopping.is_set():
            bound = self.rounds % 2 == 0
            self._bind(AlterConfigOpType.APPEND if bound else AlterConfigOpType.SUBTRACT)
            values = [b"s%d:%d" % (self.rounds, number) for number in range(10)]
            futures = [producer.send("entry", value, key=b"switch") for value in values]
            for future in futures:
                try:
                    future.get(timeout=120)
                except KafkaError as error:
                    self.failures.append(repr(error))
            (self.due if bound else self.not_due).update(values)
            self.rounds += 1
        producer.close()

    def _bind(self, operation: AlterConfigOpType) -> None:
        """Until it is acknowledged: binding what is bound changes nothing."""
        while True:
            try:
                change_binding(self._admin, "entry", SWITCH, operation)
            except KafkaException:
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        self._stopping.set()
        self.join(180)
        assert not self.is_alive(), "a binding or a send did not come to an end"


def change_binding(
    admin: AdminClient, exchange: str, binding: dict[str, str], operation: AlterConfigOpType
) -> None:
    """Bind or unbind; returns when that is acknowledged.  Raises KafkaException."""
    entry = ConfigEntry("pykbroker.exchange.bindings", json.dumps([binding]), incremental_operation=operation)
    resource = ConfigResource(ResourceType.TOPIC, exchange, incremental_configs=[entry])
    for future in admin.incremental_alter_configs([resource], request_timeout=3).values():
        future.result()


def a_producer(bootstrap: str) -> KafkaProducer:
    return KafkaProducer(
        bootstrap_servers=bootstrap,
        acks="all",
        linger_ms=1,
        delivery_timeout_ms=120_000,
        request_timeout_ms=5_000,
        reconnect_backoff_ms=20,
        reconnect_backoff_max_ms=200,
        retry_backoff_ms=20,
    )


def create_exchanges(bootstrap: str) -> None:
    """Five targets; an entry that reaches three of them through other exchanges, one of which leads back."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.create_topics(
        [
            NewTopic(
                name,
                partitions,
                1,
                topic_configs={"pykbroker.partitioner": "round-robin"} if partitions > 1 else {},
            )
            for name, partitions in TARGETS.items()
        ]
    )
    exchange(admin, "evens", "direct", [{"to": "even", "key": "even.0"}])
    exchange(admin, "middle", "fanout", [{"to": "fan"}, {"to": "spread"}, {"to": "all"}])
    exchange(
        admin,
        "entry",
        "topic",
        [{"to": "all", "key": "even.*"}, {"to": "all", "key": "odd"}, {"to": "evens", "key": "even.#"}]
        + [{"to": "middle", "key": key} for key in ("even.#", "odd")],
        partitions=ENTRY_PARTITIONS,
    )
    theirs = AdminClient({"bootstrap.servers": bootstrap})
    change_binding(theirs, "middle", {"to": "entry"}, AlterConfigOpType.APPEND)
    admin.close()


def exchange(
    admin: KafkaAdminClient, name: str, kind: str, bindings: list[dict[str, str]], partitions: int = 1
) -> None:
    configs = {"pykbroker.exchange.type": kind, "pykbroker.exchange.bindings": json.dumps(bindings)}
    admin.create_topics([NewTopic(name, partitions, 1, topic_configs=configs)])


def read(bootstrap: str, topic: str, partitions: int, count: int) -> dict[int, list[bytes]]:
    """The values of each partition, once there are ``count`` in all and no more come."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    places = [TopicPartition(topic, index) for index in range(partitions)]
    consumer.assign(places)
    found: dict[int, list[bytes]] = {index: [] for index in range(partitions)}
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        polled = consumer.poll(timeout_ms=500)
        for place, records in polled.items():
            found[place.partition] += [record.value for record in records]
        if not polled and sum(map(len, found.values())) >= count:
            break
    consumer.close()
    return found


def wrong(found: dict[int, list[bytes]], expected: set[bytes]) -> dict[str, list[bytes]]:
    """What is missing, too much, or there twice."""
    counts = Counter(value for values in found.values() for value in values)
    return {
        "missing": sorted(expected - counts.keys())[:10],
        "extra": sorted(counts.keys() - expected)[:10],
        "doubled": [value for value, times in counts.items() if times > 1][:10],
    }


def in_order(values: list[bytes]) -> bool:
    """Whether what came from each partition of the entry is in the order in which it was sent."""
    last: dict[bytes, int] = {}
    for value in values:
        source, _, number = value.partition(b":")
        if int(number) <= last.get(source, -1):
            return False
        last[source] = int(number)
    return True


def wait_for_progress(*counts: Callable[[], int]) -> None:
    """Until all of them have risen."""
    before = [count() for count in counts]
    deadline = time.monotonic() + 60
    while any(count() <= was for count, was in zip(counts, before, strict=True)):
        assert time.monotonic() < deadline, "no progress in 60 s"
        time.sleep(0.02)


def test_every_copy_that_is_due_is_there_once(tmp_path: Path) -> None:
    kills = scaled(3, 20)
    random_ = seeded(5)
    settings = {"log.segment.bytes": "300000"}
    with BrokerProcess(data_dir=tmp_path, settings=settings) as broker:
        create_exchanges(broker.bootstrap)
        sender = Sender(broker.bootstrap, "entry", ENTRY_PARTITIONS)
        switcher = Switcher(broker.bootstrap)
        sender.start()
        switcher.start()
        for _ in range(kills):
            wait_for_progress(lambda: len(sender.acknowledged), lambda: switcher.rounds)
            time.sleep(random_.uniform(0.0, 0.7))
            broker.kill()
            broker.start()
        sender.stop()
        switcher.stop()
        everything = sender.sent[b"even.0"] | sender.sent[b"odd"]
        due = {
            "all": everything,
            "fan": everything,
            "spread": everything,
            "even": sender.sent[b"even.0"],
            "switched": switcher.due,
        }
        found = {name: read(broker.bootstrap, name, count, len(due[name])) for name, count in TARGETS.items()}
    print(f"{kills} kills, {len(sender.acknowledged)} records, {switcher.rounds} changes of bindings")
    assert (sender.failures, switcher.failures) == ([], [])
    for name, values in found.items():
        assert wrong(values, due[name]) == {"missing": [], "extra": [], "doubled": []}, name
    assert all(in_order(found[name][0]) for name in ("all", "fan", "even"))
    assert all(in_order(values) for values in found["spread"].values())
    assert {len(values) > 0 for values in found["spread"].values()} == {True}


def _acknowledged(sender: Sender) -> int:
    return len(sender.acknowledged)


def test_what_the_broker_places_arrives_once_and_in_order(tmp_path: Path) -> None:
    """Order is that of each producer, for each partition that it named and each that was chosen."""
    kills = scaled(2, 20)
    random_ = seeded(6)
    with BrokerProcess(data_dir=tmp_path, settings={"log.segment.bytes": "300000"}) as broker:
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
        admin.create_topics(
            [NewTopic("placed", SPREAD, 1, topic_configs={"pykbroker.partitioner": "round-robin"})]
        )
        admin.close()
        senders = [Sender(broker.bootstrap, "placed", SPREAD, name) for name in ("a", "b")]
        for sender in senders:
            sender.start()
        for _ in range(kills):
            wait_for_progress(*[partial(_acknowledged, sender) for sender in senders])
            time.sleep(random_.uniform(0.0, 0.7))
            broker.kill()
            broker.start()
        for sender in senders:
            sender.stop()
        due = {value for sender in senders for values in sender.sent.values() for value in values}
        found = read(broker.bootstrap, "placed", SPREAD, len(due))
    print(f"{kills} kills, {len(due)} records")
    assert [sender.failures for sender in senders] == [[], []]
    assert wrong(found, due) == {"missing": [], "extra": [], "doubled": []}
    assert all(in_order(values) for values in found.values())
    assert min(map(len, found.values())) > len(due) // (2 * SPREAD)
