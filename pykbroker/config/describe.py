"""What DescribeConfigs and CreateTopics say about settings: value, source, synonyms.

The sources and the order of synonyms are Kafka's (checked against 4.3.1), also where that surprises:
a topic's ``retention.ms`` lists no synonyms while only ``log.retention.hours`` is set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

from pykbroker.config.broker import BrokerConfig
from pykbroker.config.extensions import NOTHING, Extensions, component_of, is_plugin_setting, missing_row
from pykbroker.config.group import GroupConfig
from pykbroker.config.setting import Setting, settings_of
from pykbroker.config.topic import ROLE_DEFAULTS, TopicConfig


class Source(IntEnum):
    """Who said what a setting's value is, as the protocol numbers it."""

    TOPIC = 1
    DYNAMIC_BROKER = 2
    DYNAMIC_DEFAULT_BROKER = 3
    STATIC_BROKER = 4
    DEFAULT = 5
    GROUP = 8


@dataclass(frozen=True, slots=True)
class Synonym:
    """One place that could have set the value; the first of the list did."""

    name: str
    value: str | None
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One described setting."""

    name: str
    value: str | None
    read_only: bool
    source: Source
    synonyms: tuple[Synonym, ...]
    setting: Setting


_CHAINS = (
    ("log.roll.ms", "log.roll.hours"),
    ("log.roll.jitter.ms", "log.roll.jitter.hours"),
    ("log.flush.interval.ms", "log.flush.scheduler.interval.ms"),
    ("log.retention.ms", "log.retention.minutes", "log.retention.hours"),
)
_CHAIN_OF = {name: chain for chain in _CHAINS for name in chain if name != "log.flush.scheduler.interval.ms"}
"""Broker settings that are one thing in different units, in the order in which they are asked."""


def broker_synonyms(broker: BrokerConfig, name: str) -> tuple[Synonym, ...]:
    """Every layer that gives the broker setting ``name``, the deciding one first."""
    table = settings_of(BrokerConfig)
    chain = _CHAIN_OF.get(name, (name,))
    layers = _layers(broker)
    found = [Synonym(key, values[key], source) for source, values in layers for key in chain if key in values]
    for key in chain:
        row = table[key]
        if row.default is not None:
            found.append(Synonym(key, row.render(row.default), Source.DEFAULT))
    while found and found[0].name != name:
        del found[0]
    return tuple(found)


def _layers(broker: BrokerConfig) -> tuple[tuple[Source, Mapping[str, str]], ...]:
    return (
        (Source.DYNAMIC_BROKER, broker.dynamic),
        (Source.DYNAMIC_DEFAULT_BROKER, broker.dynamic_default),
        (Source.STATIC_BROKER, broker.static),
    )


def describe_topic(broker: BrokerConfig, overrides: Mapping[str, str]) -> Iterator[Entry]:
    """All settings of a topic with these of its own."""
    config = TopicConfig.from_overrides(broker, overrides)
    for row in settings_of(TopicConfig).values():
        synonyms = broker_synonyms(broker, row.synonyms[0][0]) if row.synonyms else ()
        if config.pykbroker_role and row.field in ROLE_DEFAULTS:
            synonyms = ()  # the broker's default does not hold there
        if row.name in overrides:
            value: str | None = overrides[row.name]
            synonyms = (Synonym(row.name, value, Source.TOPIC), *synonyms)
        else:
            value = row.render(getattr(config, row.field))
        yield _entry(row, value, synonyms, read_only=row.fixed)
    yield from _plugin_settings_of_topic(broker, config, overrides)


def _plugin_settings_of_topic(
    broker: BrokerConfig, config: TopicConfig, overrides: Mapping[str, str]
) -> Iterator[Entry]:
    """Those of the components that the topic names, and whatever else was set on it."""
    added = broker.extensions or NOTHING
    used = {config.pykbroker_partitioner, config.pykbroker_exchange_type, config.pykbroker_retry_policy}
    used |= {*config.pykbroker_validators, *config.pykbroker_interceptors}
    for row in added.topic.values():
        if row.name in overrides or component_of(row.name) in used:
            synonyms = _plugin_synonyms(broker, row, added)
            value = row.render(broker.plugin_value(row))
            if row.name in overrides:
                value = overrides[row.name]
                synonyms = (Synonym(row.name, value, Source.TOPIC), *synonyms)
            yield _entry(row, value, synonyms, read_only=False)
    yield from _of_missing_plugins(overrides, added.topic, Source.TOPIC)


def _of_missing_plugins(
    values: Mapping[str, str], rows: Mapping[str, Setting], source: Source
) -> Iterator[Entry]:
    for name, value in values.items():
        if is_plugin_setting(name) and name not in rows:
            yield _entry(missing_row(name), value, (Synonym(name, value, source),), read_only=False)


def _plugin_synonyms(broker: BrokerConfig, row: Setting, added: Extensions) -> tuple[Synonym, ...]:
    layers = _layers(broker) if row.name in added.broker else ()
    found = [Synonym(row.name, values[row.name], source) for source, values in layers if row.name in values]
    if row.default is not None:
        found.append(Synonym(row.name, row.render(row.default), Source.DEFAULT))
    return tuple(found)


def describe_broker(broker: BrokerConfig) -> Iterator[Entry]:
    """All settings of this broker."""
    added = broker.extensions or NOTHING
    for row in settings_of(BrokerConfig).values():
        value = row.render(getattr(broker, row.field))
        yield _entry(row, value, broker_synonyms(broker, row.name), read_only=not row.dynamic)
    for row in added.broker.values():
        value = row.render(broker.plugin_value(row))
        yield _entry(row, value, _plugin_synonyms(broker, row, added), read_only=not row.dynamic)


def describe_all_brokers(values: Mapping[str, str], added: Extensions | None = None) -> Iterator[Entry]:
    """What was altered for all brokers (the resource named "")."""
    table = {**settings_of(BrokerConfig), **(added or NOTHING).broker}
    for name, value in values.items():
        if name in table:
            synonym = Synonym(name, value, Source.DYNAMIC_DEFAULT_BROKER)
            yield _entry(table[name], value, (synonym,), read_only=False)


def describe_group(overrides: Mapping[str, str], added: Extensions | None = None) -> Iterator[Entry]:
    """All settings of a group with these of its own; of plugins' only those set."""
    config = GroupConfig.from_overrides(overrides)
    for row in settings_of(GroupConfig).values():
        synonyms: tuple[Synonym, ...] = ()
        if not row.nullable:  # else it is the topic that gives the default
            synonyms = (Synonym(row.synonyms[0][0], row.render(row.default), Source.DEFAULT),)
        value = row.render(getattr(config, row.field))
        if row.name in overrides:
            value = overrides[row.name]
            synonyms = (Synonym(row.name, value, Source.GROUP), *synonyms)
        yield _entry(row, value, synonyms, read_only=False)
    rows = (added or NOTHING).group
    for name, text in overrides.items():
        if name in rows:
            yield _entry(rows[name], text, (Synonym(name, text, Source.GROUP),), read_only=False)
    yield from _of_missing_plugins(overrides, rows, Source.GROUP)


def _entry(row: Setting, value: str | None, synonyms: tuple[Synonym, ...], *, read_only: bool) -> Entry:
    source = synonyms[0].source if synonyms else Source.DEFAULT
    return Entry(
        name=row.name, value=value, read_only=read_only, source=source, synonyms=synonyms, setting=row
    )
