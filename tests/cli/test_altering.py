"""Settings of topics, groups and brokers, altered by the command line and shown with who says so."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.shell_completion import ShellComplete

from pykbroker import Component, DeadLetter, RetryContext, RetryPolicy, hookimpl
from pykbroker.catalog.retrying import retry_settings
from pykbroker.cli import cli
from pykbroker.cli._client import ask
from pykbroker.cli._errors import Failed
from pykbroker.cli._retries import failing
from pykbroker.cli._settings import InForce
from pykbroker.testing import BrokerThread
from tests.cli.test_client_commands import invoke, run

BINDINGS = "pykbroker.exchange.bindings"
Rows = list[dict[str, object]]


@pytest.fixture(name="orders")
def _orders(pykbroker: BrokerThread) -> BrokerThread:
    run(pykbroker, "topics", "create", "orders", "-p", "1", "--set", "pykbroker.retry.policy=linear")
    return pykbroker


def rows(broker: BrokerThread, *arguments: str) -> Rows:
    found: Rows = json.loads(run(broker, *arguments, "--format", "json"))
    return found


def settings(broker: BrokerThread, *arguments: str) -> dict[str, tuple[object, object]]:
    found = json.loads(run(broker, *arguments, "--format", "json"))["settings"]
    return {each["setting"]: (each["value"], each["source"]) for each in found}


def refused(broker: BrokerThread, *arguments: str) -> Failed:
    failure = invoke(broker, *arguments).exception
    assert isinstance(failure, Failed), failure
    return failure


def test_a_topic_is_altered(orders: BrokerThread) -> None:
    changed = rows(
        orders, "topics", "alter", "orders", "--set", "retention.ms=5", "--unset", "pykbroker.retry.policy"
    )
    assert changed == [
        {
            "topic": "orders",
            "setting": "retention.ms",
            "before": "604800000",
            "after": "5",
            "source": "topic",
        },
        {
            "topic": "orders",
            "setting": "pykbroker.retry.policy",
            "before": "linear",
            "after": "none",
            "source": "default",
        },
    ]
    assert settings(orders, "topics", "describe", "orders", "--settings")["retention.ms"] == ("5", "topic")


def test_partitions_grow_beside_settings_of_several_topics(orders: BrokerThread) -> None:
    run(orders, "topics", "create", "payments", "-p", "1")
    arguments = ("topics", "alter", "orders", "payments", "-p", "3", "--set", "retention.ms=5")
    assert "nothing was altered" in run(orders, *arguments, "--dry-run")
    assert run(orders, "topics", "list").count("  1\n") == 2
    assert [(row["topic"], row["before"], row["after"]) for row in rows(orders, *arguments)] == [
        ("orders", "604800000", "5"),
        ("payments", "604800000", "5"),
        ("orders", 1, 3),
        ("payments", 1, 3),
    ]
    assert run(orders, "topics", "list").count("  3\n") == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "pykbroker.retry.policy=lienar"], "no plugin offers 'lienar'; there are: exponential"),
        (["--set", "pykbroker.retry.max.attempts=many"], "must be an integer from 0 to"),
        (["--set", "pykbroker.retry.polic=linear"], "did you mean pykbroker.retry.policy?"),
        (["--unset", "pykbroker.retry.polic"], "did you mean pykbroker.retry.policy?"),
        (["--partitions", "1"], "orders: "),
    ],
)
def test_what_is_refused_leaves_everything_as_it_was(
    orders: BrokerThread, arguments: list[str], said: str
) -> None:
    before = run(orders, "topics", "describe", "orders", "--settings", "--all")
    failure = refused(orders, "topics", "alter", "orders", "--set", "retention.ms=5", *arguments)
    assert said in str(failure)
    assert run(orders, "topics", "describe", "orders", "--settings", "--all") == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["topics", "alter", "orders"],
        ["topics", "alter", "--set", "retention.ms=5"],
        ["topics", "alter", "orders", "--set", "retention.ms"],
        ["topics", "alter", "orders", "--set", "retention.ms=5", "--unset", "retention.ms"],
        ["groups", "alter", "billing"],
        ["brokers", "alter"],
        ["topics", "describe", "orders", "--group", "billing"],
        ["groups", "describe", "billing", "--settings", "--members"],
    ],
)
def test_usage(arguments: list[str]) -> None:
    assert invoke("127.0.0.1:1", *arguments).exit_code == 2


def test_a_group_says_otherwise_than_its_topic(orders: BrokerThread) -> None:
    run(orders, "topics", "alter", "orders", "--set", "pykbroker.retry.delay.ms=60000")
    run(orders, "brokers", "alter", "--set", "pykbroker.retry.max.delay.ms=100000")
    assert rows(orders, "groups", "alter", "billing", "--set", "pykbroker.retry.max.attempts=3") == [
        {
            "group": "billing",
            "setting": "pykbroker.retry.max.attempts",
            "before": None,
            "after": "3",
            "source": "group",
        }
    ]
    shown = run(orders, "topics", "describe", "orders", "--settings", "--group", "billing")
    assert "billing on orders: what fails comes back 3 times, after 1m, 1m40s, 1m40s;" in shown
    assert "retry topic   orders.billing.retry (not made yet)\n" in shown
    lines = [line.split() for line in shown.splitlines()]
    assert ["pykbroker.retry.max.attempts", "3", "group"] in lines
    assert ["pykbroker.retry.delay.ms", "60000", "topic"] in lines
    assert ["pykbroker.retry.max.delay.ms", "100000", "brokers"] in lines
    assert settings(orders, "groups", "describe", "billing", "--settings")["pykbroker.retry.policy"] == (
        None,
        "topic",
    )


def test_failures_of_what_a_group_reads(orders: BrokerThread) -> None:
    run(orders, "groups", "alter", "billing", "--set", "pykbroker.retry.topic={group}_{topic}_again")
    run(orders, "topics", "create", "billing_orders_again")
    found = json.loads(run(orders, "groups", "describe", "billing", "--settings", "--format", "json"))
    (failing,) = found["failures"]
    assert (failing["topic"], failing["retry_topic"]) == ("orders", "billing_orders_again")
    assert failing["delays_ms"] == [[1000 * n, 1000 * n] for n in range(1, 6)]
    assert failing["missing_topics"] == []


def test_where_nothing_is_retried(orders: BrokerThread) -> None:
    run(orders, "topics", "create", "orders.billing.retry")
    run(orders, "topics", "create", "plain", "-p", "1")
    run(orders, "topics", "alter", "plain", "--set", "pykbroker.dead.letter.topic=letters")
    run(orders, "topics", "create", "letters", "-p", "1")
    run(orders, "groups", "alter", "stern", "--set", "pykbroker.retry.max.attempts=0")

    def story(topic: str, group: str) -> str:
        shown = run(orders, "groups", "describe", group, "--settings", "--topic", topic)
        return next(line for line in shown.splitlines() if line.startswith(f"{group} on "))

    assert "pykbroker.retry.policy is none" in story("plain", "billing")
    assert "ask for group billing on orders" in story("orders.billing.retry", "billing")
    assert "dead letters go to it" in story("letters", "billing")
    assert "a dead letter at once" in story("orders", "stern")


class Rejecting:
    def decide(self, ctx: RetryContext) -> DeadLetter:
        return DeadLetter()


@hookimpl
def pykbroker_register_retry_policies() -> list[Component[RetryPolicy]]:
    return [Component("rejecting", lambda build: Rejecting())]


PLUGIN = SimpleNamespace(pykbroker_register_retry_policies=pykbroker_register_retry_policies)


@pytest.mark.pykbroker(plugins=[PLUGIN], settings={"pykbroker.retry.max.attempts": 7})
def test_what_is_shown_is_what_the_broker_does(pykbroker: BrokerThread) -> None:
    policy = "pykbroker.retry.policy"
    for command in (
        f"topics create orders -p 1 --set {policy}=rejecting",
        "topics create plain -p 1",
        "topics create letters -p 1",
        "topics create exchange -p 1 --set pykbroker.exchange.type=fanout",
        "topics create orders.billing.retry",
        f"brokers alter --set {policy}=fixed --set pykbroker.retry.delay.ms=5",
        "groups alter stern --set pykbroker.retry.max.attempts=0 --set pykbroker.dead.letter.topic=letters",
        f"groups alter own --set pykbroker.retry.topic={{group}}.{{topic}} --set {policy}=none",
    ):
        run(pykbroker, *command.split())
    topics = ("orders", "plain", "letters", "exchange", "orders.billing.retry", "none.such")
    pairs = [(topic, group) for topic in topics for group in ("billing", "stern", "own", "o/w n")]
    shown = ask(pykbroker.bootstrap, lambda client: failing(client, pairs))
    catalog = pykbroker.broker.services.catalog
    assert [each.settings for each in shown] == [retry_settings(catalog, *pair) for pair in pairs]
    said = run(pykbroker, "topics", "describe", "orders", "--settings", "--group", "billing")
    assert "7 times, when the policy rejecting says, at the latest after 1h" in said
    assert ["pykbroker.retry.max.attempts", "7", "start"] in map(str.split, said.splitlines())


def test_brokers(pykbroker: BrokerThread) -> None:
    (broker,) = rows(pykbroker, "brokers", "list")
    assert f"{broker['host']}:{broker['port']}" == pykbroker.bootstrap
    number = str(broker["broker"])
    run(pykbroker, "brokers", "alter", "--set", "log.retention.ms=7000")
    run(pykbroker, "brokers", "alter", number, "--set", "pykbroker.retry.policy=fixed")
    found = settings(pykbroker, "brokers", "describe", number)
    assert found["log.retention.ms"] == ("7000", "brokers")
    assert found["pykbroker.retry.policy"] == ("fixed", "broker")
    assert found["listeners"][1] == "start"
    run(pykbroker, "topics", "create", "orders")
    shown = run(pykbroker, "topics", "describe", "orders", "--settings")
    assert ["retention.ms", "7000", "brokers:", "log.retention.ms"] in map(str.split, shown.splitlines())
    (row,) = rows(pykbroker, "brokers", "alter", "--unset", "log.retention.ms")
    assert (row["broker"], row["after"], row["source"]) == ("all", None, "default")
    assert "cannot be altered while the broker runs" in str(
        refused(pykbroker, "brokers", "alter", "--set", "listeners=x")
    )


def test_long_values_are_cut_for_people(pykbroker: BrokerThread) -> None:
    bindings = json.dumps([{"to": "eu", "key": "k" * number} for number in range(50)])
    run(pykbroker, "topics", "create", "eu", "-p", "1")
    run(pykbroker, "topics", "create", "orders", "-p", "1", "--set", "pykbroker.exchange.type=direct")
    alter = ("topics", "alter", "orders", "--set", f"pykbroker.exchange.bindings={bindings}")
    assert max(map(len, run(pykbroker, *alter).splitlines())) < 250
    shown = run(pykbroker, "topics", "describe", "orders", "--settings")
    assert max(map(len, shown.splitlines())) < 250
    assert len(str(settings(pykbroker, "topics", "describe", "orders", "--settings")[BINDINGS][0])) > 1000


def test_the_commands_that_the_page_shows(orders: BrokerThread) -> None:
    run(orders, "topics", "create", "payments", "-p", "1")
    page = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
    sections = page.partition("## Settings while it runs")[2].partition("\n## The data directory")[0]
    commands = re.findall(r"^\$ pykbroker (.*)$", sections, re.MULTILINE)
    assert len(commands) > 6
    for command in commands:
        run(orders, *shlex.split(command))


def completed(*words: str) -> list[str]:
    shell = type("Shell", (ShellComplete,), {"name": "none", "source_template": ""})(
        cli, {}, "pykbroker", "_X"
    )
    return [each.value for each in shell.get_completions(list(words[:-1]), words[-1])]


@pytest.mark.parametrize(
    "arguments",
    [
        ["topics", "alter", "orders", "--set", "pykbroker.retry.policy=fixed"],
        ["groups", "alter", "billing", "--set", "pykbroker.retry.policy=fixed"],
        ["brokers", "alter", "--set", "pykbroker.retry.policy=fixed"],
        ["dlq", "replay", "orders", "--to", "orders.again", "--yes"],
        ["dlq", "purge", "orders/0/0", "--yes"],
    ],
)
def test_another_broker_is_not_said_to_have_done_it(
    orders: BrokerThread, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Apache Kafka takes settings of brokers by any name, and commits with any metadata."""
    monkeypatch.setattr("pykbroker.cli._settings._SIGN", "no.such.setting")
    result = invoke(orders, *arguments)
    assert isinstance(result.exception, Failed)
    assert "the broker is no pykbroker" in str(result.exception)
    assert "no pykbroker" in run(orders, "dlq", "list")


