"""What waits for a retry or a delay, as commands and admin clients see it; the broker's clock is moved."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.structs import OffsetAndMetadata

from pykbroker.cli import _waiting
from pykbroker.cli._waiting import Waiting
from pykbroker.delivery import waiting
from pykbroker.testing import BrokerThread
from tests.cli.test_dlq_replay import wait
from tests.cli.test_exchanges import Shell

RETRY, DLQ = "orders.billing.retry", "orders.billing.dlq"
MINUTE_MS = 60_000


@pytest.fixture(name="shell")
def _shell(pykbroker: BrokerThread) -> Shell:
    return Shell(pykbroker.bootstrap)


def setting(broker: BrokerThread, topic: str) -> dict[str, object]:
    """What the broker says, read as any admin client does."""
    with closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap)) as admin:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, {waiting.WAITING: None})
        entries = admin.describe_configs([resource])["topic"][topic]
        listed = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])["topic"][topic]
    assert waiting.WAITING not in listed, "only for those who name it"
    assert entries[waiting.WAITING]["read_only"]
    found: dict[str, object] = json.loads(entries[waiting.WAITING]["value"])
    return found


def count(broker: BrokerThread, topic: str, *names: str) -> tuple[object, ...]:
    """These numbers, when nothing is being counted any more."""
    wait(lambda: "indexing" not in setting(broker, topic))
    found = setting(broker, topic)
    return tuple(found[name] for name in names)


def rows(found: object) -> list[dict[str, object]]:
    assert isinstance(found, list)
    return found


def send(broker: BrokerThread, topic: str, *values: bytes, delay_ms: int | None = None) -> None:
    headers = [] if delay_ms is None else [("pykbroker-delay-ms", b"%d" % delay_ms)]
    with closing(KafkaProducer(bootstrap_servers=broker.bootstrap)) as producer:
        for value in values:
            producer.send(topic, value, headers=headers, partition=0).get(10)


def nack(broker: BrokerThread, topic: str, first: int, last: int, metadata: str | None = None) -> None:
    text = f'{{"nack": [[{first}, {last}]]}}' if metadata is None else metadata
    with closing(KafkaConsumer(group_id="billing", bootstrap_servers=broker.bootstrap)) as consumer:
        consumer.commit({TopicPartition(topic, 0): OffsetAndMetadata(last + 1, text, -1)})


def test_a_topic_that_delays(pykbroker: BrokerThread, shell: Shell) -> None:
    shell("topics", "create", "later", "-p", "2", "-c", "pykbroker.delay.enable=true")
    assert "waiting: nothing\n" in shell("topics", "describe", "later")
    send(pykbroker, "later", b"a", b"b", delay_ms=10 * MINUTE_MS)
    send(pykbroker, "later", b"c", delay_ms=MINUTE_MS)
    pykbroker.advance(1)
    assert count(pykbroker, "later", "waiting", "stuck") == (3, 0)
    next_due_ms = setting(pykbroker, "later")["next_due_ms"]
    assert isinstance(next_due_ms, int)
    at = f"{datetime.fromtimestamp(next_due_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
    assert f"waiting: 3 records, the next at {at}\n" in shell("topics", "describe", "later")
    pykbroker.advance(59)
    wait(lambda: count(pykbroker, "later", "waiting") == (2,))
    pykbroker.restart()
    assert count(pykbroker, "later", "waiting") == (2,)
    found = rows(shell.json("topics", "describe", "later"))
    assert [(row["partition"], row["end"], row["waiting"], row["stuck"]) for row in found] == [
        (0, 1, 2, 0),
        (1, 0, 0, 0),
    ]
    pykbroker.advance(540)
    wait(lambda: count(pykbroker, "later", "waiting", "next_due_ms") == (0, None))
    assert "waiting: nothing\n" in shell("topics", "describe", "later")


def test_the_failures_of_a_group(pykbroker: BrokerThread, shell: Shell) -> None:
    policy = ("-c", "pykbroker.retry.policy=fixed", "-c", f"pykbroker.retry.delay.ms={MINUTE_MS}")
    shell("topics", "create", "orders", "-p", "1", *policy, "-c", "pykbroker.retry.max.attempts=1")
    send(pykbroker, "orders", *[b"%d" % number for number in range(5)])
    nack(pykbroker, "orders", 0, 3)
    pykbroker.advance(1)
    wait(lambda: count(pykbroker, RETRY, "waiting") == (4,))
    described = shell("groups", "describe", "billing")
    assert f"\n{RETRY}  waiting: 4 records, the next at 2" in described
    assert f"\n{DLQ}    letters: 0\n" in described
    assert "waiting: 4 records" in shell("topics", "describe", RETRY)
    pykbroker.advance(60)
    wait(lambda: rows(shell.json("topics", "describe", RETRY))[0]["end"] == 4)
    nack(pykbroker, RETRY, 0, 2)  # their second failure
    wait(lambda: f"{DLQ}    letters: 3\n" in shell("groups", "describe", "billing"))
    with closing(KafkaConsumer(group_id="pykbroker.dlq", bootstrap_servers=pykbroker.bootstrap)) as purger:
        purger.commit({TopicPartition(DLQ, 0): OffsetAndMetadata(3, '{"purge": [1]}', -1)})
    wait(lambda: f"{DLQ}    letters: 2\n" in shell("groups", "describe", "billing"))
    found = {row["topic"]: row for row in rows(shell.json("groups", "describe", "billing"))}
    its = found["orders"]
    assert (its["lag"], its["retry_topic"], its["dead_letter_topic"]) == (1, RETRY, DLQ)
    assert (its["waiting"], its["stuck"], its["next_due_ms"], its["letters"]) == (0, 0, None, 2)
    assert (found[RETRY]["waiting"], found[RETRY]["letters"]) == (None, None)
    assert "waiting:" not in shell("groups", "describe", "billing", "--members")


def test_what_is_stuck(pykbroker: BrokerThread, shell: Shell) -> None:
    """A letter without a key, for a shared topic that the broker's default has made compacted."""
    shell("topics", "create", "graves", "-p", "1")
    settings = ("pykbroker.retry.policy=fixed", "pykbroker.retry.max.attempts=0")
    named = "pykbroker.dead.letter.topic=graves"
    configs = [part for each in (*settings, named) for part in ("-c", each)]
    shell("topics", "create", "orders", "-p", "1", *configs)
    send(pykbroker, "orders", b"a")
    nack(pykbroker, "orders", 0, 0, "")
    with closing(KafkaProducer(bootstrap_servers=pykbroker.bootstrap)) as producer:
        assert producer.partitions_for(RETRY), "it is made"
    with closing(KafkaAdminClient(bootstrap_servers=pykbroker.bootstrap)) as admin:
        default = {"log.cleanup.policy": "compact"}
        admin.alter_configs([ConfigResource(ConfigResourceType.BROKER, "1", default)])
    send(pykbroker, RETRY, b"a", b"b")
    wait(lambda: count(pykbroker, RETRY, "waiting", "stuck") == (0, 2))
    why = (
        "  2 cannot go to graves: it is compacted, and they have no key; alter its cleanup.policy to delete\n"
    )
    assert f"waiting: nothing, 2 stuck\n{why}" in shell("topics", "describe", RETRY)
    assert f"{RETRY}  waiting: nothing, 2 stuck\n{why}" in shell("groups", "describe", "billing")
    assert rows(shell.json("groups", "describe", "billing"))[0]["stuck"] == 2
    pykbroker.restart()
    wait(lambda: count(pykbroker, RETRY, "stuck") == (2,))


