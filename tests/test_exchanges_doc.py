"""docs/exchanges.md does what it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from click.testing import CliRunner
from kafka import KafkaConsumer, KafkaProducer

from pykbroker.cli import cli
from pykbroker.testing import BrokerThread

PAGE = (Path(__file__).parents[1] / "docs" / "exchanges.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def run(command: str, bootstrap: str) -> str:
    program, *words = shlex.split(command)
    assert program == "pykbroker"
    done = CliRunner(env={"PYKBROKER_BOOTSTRAP": bootstrap}).invoke(cli, words)
    assert done.exit_code == 0, f"{command}: {done.output}"
    return done.output


def values(bootstrap: str, topic: str) -> list[bytes]:
    consumer = KafkaConsumer(
        topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=30_000
    )
    found = [next(consumer).value]
    consumer.close()
    return found


def test_the_commands_and_the_record(pykbroker: BrokerThread) -> None:
    (commands,) = blocks("sh")
    outputs = [run(command, pykbroker.bootstrap) for command in commands.splitlines()]
    assert outputs[-1].splitlines()[0] == "goes to: audit, eu"
    send, _ = blocks("python")
    producer = KafkaProducer(bootstrap_servers=pykbroker.bootstrap)
    exec(send, {"producer": producer})
    producer.close()
    assert values(pykbroker.bootstrap, "eu") == values(pykbroker.bootstrap, "audit") == [b"..."]


def test_the_same_from_an_admin_client(pykbroker: BrokerThread) -> None:
    (commands,) = blocks("sh")
    for command in commands.splitlines()[:2]:
        run(command, pykbroker.bootstrap)
    _, declare = blocks("python")
    exec(declare.replace("localhost:9092", pykbroker.bootstrap) + "admin.close()\n", {})
    shown = run("pykbroker exchanges test orders --key eu.berlin.created", pykbroker.bootstrap)
    assert shown.startswith("goes to: audit, eu\n")
