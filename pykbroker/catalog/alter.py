"""Altering settings at run time: of topics, of this or all brokers, of groups.

Codes follow Kafka's: what the request says wrongly about a resource is INVALID_REQUEST, a topic or
group setting that is unknown or malformed INVALID_CONFIG, a broker setting INVALID_REQUEST.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from pykbroker.catalog import exchanges
from pykbroker.catalog.catalog import Catalog
from pykbroker.catalog.changes import Change, ObjectTooLarge, SetSettings, SetTopicConfig, encode
from pykbroker.catalog.draft import Draft
from pykbroker.catalog.exchanges import BindingStep
from pykbroker.catalog.image import BROKER, GROUP, TOPIC, Image
from pykbroker.catalog.loops import altered_by, check_has_failures, check_loops, check_retried
from pykbroker.catalog.policies import Policies
from pykbroker.catalog.retry_rules import RetryRules
from pykbroker.catalog.retrying import DEAD_LETTER_TOPIC, DELIVERY_SETTINGS, ROLE
from pykbroker.catalog.role_topics import check_dead_letters, check_target
from pykbroker.config import (
    BrokerConfig,
    ConfigError,
    GroupConfig,
    Kind,
    Setting,
    TopicConfig,
    extensions,
    settings_of,
)
from pykbroker.config.extensions import NOTHING
from pykbroker.config.group import check_group_overrides
from pykbroker.config.setting import unknown
from pykbroker.config.topic import check_topic_overrides
from pykbroker.errors import ErrorCode, KafkaError


class Operation(IntEnum):
    """What to do to one setting (KIP-339)."""

    SET = 0
    DELETE = 1
    APPEND = 2
    SUBTRACT = 3


@dataclass(frozen=True, slots=True)
class Step:
    """One setting of one resource.  ``operation`` is as it came; it may be none that we know."""

    name: str
    operation: int
    value: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alteration:
    """What to do to one resource.  ``replace``: settings that are not named lose their values (the
    old AlterConfigs)."""

    resource_type: int
    name: str
    steps: Sequence[Step]
    replace: bool = False


async def alter(
    catalog: Catalog,
    wanted: Sequence[Alteration],
    *,
    validate_only: bool = False,
    policies: Policies | None = None,
) -> list[KafkaError | None]:
    """Alter each resource; the answer has None, or why not.  Resources fail one by one, each is decided on
    what the ones before it lead to.

    ``policies`` must agree to what would change.
    """
    keys = [(alteration.resource_type, alteration.name) for alteration in wanted]
    results: list[KafkaError | None] = []

    def decide(image: Image) -> list[Change]:
        results.clear()
        changes: list[Change] = []
        draft = Draft(image)
        for alteration in wanted:
            before = draft.view()
            try:
                if keys.count((alteration.resource_type, alteration.name)) > 1:
                    raise _refused("Each resource must appear at most once.")
                decided = _decide(catalog, before, alteration)
                for change in decided:
                    if policies is not None:
                        policies.check_alteration(before, change)
                    encode(change)
                for change in decided:
                    draft.apply(change)
                changes += decided
                results.append(None)
            except KafkaError as error:
                results.append(error)
            except ObjectTooLarge as error:
                results.append(_refused(str(error)))
        return [] if validate_only else changes

    await catalog.update(decide)
    return results


def _decide(catalog: Catalog, image: Image, alteration: Alteration) -> list[Change]:
    _check_steps(alteration)
    if alteration.resource_type == TOPIC:
        return _topic(catalog, image, alteration)
    if alteration.resource_type == BROKER:
        return _broker(catalog, image, alteration)
    if alteration.resource_type == GROUP:
        return _group(catalog, image, alteration)
    raise _refused(f"Unknown resource type {alteration.resource_type}")


def _check_steps(alteration: Alteration) -> None:
    given = [step.name for step in alteration.steps]
    if len(set(given)) != len(given):
        raise _refused("Error due to duplicate config keys")
    nulls = [s.name for s in alteration.steps if s.value is None and s.operation != Operation.DELETE]
    if nulls:
        raise _refused(f"Null value not supported for : {', '.join(nulls)}")
    for step in alteration.steps:
        if step.operation not in Operation.__members__.values():
            raise _refused(f"Unknown operation type {step.operation} for {step.name}")


def _topic(catalog: Catalog, image: Image, alteration: Alteration) -> list[Change]:
    topic = image.topics.get(alteration.name)
    if topic is None or topic.hidden:
        raise KafkaError(
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"The topic '{alteration.name}' does not exist."
        )
    broker = catalog.broker_config_of(image)
    table = {**settings_of(TopicConfig), **(broker.extensions or NOTHING).topic}
    defaults = TopicConfig.from_overrides(broker, {})
    if any(step.name == ROLE for step in alteration.steps):
        raise KafkaError(
            ErrorCode.INVALID_CONFIG, f"setting {ROLE} is read-only: the broker gives topics their roles"
        )
    alteration, bindings = _without_bindings(alteration)
    values = _stepped(topic.overrides, alteration, table, defaults)
    if alteration.replace:
        # Fixed at creation: nobody can mean to take these away by not naming them.
        fixed = {name: topic.overrides[name] for name in exchanges.FIXED if name in topic.overrides}
        values = {**fixed, **values}
    try:
        check_topic_overrides(broker, values, before=topic.overrides)
    except ConfigError as error:
        raise KafkaError(ErrorCode.INVALID_CONFIG, str(error)) from None
    rules = RetryRules(image, broker)
    check_dead_letters(rules, broker, topic.name, values, topic.overrides)
    check_has_failures(rules, topic.name, values, topic.overrides)
    changes: list[Change] = []
    if values != topic.overrides:
        changes.append(SetTopicConfig(name=topic.name, version=topic.config_version, overrides=values))
    changes += catalog.exchange_rules.alteration(image, topic, values, bindings)
    check_loops(image, broker, changes, altered_by(changes, topic.overrides, values))
    return changes


_HOW = {Operation.SET: "set", Operation.APPEND: "bind", Operation.SUBTRACT: "unbind"}


def _without_bindings(alteration: Alteration) -> tuple[Alteration, BindingStep | None]:
    """The alteration without what it does to bindings, and that.  AlterConfigs without bindings removes
    them, as it does with any setting that is not named."""
    found = next((step for step in alteration.steps if step.name == exchanges.BINDINGS), None)
    if found is None:
        return alteration, BindingStep("set", "") if alteration.replace else None
    rest = dataclasses.replace(alteration, steps=[step for step in alteration.steps if step is not found])
    if found.operation == Operation.DELETE or found.value is None:
        return rest, BindingStep("set", "")
    return rest, BindingStep(_HOW[Operation(found.operation)], found.value)


def _group(catalog: Catalog, image: Image, alteration: Alteration) -> list[Change]:
    if not alteration.name:
        raise _refused("Group name must not be empty")
    now = image.settings_of(GROUP, alteration.name)
    added = catalog.broker_config.extensions
    table = {**settings_of(GroupConfig), **(added or NOTHING).group}
    values = _stepped(now.values, alteration, table, GroupConfig())
    try:
        check_group_overrides(values, added, before=now.values)
    except ConfigError as error:
        raise KafkaError(ErrorCode.INVALID_CONFIG, str(error)) from None
    if values == now.values:
        return []
    if values.get(DEAD_LETTER_TOPIC) != now.values.get(DEAD_LETTER_TOPIC):
        _check_target(catalog, image, values.get(DEAD_LETTER_TOPIC, ""))
    changes: list[Change] = [
        SetSettings(resource_type=GROUP, name=alteration.name, version=now.version, values=values)
    ]
    broker = catalog.broker_config_of(image)
    check_loops(image, broker, changes, altered_by(changes, now.values, values))
    return changes


def _broker(catalog: Catalog, image: Image, alteration: Alteration) -> list[Change]:
    own = str(catalog.broker_config.node_id)
    check_broker_name(alteration.name, own)
    now = image.settings_of(BROKER, alteration.name)
    current = catalog.broker_config_of(image)
    added = current.extensions or NOTHING
    table = {**settings_of(BrokerConfig), **added.broker}
    values = _stepped(now.values, alteration, table, current)
    default, mine = image.settings_of(BROKER, "").values, image.settings_of(BROKER, own).values
    default, mine = (default, values) if alteration.name else (values, mine)
    try:
        for step in alteration.steps:
            _check_dynamic(step, table)
        extensions.check_values(added.broker, values, before=now.values)
        extensions.check_names(added.names, values, before=now.values)
        effective = current.with_dynamic(default, mine)
        check_topic_overrides(effective, {})
    except ConfigError as error:
        if error.name in DELIVERY_SETTINGS:  # as everywhere else
            raise KafkaError(ErrorCode.INVALID_CONFIG, str(error)) from None
        raise _refused(str(error)) from None
    if values == now.values:
        return []
    if values.get(DEAD_LETTER_TOPIC) != now.values.get(DEAD_LETTER_TOPIC):
        _check_target(catalog, image, values.get(DEAD_LETTER_TOPIC, ""))
    changes: list[Change] = [
        SetSettings(resource_type=BROKER, name=alteration.name, version=now.version, values=values)
    ]
    check_loops(image, current, changes, altered_by(changes, now.values, values), effective)
    return changes


def _check_target(catalog: Catalog, image: Image, template: str) -> None:
    """A group's or the broker's dead-letter topic, as far as it can be told now which one that is."""
    if template.strip() and "{" not in template:
        broker = catalog.broker_config_of(image)
        check_target(image, broker, template.strip(), "", DEAD_LETTER_TOPIC, shall_be=True)
        check_retried(RetryRules(image, broker), template.strip(), "")


def check_broker_name(name: str, own: str) -> None:
    """Raise INVALID_REQUEST unless ``name`` is "" (all brokers) or the node id ``own``."""
    if name in ("", own):
        return
    try:
        int(name)
    except ValueError:
        raise _refused(f"Node id must be an integer, but it is: {name}") from None
    raise _refused(f"Unexpected broker id, expected {own} or empty string, but received {name}")


def _check_dynamic(step: Step, table: Mapping[str, Setting]) -> None:
    row = table.get(step.name)
    if row is None:
        raise unknown(step.name, step.value, table)
    if not row.dynamic and step.operation != Operation.DELETE:
        raise ConfigError(step.name, step.value, "cannot be altered while the broker runs")


def _stepped(
    now: Mapping[str, str], alteration: Alteration, table: Mapping[str, Setting], defaults: object
) -> dict[str, str]:
    """The resource's values after the steps; checked only as far as the steps need."""
    # What was fixed at creation is not lost to a client that lists what it wants to keep.
    kept = {name: text for name, text in now.items() if name in table and table[name].fixed}
    values = kept if alteration.replace else dict(now)
    for step in alteration.steps:
        match step.operation, step.value:
            case Operation.SET, str(value):
                values[step.name] = value
            case Operation.DELETE, _:
                values.pop(step.name, None)
            case operation, str(value):
                row = table.get(step.name)
                if row is None or row.kind is not Kind.LIST:
                    word = Operation(operation).name
                    raise KafkaError(
                        ErrorCode.INVALID_CONFIG,
                        f"Can't {word} to key {step.name} because its type is not LIST.",
                    )
                default = (
                    row.default if extensions.is_plugin_setting(row.name) else getattr(defaults, row.field)
                )
                current = values.get(step.name, row.render(default) or "")
                values[step.name] = _listed(current, value, append=operation == Operation.APPEND)
    return values


def _listed(current: str, value: str, *, append: bool) -> str:
    parts = [part.strip() for part in current.split(",") if part.strip()]
    for part in (part.strip() for part in value.split(",")):
        if append and part not in parts:
            parts.append(part)
        elif not append and part in parts:
            parts.remove(part)
    return ",".join(parts)


def _refused(message: str) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_REQUEST, message)