def test_other_topics_have_no_such_line(pykbroker: BrokerThread, shell: Shell) -> None:
    shell("topics", "create", "orders", "-p", "1", "-c", "pykbroker.retry.policy=fixed")
    send(pykbroker, "orders", b"a")
    nack(pykbroker, "orders", 0, 0)
    for topic in ("orders", DLQ):
        assert "waiting" not in shell("topics", "describe", topic)
        assert "waiting" not in rows(shell.json("topics", "describe", topic))[0]
    nack(pykbroker, "orders", 0, 0, "")
    shell("topics", "delete", RETRY, DLQ, "--yes")
    assert "letters" not in rows(shell.json("groups", "describe", "billing"))[0]


@pytest.mark.parametrize("command", ["topics", "groups"])
def test_a_broker_that_does_not_say_it(
    pykbroker: BrokerThread, shell: Shell, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell("topics", "create", "later", "-p", "1", "-c", "pykbroker.delay.enable=true")
    shell("topics", "create", "orders", "-p", "1")
    send(pykbroker, "orders", b"a")
    nack(pykbroker, "orders", 0, 0, "")
    monkeypatch.setattr(_waiting, "WAITING", "no.such.setting")
    name = "later" if command == "topics" else "billing"
    assert "waiting" not in shell(command, "describe", name)
    assert "waiting" not in rows(shell.json(command, "describe", name))[0]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ('{"waiting":0,"next_due_ms":null,"stuck":0,"by_partition":{}}', "nothing"),
        (
            '{"waiting":1,"next_due_ms":0,"stuck":1}',
            "1 record, the next at 1970-01-01 00:00:00 UTC, 1 stuck",
        ),
        (
            '{"waiting":2,"next_due_ms":null,"stuck":0,"indexing":true}',
            "2 records, still being counted",
        ),
        (
            '{"waiting":2,"next_due_ms":99999999999999999,"stuck":0}',
            "2 records, the next at 99999999999999999",
        ),
    ],
)
def test_words(said: str, words: str) -> None:
    assert str(Waiting.parse(said)) == words


def test_partitions_may_be_too_many() -> None:
    assert Waiting.parse('{"waiting":1,"next_due_ms":0,"stuck":0}').of(3) is None
    assert _waiting.fields(None)["waiting"] is None


def test_the_name_of_the_setting_is_that_of_the_broker() -> None:
    assert _waiting.WAITING == waiting.WAITING
