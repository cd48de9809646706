"""The headers that failed deliveries carry: read, written, taken off, without touching key and value.

Written by the broker, each once, whatever a record came with: :data:`SOURCE` (the place that the record
came from, ``topic/partition/offset``, or ``topic`` alone where the consumer did not say it), the group,
the number of failures, the times of the first and the last, the policy that decided, the reason.  Dead
letters also have those of KIP-1191, under Kafka's names.  Numbers are decimals, all values UTF-8.

A record that comes with them is believed if its source's topic and its group are those of the retry
topic that it came to; of several with one name the last counts, for clients add theirs behind what came.
Only the reason is read from anybody.  A value that makes no sense counts as missing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from pykbroker.forwarding.copying import Source

if TYPE_CHECKING:
    from pykbroker.catalog.retrying import Role

SOURCE: Final = "pykbroker-source"
GROUP: Final = "pykbroker-group"
ATTEMPT: Final = "pykbroker-attempt"
FIRST_FAILURE_MS: Final = "pykbroker-first-failure-ms"
LAST_FAILURE_MS: Final = "pykbroker-last-failure-ms"
POLICY: Final = "pykbroker-policy"
REASON: Final = "pykbroker-reason"

DLQ_PREFIX: Final = "__dlq.errors."
"""Headers of dead letters begin like this; all that do are replaced, those of later Kafkas too."""
DLQ_TOPIC: Final = "__dlq.errors.topic"
DLQ_PARTITION: Final = "__dlq.errors.partition"
DLQ_OFFSET: Final = "__dlq.errors.offset"
DLQ_GROUP: Final = "__dlq.errors.group"
DLQ_DELIVERY_COUNT: Final = "__dlq.errors.delivery.count"
DLQ_MESSAGE: Final = "__dlq.errors.message"

OURS: Final = frozenset({SOURCE, GROUP, ATTEMPT, FIRST_FAILURE_MS, LAST_FAILURE_MS, POLICY, REASON})

REASON_BYTES: Final = 4096
"""What is kept of a reason: as much as commit metadata may hold."""

Header = tuple[str, bytes | None]


class Origin(NamedTuple):
    """Where a record came from; partition and offset are None where the consumer did not say."""

    topic: str
    partition: int | None = None
    offset: int | None = None

    @property
    def text(self) -> str:
        """As the header :data:`SOURCE` says it."""
        raise NotImplementedError

    @classmethod
    def parse(cls, text: str) -> Origin | None:
        """The place that a header names; None if it names none."""
        raise NotImplementedError


class History(NamedTuple):
    """What a record says of its earlier failures; without any, ``attempt`` is 0 and both times None."""

    origin: Origin | None
    attempt: int
    first_failure_ms: int | None
    last_failure_ms: int | None
    reason: str


class Failure(NamedTuple):
    """One failure with its count, as headers say it."""

    origin: Origin
    group: str
    attempt: int
    first_failure_ms: int
    last_failure_ms: int
    policy: str
    reason: str


class Nack(NamedTuple):
    """What all records of one move of nacked records have in common: the ``topic`` and ``partition``
    that they lie in, and whether that is the group's retry topic (``returned``) or the origin."""

    returned: bool
    topic: str
    partition: int
    group: str
    reason: str

    def encode(self) -> bytes:
        """As the note of a move."""
        raise NotImplementedError

    @classmethod
    def decode(cls, note: bytes) -> Nack:
        """The nack that :meth:`encode` wrote.  Raises ValueError."""
        raise NotImplementedError


def history(record: Source, role: Role) -> History:
    """What a record in the flow of ``role`` says of its earlier failures, as far as it is believed."""
    raise NotImplementedError


def rewritten(record: Source, drop: Callable[[str], bool], add: Sequence[Header]) -> Source:
    """``record`` without the headers that ``drop`` names, and with those of ``add`` behind the rest."""
    raise NotImplementedError


def retried(record: Source, failure: Failure) -> Source:
    """``record`` as it returns in the retry topic."""
    raise NotImplementedError


def dead_lettered(record: Source, failure: Failure, more: Sequence[Header] = ()) -> Source:
    """``record`` as a dead letter; ``more`` are a policy's headers, which replace those of their name."""
    raise NotImplementedError


def suffix(record: Source) -> bytes:
    """Key, value and headers as they lie in a batch (see :class:`~pykbroker.forwarding.copying.Copier`)."""
    raise NotImplementedError


def nacked_suffix(record: Source, note: bytes) -> bytes:
    """The copy of a nacked record for the flow's log of arrivals; ``note`` is a :class:`Nack`, encoded.

    From the origin it is a first failure, whatever headers it has: they are dropped, and source, group
    and reason are added.  From the retry topic it keeps its headers, with the reason replaced.
    """
    raise NotImplementedError


def replayed_suffix(record: Source) -> bytes:
    """The copy of a dead letter that goes back: as it was produced, so that it counts from 1 again."""
    raise NotImplementedError
