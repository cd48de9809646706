"""What an operator sees of letters that go back, of nacks that cannot be carried out, of letters that are
shared; on a clock that is moved."""

from __future__ import annotations

import json
from contextlib import closing

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.structs import OffsetAndMetadata

from pykbroker.cli import _failures, _returning, _shared_letters
from pykbroker.delivery import reports, returning
from pykbroker.delivery.places import LocalPlaces
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.testing import BrokerThread
from tests.cli.test_dlq_replay import wait
from tests.cli.test_exchanges import Shell
from tests.cli.test_waiting import DLQ, nack, rows, send

POLICY = ("-c", "pykbroker.retry.policy=fixed", "-c", "pykbroker.retry.max.attempts=0")


@pytest.fixture(name="shell")
def _shell(pykbroker: BrokerThread) -> Shell:
    return Shell(pykbroker.bootstrap)


def fail(broker: BrokerThread, shell: Shell, count: int) -> None:
    """As many dead letters of billing on orders."""
    shell("topics", "create", "orders", "-p", "1", *POLICY)
    send(broker, "orders", *[b"%d" % number for number in range(count)])
    nack(broker, "orders", 0, count - 1)
    wait(lambda: topic_row(shell)["letters"] == count)


def topic_row(shell: Shell) -> dict[str, object]:
    (row,) = [row for row in rows(shell.json("dlq", "list")) if row["topic"] == DLQ]
    return row


def order(broker: BrokerThread, metadata: str) -> None:
    with closing(KafkaConsumer(group_id="pykbroker.dlq", bootstrap_servers=broker.bootstrap)) as asking:
        asking.commit({TopicPartition(DLQ, 0): OffsetAndMetadata(0, metadata, -1)})


def test_the_names_of_settings_are_those_of_the_broker() -> None:
    assert _returning.RETURNING == returning.RETURNING
    assert _failures.ASIDE == reports.ASIDE


def test_letters_that_go_back_at_a_rate(pykbroker: BrokerThread, shell: Shell) -> None:
    fail(pykbroker, shell, 10)
    assert topic_row(shell)["returning"] == 0
    order(pykbroker, '{"replay": [[0, 7]], "rate": 0.001}')
    wait(lambda: topic_row(shell)["returning"] == 7)
    (way,) = rows(topic_row(shell)["returning_to"])
    assert (way["partition"], way["to"], way["letters"]) == (0, "orders", 7)
    assert topic_row(shell)["letters"] == 2
    line = f"7 letters are on the way back from {DLQ}/0 to orders, the last at about 2"
    for command in (("dlq", "list"), ("dlq", "list", DLQ), ("groups", "describe", "billing")):
        assert line in shell(*command), command
    said = shell("dlq", "replay", f"{DLQ}/0/0-7", "--yes")
    assert line in said
    assert "nothing to replay" in said
    pykbroker.advance(3100)
    wait(lambda: topic_row(shell)["returning"] == 4)
    pykbroker.restart()
    pykbroker.advance(2000)
    assert "2 letters are on the way back" in shell("dlq", "list", DLQ)
    pykbroker.advance(2000)
    assert "on the way" not in shell("dlq", "list")


def test_letters_that_cannot_get_where_they_should(pykbroker: BrokerThread, shell: Shell) -> None:
    fail(pykbroker, shell, 3)
    shell("topics", "create", "repaired", "-p", "1")
    order(pykbroker, '{"replay": [[0, 2]], "to": "repaired", "rate": 0.001}')
    wait(lambda: topic_row(shell)["returning"] == 2)
    wait(lambda: rows(shell.json("topics", "describe", "repaired"))[0]["end"] == 1)
    shell("topics", "delete", "repaired", "--yes")
    pykbroker.advance(3000)
    wait(lambda: "2 cannot go to repaired: " in shell("dlq", "list", DLQ))
    assert "create the topic" in shell("dlq", "list", DLQ)
    (stuck,) = rows(topic_row(shell)["returning_stuck"])
    assert (stuck["to"], stuck["records"]) == ("repaired", 2)
    shell("topics", "create", "repaired", "-p", "1")
    wait(lambda: not topic_row(shell)["returning_stuck"])
    assert rows(shell.json("topics", "describe", "repaired"))[0]["end"] == 2


def test_ages_are_by_the_clock_of_the_broker(pykbroker: BrokerThread, shell: Shell) -> None:
    fail(pykbroker, shell, 1)
    pykbroker.advance(2 * 3600 + 60)
    for command in (("list",), ("list", DLQ), ("show", f"{DLQ}/0/0")):
        assert "2h ago" in shell("dlq", *command), command
    assert shell.json("dlq", "list", DLQ, "--newer-than", "1h") == []
    assert len(rows(shell.json("dlq", "list", DLQ, "--older-than", "2h"))) == 1
    assert "nothing to replay" in shell("dlq", "replay", DLQ, "--newer-than", "1h", "--yes")


