"""What becomes of records that a group cannot process: which settings hold for it on a topic, and why.

The rules are the broker's own, applied here to what it describes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from pykbroker.cli import _schedule, _settings
from pykbroker.cli._client import Row, show
from pykbroker.cli._letter_text import printable

if TYPE_CHECKING:
    from pykbroker.catalog.retry_rules import RetryRules
    from pykbroker.catalog.retrying import RetrySettings
    from pykbroker.cli._settings import InForce
    from pykbroker.client import Client


@dataclass(frozen=True, kw_only=True)
class Failing:
    """How failures of one group on one topic go.

    ``given`` are the settings as they were given, with who did; ``missing`` those of its three topics that
    are not there yet.  ``hindrance``: why there is no policy, whatever the settings say.
    """

    topic: str
    group: str
    settings: RetrySettings
    given: Mapping[str, InForce]
    missing: frozenset[str]
    hindrance: str | None = None

    @property
    def delays(self) -> list[_schedule.Delay] | None:
        """Before each return; None where nobody can tell."""
        has = self.settings
        return _schedule.delays(has.policy, has.max_attempts, has.delay_ms, has.max_delay_ms)

    def print_(self) -> None:
        """For people: what happens, where, and the settings that say so."""
        click.echo(f"\n{printable(self.group)} on {self._named(self.topic)}: {self._story()}")
        if self.retries:
            click.echo(f"  retry topic   {self._named(self.settings.retry_topic)}")
            click.echo(f"  dead letters  {self._named(self.settings.dead_letter_topic)}")
        rows: list[Row] = [
            {"setting": each.name, "value": each.value, "source": each.told} for each in self.given.values()
        ]
        if rows:
            click.echo()
            show(rows, "table")

    @property
    def retries(self) -> bool:
        """Whether there is a policy."""
        return self.settings.policy != "none"

    def _story(self) -> str:
        has = self.settings
        if self.hindrance is not None:
            return f"no retries, {self.hindrance}"
        if not self.retries:
            return "no retries, pykbroker.retry.policy is none"
        if has.max_attempts == 0:
            return "what fails is a dead letter at once"
        found = self.delays
        if found is None:
            when = (
                f"when the policy {has.policy} says, at the latest after {_schedule.span(has.max_delay_ms)}"
            )
        elif not any(high for _, high in found):
            when = "at once"
        else:
            when = f"after {_schedule.told(found, has.max_attempts)}"
        times = "once" if has.max_attempts == 1 else f"{has.max_attempts} times"
        return f"what fails comes back {times}, {when}; then it is a dead letter"

    def _named(self, topic: str) -> str:
        return f"{topic} (not made yet)" if topic in self.missing else topic

    def as_json(self) -> dict[str, object]:
        """For programs: what holds, and the source of each setting."""
        has, found = self.settings, self.delays
        return {
            "topic": self.topic,
            "group": self.group,
            "policy": has.policy,
            "max_attempts": has.max_attempts,
            "delay_ms": has.delay_ms,
            "max_delay_ms": has.max_delay_ms,
            "delays_ms": None if found is None else [list(each) for each in found],
            "retry_topic": has.retry_topic,
            "dead_letter_topic": has.dead_letter_topic,
            "missing_topics": sorted(self.missing),
            "why_none": self.hindrance,
            "settings": _settings.as_json(self.given, everything=True),
        }


def print_all(
    settings: Mapping[str, InForce], failing: Sequence[Failing], form: str, *, everything: bool
) -> None:
    """Print settings, and below them how failures go."""
    more = {"failures": [each.as_json() for each in failing]}
    _settings.print_(settings, form, everything=everything, more=more)
    if form == "table":
        for each in failing:
            each.print_()


async def failing(client: Client, pairs: Sequence[tuple[str, str]]) -> list[Failing]:
    """Of each (topic, group)."""
    from pykbroker.catalog.retrying import DELIVERY_SETTINGS

    topics, groups = {topic for topic, _ in pairs}, {group for _, group in pairs}
    here = str((await client.metadata([])).controller_id)
    broker = (await _settings.in_force(client, _settings.BROKER, [here], DELIVERY_SETTINGS))[here]
    rules = await _rules(
        client, groups, {name: each.value for name, each in broker.items() if each.value is not None}
    )  # Apache Kafka has no such settings, or hides what they are
    there = [topic for topic in topics if topic in rules.image.topics]
    of_topics = await _settings.in_force(client, _settings.TOPIC, there, DELIVERY_SETTINGS) if there else {}
    of_groups = (
        await _settings.in_force(client, _settings.GROUP, list(groups), DELIVERY_SETTINGS) if groups else {}
    )
    return [
        _failing(rules, topic, group, of_topics.get(topic, broker), of_groups[group])
        for topic, group in pairs
    ]


async def _rules(client: Client, groups: Iterable[str], broker: Mapping[str, str]) -> RetryRules:
    """The broker's rules, on an image of what it says about failures."""
    from pykbroker.catalog.image import GROUP, Image, Settings, Topic
    from pykbroker.catalog.retry_rules import RetryRules
    from pykbroker.catalog.retrying import DELIVERY_SETTINGS, EXCHANGE_TYPE, ROLE
    from pykbroker.client.calls import settings_of_groups
    from pykbroker.config import BrokerConfig

    keys = (*DELIVERY_SETTINGS, EXCHANGE_TYPE, ROLE)
    names = [each.name for each in (await client.metadata()).topics if each.name and not each.is_internal]
    found = await _settings.in_force(client, _settings.TOPIC, names, keys) if names else {}
    topics = {
        name: Topic(
            name=name,
            topic_id=name.encode(),
            partitions=(),
            overrides={key: each.value for key, each in of.items() if each.source == "topic" and each.value},
        )
        for name, of in found.items()
    }
    known = await settings_of_groups(client, DELIVERY_SETTINGS)
    own = await _settings.in_force(client, _settings.GROUP, list(groups), DELIVERY_SETTINGS) if groups else {}
    known |= {
        name: {key: each.value for key, each in of.items() if each.value is not None}
        for name, of in own.items()
    }
    settings = {(GROUP, name): Settings(values=of, version=0) for name, of in known.items()}
    config = BrokerConfig.load(None, None, [f"{name}={value}" for name, value in broker.items()])
    return RetryRules(Image(cluster_id="described", topics=topics, settings=settings), config)


