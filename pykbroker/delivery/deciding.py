"""What becomes of a record that failed: its policy is asked, and what it may not say is corrected.

Pure: time and policy are arguments.  The policy is asked once per failure.  More failures than
``pykbroker.retry.max.attempts`` make a dead letter, whatever the policy says, unless it says discard or
names another topic itself; a delay is at most ``pykbroker.retry.max.delay.ms``.  A policy that cannot be
asked, raises or answers nonsense counts as ``fixed``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pykbroker.components import RetryContext, RetryDecision
from pykbroker.delivery.headers import Origin
from pykbroker.forwarding.copying import Source

if TYPE_CHECKING:
    from pykbroker.catalog.retrying import RetrySettings, Role

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
    dead letter at once.  ``asked``: whether the policy's answer stands (else ``fixed`` stepped in).
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
    asked: bool = True


def decide(
    role: Role, partition: int, record: Source, settings: RetrySettings, ask: Ask, now_ms: int
) -> Outcome:
    """What becomes of ``record``, which arrived in ``partition`` of the retry topic of ``role``.

    Never raises for what a record contains.
    """
    raise NotImplementedError