def test_nacks_that_cannot_be_carried_out(
    pykbroker: BrokerThread, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell("topics", "create", "orders", "-p", "1", *POLICY)
    send(pykbroker, "orders", b"a", b"b", b"c")

    async def refuse(*_: object) -> None:
        raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, "the name is taken; set pykbroker.retry.topic")

    with monkeypatch.context() as patch:
        patch.setattr(LocalPlaces, "arrivals", refuse)
        nack(pykbroker, "orders", 0, 1)
        wait(lambda: "cannot be retried now" in shell.invoke("groups", "describe", "billing").output)
        described = shell.invoke("groups", "describe", "billing").output
        assert "2 nacked records of orders-0 cannot be retried now: the name is taken; set pykb" in described
        (row,) = rows(json.loads(shell.invoke("groups", "describe", "billing", "--format", "json").stdout))
        assert (row["aside"], str(row["aside_why"])[:17]) == (2, "the name is taken")
        assert "cannot be retried" not in shell.invoke("groups", "describe", "billing", "--members").output
    pykbroker.advance(2)
    wait(lambda: "cannot be retried now" not in shell.invoke("groups", "describe", "billing").output)
    wait(lambda: topic_row(shell)["letters"] == 2)


def fail_shared(broker: BrokerThread, shell: Shell, target: str) -> None:
    """Letters of two groups on bills, of one on mails, all to one target."""
    for topic, groups in (("bills", ("billing", "audit")), ("mails", ("billing",))):
        shell("topics", "create", topic, "-p", "2", *POLICY, "-c", f"pykbroker.dead.letter.topic={target}")
        send(broker, topic, b"a", b"b")
        for group in groups:
            with closing(KafkaConsumer(group_id=group, bootstrap_servers=broker.bootstrap)) as consumer:
                note = json.dumps({"nack": [0, 1], "reason": topic})
                consumer.commit({TopicPartition(topic, 0): OffsetAndMetadata(2, note, -1)})


def letters_of(shell: Shell, group: str) -> dict[object, object]:
    found = rows(shell.json("groups", "describe", group))
    return {row["topic"]: (row["dead_letter_topic"], row["letters"]) for row in found}


def test_letters_in_a_topic_that_groups_share(
    pykbroker: BrokerThread, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_shared(pykbroker, shell, "graves")
    wait(lambda: letters_of(shell, "billing") == {"bills": ("graves", 2), "mails": ("graves", 2)})
    wait(lambda: letters_of(shell, "audit") == {"bills": ("graves", 2)})
    assert (
        shell("groups", "describe", "billing").count("graves               letters: 2 of 6, it is shared")
        == 2
    )
    monkeypatch.setattr(_shared_letters, "MOST", 5)
    assert letters_of(shell, "audit") == {"bills": ("graves", None)}
    how = "pykbroker dlq list --group audit"
    assert f"letters: 6 of all that share it, not counted by group: {how}" in shell(
        "groups", "describe", "audit"
    )
    (row,) = rows(shell.json("dlq", "list", "--group", "audit"))
    assert (row["topic"], row["letters"]) == ("graves", 2)


def test_letters_that_an_exchange_routes(pykbroker: BrokerThread, shell: Shell) -> None:
    for topic in ("of-bills", "of-mails"):
        shell("topics", "create", topic, "-p", "1")
    shell("exchanges", "declare", "graves", "--type", "headers")
    for topic in ("bills", "mails"):
        shell("exchanges", "bind", "graves", f"of-{topic}", "--argument", f"pykbroker-reason={topic}")
    fail_shared(pykbroker, shell, "graves")
    wait(lambda: letters_of(shell, "billing") == {"bills": ("graves", 2), "mails": ("graves", 2)})
    described = shell("groups", "describe", "billing")
    assert "letters: 2 in of-bills, 0 in of-mails, by this exchange" in described
    assert {row["topic"]: row["letters"] for row in rows(shell.json("dlq", "list"))} == {
        "of-bills": 4,
        "of-mails": 2,
    }


def test_a_replay_that_cannot_begin(
    pykbroker: BrokerThread, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(pykbroker, shell, 3)

    async def refuse(*_: object) -> None:
        raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, "no room on the disk")

    with monkeypatch.context() as patch:
        patch.setattr(LocalPlaces, "replays", refuse)
        order(pykbroker, '{"replay": [[0, 9000]]}')
        line = f"3 letters have yet to leave {DLQ}/0: no room on the disk; it is tried again by itself"
        wait(lambda: line in shell("dlq", "list"))
        assert topic_row(shell)["returning"] == 3
        assert topic_row(shell)["returning_ordered"] == [
            {"partition": 0, "letters": 3, "why": "no room on the disk"}
        ]
    pykbroker.advance(2)
    wait(lambda: rows(shell.json("topics", "describe", "orders"))[0]["end"] == 6)
    assert topic_row(shell)["returning"] == 0
