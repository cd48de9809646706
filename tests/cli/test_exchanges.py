"""``pykbroker exchanges`` on a running broker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from pykbroker.cli import cli
from pykbroker.cli._errors import Failed
from pykbroker.testing import BrokerThread


class Shell:
    """Runs the command line."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def invoke(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli, arguments, env={"PYKBROKER_BOOTSTRAP": self.bootstrap})

    def __call__(self, *arguments: str) -> str:
        result = self.invoke(*arguments)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    def json(self, *arguments: str) -> object:
        return json.loads(self(*arguments, "--format", "json"))

    def refused(self, *arguments: str) -> str:
        failure = self.invoke(*arguments).exception
        assert isinstance(failure, Failed), failure
        return f"{failure} {failure.hint}"


@pytest.fixture(name="shell")
def _shell(pykbroker: BrokerThread) -> Shell:
    shell = Shell(pykbroker.bootstrap)
    for topic in ("eu", "us", "audit"):
        shell("topics", "create", topic, "-p", "1")
    shell("exchanges", "declare", "orders", "--type", "topic", "-p", "1")
    return shell


def test_from_declaring_to_deleting(shell: Shell) -> None:
    assert (
        shell("exchanges", "bind", "orders", "eu", "-k", "eu.#", "-k", "*.berlin") == "bound eu to orders\n"
    )
    shell("exchanges", "bind", "orders", "audit", "-k", "#")
    assert shell.json("exchanges", "list") == [
        {"exchange": "orders", "type": "topic", "bindings": 3, "alternate": None, "unroutable": "drop"}
    ]
    assert shell.json("exchanges", "show", "orders") == [
        {"to": "eu", "kind": "topic", "key": "eu.#", "arguments": {}},
        {"to": "eu", "kind": "topic", "key": "*.berlin", "arguments": {}},
        {"to": "audit", "kind": "topic", "key": "#", "arguments": {}},
    ]
    assert "unbind it first" in shell.refused("topics", "delete", "eu", "--yes")
    assert shell("exchanges", "unbind", "orders", "eu", "--all") == "unbound eu from orders (2 bindings)\n"
    assert shell("exchanges", "unbind", "orders", "audit", "--key", "#") == "unbound audit from orders\n"
    assert shell("exchanges", "show", "orders") == "exchange orders: type topic, 0 bindings\n"
    assert shell("exchanges", "delete", "orders", "--yes") == "deleted orders\n"
    assert shell("exchanges", "list") == ""
    shell("topics", "delete", "eu", "--yes")


def test_declaring_again_checks_what_is_there(shell: Shell) -> None:
    assert "there already" in shell("exchanges", "declare", "orders", "--type", "topic", "-p", "1")
    assert "pykbroker.exchange.type='topic', not 'direct'" in shell.refused(
        "exchanges", "declare", "orders", "--type", "direct"
    )
    assert "1 partitions" in shell.refused("exchanges", "declare", "orders", "--type", "topic", "-p", "2")
    assert "not an exchange" in shell.refused("exchanges", "declare", "eu", "--type", "topic")


def test_test_says_where_and_why(shell: Shell) -> None:
    shell("exchanges", "declare", "lost", "--type", "fanout")
    shell("exchanges", "bind", "lost", "audit")
    shell("exchanges", "declare", "kinds", "--type", "headers", "--alternate", "lost")
    shell("exchanges", "bind", "kinds", "us", "-a", "x-match=any", "-a", "kind=order", "--present", "vip")
    shell("exchanges", "bind", "orders", "kinds", "-k", "us.#")
    shell("exchanges", "bind", "orders", "eu", "-k", "eu.#")
    found = shell.json("exchanges", "test", "orders", "-k", "us.x", "-H", "vip=")
    assert isinstance(found, dict)
    assert (found["routing_key"], found["targets"], found["unroutable"]) == ("us.x", ["us"], False)
    assert found["steps"][0]["matched"] == [{"to": "kinds", "key": "us.#"}]
    text = shell("exchanges", "test", "orders", "-k", "us.x")
    assert text.startswith("goes to: audit\n")
    assert "no binding matches: alternate lost" in text
    assert "goes to: eu\n" in shell("exchanges", "test", "orders", "-H", "routing-key=eu.x")
    assert shell("exchanges", "test", "orders").startswith("goes nowhere")
    assert "kind=order" in shell("exchanges", "show", "kinds")


