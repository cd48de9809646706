"""The image: everything that exists, as one immutable value.

A reader takes ``catalog.image`` once and works with it; what changes meanwhile is in another image.
Every object in it has a version that rises with each change, which is what a proposal names.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pykbroker.catalog.exchange import Exchange
from pykbroker.config import Endpoint
from pykbroker.protocol.schema import ZERO_UUID

CONSUMER_OFFSETS = "__consumer_offsets"
TRANSACTION_STATE = "__transaction_state"
INTERNAL = frozenset({CONSUMER_OFFSETS, TRANSACTION_STATE})
"""Topics that Metadata marks as internal, as Kafka does."""

HIDDEN_PREFIX = "__pykbroker_"
"""Topics of the broker itself: left out of Metadata, made and deleted by the broker only."""

TOPIC, BROKER, GROUP = 2, 4, 32
"""Types of config resources, as the protocol numbers them."""

_RESERVED_IDS = frozenset({ZERO_UUID, ZERO_UUID[:-1] + b"\x01"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionState:
    """Who keeps one partition.  ``leader`` is -1 when there is none; ``partition_epoch`` is the
    version of this object, ``leader_epoch`` rises with each election."""

    index: int
    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    leader: int
    leader_epoch: int = 0
    partition_epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One topic; ``partitions[i].index == i``.  ``overrides`` are its own settings, as text.

    ``version`` counts changes of the partition count, ``config_version`` those of the settings.
    """

    name: str
    topic_id: bytes
    partitions: tuple[PartitionState, ...]
    overrides: Mapping[str, str] = field(default_factory=dict)
    version: int = 0
    config_version: int = 0

    @property
    def internal(self) -> bool:
        """Whether Metadata says ``is_internal``."""
        return self.name in INTERNAL or self.hidden

    @property
    def hidden(self) -> bool:
        """Whether clients are not shown this topic."""
        return self.name.startswith(HIDDEN_PREFIX)


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerInfo:
    """A registered broker and where clients reach it."""

    node_id: int
    endpoints: tuple[Endpoint, ...]
    rack: str | None = None
    version: int = 0

    def endpoint(self, listener: str) -> Endpoint | None:
        """Where those who came by ``listener`` reach it, if they do; "" means its first endpoint."""
        if not listener:
            return self.endpoints[0] if self.endpoints else None
        return next((endpoint for endpoint in self.endpoints if endpoint.name == listener), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings altered at run time for one broker, all brokers, or one group."""

    values: Mapping[str, str]
    version: int


_NO_SETTINGS = Settings(values={}, version=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """Everything that exists.  ``version`` is the number of changes that led to it.

    ``settings`` is keyed by (config resource type, name); a topic's settings are in the topic.
    ``exchanges`` has what the topics that are exchanges are bound to, and for a while those deleted.
    """

    cluster_id: str
    version: int = 0
    topics: Mapping[str, Topic] = field(default_factory=dict)
    names_by_id: Mapping[bytes, str] = field(default_factory=dict)
    brokers: Mapping[int, BrokerInfo] = field(default_factory=dict)
    settings: Mapping[tuple[int, str], Settings] = field(default_factory=dict)
    next_producer_id: int = 0
    exchanges: Mapping[str, Exchange] = field(default_factory=dict)

    def topic_by_id(self, topic_id: bytes) -> Topic | None:
        """The topic with this id, if there is one."""
        name = self.names_by_id.get(topic_id)
        return None if name is None else self.topics[name]

    def partition(self, topic: str, index: int) -> PartitionState | None:
        """One partition, if it exists."""
        found = self.topics.get(topic)
        if found is None or not 0 <= index < len(found.partitions):
            return None
        return found.partitions[index]

    def visible_topics(self) -> Iterator[Topic]:
        """The topics that clients are shown, in order of creation."""
        return (topic for topic in self.topics.values() if not topic.hidden)

    def exchange(self, name: str) -> Exchange | None:
        """The exchange of this name, if there is one now."""
        found = self.exchanges.get(name)
        return None if found is None or found.kind is None else found

    def settings_of(self, resource_type: int, name: str) -> Settings:
        """What was altered for this broker ("" for all brokers) or group; empty when nothing was."""
        return self.settings.get((resource_type, name), _NO_SETTINGS)


def new_topic_id() -> bytes:
    """A random topic id: none that Kafka reserves, and none whose text starts with ``-``, which
    command lines would take for an option (as Kafka's own ids)."""
    while True:
        topic_id = _random_uuid()
        if topic_id not in _RESERVED_IDS and not topic_id_text(topic_id).startswith("-"):
            return topic_id


def _random_uuid() -> bytes:
    raw = bytearray(secrets.token_bytes(16))
    raw[6] = raw[6] & 0x0F | 0x40  # version 4
    raw[8] = raw[8] & 0x3F | 0x80  # the variant of RFC 9562
    return bytes(raw)


def topic_id_text(topic_id: bytes) -> str:
    """The 22 characters that Kafka's tools show for an id."""
    return base64.urlsafe_b64encode(topic_id).rstrip(b"=").decode()


def topic_id_bytes(text: str) -> bytes:
    """The reverse of :func:`topic_id_text`; ValueError if it is not one."""
    raw = base64.urlsafe_b64decode(text + "==")
    if len(raw) != 16:
        raise ValueError(f"not a topic id: {text!r}, expected 22 characters of base64url")
    return raw