def _failing(
    rules: RetryRules,
    topic: str,
    group: str,
    of_topic: Mapping[str, InForce],
    of_group: Mapping[str, InForce],
) -> Failing:
    from pykbroker.catalog.retrying import DELIVERY_SETTINGS

    settings = rules.settings(topic, group)
    given = {
        name: of_group[name] if name in of_group and of_group[name].value is not None else of_topic[name]
        for name in DELIVERY_SETTINGS
        if name in of_topic
    }
    wanted = {topic, settings.retry_topic, settings.dead_letter_topic}
    return Failing(
        topic=topic,
        group=group,
        settings=settings,
        given=given,
        missing=frozenset(wanted - set(rules.image.topics)),
        hindrance=_hindrance(rules, topic, group),
    )


def _hindrance(rules: RetryRules, topic: str, group: str) -> str | None:
    from pykbroker.catalog.retrying import DLQ_GROUP, EXCHANGE_TYPE, RoleKind, role_of

    there = rules.image.topics.get(topic)
    role = None if there is None else role_of(there)
    if group == DLQ_GROUP:
        return "it is the reserved group that replays dead letters"
    if role is not None and role.kind is RoleKind.RETRY:
        return f"it is a retry topic: ask for group {role.group} on {role.origin}"
    if topic.startswith("__"):
        return "it is an internal topic"
    if rules.is_dead_letter_target(topic):
        return "dead letters go to it"
    if there is not None and there.overrides.get(EXCHANGE_TYPE):
        return "it is an exchange: failures are a matter of the topics that it copies to"
    return None