def test_more_bindings_than_a_setting_can_show(shell: Shell) -> None:
    # no Kafka request carries text above 32,767 bytes either: they come bit by bit
    for first in range(0, 500, 100):
        keys = [word for number in range(first, first + 100) for word in ("-k", f"{number:0100}")]
        shell("exchanges", "bind", "orders", "eu", *keys)
    with KafkaAdminClient(bootstrap_servers=shell.bootstrap) as admin:
        described = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, "orders")])
    assert "'@500'" in str(described)
    rows = shell.json("exchanges", "show", "orders")
    assert isinstance(rows, list)
    assert [row["key"] for row in rows] == [f"{number:0100}" for number in range(500)]
    shell("exchanges", "unbind", "orders", "eu", "-k", f"{7:0100}")
    shell("exchanges", "bind", "orders", "us", "-k", "x")
    assert shell("exchanges", "list").splitlines()[1].split()[:3] == ["orders", "topic", "500"]
    assert shell("exchanges", "test", "orders", "-k", "x").startswith("goes to: us\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bind", "orders", "nowhere"], "INVALID_CONFIG"),
        (["bind", "orders", "eu", "-a", "x=y"], "takes no arguments"),
        (["bind", "eu", "us"], "eu is a topic, not an exchange"),
        (["bind", "missing", "us"], "missing does not exist"),
        (["unbind", "orders", "us"], "us is not bound to orders like that"),
        (["unbind", "orders", "us", "--all"], "not at all"),
        (["declare", "x", "--type", "nope"], "nope"),
        (["declare", "x", "--type", "direct", "--alternate", "eu"], "'eu' is not an exchange"),
        (["show", "eu"], "not an exchange"),
        (["test", "eu"], "not an exchange"),
        (["delete", "eu", "--yes"], "not an exchange"),
    ],
)
def test_refusals_say_why(shell: Shell, arguments: list[str], said: str) -> None:
    assert said in shell.refused("exchanges", *arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["declare", "x"],
        ["declare", "x", "--type", "direct", "-c", "nonsense"],
        ["declare", "x", "--type", "direct", "--unroutable", "maybe"],
        ["bind", "orders"],
        ["bind", "orders", "eu", "-a", "nonsense"],
        ["unbind", "orders", "eu", "--all", "-k", "x"],
        ["test", "orders", "-H", "nonsense"],
        ["no-such-command"],
    ],
)
def test_wrong_usage_is_status_2(arguments: list[str]) -> None:
    assert Shell("localhost:1").invoke("exchanges", *arguments).exit_code == 2


PLUGIN = """
from pykbroker import Component, hookimpl

class Last:
    key_only = True
    def validate(self, binding): pass
    def compile(self, bindings): return Matcher(bindings)

class Matcher:
    key_only = True
    def __init__(self, bindings): self.bindings = bindings
    def match(self, ctx): return self.bindings[-1:]

@hookimpl
def pykbroker_register_exchange_types():
    return [Component("last", lambda build: Last())]
"""


def test_types_of_plugins_must_be_here_too(tmp_path: Path) -> None:
    plugin = tmp_path / "last_one.py"
    plugin.write_text(PLUGIN)
    with BrokerThread(plugins=[str(plugin)]) as broker:
        shell = Shell(broker.bootstrap)
        for topic in ("a", "b"):
            shell("topics", "create", topic)
        shell("exchanges", "declare", "ex", "--type", "last")
        shell("exchanges", "bind", "ex", "a")
        shell("exchanges", "bind", "ex", "b")
        assert "last" in shell.refused("exchanges", "test", "ex")
        assert shell("exchanges", "test", "ex", "--plugin", str(plugin)).startswith("goes to: b\n")