def test_settings_that_are_seen_late(orders: BrokerThread, monkeypatch: pytest.MonkeyPatch) -> None:
    """Apache Kafka describes what it acknowledged a moment later."""
    from pykbroker.cli import _altering

    looks: list[Mapping[str, Mapping[str, InForce]]] = []
    right = _altering.described

    async def late(*where: Any) -> Mapping[str, Mapping[str, InForce]]:
        looks.append(looks[0] if len(looks) in (1, 2) else await right(*where))
        return looks[-1]

    monkeypatch.setattr(_altering, "described", late)
    monkeypatch.setattr(_altering, "_LOOK_AGAIN_S", 0.0)
    said = run(orders, "topics", "alter", "orders", "--set", "retention.ms=5000")
    assert said.splitlines()[1].split() == ["orders", "retention.ms", "604800000", "5000", "topic"]
    looks.clear()
    said = run(orders, "topics", "alter", "orders", "--unset", "retention.ms")
    assert said.splitlines()[1].split() == ["orders", "retention.ms", "5000", "604800000", "default"]


def test_a_shell_completes_settings() -> None:
    assert completed("topics", "alter", "orders", "--set", "retry.max.d") == ["pykbroker.retry.max.delay.ms="]
    assert completed("topics", "alter", "orders", "--unset", "retention.by") == [
        "local.retention.bytes",
        "retention.bytes",
    ]
    assert completed("topics", "create", "orders", "--set", "compression.type=l") == ["compression.type=lz4"]
