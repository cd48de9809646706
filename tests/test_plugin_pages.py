"""docs/plugins/ and the code say the same, and the examples there are plugins that work."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

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


ELSEWHERE = {"record-unroutable", "record-retried", "record-dead-lettered", "record-replayed", "nack-skipped"}
"""Events whose story takes an exchange or a retry policy; their own tests have it."""


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


@pytest.mark.parametrize("page", plugin_pages.PAGES.keys() - set(EVENTS))
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
    assert heard >= set(EVENTS) - ELSEWHERE
