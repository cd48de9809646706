"""``pykbroker topics`` and ``pykbroker groups`` on a running broker."""

from __future__ import annotations

import json
import time
from contextlib import closing

import pytest
from click.testing import CliRunner, Result
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

from pykbroker.cli import cli
from pykbroker.cli._errors import Failed
from pykbroker.testing import BrokerThread
from tests.clients.members import member, poll_until, settled


def invoke(broker: BrokerThread | str, *arguments: str) -> Result:
    bootstrap = broker if isinstance(broker, str) else broker.bootstrap
    return CliRunner().invoke(cli, arguments, env={"PYKBROKER_BOOTSTRAP": bootstrap})


def run(broker: BrokerThread, *arguments: str) -> str:
    result = invoke(broker, *arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


@pytest.mark.pykbroker(settings={"advertised.listeners": "PLAINTEXT://127.0.0.1:1"})
def test_a_broker_that_is_not_where_it_says(pykbroker: BrokerThread) -> None:
    result = invoke(pykbroker, "topics", "create", "orders")
    assert isinstance(result.exception, Failed)
    assert "cannot connect to 127.0.0.1:1" in str(result.exception)
    assert "advertised.listeners" in result.exception.hint


def test_topics(pykbroker: BrokerThread) -> None:
    assert run(pykbroker, "topics", "list") == ""
    assert (
        run(pykbroker, "topics", "create", "orders", "-p", "2", "-c", "retention.ms=1000")
        == "created orders\n"
    )
    assert run(pykbroker, "topics", "list").splitlines()[1].split() == ["orders", "2"]
    with closing(KafkaProducer(bootstrap_servers=pykbroker.bootstrap)) as producer:
        producer.send("orders", b"x", partition=1).get(10)
    rows = json.loads(run(pykbroker, "topics", "describe", "orders", "--format", "json"))
    assert [(row["partition"], row["start"], row["end"]) for row in rows] == [(0, 0, 0), (1, 0, 1)]
    assert run(pykbroker, "topics", "delete", "orders", "--yes") == "deleted orders\n"
    assert run(pykbroker, "topics", "list") == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["topics", "create", "not a name"], "INVALID_TOPIC_EXCEPTION"),
        (["topics", "create", "t", "-c", "no.such=1"], "INVALID_CONFIG"),
        (["topics", "delete", "missing", "--yes"], "UNKNOWN_TOPIC_OR_PARTITION"),
        (["topics", "describe", "missing"], "UNKNOWN_TOPIC_OR_PARTITION"),
        (["groups", "describe", "missing"], "missing"),
    ],
)
def test_a_refusal_says_why(pykbroker_session: BrokerThread, arguments: list[str], said: str) -> None:
    failure = invoke(pykbroker_session, *arguments).exception
    assert isinstance(failure, Failed)
    assert said in str(failure)


def test_nobody_there() -> None:
    failure = invoke("127.0.0.1:1", "topics", "list").exception
    assert isinstance(failure, Failed)
    assert "pykbroker serve" in failure.hint


@pytest.mark.parametrize("bootstrap", ["nowhere", "host:port"])
def test_a_bad_address_is_a_usage_error(bootstrap: str) -> None:
    assert invoke(bootstrap, "topics", "list").exit_code == 2


def test_groups(pykbroker: BrokerThread) -> None:
    run(pykbroker, "topics", "create", "orders")
    with closing(KafkaProducer(bootstrap_servers=pykbroker.bootstrap)) as producer:
        for _ in range(5):
            producer.send("orders", b"x").get(10)
    with member(pykbroker.bootstrap, "billing", "orders", client_id="someone") as reader:
        poll_until([reader], settled([reader], "orders", 1))
        reader.commit({TopicPartition("orders", 0): OffsetAndMetadata(2, "note", -1)})
        assert run(pykbroker, "groups", "list").splitlines()[1].split() == ["billing", "Stable", "classic"]
        (row,) = json.loads(run(pykbroker, "groups", "describe", "billing", "--format", "json"))
        assert (row["topic"], row["committed"], row["end"], row["lag"]) == ("orders", 2, 5, 3)
        shown = run(pykbroker, "groups", "describe", "billing", "--members")
        assert "group billing: Stable, 1 member\n" in shown
        assert "someone" in shown


def test_a_word_that_no_setting_has() -> None:
    failure = invoke("127.0.0.1:1", "settings", "retries", "--of", "group").exception
    assert isinstance(failure, Failed)
    assert str(failure) == "no setting of a group has retries in its name"


def test_what_a_topic_was_made_for_and_with(pykbroker: BrokerThread) -> None:
    policy = ("-c", "pykbroker.retry.policy=fixed", "-c", "retention.ms=5000")
    run(pykbroker, "topics", "create", "orders", "-p", "1", *policy)
    run(pykbroker, "topics", "create", "orders.billing.retry")
    described = run(pykbroker, "topics", "describe", "orders")
    assert "\npykbroker.retry.policy = fixed\n" in described
    assert "\nretention.ms = 5000\n" in described
    assert "max.message.bytes" not in described
    assert "pykbroker.role = retry:orders:billing\n" in run(
        pykbroker, "topics", "describe", "orders.billing.retry"
    )


def test_a_group_that_does_not_read_what_comes_back(pykbroker: BrokerThread) -> None:
    policy = ("-c", "pykbroker.retry.policy=immediate")
    run(pykbroker, "topics", "create", "orders", "-p", "1", *policy)
    with closing(KafkaProducer(bootstrap_servers=pykbroker.bootstrap)) as producer:
        producer.send("orders", b"x").get(10)
    with closing(KafkaConsumer(group_id="billing", bootstrap_servers=pykbroker.bootstrap)) as consumer:
        consumer.commit({TopicPartition("orders", 0): OffsetAndMetadata(1, '{"nack": [0]}\0', -1)})
        warned = "warning: orders.billing.retry has records, and billing has never read it"
        deadline = time.monotonic() + 30
        while warned not in (described := run(pykbroker, "groups", "describe", "billing")):
            assert time.monotonic() < deadline
        assert '{"nack": [0]}\n' in described  # without the NUL that confluent-kafka sends
        consumer.commit({TopicPartition("orders.billing.retry", 0): OffsetAndMetadata(1, "", -1)})
        assert "warning" not in run(pykbroker, "groups", "describe", "billing")
