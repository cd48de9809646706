"""The settings that plugins declare: checked and described like all others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from pykbroker.config import BrokerConfig, ConfigError, Kind, Setting
from pykbroker.config.describe import (
    Source,
    describe_all_brokers,
    describe_broker,
    describe_group,
    describe_topic,
)
from pykbroker.config.extensions import Extensions
from pykbroker.config.group import check_group_overrides
from pykbroker.config.topic import check_topic_overrides


def row(name: str, kind: Kind = Kind.INT, default: int | str | tuple[str, ...] = 1) -> Setting:
    return Setting(
        name=f"pykbroker.plugin.{name}",
        field=name,
        kind=kind,
        default=default,
        doc="A setting.",
        dynamic=True,
    )


def table(*rows: Setting) -> Mapping[str, Setting]:
    return {each.name: each for each in rows}


LIMIT, MY_WORD, LISTED = (
    row("size.limit"),
    row("my-words.first", Kind.STRING, "a"),
    row("size.list", Kind.LIST, ()),
)
SIZE = "pykbroker.plugin.size.limit"
EXTENSIONS = Extensions(
    broker=table(LIMIT, MY_WORD),
    topic=table(LIMIT, LISTED),
    group=table(LIMIT),
    names={
        "pykbroker.validators": frozenset({"size", "other"}),
        "pykbroker.partitioner": frozenset({"default"}),
        "pykbroker.exchange.type": frozenset({"fanout"}),
        "pykbroker.interceptors": frozenset(),
    },
)
BROKER = BrokerConfig().with_extensions(EXTENSIONS)


def test_before_plugins_are_loaded_nothing_is_checked() -> None:
    config = BrokerConfig.load(sets=[f"{SIZE}=x", "pykbroker.plugin.nobody.knows=1"])
    check_topic_overrides(config, {"pykbroker.validators": "gone", SIZE: "x"})
    assert list(describe_broker(config))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (f"{SIZE}=x", "must be an integer"),
        ("pykbroker.plugin.size.limti=1", f"did you mean {SIZE}"),
        ("pykbroker.plugin.size.list=a", "no setting has this name"),
    ],
)
def test_the_brokers_values_are_checked_with_the_plugins(given: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        BrokerConfig.load(sets=[given]).with_extensions(EXTENSIONS)


def test_where_the_brokers_value_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "b.toml"
    file.write_text("[pykbroker.plugin.size]\nlimit = 5\n[pykbroker.plugin.my-words]\nfirst = 'b'\n")
    config = BrokerConfig.load(file).with_extensions(EXTENSIONS)
    assert (config.plugin_value(LIMIT), config.plugin_value(MY_WORD)) == (5, "b")
    env = {"PYKBROKER_PLUGIN_SIZE_LIMIT": "6", "PYKBROKER_PLUGIN_MY_WORDS_FIRST": "c"}
    config = BrokerConfig.load(file, env, ["pykbroker.plugin.my-words.first=d"]).with_extensions(EXTENSIONS)
    assert (config.plugin_value(LIMIT), config.plugin_value(MY_WORD)) == (6, "d")
    config = config.with_dynamic({SIZE: "7"}, {})
    assert config.plugin_value(LIMIT) == 7
    assert config.with_dynamic({SIZE: "7"}, {SIZE: "8"}).plugin_value(LIMIT) == 8


def test_an_own_setting_in_their_name_space_is_no_plugins() -> None:
    config = BrokerConfig.load(env={"PYKBROKER_PLUGIN_TIMEOUT_MS": "5"}).with_extensions(EXTENSIONS)
    assert config.pykbroker_plugin_timeout_ms == 5
    with pytest.raises(ConfigError, match="no setting has this name"):
        check_topic_overrides(BROKER, {"pykbroker.plugin.timeout.ms": "5"})


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({SIZE: "x"}, "must be an integer"),
        ({"pykbroker.plugin.my-words.first": "b"}, "no setting has this name"),
        ({"pykbroker.validators": "size,gone"}, "no plugin offers 'gone'; there are: other, size"),
        ({"pykbroker.interceptors": "x"}, "there are: none"),
        ({"pykbroker.partitioner": "no name"}, "no plugin offers 'no name'"),
        ({"pykbroker.partitioner": "default", "pykbroker.exchange.type": "fanout"}, "has no partitioner"),
        ({"pykbroker.exchange.bindings": "[]"}, "only an exchange has this"),
        ({"pykbroker.exchange.alternate": "x"}, "only an exchange has this"),
    ],
)
def test_a_topics_values_are_checked(overrides: Mapping[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_topic_overrides(BROKER, overrides)


def test_what_stays_as_it_was_is_not_checked_again() -> None:
    before = {"pykbroker.validators": "gone,size", "pykbroker.plugin.gone.x": "1", SIZE: "a word"}
    check_topic_overrides(BROKER, {**before, "retention.ms": "1"}, before)
    check_topic_overrides(BROKER, {"pykbroker.validators": "other,gone"}, before)
    with pytest.raises(ConfigError):
        check_topic_overrides(BROKER, {**before, "pykbroker.plugin.gone.x": "2"}, before)


def test_some_are_decided_at_creation() -> None:
    before = {"pykbroker.partitioner": "default"}
    check_topic_overrides(BROKER, before, before)
    for after in ({}, {"pykbroker.exchange.type": "fanout"}):
        with pytest.raises(ConfigError, match="only be given when the topic is created"):
            check_topic_overrides(BROKER, after, before)
    with pytest.raises(ConfigError, match="only be given when the topic is created"):
        check_topic_overrides(BROKER, before, {})


def test_groups() -> None:
    check_group_overrides({SIZE: "1"}, EXTENSIONS)
    with pytest.raises(ConfigError, match="must be an integer"):
        check_group_overrides({SIZE: "x"}, EXTENSIONS)
    [entry] = [e for e in describe_group({SIZE: "3"}, EXTENSIONS) if e.name == SIZE]
    assert (entry.value, entry.source) == ("3", Source.GROUP)


def test_a_topic_shows_the_settings_of_what_it_names() -> None:
    broker = BrokerConfig.load(sets=[f"{SIZE}=5"]).with_extensions(EXTENSIONS)
    assert SIZE not in {entry.name for entry in describe_topic(broker, {})}
    named = {e.name: e for e in describe_topic(broker, {"pykbroker.validators": "size"})}
    assert (named[SIZE].value, named[SIZE].source) == ("5", Source.STATIC_BROKER)
    assert named["pykbroker.plugin.size.list"].source == Source.DEFAULT
    [own] = [e for e in describe_topic(broker, {SIZE: "6"}) if e.name == SIZE]
    assert [(s.value, s.source) for s in own.synonyms] == [
        ("6", Source.TOPIC), ("5", Source.STATIC_BROKER), ("1", Source.DEFAULT),
    ]  # fmt: skip


def test_what_belongs_to_a_missing_plugin_is_shown_as_it_is() -> None:
    [entry] = [e for e in describe_topic(BROKER, {"pykbroker.plugin.gone.x": "1"}) if ".gone." in e.name]
    assert (entry.value, entry.source, entry.setting.kind) == ("1", Source.TOPIC, Kind.STRING)


def test_the_broker_shows_them_all() -> None:
    entries = {entry.name: entry for entry in describe_broker(BROKER)}
    assert (entries[SIZE].value, entries[SIZE].read_only) == ("1", False)
    assert SIZE in {entry.name for entry in describe_all_brokers({SIZE: "2"}, EXTENSIONS)}


def test_fixed_settings_are_read_only() -> None:
    read_only = {entry.name for entry in describe_topic(BROKER, {}) if entry.read_only}
    assert read_only == {
        "pykbroker.partitioner",
        "pykbroker.exchange.type",
        "pykbroker.delay.enable",
        "pykbroker.role",
    }
