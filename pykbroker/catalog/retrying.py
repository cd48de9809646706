"""Failed deliveries in the catalog: roles, flows, and which settings hold for a group on a topic.

A *role* is what a retry or dead-letter topic is for: its kind, the ordinary topic (the *origin*) and the
group.  A *flow* is the two hidden topics behind a retry topic, or behind one that delays; its id is
made of the role, so that a retry topic that is made again takes over what waits, or is the id of the
topic that delays.  Everything here is a function of an image and the broker's settings.

A role has one topic at most.  It keeps its name when a template is altered: another one holds for what is
made from then on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from pykbroker.catalog.image import HIDDEN_PREFIX, Topic, topic_id_bytes, topic_id_text

if TYPE_CHECKING:
    from pykbroker.catalog.catalog import Catalog

ROLE: Final = "pykbroker.role"
POLICY: Final = "pykbroker.retry.policy"
MAX_ATTEMPTS: Final = "pykbroker.retry.max.attempts"
DELAY_MS: Final = "pykbroker.retry.delay.ms"
MAX_DELAY_MS: Final = "pykbroker.retry.max.delay.ms"
RETRY_TOPIC: Final = "pykbroker.retry.topic"
DEAD_LETTER_TOPIC: Final = "pykbroker.dead.letter.topic"
DELAY_ENABLE: Final = "pykbroker.delay.enable"
EXCHANGE_TYPE: Final = "pykbroker.exchange.type"

DELIVERY_SETTINGS: Final = (POLICY, MAX_ATTEMPTS, DELAY_MS, MAX_DELAY_MS, RETRY_TOPIC, DEAD_LETTER_TOPIC)
"""What topic, group and broker have under the same names."""

NO_POLICY: Final = "none"

DELAYED_PREFIX: Final = HIDDEN_PREFIX + "delayed_"
HELD_PREFIX: Final = HIDDEN_PREFIX + "held_"
REPLAY_TOPIC: Final = HIDDEN_PREFIX + "replay"
"""Held records that are dead letters on their way back; it has no topic in front of it."""
HELD_LOGS: Final = (HELD_PREFIX, REPLAY_TOPIC)
"""How logs are called of which what is released goes: offsets may be missing in them."""
DLQ_GROUP: Final = "pykbroker.dlq"
"""The reserved group whose commits on dead-letter topics replay and purge."""

_UNFIT = re.compile(r"[^A-Za-z0-9._-]")


class RoleKind(StrEnum):
    """What a topic with a role is for."""

    RETRY = "retry"
    DEAD_LETTER = "dlq"

    @property
    def setting(self) -> str:
        """The setting with the template of such topics' names."""
        return RETRY_TOPIC if self is RoleKind.RETRY else DEAD_LETTER_TOPIC

    @property
    def words(self) -> str:
        """What to call such a topic."""
        return "retry topic" if self is RoleKind.RETRY else "dead-letter topic"


@dataclass(frozen=True, slots=True)
class Role:
    """Which failures a topic is for: those of ``group`` on the topic ``origin``."""

    kind: RoleKind
    origin: str
    group: str

    @property
    def text(self) -> str:
        """The value of ``pykbroker.role``; names of topics have no colon, ids of groups may."""
        return f"{self.kind}:{self.origin}:{self.group}"

    @classmethod
    def parse(cls, text: str) -> Role | None:
        """The reverse of :attr:`text`; None if it is none."""
        kind, _, rest = text.partition(":")
        origin, _, group = rest.partition(":")
        if kind not in RoleKind.__members__.values() or not origin or not group:
            return None
        return cls(RoleKind(kind), origin, group)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySettings:
    """What holds for the failures of one group on one topic; times in ms.

    ``policy`` is "none" where there is none.  ``retry_topic`` and ``dead_letter_topic`` are names: of the
    topic that has the role, if there is one, else what the template gives; whether they can be had is
    seen when they are made.  ``shared_dead_letter``: other topics or groups may use it, so it has no
    role.  ``overrides`` are plugins' settings, the group's before the topic's.
    """

    policy: str
    max_attempts: int
    delay_ms: int
    max_delay_ms: int
    retry_topic: str
    dead_letter_topic: str
    shared_dead_letter: bool
    overrides: Mapping[str, str]


def role_of(topic: Topic) -> Role | None:
    """The role of a topic; a hidden topic of a retry topic's flow has that topic's role."""
    text = topic.overrides.get(ROLE)
    return None if text is None else Role.parse(text)


def sanitised(group: str) -> str:
    """The group's id with ``_`` for whatever the name of a topic may not have."""
    return _UNFIT.sub("_", group)


def retry_settings(catalog: Catalog, origin: str, group: str) -> RetrySettings:
    """What holds for ``group`` on ``origin``, also when that topic is gone (then group and broker say).

    Cheap to call often: answers are remembered until the image changes.
    """
    return catalog.retrying.settings(origin, group)


def is_dead_letter_target(catalog: Catalog, name: str) -> bool:
    """Whether dead letters go to this topic: it has the role, or some setting names it."""
    return catalog.retrying.is_dead_letter_target(name)


def any_policy(catalog: Catalog) -> bool:
    """Whether a policy other than "none" is set anywhere.  Remembered like the settings."""
    return catalog.retrying.any_policy


def flow_of(topic: Topic) -> bytes | None:
    """The id of the flow behind ``topic`` (16 bytes); None if it has none, and for hidden topics."""
    if topic.hidden:
        return None
    if topic.overrides.get(DELAY_ENABLE, "").strip().lower() == "true":
        return topic.topic_id
    role = role_of(topic)
    return flow_of_role(role) if role is not None and role.kind is RoleKind.RETRY else None


def flow_of_role(role: Role) -> bytes:
    """The id of the flow of a retry topic."""
    return hashlib.blake2b(role.text.encode(), digest_size=16).digest()


def delayed_name(flow_id: bytes) -> str:
    """The hidden topic to which Produce and nacks append."""
    return DELAYED_PREFIX + topic_id_text(flow_id)


def held_name(flow_id: bytes) -> str:
    """The hidden topic in which records lie until they are due."""
    return HELD_PREFIX + topic_id_text(flow_id)


def flow_id_of(name: str) -> bytes | None:
    """The flow to which a hidden topic of this name belongs, if any."""
    for prefix in (DELAYED_PREFIX, HELD_PREFIX):
        if name.startswith(prefix):
            return topic_id_bytes(name.removeprefix(prefix))
    return None
