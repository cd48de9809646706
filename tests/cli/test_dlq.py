"""``pykbroker dlq`` on a running broker, with letters that were laid out by hand."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import closing

import pytest
from kafka import KafkaProducer

from pykbroker.cli import _letters
from pykbroker.delivery import headers
from pykbroker.testing import BrokerThread
from tests.cli.test_exchanges import Shell

DLQ = "orders.billing.dlq"


def letter_headers(
    *, source: str = "orders/0/17", group: str = "billing", attempts: int = 6, reason: str, ago_s: float
) -> list[tuple[str, bytes]]:
    ms = round((time.time() - ago_s) * 1000)
    said = {
        headers.SOURCE: source,
        headers.GROUP: group,
        headers.ATTEMPT: attempts,
        headers.FIRST_FAILURE_MS: ms - 60_000,
        headers.LAST_FAILURE_MS: ms,
        headers.POLICY: "fixed",
        headers.REASON: reason,
    }
    return [(name, str(value).encode()) for name, value in said.items()]


def send(
    broker: BrokerThread, topic: str, records: Sequence[tuple[bytes, bytes, list[tuple[str, bytes]]]]
) -> None:
    with closing(KafkaProducer(bootstrap_servers=broker.bootstrap)) as producer:
        for key, value, added in records:
            producer.send(topic, value, key=key, headers=added, partition=0)


@pytest.fixture(name="shell")
def _shell(pykbroker: BrokerThread) -> Shell:
    shell = Shell(pykbroker.bootstrap)
    shell("topics", "create", "letters", "-p", "2")
    timeout = letter_headers(reason="Timeout after 5 s", ago_s=7200)
    price = letter_headers(reason="no price", ago_s=60, source="orders/0/18", group="shipping")
    send(
        pykbroker,
        "letters",
        [
            (b"order-17", b'{"price": 5}', [("trace", b"abc"), *timeout]),
            (b"\x00\xff", bytes(range(40)), price),
            (b"order-19", b"line one\nline \x1b[31mtwo", price),
        ],
    )
    return shell


def test_the_names_of_headers_are_those_of_the_broker() -> None:
    assert (_letters.SOURCE, _letters.GROUP, _letters.ATTEMPT) == (
        headers.SOURCE,
        headers.GROUP,
        headers.ATTEMPT,
    )
    assert (_letters.FIRST_FAILURE, _letters.LAST_FAILURE) == (
        headers.FIRST_FAILURE_MS,
        headers.LAST_FAILURE_MS,
    )
    assert (_letters.POLICY, _letters.REASON) == (headers.POLICY, headers.REASON)
    assert _letters.KIP_1191 == headers.DLQ_PREFIX


def test_the_letters_of_a_topic(shell: Shell) -> None:
    lines = shell("dlq", "list", "letters").splitlines()
    assert lines[0].split() == ["LETTER", "GROUP", "ATTEMPTS", "FAILED", "KEY", "REASON"]
    assert lines[1].split() == [
        "letters/0/0",
        "billing",
        "6",
        "2h",
        "ago",
        "order-17",
        "Timeout",
        "after",
        "5",
        "s",
    ]
    assert lines[2].split() == ["letters/0/1", "shipping", "6", "1m", "ago", "0x00ff", "no", "price"]
    assert len(lines) == 4
    rows = shell.json("dlq", "list", "letters", "--limit", "1")
    assert isinstance(rows, list)
    (row,) = rows
    assert (row["topic"], row["partition"], row["offset"], row["source"]) == ("letters", 0, 0, "orders/0/17")


@pytest.mark.parametrize(
    ("arguments", "offsets"),
    [
        (["--group", "billing"], [0]),
        (["--reason", "PRICE"], [1, 2]),
        (["--older-than", "1h"], [0]),
        (["--newer-than", "1h", "--limit", "1"], [1]),
        (["--group", "billing", "--reason", "price"], []),
        (["--settled"], []),
    ],
)
def test_filters(shell: Shell, arguments: list[str], offsets: list[int]) -> None:
    rows = shell.json("dlq", "list", "letters", *arguments)
    assert isinstance(rows, list)
    assert [row["offset"] for row in rows] == offsets


def test_nothing_found_is_said(shell: Shell) -> None:
    assert shell("dlq", "list", "letters", "--group", "none") == "no letters in letters that match\n"
    assert shell("dlq", "list", "letters", "--settled") == "no settled letters in letters\n"
    assert shell("dlq", "list") == "no dead-letter topics\n"
    assert shell("dlq", "list", "--group", "billing") == "no dead-letter topics of group billing\n"
    assert shell.json("dlq", "list") == []
    said = shell("dlq", "replay", "letters", "--group", "none", "--yes")
    assert said == "nothing to replay: no letters in letters that match\n"


def test_a_letter_in_full(shell: Shell) -> None:
    text = shell("dlq", "show", "letters/0/0")
    assert text == shell("dlq", "show", "letters", "0", "0")
    for said in (
        "6 times in group billing",
        "Timeout after 5 s",
        "orders/0/17",
        "(2h ago)",
        "order-17",
        "trace: abc",
        '{"price": 5}',
        "pykbroker dlq replay letters/0/0",
    ):
        assert said in text
    assert "pykbroker-" not in text
    shown = shell.json("dlq", "show", "letters/0/0")
    assert isinstance(shown, dict)
    assert (shown["value"], shown["key"], shown["settled"]) == ('{"price": 5}', "order-17", False)
    assert {"name": "trace", "value": "abc"} in shown["headers"]


def test_bytes_that_are_no_text_are_shown_as_such(shell: Shell) -> None:
    text = shell("dlq", "show", "letters/0/1")
    assert "00000010  10 11 12 13" in text
    assert "0x00ff" in text
    shown = shell.json("dlq", "show", "letters/0/1")
    assert isinstance(shown, dict)
    assert shown["key_base64"] == "AP8="
    assert "\x1b" not in shell("dlq", "show", "letters/0/2")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list", "missing"], "there is no topic missing"),
        (["show", "letters/0/3"], "offsets 0 to 2"),
        (["show", "letters/1/0"], "partition 1 is empty"),
        (["show", "letters/2/0"], "has 2 partitions"),
        (["replay", "missing", "--yes"], "there is no topic missing"),
        (["purge", "missing", "--all", "--yes"], "there is no topic missing"),
    ],
)
def test_a_refusal_says_why(shell: Shell, arguments: list[str], said: str) -> None:
    assert said in shell.refused("dlq", *arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "letters"],
        ["show", "letters/0/1-2"],
        ["list", "--limit", "3"],
        ["list", "letters", "--older-than", "yesterday"],
        ["replay", "letters/0"],
        ["replay", "letters", "--rate", "0"],
        ["replay", "letters", "--yes", "--rate", "inf"],
        ["replay", "letters", "--yes", "--rate", "nan"],
        ["replay", "letters", "--yes", "--to", ""],
        ["replay", "letters", "--yes", "--to", "x" * 5000],
        ["purge", "letters"],
        ["purge", "letters", "--all", "--group", "g"],
        ["purge", "letters/0/1", "--all"],
    ],
)
def test_usage_errors(shell: Shell, arguments: list[str]) -> None:
    assert shell.invoke("dlq", *arguments).exit_code == 2


def test_letters_without_an_origin_need_a_destination(shell: Shell, pykbroker: BrokerThread) -> None:
    shell("topics", "create", "strange")
    send(pykbroker, "strange", [(b"k", b"v", [])])
    assert "--to TOPIC" in shell.refused("dlq", "replay", "strange", "--yes")
    assert "--to TOPIC" in shell("dlq", "show", "strange/0/0")


def test_purging_all_deletes_the_records(shell: Shell) -> None:
    assert shell.invoke("dlq", "purge", "letters", "--all").exit_code == 1  # nobody said yes
    assert shell("dlq", "purge", "letters", "--all", "--yes") == "purged all 3 letters of letters\n"
    assert shell("dlq", "list", "letters") == "no letters in letters\n"
    assert "no letters" in shell("dlq", "purge", "letters", "--all", "--yes")
    rows = shell.json("topics", "describe", "letters")
    assert isinstance(rows, list)
    assert (rows[0]["start"], rows[0]["end"]) == (3, 3)


def test_thousands_of_letters_are_listed_as_they_come(shell: Shell, pykbroker: BrokerThread) -> None:
    said = letter_headers(reason="x", ago_s=0)
    with closing(KafkaProducer(bootstrap_servers=pykbroker.bootstrap)) as producer:
        for number in range(3000):
            producer.send("letters", b"v" * 1000, key=b"%d" % number, headers=said, partition=1)
    lines = shell("dlq", "list", "letters").splitlines()
    assert len(lines) == 3004
    assert lines[-1].split()[0] == "letters/1/2999"
    rows = json.loads(shell("dlq", "list", "letters", "--format", "json"))
    assert [row["offset"] for row in rows if row["partition"] == 1] == list(range(3000))


def test_purging_all_deletes_nothing_but_letters(shell: Shell, pykbroker: BrokerThread) -> None:
    shell("topics", "create", "orders")
    send(pykbroker, "orders", [(b"k", b"v", [])])
    said = shell.refused("dlq", "purge", "orders", "letters", "--all", "--yes")
    assert "orders/0/0 is no dead letter" in said
    assert shell("dlq", "list", "letters").count("letters/0/") == 3


def test_a_topic_with_nothing_that_matches_is_left_out(shell: Shell) -> None:
    shell("topics", "create", "jobs", "-c", "pykbroker.retry.policy=fixed")
    shell("topics", "create", "jobs.g.dlq")
    assert "jobs.g.dlq" in shell("dlq", "list")
    assert shell("dlq", "list", "--reason", "x") == "no dead-letter topics with letters that match\n"


def test_a_retry_topic_has_no_letters(shell: Shell) -> None:
    shell("topics", "create", "jobs", "-c", "pykbroker.retry.policy=fixed")
    shell("topics", "create", "jobs.g.retry")
    assert "jobs.g.retry is the retry topic of group g" in shell.refused("dlq", "replay", "jobs.g.retry")
    assert "the dead-letter topic of group g" in shell.refused(
        "dlq", "replay", "letters", "--to", "jobs.g.dlq", "--yes"
    )
    assert "belongs to the broker" in shell.refused(
        "dlq", "replay", "letters", "--to", "__consumer_offsets", "--yes"
    )
