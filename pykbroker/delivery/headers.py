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

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from pykbroker.forwarding.copying import Source
from pykbroker.records.varint import append_varint, read_varint

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

INT_MAX: Final = 2**31 - 1
LONG_MAX: Final = 2**63 - 1

Header = tuple[str, bytes | None]


class Origin(NamedTuple):
    """Where a record came from; partition and offset are None where the consumer did not say."""

    topic: str
    partition: int | None = None
    offset: int | None = None

    @property
    def text(self) -> str:
        """As the header :data:`SOURCE` says it."""
        if self.partition is None:
            return self.topic
        return f"{self.topic}/{self.partition}/{self.offset}"

    @classmethod
    def parse(cls, value: bytes | None) -> Origin | None:
        """The place that a header names; None if it names none."""
        topic, *place = (value or b"").split(b"/")
        if not topic.isascii() or not topic:
            return None
        if not place:
            return cls(topic.decode())
        if len(place) != 2:
            return None
        partition, offset = _number(place[0], INT_MAX), _number(place[1], LONG_MAX)
        return None if partition is None or offset is None else cls(topic.decode(), partition, offset)


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
        return json.dumps(self, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, note: bytes) -> Nack:
        """The nack that :meth:`encode` wrote.  Raises ValueError."""
        match json.loads(note):
            case [bool(returned), str(topic), int(partition), str(group), str(reason)]:
                return cls(returned, topic, partition, group, reason)
        raise ValueError(f"no note of a nack: {note!r:.200}")


# Reading


def history(record: Source, role: Role) -> History:
    """What a record in the flow of ``role`` says of its earlier failures, as far as it is believed."""
    found = {name: value for name, value in record.headers if name in OURS}
    if not found:
        return History(None, 0, None, None, "")
    reason = reason_text(found.get(REASON) or b"")
    origin = Origin.parse(found.get(SOURCE))
    if origin is None or origin.topic != role.origin or found.get(GROUP) != _utf8(role.group):
        return History(None, 0, None, None, reason)
    attempt = _number(found.get(ATTEMPT), INT_MAX) or 0
    if not attempt:
        return History(origin, 0, None, None, reason)
    first, last = (_number(found.get(name), LONG_MAX) for name in (FIRST_FAILURE_MS, LAST_FAILURE_MS))
    return History(origin, attempt, last if first is None else first, first if last is None else last, reason)


def reason_text(value: bytes) -> str:
    """A reason as it is kept: text, whatever it was, of at most :data:`REASON_BYTES`."""
    text = value[:REASON_BYTES].decode("utf-8", "replace")
    # What replaces a byte that is no UTF-8 is longer than the byte.
    return text.encode()[:REASON_BYTES].decode("utf-8", "ignore")


def is_ours(name: str) -> bool:
    """Whether a header of this name is one that the broker writes on a failed delivery."""
    return name in OURS or name.startswith(DLQ_PREFIX)


def _number(value: bytes | None, limit: int) -> int | None:
    """A decimal from 0 to ``limit``; None for all else.  (``int`` would take blanks, signs and ``_``.)"""
    if value is None or not 0 < len(value) < 20 or not value.isdigit():
        return None
    number = int(value)
    return number if number <= limit else None


# Writing


def rewritten(record: Source, drop: Callable[[str], bool], add: Sequence[Header]) -> Source:
    """``record`` without the headers that ``drop`` names, and with those of ``add`` behind the rest."""
    tail, at, kept = record.tail, 0, 0
    out = bytearray()
    for _ in range(record.header_count):
        start = at
        length, at = read_varint(tail, at)
        name = tail[at : at + length].decode("utf-8", "surrogateescape")
        length, at = read_varint(tail, at + length)
        at += max(length, 0)
        if not drop(name):
            out += tail[start:at]
            kept += 1
    for name, value in add:
        encoded = _utf8(name)
        append_varint(out, len(encoded))
        out += encoded
        append_varint(out, -1 if value is None else len(value))
        out += value or b""
    return record._replace(
        headers=(*(header for header in record.headers if not drop(header[0])), *add),
        tail=bytes(out),
        header_count=kept + len(add),
    )


def retried(record: Source, failure: Failure) -> Source:
    """``record`` as it returns in the retry topic."""
    return rewritten(record, is_ours, _written(failure))


def dead_lettered(record: Source, failure: Failure, more: Sequence[Header] = ()) -> Source:
    """``record`` as a dead letter; ``more`` are a policy's headers, which replace those of their name."""
    named = {name for name, _ in more}
    topic, partition, offset = failure.origin
    letter: list[Header] = [(DLQ_TOPIC, _utf8(topic))]
    if partition is not None:
        letter += [(DLQ_PARTITION, b"%d" % partition), (DLQ_OFFSET, b"%d" % (offset or 0))]
    letter += [(DLQ_GROUP, _utf8(failure.group)), (DLQ_DELIVERY_COUNT, b"%d" % failure.attempt)]
    if failure.reason:
        letter.append((DLQ_MESSAGE, _utf8(failure.reason)))
    drop = is_ours if not named else lambda name: name in named or is_ours(name)
    return rewritten(record, drop, [*_written(failure), *letter, *more])


def _written(failure: Failure) -> list[Header]:
    written: list[Header] = [
        (SOURCE, _utf8(failure.origin.text)),
        (GROUP, _utf8(failure.group)),
        (ATTEMPT, b"%d" % failure.attempt),
        (FIRST_FAILURE_MS, b"%d" % failure.first_failure_ms),
        (LAST_FAILURE_MS, b"%d" % failure.last_failure_ms),
        (POLICY, _utf8(failure.policy)),
    ]
    if failure.reason:
        written.append((REASON, _utf8(failure.reason)))
    return written


def suffix(record: Source) -> bytes:
    """Key, value and headers as they lie in a batch (see :class:`~pykbroker.forwarding.copying.Copier`)."""
    out = bytearray(record.body)
    append_varint(out, record.header_count)
    out += record.tail
    return bytes(out)


def nacked_suffix(record: Source, note: bytes) -> bytes:
    """The copy of a nacked record for the flow's log of arrivals; ``note`` is a :class:`Nack`, encoded.

    From the origin it is a first failure, whatever headers it has: they are dropped, and source, group
    and reason are added.  From the retry topic it keeps its headers, with the reason replaced.
    """
    nack = _nack(note)
    reason: list[Header] = [(REASON, _utf8(nack.reason))] if nack.reason else []
    if nack.returned:
        return suffix(rewritten(record, REASON.__eq__, reason))
    origin = Origin(nack.topic, nack.partition, record.offset)
    added: list[Header] = [(SOURCE, _utf8(origin.text)), (GROUP, _utf8(nack.group)), *reason]
    return suffix(rewritten(record, is_ours, added))


@lru_cache(maxsize=64)
def _nack(note: bytes) -> Nack:
    """The nack of a note, with its reason as it is kept; a move asks for the same one many times."""
    nack = Nack.decode(note)
    return nack._replace(reason=reason_text(nack.reason.encode("utf-8", "replace")))


def replayed_suffix(record: Source) -> bytes:
    """The copy of a dead letter that goes back: as it was produced, so that it counts from 1 again."""
    return suffix(rewritten(record, is_ours, ()))


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
