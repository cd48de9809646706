"""What event hooks are told: one frozen object each.  Times in ms, sizes in bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordsAppended:
    """A batch has been written.  ``client_id`` is None where the broker itself wrote it; ``size`` is
    that of the batch, ``timestamp_ms`` the highest of its records."""

    topic: str
    partition: int
    base_offset: int
    last_offset: int
    size: int
    timestamp_ms: int
    client_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicChanged:
    """A topic was ``created``, ``deleted``, ``grown`` (more partitions) or ``altered`` (settings).

    ``partitions`` and ``settings`` (its own, as text) are those after it, for a deletion the last."""

    change: str
    topic: str
    topic_id: bytes
    partitions: int
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionChanged:
    """A client's connection was ``opened`` or ``closed``.  ``client_id`` is what its last request said,
    None before the first; ``requests`` counts them; ``reason`` says why it was closed."""

    change: str
    connection_id: int
    client_host: str
    client_id: str | None = None
    requests: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupChanged:
    """A consumer group went from one state to another (Kafka's names: Empty, PreparingRebalance,
    CompletingRebalance, Stable, Dead)."""

    group: str
    before: str
    after: str
    generation: int
    members: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordUnroutable:
    """A record reached an exchange and nothing matched, no alternate either.  ``offset`` is its place in
    the exchange; -1 for one that was refused at the door."""

    exchange: str
    partition: int
    offset: int
    routing_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRetried:
    """A record that ``group`` could not process is going to be readable in ``retry_topic`` at
    ``due_ms``.

    ``topic``, ``partition`` and ``offset`` are those it came from; partition and offset are None where
    the consumer did not say.  ``attempt`` counts its failures (1: the first), ``reason`` is what the
    consumer said, ``policy`` who decided."""

    topic: str
    partition: int | None
    offset: int | None
    group: str
    attempt: int
    reason: str
    policy: str
    retry_topic: str
    due_ms: int
    first_failure_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordDeadLettered:
    """A record that ``group`` could not process has become a dead letter in ``dead_letter_topic``, or,
    where that is None, has been discarded because the policy said so.  The rest as in
    :class:`RecordRetried`."""

    topic: str
    partition: int | None
    offset: int | None
    group: str
    attempt: int
    reason: str
    policy: str
    dead_letter_topic: str | None
    first_failure_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordReplayed:
    """A dead letter, ``offset`` in ``partition`` of ``dead_letter_topic``, goes to ``destination`` at
    ``due_ms``."""

    dead_letter_topic: str
    partition: int
    offset: int
    destination: str
    due_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NackSkipped:
    """A consumer group nacked offsets that no longer exist: below the start of the log, compacted away,
    or never records of a client.  ``offsets`` are ranges, first and last included."""

    topic: str
    partition: int
    group: str
    offsets: Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerStarted:
    """The broker listens."""

    bootstrap: str
    listeners: Sequence[str]
    node_id: int
    cluster_id: str
    data_dir: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerStopping:
    """The broker takes no more connections and is about to flush and end."""

    bootstrap: str
