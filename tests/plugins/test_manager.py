"""What rooms above get: objects built once per topic and settings, listeners, notices."""

from __future__ import annotations

import random

import pytest
import trio

from pykbroker.components import (
    BROKER,
    PARTITIONER,
    TOPIC,
    VALIDATOR,
    BuildContext,
    Component,
    PartitionContext,
    PluginSetting,
)
from pykbroker.config import BrokerConfig, Kind
from pykbroker.errors import ErrorCode
from pykbroker.events import BrokerStarted
from pykbroker.plugins import ComponentFault, ComponentUnavailable, Plugins
from tests.plugins.support import Fixed, loaded, partitioners, plugin

LIMIT = PluginSetting(
    key="limit", kind=Kind.INT, default=1, doc="A limit.", minimum=0, scopes=frozenset({BROKER, TOPIC})
)
BROKER_ONLY = PluginSetting(key="words", kind=Kind.LIST, default=("a",), doc="Words.")
NAME = "pykbroker.plugin.limited.limit"


class Limited(Fixed):
    def __init__(self, ctx: BuildContext) -> None:
        super().__init__(ctx.settings.integer("limit"))
        self.ctx = ctx


def limited() -> object:
    return partitioners("mine", Component("limited", Limited, settings=[LIMIT, BROKER_ONLY]))


def test_built_once_per_topic_and_settings() -> None:
    with loaded(limited()) as plugins:
        first = plugins.build(PARTITIONER, "limited", topic="a")
        assert plugins.build(PARTITIONER, "limited", topic="a", overrides={"retention.ms": "1"}) is first
        assert plugins.build(PARTITIONER, "limited", topic="b") is not first
        other = plugins.build(PARTITIONER, "limited", topic="a", overrides={NAME: "7"})
        assert isinstance(other, Limited)
        assert other.answer == 7
        assert other.ctx.topic == "a"
        assert other.ctx.settings.texts("words") == ("a",)
        assert isinstance(other.ctx.random, random.Random)
        plugins.forget("a")
        assert plugins.build(PARTITIONER, "limited", topic="a", overrides={NAME: "7"}) is not other


def test_the_topic_wins_over_the_broker_where_it_may() -> None:
    config = BrokerConfig.load(sets=[f"{NAME}=5"])
    with loaded(limited(), config=config) as plugins:
        words = "pykbroker.plugin.limited.words"
        settings = plugins.settings(PARTITIONER, "limited", {words: "b"})
        assert (settings.integer("limit"), settings.texts("words")) == (5, ("a",))
        assert plugins.settings(PARTITIONER, "limited", {NAME: "6"}).integer("limit") == 6


def test_altered_at_run_time() -> None:
    with loaded(limited()) as plugins:
        before = plugins.build(PARTITIONER, "limited")
        plugins.reconfigure(plugins.config.with_dynamic({NAME: "3"}, {}))
        after = plugins.build(PARTITIONER, "limited")
        assert isinstance(after, Limited)
        assert (after is before, after.answer) == (False, 3)


def test_what_is_missing_is_a_policy_violation_with_its_name() -> None:
    with loaded() as plugins:
        with pytest.raises(ComponentUnavailable, match="topic t needs the validator 'gone'") as caught:
            plugins.build(VALIDATOR, "gone", topic="t")
        assert caught.value.code is ErrorCode.POLICY_VIOLATION


@pytest.mark.parametrize(
    ("component", "said"),
    [
        (Component("odd", lambda ctx: 1 / 0), "ZeroDivisionError"),
        (Component("odd", lambda ctx: object()), "made a object, which has no choose"),
    ],
)
def test_what_cannot_be_made_is_told_once_and_refused_each_time(
    component: Component[object], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with loaded(partitioners("mine", component)) as plugins:
        for _ in range(3):
            with pytest.raises(ComponentUnavailable, match=said):
                plugins.build(PARTITIONER, "odd", topic="t")
        assert len([r for r in caplog.records if "a plugin failed" in r.getMessage()]) == 1
        assert plugins.faults() == {("mine", "partitioner odd"): 1}


def test_a_stored_value_that_a_newer_plugin_refuses(caplog: pytest.LogCaptureFixture) -> None:
    with loaded(limited()) as plugins:
        with pytest.raises(ComponentUnavailable, match="must be an integer from 0"):
            plugins.build(PARTITIONER, "limited", topic="t", overrides={NAME: "-1"})
        plugins.reconfigure(plugins.config.with_dynamic({NAME: "-1"}, {}))
        assert plugins.settings(PARTITIONER, "limited").integer("limit") == 1
        assert "passed over" in caplog.text


def test_a_guard_names_plugin_component_and_topic(caplog: pytest.LogCaptureFixture) -> None:
    with loaded(limited()) as plugins:
        guard = plugins.guard(PARTITIONER, "limited", "orders")
        with pytest.raises(ComponentFault):
            guard.call(lambda ctx: 1 / 0, PartitionContext(topic="t", partitions=1, available=(0,), key=None))
        assert "plugin=mine in=partitioner limited topic=orders" in caplog.text


EVENT = BrokerStarted(
    bootstrap="localhost:1", listeners=(), node_id=1, cluster_id="c", data_dir=BrokerConfig().data_dir
)


def test_nobody_listens() -> None:
    with loaded() as plugins:
        assert Plugins.none().listeners("pykbroker_topic_changed") is None
        assert plugins.listeners("pykbroker_group_changed") is None


def test_one_that_raises_does_not_keep_others_from_hearing(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[object] = []
    second = plugin("second", pykbroker_topic_changed=lambda event: 1 / 0)
    third = plugin("third", pykbroker_topic_changed=lambda: heard.append("without argument"))
    heard_by = plugin("heard_by", pykbroker_topic_changed=lambda event: heard.append(event))
    with loaded(heard_by, second, third) as plugins:
        tell = plugins.listeners("pykbroker_topic_changed")
        assert tell is not None
        tell("created")
    assert heard == ["without argument", "created"]
    assert "plugin=second in=pykbroker_topic_changed" in caplog.text


def test_a_hook_that_may_not_wait_and_returns_a_coroutine() -> None:
    async def later() -> None:
        await trio.lowlevel.checkpoint()

    with loaded(plugin("mine", pykbroker_topic_changed=lambda event: later())) as plugins:
        tell = plugins.listeners("pykbroker_topic_changed")
        assert tell is not None
        tell("created")
        assert plugins.faults() == {("mine", "pykbroker_topic_changed"): 1}


async def test_hooks_that_may_wait_are_awaited_and_cancelled(autojump_clock: trio.testing.MockClock) -> None:
    heard: list[str] = []

    async def slow(event: object) -> None:
        await trio.sleep(1)
        heard.append("slow")

    async def hanging(event: object) -> None:
        await trio.sleep_forever()

    def quick(event: object) -> None:
        heard.append("quick")

    with loaded(
        plugin("quick", pykbroker_started=quick),
        plugin("hanging", pykbroker_started=hanging),
        plugin("slow", pykbroker_started=slow),
    ) as plugins:
        await plugins.notify("pykbroker_started", EVENT)
        assert heard == ["slow", "quick"]
        assert plugins.faults() == {("hanging", "pykbroker_started"): 1}
        assert trio.current_time() == pytest.approx(11)
