"""What is registered, and what each thing that is wrong with a plugin costs."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import pytest

from pykbroker.components import (
    BROKER,
    KINDS,
    PARTITIONER,
    TOPIC,
    VALIDATOR,
    Component,
    PluginSetting,
)
from pykbroker.config import BrokerConfig, ConfigError, Kind
from pykbroker.hookspecs import hookimpl
from tests.plugins.support import Fixed, fixed, loaded, messages, partitioners, plugin


def test_components_are_found_by_kind_and_name() -> None:
    with loaded(partitioners("mine", fixed("a"), fixed("b"))) as plugins:
        assert {"a", "b"} <= set(plugins.components(PARTITIONER))
        assert plugins.components(VALIDATOR).keys().isdisjoint({"a", "b"})
        [info] = [info for info in plugins.infos() if info.name == "mine"]
        assert info.hooks == ("pykbroker_register_partitioners",)
        assert info.components == (("partitioner", "a"), ("partitioner", "b"))
        assert messages(plugins) == []


def test_an_object_with_methods_is_a_plugin_too() -> None:
    class Mine:
        @hookimpl
        def pykbroker_register_partitioners(self) -> Iterable[object]:
            yield fixed("generated")

    with loaded(Mine()) as plugins:
        assert "generated" in plugins.components(PARTITIONER)


def _nothing() -> list[object]:
    return []


def test_a_class_is_a_plugin_with_state_of_each_brokers_own() -> None:
    class Mine:
        def __init__(self) -> None:
            self.made = 0

        @hookimpl
        def pykbroker_register_partitioners(self) -> list[object]:
            self.made += 1
            return [fixed(f"made-{self.made}")]

    for _ in range(2):
        with loaded(Mine) as plugins:
            assert "made-1" in plugins.components(PARTITIONER)


async def _async() -> list[object]:
    return []


WRONG_PLUGINS = {
    "nothing": (plugin("wrong"), "no function that is marked with pykbroker.hookimpl"),
    "misspelt": (
        plugin("wrong", pykbroker_register_partitioner=_nothing),
        "no hook pykbroker_register_partitioner; did you mean pykbroker_register_partitioners?",
    ),
    "arguments": (
        plugin("wrong", pykbroker_started=lambda broker: None),
        "pykbroker_started wants 'broker', and is given event",
    ),
    "async": (
        plugin("wrong", pykbroker_register_partitioners=_async),
        "is async, and this hook may not wait",
    ),
}


@pytest.mark.parametrize("case", WRONG_PLUGINS)
def test_what_is_no_plugin_is_left_out_alone(case: str, caplog: pytest.LogCaptureFixture) -> None:
    wrong, said = WRONG_PLUGINS[case]
    with loaded(wrong, partitioners("right", fixed("a"))) as plugins:
        [message] = messages(plugins)
        assert said in message
        assert "a" in plugins.components(PARTITIONER)
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "plugin=wrong" in record.getMessage()


def test_wrappers_are_refused() -> None:
    class Wrapping:
        @hookimpl(wrapper=True)
        def pykbroker_topic_changed(self, event: object) -> Iterable[None]:
            yield

    with loaded(Wrapping()) as plugins:
        assert "wrapper" in messages(plugins)[0]


def _raises() -> list[object]:
    raise RuntimeError("no")


def _leaves() -> list[object]:
    raise SystemExit(3)


def _setting(**more: object) -> PluginSetting:
    values: dict[str, object] = {"key": "limit", "kind": Kind.INT, "default": 1, "doc": "A limit.", **more}
    return PluginSetting(**values)  # type: ignore[arg-type]  # wrong ones are the point


def _with(*settings: PluginSetting) -> Component[Fixed]:
    return Component("odd", lambda ctx: Fixed(), settings=settings)


WRONG_COMPONENTS: dict[str, tuple[object, str]] = {
    "api": (Component("odd", lambda ctx: Fixed(), api=2), "api 2, this version has api 1"),
    "name": (fixed("no spaces"), "no name for a component"),
    "reserved": (fixed("timeout"), "no name for a component"),
    "type": (Fixed(), "must return a list of Component, not of Fixed"),
    "factory": (Component("odd", "Fixed"), "cannot be called"),  # type: ignore[arg-type]
    "twice": (fixed("good"), "partitioner 'good' is offered by plugin mine already"),
    "key": (_with(_setting(key="Limit Bytes")), "declares a setting that is none"),
    "scope": (_with(_setting(scopes=frozenset({"world"}))), "has scopes ['world']"),
    "default": (_with(_setting(default=0, minimum=1)), "the default of limit, 0, is not an integer from 1"),
}


@pytest.mark.parametrize("case", WRONG_COMPONENTS)
def test_a_wrong_component_costs_itself_only(case: str) -> None:
    wrong, said = WRONG_COMPONENTS[case]
    with loaded(partitioners("mine", fixed("good"), wrong, fixed("also"))) as plugins:
        assert {"good", "also"} <= set(plugins.components(PARTITIONER))
        assert "odd" not in plugins.components(PARTITIONER)
        [message] = messages(plugins)
        assert said in message


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (_raises, "RuntimeError: no"),
        (_leaves, "SystemExit: 3"),
        (lambda: fixed("one"), "must return a list"),
        (lambda: 5, "TypeError"),
    ],
)
def test_a_register_hook_that_fails(function: object, said: str) -> None:
    assert callable(function)
    wrong = plugin("wrong", pykbroker_register_partitioners=function)
    with loaded(wrong, partitioners("right", fixed("a"))) as plugins:
        [message] = messages(plugins)
        assert said in message
        assert "a" in plugins.components(PARTITIONER)


def test_of_two_plugins_with_one_name_the_first_stays() -> None:
    with loaded(partitioners("mine", fixed("first")), partitioners("mine", fixed("second"))) as plugins:
        assert "first" in plugins.components(PARTITIONER)
        assert "second" not in plugins.components(PARTITIONER)
        assert messages(plugins) == ["there is a plugin of this name already, from given as an object"]


def test_an_installed_plugin_may_be_named_as_well() -> None:
    mine = partitioners("mine", fixed("a"))
    with loaded("pykbroker_validators", mine) as plugins:
        assert messages(plugins) == []


def test_kinds_that_share_a_name_share_the_settings() -> None:
    class Both:
        def __init__(self, default: int) -> None:
            self.default = default

        @hookimpl
        def pykbroker_register_partitioners(self) -> list[object]:
            return [_with(_setting())]

        @hookimpl
        def pykbroker_register_validators(self) -> list[object]:
            return [_with(_setting(default=self.default))]

    with loaded(Both(1)) as plugins:
        assert "odd" in plugins.components(VALIDATOR)
    with loaded(Both(2)) as plugins:
        assert "odd" not in plugins.components(VALIDATOR)
        assert "declares pykbroker.plugin.odd.limit differently" in messages(plugins)[0]


def test_blocked_by_name() -> None:
    config = BrokerConfig.from_texts({"pykbroker.plugins.block": "mine,second"})
    other = partitioners("other", fixed("first"), fixed("second"))
    with loaded(partitioners("mine", fixed("a")), other, config=config) as plugins:
        found = set(plugins.components(PARTITIONER))
        assert "first" in found
        assert found.isdisjoint({"a", "second"})
        assert messages(plugins) == []


def test_off_means_what_cannot_be_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    config = BrokerConfig.load(env={"PYKBROKER_PLUGINS": "off"})
    with loaded(partitioners("mine", fixed("a")), config=config) as plugins:
        assert {info.name for info in plugins.infos()} == {"partitioners", "exchanges", "retries"}
        assert "a" not in plugins.components(PARTITIONER)


def test_settings_of_plugins_are_checked_at_start() -> None:
    mine = partitioners("mine", _with(_setting(maximum=9, scopes=frozenset({BROKER, TOPIC}))))
    name = "pykbroker.plugin.odd.limit"
    with loaded(mine, config=BrokerConfig.load(sets=[f"{name}=5"])) as plugins:
        assert plugins.settings(PARTITIONER, "odd").integer("limit") == 5
    for text, said in ((f"{name}=10", "from -2147483648 to 9"), (f"{name}s=1", "did you mean")):
        with pytest.raises(ConfigError, match=said), loaded(mine, config=BrokerConfig.load(sets=[text])):
            pass


def test_every_kind_has_a_hook() -> None:
    from pykbroker import hookspecs

    registering = {name for name in vars(hookspecs) if name.startswith("pykbroker_register_")}
    assert registering == {kind.hook for kind in KINDS}
