"""``pykbroker produce`` and ``pykbroker consume``: lines in, lines out, and groups with failures."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from kafka import KafkaConsumer, TopicPartition
from pykbroker_partitioners.murmur2 import partition_of as as_kafka

from pykbroker.cli import cli
from pykbroker.cli._assigning import assign_in_turn, assign_range
from pykbroker.cli._errors import Failed
from pykbroker.cli._keys import partition_of
from pykbroker.testing import BrokerThread
from tests.cli.test_client_commands import invoke, run
from tests.clients.members import member, poll_until

PATIENCE_S = 30.0


def typed(broker: BrokerThread, lines: str | bytes, *arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, input=lines, env={"PYKBROKER_BOOTSTRAP": broker.bootstrap})


def eventually(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def started(broker: BrokerThread, *command: str) -> Iterator[subprocess.Popen[str]]:
    """A command that goes on until it is told to end; its heartbeats are many."""
    hasty = "from pykbroker.cli import _consuming, _member, main; "
    hasty += "_consuming.AGAIN_S = _member.HEARTBEAT_S = 0.05; _member.LOOK_EVERY = 1; main()"
    running = subprocess.Popen(
        [sys.executable, "-c", hasty, *command],
        env={**os.environ, "PYKBROKER_BOOTSTRAP": broker.bootstrap},
        stdout=subprocess.PIPE,
        text=True,
    )
    with running:
        try:
            yield running
        finally:
            running.kill()


def refused(result: Result) -> str:
    assert isinstance(result.exception, Failed), (result.output, result.exception)
    return f"{result.exception} {result.exception.hint}"


def test_values_and_lines(pykbroker: BrokerThread) -> None:
    run(pykbroker, "topics", "create", "orders", "-p", "1")
    said = run(pykbroker, "produce", "orders", "-v", "a")
    assert said == "produced 1 record to orders: partition 0, offset 0\n"
    assert typed(pykbroker, "b\n\nc", "produce", "orders").output == "produced 3 records to orders\n"
    assert run(pykbroker, "consume", "orders") == "a\nb\n\nc\n"
    assert run(pykbroker, "consume", "orders", "--from", "-1") == "c\n"
    assert run(pykbroker, "consume", "orders", "--from", "1", "--max", "1") == "b\n"
    assert run(pykbroker, "consume", "orders", "--from", "1h", "-n", "1") == "a\n"
    assert run(pykbroker, "consume", "orders", "--from", "4") == ""
    assert "orders/0/3" in run(pykbroker, "consume", "orders", "--format", "table")


def test_what_json_says_can_be_produced_again(pykbroker: BrokerThread) -> None:
    run(pykbroker, "topics", "create", "orders", "-p", "3")
    first = {
        "key": "k",
        "value_base64": "/w==",
        "headers": [{"name": "h", "value": "1"}, {"name": "h", "value": None}],
    }
    lines = json.dumps(first) + '\n{"key": "é", "value": null}\n'
    assert typed(pykbroker, lines, "produce", "orders", "--json", "-z", "gzip", "-H", "x=y").exit_code == 0
    printed = run(pykbroker, "consume", "orders", "--format", "json")
    found = {each["key"]: each for each in map(json.loads, printed.splitlines())}
    assert found["k"]["value_base64"] == "/w=="
    assert found["k"]["headers"] == [*first["headers"], {"name": "x", "value": "y"}]
    assert found["é"]["value"] is None
    assert all(each["partition"] == as_kafka(key.encode(), 3) for key, each in found.items())
    assert typed(pykbroker, printed, "produce", "copy", "--json").output == "produced 2 records to copy\n"
    again = [json.loads(each) for each in run(pykbroker, "consume", "copy", "--format", "json").splitlines()]
    same = ("key", "value", "value_base64", "headers")
    assert [[each.get(name) for name in same] for each in sorted(again, key=lambda each: each["key"])] == [
        [found[key].get(name) for name in same] for key in ("k", "é")
    ]


def test_keys_and_tombstones(pykbroker: BrokerThread) -> None:
    typed(pykbroker, "a:1\nb:2:3\n", "produce", "orders", "-K", ":")
    run(pykbroker, "produce", "orders", "--key", "a", "--tombstone")
    found = [
        json.loads(each) for each in run(pykbroker, "consume", "orders", "--format", "json").splitlines()
    ]
    assert [(each["key"], each["value"]) for each in found] == [("a", "1"), ("b", "2:3"), ("a", None)]


@pytest.mark.parametrize(
    ("arguments", "lines", "said"),
    [
        (["-K", ":"], "a:1\nb\n", "line 2: --key-separator ':' is not in it The 1 before it"),
        (["--json"], "{\n", "line 1: no JSON"),
        (["--json"], '{"value": {"price": 5}}\n', "value: must be text or null"),
        (["--json"], '{"headers": {}, "value": "x"}\n{"headers": [1]}', "line 2: headers"),
        (["-p", "7"], "x\n", "orders has no partition 7, but 0 to 0"),
        ([], f"{'x' * 2_000_000}\n", "--set max.message.bytes=BYTES"),
        ([], f"{'x' * 600_000}\n{'x' * 2_000_000}\n", "Records that were produced before: 1"),
    ],
)
def test_what_is_no_record(pykbroker: BrokerThread, arguments: list[str], lines: str, said: str) -> None:
    assert said in refused(typed(pykbroker, lines, "produce", "orders", *arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        ["produce", "orders", "--key", "a", "--json"],
        ["produce", "orders", "--value", "a", "-K", ":"],
        ["produce", "orders", "-H", "x"],
        ["consume", "orders", "--from", "yesterday"],
        ["consume", "orders", "--exec", "true"],
        ["consume", "orders", "--group", "g", "--partition", "0"],
    ],
)
def test_usage(arguments: list[str]) -> None:
    assert invoke("127.0.0.1:1", *arguments).exit_code == 2


def test_a_name_that_no_topic_can_have(pykbroker: BrokerThread) -> None:
    assert "has letters, digits" in refused(invoke(pykbroker, "produce", "bad topic", "-v", "x"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("form", ["value", "json"])
def test_a_full_disk_is_told(pykbroker: BrokerThread, form: str) -> None:
    run(pykbroker, "produce", "orders", "-v", "a")
    for command in (["topics", "list"], ["consume", "orders", "-g", "billing", "--format", form]):
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                [sys.executable, "-m", "pykbroker", *command, "-b", pykbroker.bootstrap],
                stdout=full,
                stderr=subprocess.PIPE,
                check=False,
            )
        assert (done.returncode, done.stderr) == (1, b"error: No space left on device\n")
    with closing(KafkaConsumer(group_id="billing", bootstrap_servers=pykbroker.bootstrap)) as reader:
        assert reader.committed(TopicPartition("orders", 0)) is None


def test_closed_streams(pykbroker: BrokerThread) -> None:
    run(pykbroker, "produce", "orders", "-v", "a")
    for command, status, said in (
        ("produce orders <&-", 2, "standard input is closed"),
        ("consume orders >&-", 0, ""),
        ("consume orders --format json >&-", 0, ""),
    ):
        done = subprocess.run(
            ["sh", "-c", f"exec {sys.executable} -m pykbroker {command}"],
            env={**os.environ, "PYKBROKER_BOOTSTRAP": pykbroker.bootstrap},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (status, ""), done.stderr
        assert said in done.stderr


def test_ctrl_c_while_it_waits_for_lines(pykbroker: BrokerThread) -> None:
    command = [sys.executable, "-m", "pykbroker", "produce", "orders", "-b", pykbroker.bootstrap]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as producing:
        assert producing.stdin is not None
        assert producing.stderr is not None
        producing.stdin.write(b"first\nhalf a")
        eventually(lambda: "orders" in run(pykbroker, "topics", "list"))
        eventually(lambda: run(pykbroker, "consume", "orders") == "first\n")
        producing.send_signal(signal.SIGINT)
        assert producing.wait(PATIENCE_S) == 1
        said = producing.stderr.read()
    assert re.fullmatch(rb"error: interrupted; records that were produced before: [01]\n", said)


@pytest.mark.parametrize("form", ["value", "json"])
def test_what_nobody_took_is_not_committed(pykbroker: BrokerThread, form: str) -> None:
    """Where Python does not buffer, a write to a pipe that is closed in the middle takes a part of it."""
    run(pykbroker, "topics", "create", "orders", "-p", "1")
    run(pykbroker, "produce", "orders", "-v", "x" * 300_000)
    command = ["consume", "orders", "-g", "billing", "--format", form, "-b", pykbroker.bootstrap]
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "pykbroker", *command], stdout=subprocess.PIPE
    ) as consuming:
        assert consuming.stdout is not None
        os.read(consuming.stdout.fileno(), 1)
        consuming.stdout.close()
        assert consuming.wait(PATIENCE_S) == 1
    with closing(KafkaConsumer(group_id="billing", bootstrap_servers=pykbroker.bootstrap)) as reader:
        assert reader.committed(TopicPartition("orders", 0)) is None


def test_what_is_not_there(pykbroker: BrokerThread) -> None:
    assert "there is no such topic" in refused(invoke(pykbroker, "consume", "missing"))
    run(pykbroker, "topics", "create", "orders", "-p", "2")
    assert "no partition 2, but 0 to 1" in refused(invoke(pykbroker, "consume", "orders", "-p", "2"))


def test_keys_go_where_kafka_has_them() -> None:
    for size in range(20):
        key = random.randbytes(size)
        assert partition_of(key, 7) == as_kafka(key, 7)


# -- in a group -------------------------------------------------------------------------------------


def test_a_group_goes_on_where_it_was(pykbroker: BrokerThread) -> None:
    run(pykbroker, "topics", "create", "orders", "-p", "1")
    typed(pykbroker, "a\nb\nc\n", "produce", "orders")
    assert run(pykbroker, "consume", "orders", "--group", "billing", "-n", "2") == "a\nb\n"
    assert run(pykbroker, "consume", "orders", "--group", "billing") == "c\n"
    assert run(pykbroker, "consume", "orders", "--group", "billing") == ""
    assert "billing: Empty, 0 members" in run(pykbroker, "groups", "describe", "billing")


def test_a_group_is_shared_with_other_clients(pykbroker: BrokerThread) -> None:
    run(pykbroker, "topics", "create", "orders", "-p", "2")
    with started(pykbroker, "consume", "orders", "-g", "billing", "--follow", "-n", "1") as consuming:
        eventually(lambda: "Stable" in run(pykbroker, "groups", "list"))
        with member(pykbroker.bootstrap, "billing", "orders") as other:  # the command leads: it assigns
            poll_until([other], lambda: len(other.assignment()) == 1)
            (theirs,) = other.assignment()
            run(pykbroker, "produce", "orders", "-p", str(theirs.partition), "-v", "theirs")
            run(pykbroker, "produce", "orders", "-p", str(1 - theirs.partition), "-v", "ours")
            assert consuming.communicate(timeout=PATIENCE_S)[0] == "ours\n"
            poll_until([other], lambda: len(other.assignment()) == 2)  # the command has left


def test_a_busy_member_comes_when_others_join(pykbroker: BrokerThread) -> None:
    run(pykbroker, "topics", "create", "orders", "-p", "2")
    for partition in ("0", "1"):
        typed(pykbroker, "x\n" * 300, "produce", "orders", "-p", partition)
    command = ("consume", "orders", "-g", "billing", "--follow", "--exec", "sleep 0.1")
    with started(pykbroker, *command), member(pykbroker.bootstrap, "billing", "orders") as other:
        poll_until([other], lambda: len(other.assignment()) == 1)
        rows = json.loads(run(pykbroker, "groups", "describe", "billing", "--format", "json"))
        assert sum(row["committed"] for row in rows) < 600


def test_who_follows_does_so_when_partitions_and_restarts_come(pykbroker: BrokerThread) -> None:
    run(pykbroker, "topics", "create", "orders", "-p", "1")
    with started(pykbroker, "consume", "orders", "-g", "billing", "--follow", "-n", "2") as consuming:
        assert consuming.stdout is not None
        eventually(lambda: "Stable" in run(pykbroker, "groups", "list"))
        run(pykbroker, "topics", "alter", "orders", "--partitions", "2")
        run(pykbroker, "produce", "orders", "-p", "1", "-v", "before")
        assert consuming.stdout.readline() == "before\n"
        eventually(lambda: "orders  1          1" in run(pykbroker, "groups", "describe", "billing"))
        pykbroker.restart()
        run(pykbroker, "produce", "orders", "-p", "0", "-v", "after")
        assert consuming.communicate(timeout=PATIENCE_S)[0] == "after\n"
        assert consuming.returncode == 0


def test_assignors() -> None:
    topics = {"a": ["x", "y"], "b": ["x"], "c": []}
    assert assign_range(topics, {"x": 3, "y": 1}) == {
        "a": [("x", 0), ("x", 1), ("y", 0)], "b": [("x", 2)], "c": [],
    }  # fmt: skip
    assert assign_in_turn(topics, {"x": 3, "y": 1}) == {
        "a": [("x", 0), ("x", 2), ("y", 0)], "b": [("x", 1)], "c": [],
    }  # fmt: skip


def test_a_command_that_fails_nacks(pykbroker: BrokerThread, tmp_path: Path) -> None:
    run(pykbroker, "topics", "create", "orders", "-p", "1")
    run(
        pykbroker, "groups", "alter", "billing", "--set", "pykbroker.retry.policy=immediate",
        "--set", "pykbroker.retry.max.attempts=1",
    )  # fmt: skip
    run(pykbroker, "produce", "orders", "-k", "customer-1", "-v", "price=5", "-v", "poison")
    bill = f"cat >> {tmp_path}/seen; echo no price: $PYKBROKER_KEY >&2; "
    bill += "test $PYKBROKER_TOPIC/$PYKBROKER_OFFSET = orders/0"
    result = invoke(pykbroker, "consume", "orders", "-g", "billing", "--follow", "-n", "3", "--exec", bill)
    assert result.exit_code == 0, result.exception
    assert "orders.billing.retry/0/0 failed: no price: customer-1\n" in result.output
    assert (tmp_path / "seen").read_text() == "price=5poisonpoison"
    eventually(lambda: "customer-1" in run(pykbroker, "dlq", "list", "orders.billing.dlq"))
    (letter,) = json.loads(run(pykbroker, "dlq", "list", "orders.billing.dlq", "--format", "json"))
    assert letter["reason"] == "no price: customer-1"


def test_without_a_policy_a_failure_is_the_end(pykbroker: BrokerThread) -> None:
    run(pykbroker, "topics", "create", "orders", "-p", "1")
    run(pykbroker, "produce", "orders", "-v", "good", "-v", "bad", "-v", "good")
    command = ("consume", "orders", "-g", "billing", "--exec", "grep -q good")
    assert "orders/0/1 failed: exit status 1; it is not committed" in refused(invoke(pykbroker, *command))
    with closing(KafkaConsumer(group_id="billing", bootstrap_servers=pykbroker.bootstrap)) as reader:
        assert reader.committed(TopicPartition("orders", 0)) == 1


def test_a_policy_that_comes_later_is_followed(pykbroker: BrokerThread) -> None:
    run(pykbroker, "topics", "create", "orders", "-p", "1")
    command = ("consume", "orders", "-g", "billing", "--follow", "-n", "2", "--exec", "false")
    with started(pykbroker, *command) as consuming:
        eventually(lambda: "Stable" in run(pykbroker, "groups", "list"))
        run(pykbroker, "groups", "alter", "billing", "--set", "pykbroker.retry.policy=immediate")
        run(pykbroker, "produce", "orders", "-v", "x")
        assert consuming.wait(PATIENCE_S) == 0  # it has read the retry topic too


def test_an_interrupted_command_has_not_failed(pykbroker: BrokerThread, tmp_path: Path) -> None:
    run(pykbroker, "topics", "create", "orders", "-p", "1", "--set", "pykbroker.retry.policy=immediate")
    run(pykbroker, "produce", "orders", "-v", "x")
    begun = tmp_path / "begun"
    bill = f"echo $$ > {begun}; sleep 60"
    with started(pykbroker, "consume", "orders", "-g", "billing", "--follow", "--exec", bill) as consuming:
        eventually(lambda: begun.exists() and bool(begun.read_text().strip()))
        consuming.send_signal(signal.SIGINT)
        assert consuming.wait(PATIENCE_S) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(int(begun.read_text()), 0)
    assert "nothing committed yet" in run(pykbroker, "groups", "describe", "billing")
