"""pykbroker's commands are Kafka clients: what is not pykbroker's own they do on Apache Kafka, too."""

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from interop.conftest import Broker
from interop.probing import unique

Shell = Callable[..., str]


@pytest.fixture
def shell(broker: Broker) -> Shell:
    """Runs a command, and returns what it prints."""

    def run(*arguments: str, lines: str = "", status: int = 0) -> str:
        command = [sys.executable, "-m", "pykbroker", *arguments, "-b", broker.bootstrap]
        done = subprocess.run(command, input=lines, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
        return done.stdout if status == 0 else done.stderr

    return run


def test_topics_and_settings(shell: Shell) -> None:
    topic = unique("commands")
    shell("topics", "create", topic, "-p", "1")
    (row,) = json.loads(shell("topics", "alter", topic, "--set", "retention.ms=5000", "--format", "json"))
    assert (row["before"], row["after"], row["source"]) == ("604800000", "5000", "topic")
    (row,) = json.loads(shell("topics", "alter", topic, "--unset", "retention.ms", "--format", "json"))
    assert (row["before"], row["after"], row["source"]) == ("5000", "604800000", "default")
    shell("topics", "alter", topic, "--partitions", "2")
    assert len(json.loads(shell("topics", "describe", topic, "--format", "json"))) == 2
    assert f"billing on {topic}: no retries" in shell(
        "topics", "describe", topic, "--settings", "--group", "billing"
    )
    assert shell("topics", "delete", topic, "--yes") == f"deleted {topic}\n"


def test_settings_of_brokers_and_groups(shell: Shell, group: str) -> None:
    for change in ("--set", "log.cleaner.backoff.ms=20000"), ("--unset", "log.cleaner.backoff.ms"):
        (row,) = json.loads(shell("brokers", "alter", *change, "--format", "json"))
        assert row["after"] == ("20000" if change[0] == "--set" else "15000")
    setting = "consumer.session.timeout.ms"
    (row,) = json.loads(shell("groups", "alter", group, "--set", f"{setting}=50000", "--format", "json"))
    assert (row["before"], row["after"], row["source"]) == ("45000", "50000", "group")
    assert setting in shell("groups", "describe", group, "--settings")


def test_records_alone_and_in_a_group(shell: Shell, topic: str, group: str) -> None:
    assert shell("produce", topic, lines="a\nb\nc\n") == f"produced 3 records to {topic}\n"
    assert shell("consume", topic) == "a\nb\nc\n"
    assert shell("consume", topic, "--group", group, "-n", "1") == "a\n"
    assert shell("consume", topic, "--group", group, "-n", "1", "--exec", "cat") == "b"
    said = shell("consume", topic, "--group", group, "--exec", "false", status=1)
    assert f"{topic}/0/2 failed: exit status 1; it is not committed" in said
    (row,) = json.loads(shell("groups", "describe", group, "--format", "json"))
    assert row["committed"] == 2


@pytest.mark.parametrize("broker", ["apache-kafka"], indirect=True)
def test_what_only_pykbroker_does(shell: Shell, topic: str, group: str) -> None:
    shell("produce", topic, lines="a\n")
    for command in (
        ("topics", "create", f"{topic}.x", "--set", "pykbroker.retry.policy=fixed"),
        ("consume", topic, "--group", group, "--exec", "false"),
        ("topics", "alter", topic, "--set", "pykbroker.retry.policy=fixed"),
        ("groups", "alter", "billing", "--set", "pykbroker.retry.policy=fixed"),
        ("brokers", "alter", "--set", "pykbroker.retry.policy=fixed"),
        ("dlq", "replay", topic, "--to", topic, "--yes"),
        ("dlq", "purge", f"{topic}/0/0", "--yes"),
    ):
        assert "the broker is no pykbroker" in shell(*command, status=1)
