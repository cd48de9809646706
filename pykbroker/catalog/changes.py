"""The changes a proposal is made of, and their form in the catalog's log (JSON).

Each change names the version of the object that it was decided on; a change whose object has moved on
raises :class:`Conflict` and nothing of its proposal happens.  Fields may be added to a record; a
reader ignores those it does not know, and refuses a ``type`` that it does not know.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pykbroker.catalog.exchange import Boundaries, Exchange, ExchangeVersion
from pykbroker.catalog.forms import (
    binding_fields,
    bindings_from,
    boundaries_from,
    boundary_fields,
    state_fields,
    state_from,
)
from pykbroker.catalog.image import PartitionState, topic_id_bytes, topic_id_text
from pykbroker.components import Binding
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
class SetExchange:
    """A new version of the exchange whose last one is number ``version`` (0: there is none yet).

    ``kind`` is its type, None when it is deleted.  Its bindings are the last ones without ``unbind`` and
    with ``bind``, or with ``replace`` just ``bind``: so binding one topic more is a small record however
    many are bound.  Versions below number ``keep`` are forgotten.
    """

    name: str
    version: int
    kind: str | None
    bind: tuple[Binding, ...] = ()
    unbind: tuple[Binding, ...] = ()
    replace: bool = False
    alternate: str | None = None
    boundaries: Boundaries = field(default_factory=dict)
    keep: int = 0

    def applied_to(self, known: Exchange | None) -> ExchangeVersion:
        """The version that this adds to ``known``."""
        was: tuple[Binding, ...] = () if known is None or self.replace else known.bindings
        unbound = frozenset(self.unbind)
        bound = dict.fromkeys((*(each for each in was if each not in unbound), *self.bind))
        return ExchangeVersion(
            number=self.version + 1,
            kind=self.kind,
            bindings=tuple(bound) if self.kind is not None else (),
            alternate=self.alternate,
            boundaries=self.boundaries,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetExchange:
    """Nothing needs a deleted exchange any more; ``version`` is its last one."""

    name: str
    version: int


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
    | SetExchange
    | ForgetExchange
    | SetSettings
    | RegisterBroker
    | Elect
    | TakeProducerIds
)


def encode(change: Change) -> bytes:
    """The record value of a change; raises :class:`ObjectTooLarge`."""
    return encode_object(_NAMES[type(change)], to_fields(change))


def encode_object(kind: str, fields: Mapping[str, object]) -> bytes:
    """A record value: JSON on one line; raises :class:`ObjectTooLarge`."""
    data = json.dumps({"type": kind, **fields}, separators=(",", ":"), ensure_ascii=False).encode()
    if len(data) > MAX_OBJECT_BYTES:
        raise ObjectTooLarge(f"{kind} takes {len(data)} bytes, allowed: {MAX_OBJECT_BYTES}")
    return data


def to_fields(change: Change) -> dict[str, object]:
    """The fields of a change as JSON values."""
    match change:
        case CreateTopic():
            return {
                "name": change.name,
                "id": topic_id_text(change.topic_id),
                "replicas": _runs(change.replicas),
                "configs": dict(change.overrides),
            }
        case DeleteTopic():
            return {"name": change.name, "id": topic_id_text(change.topic_id)}
        case AddPartitions():
            return {"name": change.name, "version": change.version, "replicas": _runs(change.replicas)}
        case SetPartition():
            return {"name": change.name, "version": change.version, "state": state_fields(change.state)}
        case SetTopicConfig():
            return {"name": change.name, "version": change.version, "configs": dict(change.overrides)}
        case SetExchange():
            return {
                "name": change.name,
                "version": change.version,
                "kind": change.kind,
                "bind": binding_fields(change.bind),
                "unbind": binding_fields(change.unbind),
                "replace": change.replace,
                "alternate": change.alternate,
                "boundaries": boundary_fields(change.boundaries),
                "keep": change.keep,
            }
        case ForgetExchange():
            return {"name": change.name, "version": change.version}
        case SetSettings():
            return {
                "resource": change.resource_type,
                "name": change.name,
                "version": change.version,
                "configs": dict(change.values),
            }
        case RegisterBroker():
            endpoints = [[e.name, e.host, e.port] for e in change.endpoints]
            return {"node": change.node_id, "endpoints": endpoints, "rack": change.rack}
        case Elect():
            return {"node": change.node_id}
        case TakeProducerIds():
            return {"first": change.first, "count": change.count}


def decode(data: bytes | memoryview) -> Change:
    """The change in a record value; ValueError if it is none that we know."""
    entry = json.loads(bytes(data))
    return from_fields(entry["type"], entry)


# Any: JSON has no types; a field of the wrong one is a damaged record and raises where it is used.
def from_fields(kind: str, entry: Mapping[str, Any]) -> Change:
    """The change of type ``kind`` with these fields; ValueError if there is no such type."""
    match kind:
        case "create_topic":
            return CreateTopic(
                name=entry["name"],
                topic_id=topic_id_bytes(entry["id"]),
                replicas=_from_runs(entry["replicas"]),
                overrides=entry["configs"],
            )
        case "delete_topic":
            return DeleteTopic(name=entry["name"], topic_id=topic_id_bytes(entry["id"]))
        case "add_partitions":
            replicas = _from_runs(entry["replicas"])
            return AddPartitions(name=entry["name"], version=entry["version"], replicas=replicas)
        case "set_partition":
            state = state_from(entry["state"])
            return SetPartition(name=entry["name"], version=entry["version"], state=state)
        case "set_topic_config":
            return SetTopicConfig(name=entry["name"], version=entry["version"], overrides=entry["configs"])
        case "set_exchange":
            return SetExchange(
                name=entry["name"],
                version=entry["version"],
                kind=entry["kind"],
                bind=bindings_from(entry["bind"]),
                unbind=bindings_from(entry["unbind"]),
                replace=entry["replace"],
                alternate=entry["alternate"],
                boundaries=boundaries_from(entry["boundaries"]),
                keep=entry["keep"],
            )
        case "forget_exchange":
            return ForgetExchange(name=entry["name"], version=entry["version"])
        case "set_settings":
            return SetSettings(
                resource_type=entry["resource"],
                name=entry["name"],
                version=entry["version"],
                values=entry["configs"],
            )
        case "register_broker":
            endpoints = tuple(Endpoint(*parts) for parts in entry["endpoints"])
            return RegisterBroker(node_id=entry["node"], endpoints=endpoints, rack=entry["rack"])
        case "elect":
            return Elect(node_id=entry["node"])
        case "take_producer_ids":
            return TakeProducerIds(first=entry["first"], count=entry["count"])
    raise ValueError(f"unknown type of catalog record: {kind!r}, known: {', '.join(_NAMES.values())}")


_NAMES: dict[type, str] = {
    CreateTopic: "create_topic",
    DeleteTopic: "delete_topic",
    AddPartitions: "add_partitions",
    SetPartition: "set_partition",
    SetTopicConfig: "set_topic_config",
    SetExchange: "set_exchange",
    ForgetExchange: "forget_exchange",
    SetSettings: "set_settings",
    RegisterBroker: "register_broker",
    Elect: "elect",
    TakeProducerIds: "take_producer_ids",
}


def _runs(replicas: Sequence[tuple[int, ...]]) -> list[list[object]]:
    """Equal neighbours counted once, so that ten thousand partitions on one broker are one entry."""
    return [[len(list(group)), list(nodes)] for nodes, group in itertools.groupby(replicas)]


def _from_runs(runs: Sequence[Any]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(nodes) for count, nodes in runs for _ in range(count))
