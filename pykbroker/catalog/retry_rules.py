"""Which retry policy holds where, and which names are those of retry and dead-letter topics.

What :mod:`pykbroker.catalog.retrying` asks of a catalog is answered here, once per image.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Final, cast

from pykbroker.catalog.dead_letter_targets import DeadLetterTargets, targets_of
from pykbroker.catalog.image import GROUP, Image, Topic
from pykbroker.catalog.retrying import (
    DEAD_LETTER_TOPIC,
    DELAY_MS,
    DLQ_GROUP,
    EXCHANGE_TYPE,
    HELD_PREFIX,
    MAX_ATTEMPTS,
    MAX_DELAY_MS,
    NO_POLICY,
    POLICY,
    ROLE,
    RetrySettings,
    Role,
    RoleKind,
    role_of,
    sanitised,
)
from pykbroker.config import BrokerConfig, TopicConfig, settings_of, templates
from pykbroker.config.extensions import is_plugin_setting
from pykbroker.errors import ErrorCode, KafkaError

_REMEMBERED: Final = 20_000
"""Answers kept per image; clients may ask for any group."""


class RetryRules:
    """What one image says together with the broker's settings; made once per image."""

    def __init__(self, image: Image, broker: BrokerConfig) -> None:
        self.image = image
        self._broker = broker
        self._known: dict[tuple[str, str], RetrySettings] = {}

    def fits(self, image: Image, broker: BrokerConfig) -> bool:
        """Whether this is about exactly these."""
        return self.image is image and self._broker is broker

    @cached_property
    def by_role(self) -> Mapping[str, Topic]:
        """The retry and dead-letter topics, by the text of their role."""
        return {
            topic.overrides[ROLE]: topic
            for topic in self.image.topics.values()
            if ROLE in topic.overrides and not topic.hidden
        }

    @cached_property
    def any_policy(self) -> bool:
        """Whether a policy other than "none" is set anywhere."""
        return any(values.get(POLICY, NO_POLICY).strip() != NO_POLICY for values in self._everywhere())

    @cached_property
    def groups(self) -> frozenset[str]:
        """The groups that have settings."""
        return frozenset(name for kind, name in self.image.settings if kind == GROUP)

    def settings(self, origin: str, group: str) -> RetrySettings:
        """See :func:`retry_settings`."""
        found = self._known.get((origin, group))
        if found is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            found = self._known[origin, group] = self._settings(origin, group)
        return found

    def eligible(self, name: str) -> bool:
        """Whether failures on a topic of this name may be somebody's business, be it there or not."""
        topic = self.image.topics.get(name)
        if name.startswith("__") or self.is_dead_letter_target(name):
            return False
        return topic is None or not (
            ROLE in topic.overrides or topic.overrides.get(EXCHANGE_TYPE, "").strip()
        )

    def is_dead_letter_target(self, name: str) -> bool:
        """See :func:`is_dead_letter_target`."""
        topic = self.image.topics.get(name)
        role = None if topic is None else role_of(topic)
        if role is not None:
            return role.kind is RoleKind.DEAD_LETTER
        return name in self._targets

    def template(self, kind: RoleKind, origin: str, group: str) -> str:
        """What gives the name of a topic for this role."""
        value = cast(str, self._value(kind.setting, origin, group))
        return value or templates.DEAD_LETTER_TOPIC  # empty means something for exchanges only

    def _settings(self, origin: str, group: str) -> RetrySettings:
        own = {**self._of_topic(origin), **self._of_group(group)}
        in_charge = bool(group) and group != DLQ_GROUP and self.eligible(origin)
        dead_letters = self.template(RoleKind.DEAD_LETTER, origin, group)
        shared = not templates.is_per_group(dead_letters)
        return RetrySettings(
            policy=cast(str, self._value(POLICY, origin, group)) if in_charge else NO_POLICY,
            max_attempts=cast(int, self._value(MAX_ATTEMPTS, origin, group)),
            delay_ms=cast(int, self._value(DELAY_MS, origin, group)),
            max_delay_ms=cast(int, self._value(MAX_DELAY_MS, origin, group)),
            retry_topic=self.name_for(Role(RoleKind.RETRY, origin, group)),
            dead_letter_topic=templates.filled(dead_letters, origin, sanitised(group))
            if shared
            else self.name_for(Role(RoleKind.DEAD_LETTER, origin, group)),
            shared_dead_letter=shared,
            overrides={name: text for name, text in own.items() if is_plugin_setting(name)},
        )

    def name_for(self, role: Role) -> str:
        """The name of the topic that has this role, or would get it."""
        there = self.by_role.get(role.text)
        if there is not None:
            return there.name
        return templates.filled(
            self.template(role.kind, role.origin, role.group), role.origin, sanitised(role.group)
        )

    def _value(self, setting: str, origin: str, group: str) -> object:
        row = settings_of(TopicConfig)[setting]
        for values in (self._of_group(group), self._of_topic(origin)):
            if setting in values:
                return row.parse(values[setting])
        return self._broker.get(setting)

    def _of_group(self, group: str) -> Mapping[str, str]:
        return self.image.settings_of(GROUP, group).values

    def _of_topic(self, name: str) -> Mapping[str, str]:
        topic = self.image.topics.get(name)
        return {} if topic is None else topic.overrides

    def _everywhere(self) -> Iterator[Mapping[str, str]]:
        """The settings of the broker, of all topics, and of all groups."""
        yield {POLICY: self._broker.pykbroker_retry_policy}
        yield from (topic.overrides for topic in self.image.topics.values())
        yield from (self.image.settings_of(GROUP, group).values for group in self.groups)

    @cached_property
    def _targets(self) -> DeadLetterTargets:
        of_groups = (self._of_group(group).get(DEAD_LETTER_TOPIC, "") for group in self.groups)
        everywhere = (self._broker.pykbroker_dead_letter_topic, *of_groups)
        return targets_of(self.image, DEAD_LETTER_TOPIC, everywhere)

    @cached_property
    def ways_of_dead_letters(self) -> Mapping[str, frozenset[str]]:
        """To which topics and exchanges dead letters go, by the topics that they come from: of all flows that
        there are, and of the topics with a policy of their own, whatever group may come."""
        origins = {topic.name for topic in self.image.topics.values() if POLICY in topic.overrides}
        found = {name: self.ways_of(name) for name in (*origins, *self._retried_for)}
        return {name: ways for name, ways in found.items() if ways}

    def ways_of(self, origin: str) -> frozenset[str]:
        """The same for one topic."""
        if not self.eligible(origin):
            return frozenset()
        found = {self._dead_letters_of(role) for role in self._retried_for.get(origin, ())}
        if self._of_topic(origin).get(POLICY, NO_POLICY).strip() != NO_POLICY:
            found.add(self._dead_letter_template(origin, "").replace("{topic}", origin))
        return frozenset(found)

    @cached_property
    def _retried_for(self) -> Mapping[str, Sequence[Role]]:
        """The roles of retry topics, by their origins."""
        found: dict[str, list[Role]] = {}
        for topic in self.by_role.values():
            role = role_of(topic)
            if role is not None and role.kind is RoleKind.RETRY:
                found.setdefault(role.origin, []).append(role)
        return found

    def _dead_letters_of(self, role: Role) -> str:
        """The ``dead_letter_topic`` of :meth:`settings`, of which nothing else is needed here."""
        template = self._dead_letter_template(role.origin, role.group)
        letters = Role(RoleKind.DEAD_LETTER, role.origin, role.group)
        there = self.by_role.get(letters.text) if templates.is_per_group(template) else None
        return templates.filled(template, role.origin, sanitised(role.group)) if there is None else there.name

    def _dead_letter_template(self, origin: str, group: str) -> str:
        """That of :meth:`template`; values were checked when they were set."""
        for values in (self._of_group(group), self._of_topic(origin)):
            if DEAD_LETTER_TOPIC in values:
                return values[DEAD_LETTER_TOPIC].strip() or templates.DEAD_LETTER_TOPIC
        return self._broker.pykbroker_dead_letter_topic or templates.DEAD_LETTER_TOPIC

    @cached_property
    def waited_for(self) -> Mapping[str, Role]:
        """The names of retry and dead-letter topics that are not there, while their flow is.

        Something waits to go there.  An ordinary topic of that name, made because a consumer still asks for
        it, would be in its way for good; whether there is still a policy does not matter.
        """
        found: dict[str, Role] = {}
        for flow in self.image.topics.values():
            role = role_of(flow) if flow.name.startswith(HELD_PREFIX) else None
            if role is None:
                continue
            letters = Role(RoleKind.DEAD_LETTER, role.origin, role.group)
            shared = self.settings(role.origin, role.group).shared_dead_letter
            for own in (role,) if shared else (role, letters):
                if own.text not in self.by_role:
                    found[self.name_for(own)] = own
        return found

    def role_for(self, name: str, known: Collection[str]) -> Role | None:
        """The role that a topic of this name would have, were it made now; None for an ordinary topic.

        ``known`` are the groups that exist.  Raises INVALID_TOPIC_EXCEPTION when two of them would have it,
        or when the group has such a topic under another name.
        """
        if name in self.image.topics:
            return None
        if name in self.waited_for:
            return self.waited_for[name]
        if not self.any_policy:
            return None
        for kind, origin in self._origins(name, self.image.topics):
            role = self._fitting(kind, origin, name, known)
            if role is not None:
                return role
        return None

    def may_have_role(self, name: str, beside: Collection[str] = ()) -> bool:
        """Whether :meth:`role_for` has to know the groups to tell: of nearly all names it has not.

        ``beside`` are topics that may be made together with this one.
        """
        if name in self.waited_for:
            return True
        return self.any_policy and any(
            self._part(kind, origin, name) is not None
            or any(self._wants(kind, origin, group, name) for group in self._apart[kind])
            for kind, origin in self._origins(name, (*self.image.topics, *beside))
        )

    def _origins(self, name: str, topics: Iterable[str]) -> Iterator[tuple[RoleKind, str]]:
        """For what a topic of this name may be made, the longest origin first."""
        origins = [each for each in topics if each in name and each != name]
        for origin in sorted(origins, key=len, reverse=True):
            if self.eligible(origin):
                yield from ((kind, origin) for kind in RoleKind)

    def _part(self, kind: RoleKind, origin: str, name: str) -> str | None:
        """What stands for the group in ``name``, for groups that have no template of their own."""
        template = self.template(kind, origin, "")
        return templates.found(template, origin, name) if templates.is_per_group(template) else None

    @cached_property
    def _apart(self) -> Mapping[RoleKind, Sequence[str]]:
        """The groups that have a template of their own."""
        return {
            kind: [group for group in self.groups if kind.setting in self._of_group(group)]
            for kind in RoleKind
        }

    def _wanting(self, kind: RoleKind, origin: str, name: str, known: Collection[str]) -> list[str]:
        """The groups, ``known`` or with settings, that would have this name.  Does not look at them all:
        there may be many thousands, and whoever asks for a topic that is not there asks again and again."""
        part, found = self._part(kind, origin, name), set(self._apart[kind])
        if part is not None:
            found.update(_by_part(frozenset(known)).get(part, ()), _by_part(self.groups).get(part, ()))
        return [group for group in found if self._wants(kind, origin, group, name)]

    def _fitting(self, kind: RoleKind, origin: str, name: str, known: Collection[str]) -> Role | None:
        groups = self._wanting(kind, origin, name, known)
        if not groups:
            text = self._part(kind, origin, name)
            # Nobody is known by it: it is the group's own id, if that is what would get this name.
            groups = [] if text is None or not self._wants(kind, origin, text, name) else [text]
        in_charge = sorted(g for g in groups if self.settings(origin, g).policy != NO_POLICY)
        if len(in_charge) > 1:
            raise _two(kind, origin, name, in_charge[:2])
        if not in_charge:
            return None
        role = Role(kind, origin, in_charge[0])
        if (there := self.by_role.get(role.text)) is not None:
            raise KafkaError(
                ErrorCode.INVALID_TOPIC_EXCEPTION,
                f"the {kind.words} of group {role.group!r} on {origin} is {there.name}: it keeps its name "
                f"while it is there, whatever {kind.setting} says since",
            )
        return role

    def check_alone(self, role: Role, known: Collection[str]) -> None:
        """Raise INVALID_TOPIC_EXCEPTION if another one of the ``known`` groups would have the same topic,
        which is not there yet."""
        if role.text in self.by_role:
            return
        name = self.name_for(role)
        for group in self._wanting(role.kind, role.origin, name, known):
            if group != role.group and self.settings(role.origin, group).policy != NO_POLICY:
                raise _two(role.kind, role.origin, name, [role.group, group])

    def _wants(self, kind: RoleKind, origin: str, group: str, name: str) -> bool:
        template = self.template(kind, origin, group)
        return templates.is_per_group(template) and (
            templates.filled(template, origin, sanitised(group)) == name
        )


@lru_cache(maxsize=4)
def _by_part(groups: frozenset[str]) -> Mapping[str, Sequence[str]]:
    """The groups by what stands for them in names of topics."""
    found: dict[str, list[str]] = {}
    for group in groups:
        found.setdefault(sanitised(group), []).append(group)
    return found


def _two(kind: RoleKind, origin: str, name: str, groups: Sequence[str]) -> KafkaError:
    return KafkaError(
        ErrorCode.INVALID_TOPIC_EXCEPTION,
        f"{name} would be the {kind.words} of the groups {groups[0]!r} and {groups[1]!r} on {origin}: give "
        f"one of the groups another {kind.setting}",
    )
