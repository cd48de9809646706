"""docs/plugins/ and the code say the same, and the examples there are plugins that work."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition

from pykbroker import components, hookspecs
from pykbroker.config import BrokerConfig
from pykbroker.plugins import Plugins
from pykbroker.testing import BrokerThread, check_plugin
from tests.containment.talk import Talk
from tools import plugin_pages

FOLDER = Path(__file__).parents[1] / "docs" / "plugins"
EVENTS = {
    page: hook
    for page, (hook, _) in plugin_pages.PAGES.items()
    if hook and not hook.startswith("pykbroker_reg")
}


FAILURES = {"record-retried", "record-dead-lettered", "record-replayed", "nack-skipped"}
"""Events with a story of their own."""


def text_of(page: str) -> str:
    return (FOLDER / f"{page}.md").read_text()


@pytest.fixture
def example(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """The example of the page that the test is about, as a module."""
    module = module_of(request.getfixturevalue("page"))
    yield module
    del sys.modules[module.__name__]


def module_of(page: str) -> ModuleType:
    (program,) = re.findall(r"^```python\n(from|import)(.*?)^```$", text_of(page), re.M | re.S)
    module = ModuleType(f"example_{page.replace('-', '_')}")
    sys.modules[module.__name__] = module
    exec(compile("".join(program), f"docs/plugins/{page}.md", "exec"), vars(module))
    return module


def test_every_hook_has_a_page() -> None:
    hooks = {name for name in vars(hookspecs) if name.startswith("pykbroker_")}
    assert {hook for hook, _ in plugin_pages.PAGES.values() if hook} == hooks
    assert {hook for hook, _ in plugin_pages.PAGES.values()} >= {kind.hook for kind in components.KINDS}


def test_every_page_is_in_the_index() -> None:
    linked = set(re.findall(r"\]\(([\w-]+)\.md\)", text_of("README")))
    assert linked >= plugin_pages.PAGES.keys() | {"faults"}


@pytest.mark.parametrize("page", plugin_pages.PAGES)
def test_the_page_says_what_the_code_says(page: str) -> None:
    text = text_of(page)
    assert plugin_pages.renewed(page, text) == text, "run: python tools/plugin_pages.py"


@pytest.mark.parametrize("page", plugin_pages.PAGES)
def test_the_example_conforms(page: str, example: ModuleType) -> None:
    if page == "components":
        return  # its factory needs a setting, which its own test gives
    check_plugin(example)


@pytest.mark.parametrize("page", sorted(plugin_pages.PAGES.keys() - set(EVENTS)))
def test_the_examples_own_test(page: str, example: ModuleType) -> None:
    example.test_kit()


@pytest.mark.parametrize("page", plugin_pages.PAGES)
def test_the_plugin_that_it_names_has_it(page: str) -> None:
    hook, _ = plugin_pages.PAGES[page]
    named = re.findall(r"^Ships with: .*`plugins/pykbroker_(\w+)`", text_of(page), re.M)
    assert named or not hook
    plugins = Plugins.load(BrokerConfig(), extra=["pykbroker_events.throughput"])
    by_name = {info.name: info for info in plugins.infos()}
    plugins.close()
    hooks = {*by_name["pykbroker_events.throughput"].hooks}
    for name in named:
        assert hook in {*by_name[name].hooks, *hooks}


def test_the_events_happen(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    modules = {page: module_of(page) for page in EVENTS}
    with BrokerThread(plugins=[*modules.values()]) as broker, Talk(broker.bootstrap) as talk:
        talk.create("orders")
        talk.produce("orders", b"a", b"b")
        talk.join("readers")
    said = {record.name: record.getMessage() for record in caplog.records}
    for module in modules.values():
        del sys.modules[module.__name__]
    assert said["example_records_appended"] == "orders-0: up to offset 1"
    assert said["example_topic_changed"]
    assert said["example_group_changed"].startswith("group readers: ")
    assert said["example_started"].startswith("clients may come to 127.0.0.1:")
    heard = {name.removeprefix("example_").replace("_", "-") for name in said if name.startswith("example_")}
    assert heard >= set(EVENTS) - FAILURES - {"record-unroutable"}, "that one needs an exchange"


def test_the_events_of_failed_deliveries_happen(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    modules = [module_of(page) for page in sorted(FAILURES)]
    retry = {
        "pykbroker.retry.policy": "fixed",
        "pykbroker.retry.delay.ms": "0",
        "pykbroker.retry.max.attempts": "1",
    }

    def says(name: str, text: str) -> None:
        """Wait until the example ``name`` has said it."""
        deadline = time.monotonic() + 30
        while (name, text) not in {(each.name, each.getMessage()) for each in list(caplog.records)}:
            assert time.monotonic() < deadline, caplog.text
            time.sleep(0.01)

    with BrokerThread(plugins=modules) as broker, Talk(broker.bootstrap) as talk:
        talk.create("orders", retry)
        talk.produce("orders", b"poison")
        commit(broker, "billing", "orders", 3, {"nack": [[0, 2]], "reason": "no stock"})
        says("example_nack_skipped", "billing nacked orders-0: ((1, 2),) are gone")
        says("example_record_retried", f"orders: failure 1, again at {due_ms(caplog)}")
        wait_for_record(talk, "orders.billing.retry")
        commit(broker, "billing", "orders.billing.retry", 1, {"nack": [0], "reason": "none yet"})
        says("example_record_dead_lettered", "orders: failure 2 (none yet), to orders.billing.dlq")
        wait_for_record(talk, "orders.billing.dlq")
        commit(broker, "pykbroker.dlq", "orders.billing.dlq", 1, {"replay": [0]})
        says("example_record_replayed", "letter 0 of orders.billing.dlq goes to orders")
    for module in modules:
        del sys.modules[module.__name__]


def commit(broker: BrokerThread, group: str, topic: str, offset: int, metadata: object) -> None:
    """What a consumer of partition 0 commits."""
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap, group_id=group, enable_auto_commit=False)
    partition = TopicPartition(topic, 0)
    consumer.assign([partition])
    consumer.commit({partition: OffsetAndMetadata(offset, json.dumps(metadata), -1)})
    consumer.close()


def due_ms(caplog: pytest.LogCaptureFixture) -> str:
    """The time that the example of record-retried has said, once it has."""
    deadline = time.monotonic() + 30
    while True:
        found = re.findall(r"again at (\d+)", caplog.text)
        if found:
            return str(found[0])
        assert time.monotonic() < deadline, caplog.text
        time.sleep(0.01)


def wait_for_record(talk: Talk, topic: str) -> None:
    """Wait until there is a record in partition 0."""
    deadline = time.monotonic() + 30
    while not talk.values(topic):
        assert time.monotonic() < deadline, topic
        time.sleep(0.01)
