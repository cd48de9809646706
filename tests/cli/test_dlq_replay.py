"""``pykbroker dlq replay`` and ``purge``: letters of a broker that made them, moved by it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.consumer.fetcher import ConsumerRecord
from kafka.structs import OffsetAndMetadata

from pykbroker.cli import _settling
from pykbroker.client import ConnectionLost, calls
from pykbroker.testing import BrokerThread
from tests.cli.test_exchanges import Shell
from tests.clients.members import member, poll_until, settled

DLQ = "orders.billing.dlq"
PATIENCE_S = 20.0


class Broker:
    """A broker with a topic ``orders``: the first failure of its records makes them dead letters."""

    def __init__(self, thread: BrokerThread) -> None:
        self.bootstrap = thread.bootstrap
        self.shell = Shell(thread.bootstrap)
        policy = ("-c", "pykbroker.retry.policy=fixed", "-c", "pykbroker.retry.max.attempts=0")
        self.shell("topics", "create", "orders", "-p", "2", *policy)

    def fail(self, values: list[bytes], *, reason: str = "", group: str = "billing") -> None:
        """Produce these to partition 0, nack them all, and wait for the letters."""
        with closing(KafkaProducer(bootstrap_servers=self.bootstrap)) as producer:
            sent = [producer.send("orders", value, key=b"k", partition=0) for value in values]
            offsets = [each.get(10).offset for each in sent]
        nack = f'{{"nack": [[{offsets[0]}, {offsets[-1]}]], "reason": "{reason}"}}'
        before = self.waiting(f"orders.{group}.dlq")
        with closing(KafkaConsumer(group_id=group, bootstrap_servers=self.bootstrap)) as consumer:
            consumer.commit({TopicPartition("orders", 0): OffsetAndMetadata(offsets[-1] + 1, nack, -1)})
        wait(lambda: self.waiting(f"orders.{group}.dlq") == before + len(values))

    def waiting(self, topic: str) -> int:
        """How many letters are not settled."""
        rows = self.shell.json("dlq", "list")
        assert isinstance(rows, list)
        return sum(row["letters"] for row in rows if row["topic"] == topic)

    def read(self, topic: str, count: int) -> list[ConsumerRecord]:
        """The first records of partition 0; fails if they do not come."""
        partition = TopicPartition(topic, 0)
        with closing(
            KafkaConsumer(bootstrap_servers=self.bootstrap, auto_offset_reset="earliest")
        ) as consumer:
            consumer.assign([partition])
            found: list[ConsumerRecord] = []
            deadline = time.monotonic() + PATIENCE_S
            while len(found) < count:
                assert time.monotonic() < deadline, len(found)
                for records in consumer.poll(timeout_ms=200).values():
                    found += records
            assert consumer.end_offsets([partition])[partition] == count
        return found


def wait(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(name="broker")
def _broker(pykbroker: BrokerThread) -> Broker:
    return Broker(pykbroker)


def test_from_failure_to_replay(broker: Broker) -> None:
    broker.fail([b"0", b"1"], reason="timeout")
    broker.fail([b"2"], reason="no price")
    (row,) = listed(broker, "--group", "billing")
    assert (row["topic"], row["origin"], row["letters"], row["settled"]) == (DLQ, "orders", 3, 0)
    assert listed(broker, "--group", "shipping") == []
    (row,) = listed(broker, "--reason", "price")
    assert row["letters"] == 1
    said = broker.shell("dlq", "replay", DLQ, "--reason", "timeout", "--yes")
    assert said == f"replayed 2 letters of {DLQ} to where they came from\n"
    again = broker.read("orders", 5)[3:]
    assert [(each.key, each.value, list(each.headers)) for each in again] == [
        (b"k", b"0", []),
        (b"k", b"1", []),
    ]
    assert "nothing to replay" in broker.shell("dlq", "replay", DLQ, "--reason", "timeout", "--yes")
    assert [row["offset"] for row in listed(broker, DLQ, "--settled")] == [0, 1]
    assert [row["offset"] for row in listed(broker, DLQ)] == [2]
    assert "replayed or purged already" in broker.shell.refused("dlq", "show", f"{DLQ}/0/0")
    assert "replayed or purged already" in broker.shell("dlq", "show", f"{DLQ}/0/0", "--settled")
    assert broker.waiting(DLQ) == 1


def listed(broker: Broker, *arguments: str) -> list[dict[str, object]]:
    found = broker.shell.json("dlq", "list", *arguments)
    assert isinstance(found, list)
    return found


def test_nobody_is_asked_twice_and_no_means_no(broker: Broker) -> None:
    broker.fail([b"0"])
    assert broker.shell.invoke("dlq", "replay", DLQ).exit_code == 1
    assert len(listed(broker, DLQ)) == 1


def test_letters_by_name_to_another_topic(broker: Broker) -> None:
    broker.shell("topics", "create", "repaired", "-p", "1")
    broker.fail([b"%d" % number for number in range(6)])
    names = (f"{DLQ}/0/0", f"{DLQ}/0/2-4")
    said = broker.shell("dlq", "replay", *names, "--to", "repaired", "--yes")
    assert said == f"replayed 4 letters of {DLQ} to repaired\n"
    assert [each.value for each in broker.read("repaired", 4)] == [b"0", b"2", b"3", b"4"]
    assert [row["offset"] for row in listed(broker, DLQ)] == [1, 5]


def test_purged_letters_are_out_of_the_way(broker: Broker) -> None:
    broker.fail([b"0", b"1", b"2"])
    assert broker.shell("dlq", "purge", f"{DLQ}/0/1", "--yes") == f"purged 1 letter of {DLQ}\n"
    assert [row["offset"] for row in listed(broker, DLQ)] == [0, 2]
    broker.shell("dlq", "replay", DLQ, "--yes")
    assert [each.value for each in broker.read("orders", 5)[3:]] == [b"0", b"2"]
    assert broker.shell("dlq", "list", DLQ).startswith(f"no letters in {DLQ} (3 were replayed or purged")


@pytest.mark.parametrize(
    ("to", "said"),
    [
        (DLQ, "the dead-letter topic itself"),
        ("orders.billing.retry", "retry topic of group billing"),
        ("nowhere", "no topic nowhere"),
        ("circle", "an exchange that leads back"),
    ],
)
def test_a_replay_that_would_loop_is_refused(broker: Broker, to: str, said: str) -> None:
    broker.fail([b"0"])
    broker.shell("exchanges", "declare", "circle", "--type", "fanout")
    broker.shell("exchanges", "bind", "circle", DLQ)
    assert said in broker.shell.refused("dlq", "replay", DLQ, "--to", to, "--yes")
    assert len(listed(broker, DLQ)) == 1


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), ConnectionLost("the broker is gone")])
def test_an_interrupted_replay_goes_on_where_it_was(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    values = [b"%d" % number for number in range(120)]
    broker.fail(values)
    monkeypatch.setattr(_settling, "PIECE", 25)
    left = [2]
    commit = calls.commit

    async def interrupted(*arguments: object) -> None:
        if not left[0]:
            raise failure
        left[0] -= 1
        await commit(*arguments)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(calls, "commit", interrupted)
    said = broker.shell.refused("dlq", "replay", DLQ, "--yes")
    assert "50 of 120 letters replayed, at most 25 more" in said
    assert "no letter is replayed twice" in said
    monkeypatch.setattr(calls, "commit", commit)
    wait(lambda: len(listed(broker, DLQ)) == 70)
    assert "replayed 70 letters" in broker.shell("dlq", "replay", DLQ, "--yes")
    came = Counter(each.value for each in broker.read("orders", 240)[120:])
    assert came == Counter(values)


def test_a_rate_is_kept(broker: Broker) -> None:
    broker.fail([b"%d" % number for number in range(25)])
    since = time.monotonic()
    broker.shell("dlq", "replay", DLQ, "--rate", "20", "--yes")
    assert time.monotonic() - since >= 1.0
    broker.read("orders", 50)
    assert time.monotonic() - since >= 1.2


def test_thousands_of_letters_each_once(broker: Broker) -> None:
    values = [b"%d" % number for number in range(3000)]
    broker.fail(values)
    broker.shell("dlq", "purge", *(f"{DLQ}/0/{offset}" for offset in range(0, 3000, 2)), "--yes")
    assert "replayed 1500 letters" in broker.shell("dlq", "replay", DLQ, "--yes")
    came = [each.value for each in broker.read("orders", 4500)[3000:]]
    assert sorted(came) == sorted(values[1::2])
    assert broker.waiting(DLQ) == 0


def test_a_shared_topic_returns_each_letter_to_its_own_origin(broker: Broker) -> None:
    shared = ("-c", "pykbroker.dead.letter.topic=graveyard", "-c", "pykbroker.retry.policy=fixed")
    for topic in ("bills", "mails"):
        broker.shell("topics", "create", topic, "-p", "1", *shared, "-c", "pykbroker.retry.max.attempts=0")
        with closing(KafkaProducer(bootstrap_servers=broker.bootstrap)) as producer:
            producer.send(topic, topic.encode()).get(10)
        with closing(KafkaConsumer(group_id="g", bootstrap_servers=broker.bootstrap)) as consumer:
            nack = OffsetAndMetadata(1, '{"nack": [0]}', -1)
            consumer.commit({TopicPartition(topic, 0): nack})

    def letters() -> int:
        result = broker.shell.invoke("dlq", "list", "graveyard", "--format", "json")
        return result.output.count('"topic"')

    wait(lambda: letters() == 2)
    for group, topics in (((), ["graveyard"]), (("--group", "g"), ["graveyard"]), (("--group", "x"), [])):
        rows = broker.shell.json("dlq", "list", *group)
        assert isinstance(rows, list)
        assert [row["topic"] for row in rows] == topics
        assert [(row["origin"], row["group"], row["letters"]) for row in rows] == [(None, None, 2)] * len(
            rows
        )
    broker.shell("dlq", "replay", "graveyard", "--yes")
    assert [each.value for each in broker.read("bills", 2)] == [b"bills", b"bills"]
    assert [each.value for each in broker.read("mails", 2)] == [b"mails", b"mails"]


def test_topics_for_dead_letters_that_settings_of_groups_name_are_listed(broker: Broker) -> None:
    for topic in ("dead.billing", "graves", "other"):
        broker.shell("topics", "create", topic)
    with closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap)) as admin:
        for group, target in (("bill/ing", "graves"), ("billing", "dead.{group}")):
            setting = {"pykbroker.dead.letter.topic": target}
            admin.alter_configs([ConfigResource(ConfigResourceType.GROUP, group, setting)])
            with closing(KafkaConsumer(group_id=group, bootstrap_servers=broker.bootstrap)) as consumer:
                consumer.commit({TopicPartition("orders", 0): OffsetAndMetadata(0, "", -1)})
    rows = broker.shell.json("dlq", "list")
    assert isinstance(rows, list)
    assert [row["topic"] for row in rows] == ["dead.billing", "graves"]


def test_a_group_that_reads_its_own_dead_letters_is_warned_of(broker: Broker) -> None:
    broker.fail([b"0"])
    described = broker.shell.invoke("groups", "describe", "billing")
    assert "warning" not in described.output
    with member(broker.bootstrap, "billing", DLQ, client_id="someone") as reader:
        poll_until([reader], settled([reader], DLQ, 2))
        for arguments in ((), ("--members",)):
            described = broker.shell.invoke("groups", "describe", "billing", *arguments)
            assert f"billing reads {DLQ}, its own dead-letter topic" in described.output
    described = broker.shell.invoke("groups", "describe", "billing", "--format", "json")
    assert described.stdout.startswith("[")
