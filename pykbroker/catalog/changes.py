"""The changes a proposal is made of, and their form in the catalog's log (JSON).

Each change names the version of the object that it was decided on; a change whose object has moved on
raises :class:`Conflict` and nothing of its proposal happens.  Fields may be added to a record; a
reader ignores those it does not know, and refuses a ``type`` that it does not know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from pykbroker.catalog.image import PartitionState
from pykbroker.config import Endpoint

MAX_OBJECT_BYTES = 1_000_000
"""Ceiling of one encoded object: what a ZooKeeper node holds (1 MiB with its own overhead)."""


class Conflict(Exception):
    """A proposal was decided on an object that is no longer what it was."""

    def __init__(self, what: str, expected: object, found: object) -> None:
        super().__init__(f"{what}: expected {expected}, found {found}")


class ObjectTooLarge(Exception):
    """A change would make an object larger than :data:`MAX_OBJECT_BYTES`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTopic:
    """A new topic; ``replicas`` per partition, the first of each leads."""

    name: str
    topic_id: bytes
    replicas: tuple[tuple[int, ...], ...]
    overrides: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteTopic:
    """The end of a topic with all its partitions and settings."""

    name: str
    topic_id: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AddPartitions:
    """More partitions behind the last; ``version`` is the topic's."""

    name: str
    version: int
    replicas: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPartition:
    """Another state of a partition whose ``partition_epoch`` is ``version``; the new state's own
    partition epoch is set by the catalog."""

    name: str
    version: int
    state: PartitionState


@dataclass(frozen=True, slots=True, kw_only=True)
class SetTopicConfig:
    """All settings of a topic whose ``config_version`` is ``version``."""

    name: str
    version: int
    overrides: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetSettings:
    """All settings of a broker, of all brokers (name "") or of a group, altered at run time."""

    resource_type: int
    name: str
    version: int
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterBroker:
    """A broker is there, and clients reach it at these endpoints."""

    node_id: int
    endpoints: tuple[Endpoint, ...]
    rack: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Elect:
    """A broker leads again what it led: the leader epoch of all those partitions rises by one.

    One small record however many partitions there are: it is what a start after an unclean stop
    writes.
    """

    node_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeProducerIds:
    """A block of producer ids, from ``first`` (which must be the next free one)."""

    first: int
    count: int


Change = (
    CreateTopic
    | DeleteTopic
    | AddPartitions
    | SetPartition
    | SetTopicConfig
    | SetSettings
    | RegisterBroker
    | Elect
    | TakeProducerIds
)


def encode(change: Change) -> bytes:
    """The record value of a change; raises :class:`ObjectTooLarge`."""
    raise NotImplementedError


def decode(data: bytes | memoryview) -> Change:
    """The change in a record value; ValueError if it is none that we know."""
    raise NotImplementedError


_ = json
