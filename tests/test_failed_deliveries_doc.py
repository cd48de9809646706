"""docs/failed-deliveries.md and docs/from-rabbitmq.md do what they say, on a clock that the tests move."""

from __future__ import annotations

import re
import shlex
import time
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType

from pykbroker.testing import BrokerThread
from tests.cli.test_exchanges import Shell
from tests.strangers import run_strangers_tests
from tests.test_readme import run

DOCS = Path(__file__).parents[1] / "docs"
STORY = (DOCS / "failed-deliveries.md").read_text()
RABBIT = (DOCS / "from-rabbitmq.md").read_text()
PATIENCE_S = 20.0


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def test_the_services_do_what_their_tests_say(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, its_test, nacking, nacking_test, _, delayed = blocks(STORY, "python")
    pytester.makepyfile(
        billing=service, test_billing=its_test, billing_nack=nacking, test_billing_nack=nacking_test
    )
    run_strangers_tests(pytester, monkeypatch, delayed).assert_outcomes(passed=3)


def test_a_group_has_settings_of_its_own(pykbroker: BrokerThread) -> None:
    shell = Shell(pykbroker.bootstrap)
    set_up, _, its_own = blocks(STORY, "console")
    type_in(shell, set_up)
    type_in(shell, its_own)
    for setting in ("policy", "max.attempts"):
        shell("groups", "alter", "billing", "--unset", f"pykbroker.retry.{setting}")
    run(blocks(STORY, "python")[4], pykbroker.bootstrap)
    with closing(KafkaAdminClient(bootstrap_servers=pykbroker.bootstrap)) as admin:
        described = admin.describe_configs([ConfigResource(ConfigResourceType.GROUP, "billing")])
    assert "exponential" in str(described)


def test_it_is_seen_without_writing_a_line(pykbroker: BrokerThread) -> None:
    shell = Shell(pykbroker.bootstrap)
    type_in(shell, blocks(STORY, "console")[0])
    consume, produce = re.findall(r"`pykbroker ((?:consume|produce) .*?)`", STORY)[:2]
    shell(*shlex.split(produce))
    shell(*shlex.split(consume.replace("--follow", "--max 2")))
    deadline = time.monotonic() + PATIENCE_S
    while "waiting: 1 record" not in (shown := shell("groups", "describe", "billing")):
        assert time.monotonic() < deadline, shown


def test_what_to_write_in_place_of_rabbitmq(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = blocks(RABBIT, "python")
    names = {f"test_rabbit_{number}": program for number, program in enumerate(programs)}
    pytester.makepyfile(**names)
    count = sum(program.count("\ndef test_") for program in programs)
    assert count > 3
    run_strangers_tests(pytester, monkeypatch, "").assert_outcomes(passed=count)


@pytest.fixture(name="billing")
def _billing() -> ModuleType:
    """The service of the page, way 1."""
    module = ModuleType("billing")
    exec(compile(blocks(STORY, "python")[0], "billing.py", "exec"), module.__dict__)
    return module


def test_the_commands_show_what_the_page_shows(pykbroker: BrokerThread, billing: ModuleType) -> None:
    shell = Shell(pykbroker.bootstrap)
    set_up, operator, _ = blocks(STORY, "console")
    type_in(shell, set_up)
    with closing(KafkaProducer(bootstrap_servers=pykbroker.bootstrap)) as producer:
        for order in (b"price=5", b"poison", b"price=7"):
            producer.send("orders", order, key=b"customer-1").get(10)
    seen: list[bytes] = []

    def bill(order: bytes) -> None:
        seen.append(order)
        if b"price" not in order:
            raise ValueError("no price")

    consumer, retries = billing.connect(pykbroker.bootstrap)
    with closing(consumer), closing(retries):
        for failures, wait_s in ((1, 60), (2, 120), (3, 0)):
            deadline = time.monotonic() + PATIENCE_S
            while seen.count(b"poison") < failures:
                billing.work(consumer, retries, bill)
                assert time.monotonic() < deadline, seen
            pykbroker.advance(wait_s)
        letters_come(shell)
    type_in(shell, operator)


def letters_come(shell: Shell) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not shell.json("dlq", "list", "orders.billing.dlq"):
        assert time.monotonic() < deadline


def type_in(shell: Shell, console: str) -> None:
    """Type commands, and compare what they print; times and ages are not looked at."""
    for command, expected in re.findall(r"^\$ pykbroker (.*)\n((?:(?!\$ ).*\n)*)", console, re.MULTILINE):
        printed = shell(*shlex.split(command))
        assert timeless(printed) == timeless(expected), command


def timeless(text: str) -> str:
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "TIME", text)
    text = re.sub(r"\d+[smhd] ago", "AGE", text)
    return re.sub(r" +", " ", re.sub(r" +$", "", text, flags=re.MULTILINE))
