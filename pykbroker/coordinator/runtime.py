"""Running a state machine on its log: load, decide, append, apply, deadlines, answers."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from enum import Enum
from typing import Generic, TypeVar

import trio

from pykbroker.clock import Clock
from pykbroker.coordinator.machine import Decision, Machine
from pykbroker.coordinator.shard_log import ShardLog, StoredRecord
from pykbroker.errors import ErrorCode, KafkaError

log = logging.getLogger(__name__)

C = TypeVar("C")
A = TypeVar("A")
M = TypeVar("M")

LOAD_BYTES = 256 * 1024
"""Read per slice while loading: a few milliseconds of decoding, cut further by ``LOAD_SECONDS``."""

LOAD_SECONDS = 0.001
"""Replaying yields to the loop after this long, as every other long work in the broker."""

RETRY_SECONDS = 1.0
"""When a deadline's decision cannot be appended (disk full), it is decided again after this long."""


class ShardState(Enum):
    """LOADING and RESIGNED refuse requests; the first for a moment, the second for good."""

    LOADING = "loading"
    ACTIVE = "active"
    RESIGNED = "resigned"


class _Ticket(Generic[A]):
    """A request that waits for its answer, and the offset that must be acknowledged before it leaves."""

    __slots__ = ("after", "answer", "event", "failed")

    def __init__(self) -> None:
        self.event: trio.Event | None = None
        self.answer: A | None = None
        self.failed: KafkaError | None = None
        self.after = 0

    @property
    def done(self) -> bool:
        return self.answer is not None or self.failed is not None

    def settle(self, *, answer: A | None = None, failed: KafkaError | None = None, after: int = 0) -> None:
        self.answer, self.failed, self.after = answer, failed, after
        if self.event is not None:
            self.event.set()


class Shard(Generic[C, A, M]):
    """A machine and its log.  Used in the loop's thread only; ``name`` is for log lines.

    Everything from deciding to applying happens in one stretch without waiting, so that decisions
    follow each other in the order of the log.  ``on_deadline_moved`` is called when
    :meth:`next_deadline` may have become earlier.
    """

    machine: M

    def __init__(
        self,
        name: str,
        machine: M,
        shard_log: ShardLog,
        clock: Clock,
        *,
        commit_timeout_s: float = 5.0,
        on_deadline_moved: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.machine = machine
        self.log = shard_log
        self.state = ShardState.LOADING
        self.epoch = -1
        raise NotImplementedError

    async def elected(self, epoch: int) -> None:
        """Load the log in slices and become active.  Requests meanwhile get COORDINATOR_LOAD_IN_PROGRESS.

        Raises :class:`KafkaError` when the log cannot be read; the shard then stays as it is.
        """
        raise NotImplementedError

    def resigned(self) -> None:
        """Stop: waiting requests, and all that come later, get NOT_COORDINATOR."""
        raise NotImplementedError

    async def ask(self, decide: Callable[[int, float, int], Decision[C, A]]) -> A:
        """Give ``decide(token, now, now_ms)`` its turn and return the answer to its token.

        Raises :class:`KafkaError`: COORDINATOR_LOAD_IN_PROGRESS, NOT_COORDINATOR,
        COORDINATOR_NOT_AVAILABLE (not acknowledged in time), or what ``decide`` and the append raise.
        """
        raise NotImplementedError

    async def view(self, look: Callable[[M], A]) -> A:
        """Return ``look(machine)``, once all it can have seen is acknowledged.  Raises as :meth:`ask`."""
        raise NotImplementedError

    def next_deadline(self) -> float:
        """Monotonic time at which :meth:`on_deadline` wants to be called."""
        raise NotImplementedError

    def on_deadline(self) -> None:
        """Do all that is due now."""
        raise NotImplementedError
