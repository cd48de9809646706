"""What becomes of a record that failed: its policy is asked, and what it may not say is corrected.

Pure: time and policy are arguments.  The policy is asked once per failure.  More failures than
``pykbroker.retry.max.attempts`` make a dead letter, whatever the policy says, unless it says discard or
names another topic itself; a delay is at most ``pykbroker.retry.max.delay.ms``.  A policy that cannot be
asked, raises or answers nonsense counts as :data:`FALLBACK`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Final

from pykbroker.components import DeadLetter, Discard, Retry, RetryContext, RetryDecision
from pykbroker.delivery.headers import (
    INT_MAX,
    LONG_MAX,
    Failure,
    Header,
    Origin,
    dead_lettered,
    history,
    retried,
)
from pykbroker.forwarding.copying import Source
from pykbroker.records.decode import Record
from pykbroker.records.varint import read_varint

if TYPE_CHECKING:
    from pykbroker.catalog.retrying import RetrySettings, Role

FALLBACK: Final = "fixed"
"""The policy that steps in for one that cannot be asked: ``pykbroker.retry.delay.ms`` each time."""

Ask = Callable[[RetryContext], RetryDecision | None]
"""Asks the policy; None if that failed, which has been logged and counted then."""


class Fate(StrEnum):
    """What becomes of a record."""

    RETRY = "retry"
    DEAD_LETTER = "dead letter"
    DISCARD = "discard"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One decision.

    ``record`` is the record as it will be, headers included (of a discarded one: as it came).  ``topic``
    is the dead-letter topic or exchange, None for the others.  ``due_ms`` is when it may be read, for a
    dead letter at once.  ``policy`` has decided: the one that was asked, or :data:`FALLBACK`.
    """

    fate: Fate
    due_ms: int
    topic: str | None
    record: Source
    origin: Origin
    group: str
    attempt: int
    first_failure_ms: int
    policy: str
    reason: str


def decide(
    role: Role, partition: int, record: Source, settings: RetrySettings, ask: Ask, now_ms: int
) -> Outcome:
    """What becomes of ``record``, which arrived in ``partition`` of the retry topic of ``role``.

    Never raises for what a record contains.
    """
    past = history(record, role)
    origin = past.origin or Origin(role.origin)
    attempt = min(past.attempt + 1, INT_MAX)
    first_ms = now_ms if past.first_failure_ms is None else past.first_failure_ms
    answer = ask(
        RetryContext(
            topic=role.origin,
            partition=partition if origin.partition is None else origin.partition,
            offset=origin.offset,
            group=role.group,
            attempt=attempt,
            max_attempts=settings.max_attempts,
            reason=past.reason,
            first_failure_ms=first_ms,
            last_failure_ms=now_ms if past.last_failure_ms is None else past.last_failure_ms,
            now_ms=now_ms,
            delay_ms=settings.delay_ms,
            max_delay_ms=settings.max_delay_ms,
            load=partial(_taken_apart, record),
        )
    )
    policy = FALLBACK if answer is None else settings.policy
    failure = Failure(origin, role.group, attempt, first_ms, now_ms, policy, past.reason)
    return _outcome(record, failure, answer or Retry(settings.delay_ms), settings)


def _outcome(record: Source, failure: Failure, answer: RetryDecision, settings: RetrySettings) -> Outcome:
    fate, now_ms = Fate.DEAD_LETTER, failure.last_failure_ms
    due_ms, more = now_ms, list[Header]()
    topic: str | None = settings.dead_letter_topic
    match answer:
        case Discard():
            fate, topic = Fate.DISCARD, None
        case DeadLetter():
            topic, more = answer.topic or topic, list(answer.headers)
        case Retry() if failure.attempt <= settings.max_attempts:
            fate, topic = Fate.RETRY, None
            due_ms = min(now_ms + max(0, min(answer.delay_ms, settings.max_delay_ms)), LONG_MAX)
            record = retried(record, failure)
    if fate is Fate.DEAD_LETTER:
        record = dead_lettered(record, failure, more)
    return Outcome(
        fate=fate,
        due_ms=due_ms,
        topic=topic,
        record=record,
        origin=failure.origin,
        group=failure.group,
        attempt=failure.attempt,
        first_failure_ms=failure.first_failure_ms,
        policy=failure.policy,
        reason=failure.reason,
    )


def _taken_apart(record: Source) -> Record:
    """The record as policies see it."""
    length, at = read_varint(record.body, 0)
    length, at = read_varint(record.body, at + max(length, 0))
    value = record.body[at : at + length] if length >= 0 else None
    return Record(record.offset, record.timestamp, record.key, value, record.headers)
