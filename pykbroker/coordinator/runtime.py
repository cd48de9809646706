"""Running a state machine on its log: load, decide, append, apply, deadlines, answers."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, Generic, TypeVar

import trio

from pykbroker.clock import Clock
from pykbroker.coordinator.machine import Decision, Machine
from pykbroker.coordinator.shard_log import NewRecord, ShardLog, StoredRecord
from pykbroker.errors import ErrorCode, KafkaError

log = logging.getLogger(__name__)

C = TypeVar("C")
A = TypeVar("A")
V = TypeVar("V")
M = TypeVar("M", bound="Machine[Any, Any]")  # Any: bound by C and A, which a bound cannot name

LOAD_BYTES = 256 * 1024
"""Read per slice while loading: a few milliseconds of decoding, cut further by ``LOAD_SECONDS``."""

LOAD_SECONDS = 0.001
"""Replaying yields to the loop after this long, as every other long work in the broker."""

RETRY_SECONDS = 1.0
"""When a deadline's decision cannot be appended (disk full), it is decided again after this long."""


_NOT_HERE = {ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.KAFKA_STORAGE_ERROR}
_NOT_NOW = {
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ErrorCode.NOT_ENOUGH_REPLICAS,
    ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    ErrorCode.REQUEST_TIMED_OUT,
}


def _as_coordinator(error: KafkaError) -> KafkaError:
    """What a client of a coordinator is told of an error of its log, as Kafka tells it.

    Clients look for the coordinator again after the first two, and give up after the last.
    """
    if error.code in _NOT_HERE:
        return KafkaError(ErrorCode.NOT_COORDINATOR, error.message)
    if error.code in _NOT_NOW:
        return KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE, error.message)
    return KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR, error.message)


class ShardState(Enum):
    """LOADING and RESIGNED refuse requests; the first for a moment, the second for good."""

    LOADING = "loading"
    ACTIVE = "active"
    RESIGNED = "resigned"


class _Ticket(Generic[A]):
    """A request that waits for its answer, and the offset that must be acknowledged before it leaves."""

    __slots__ = ("_event", "after", "answer", "failed")

    def __init__(self) -> None:
        self._event: trio.Event | None = None
        self.answer: A | None = None
        self.failed: KafkaError | None = None
        self.after = 0

    def settle(self, *, answer: A | None = None, failed: KafkaError | None = None, after: int = 0) -> None:
        self.answer, self.failed, self.after = answer, failed, after
        if self._event is not None:
            self._event.set()

    async def wait(self) -> A:
        if self.answer is None and self.failed is None:
            self._event = trio.Event()
            await self._event.wait()
        if self.failed is not None:
            raise self.failed
        assert self.answer is not None
        return self.answer


class Shard(Generic[C, A, M]):
    """A machine and its log.  Used in the loop's thread only; ``name`` is for log lines.

    Everything from deciding to applying happens in one stretch without waiting, so that decisions
    follow each other in the order of the log.  ``on_deadline_moved`` is called with
    :meth:`next_deadline` when that may have become earlier.
    """

    def __init__(
        self,
        name: str,
        machine: M,
        shard_log: ShardLog,
        clock: Clock,
        *,
        commit_timeout_s: float = 5.0,
        on_deadline_moved: Callable[[float], None] = lambda _: None,
    ) -> None:
        self.name = name
        self.machine = machine
        self.log = shard_log
        self.state = ShardState.LOADING
        self.epoch = -1
        self._clock = clock
        self._commit_timeout_s = commit_timeout_s
        self._on_deadline_moved = on_deadline_moved
        self._tickets: dict[int, _Ticket[A]] = {}
        self._tokens = 0
        self._applied = 0

    async def elected(self, epoch: int) -> None:
        """Load the log in slices and become active.  Requests meanwhile get COORDINATOR_LOAD_IN_PROGRESS.

        Does not wait for anything when the log is empty.  Raises :class:`KafkaError` when the log
        cannot be read; the shard then goes on refusing requests.
        """
        self.epoch = epoch
        begun, records, offset = self._clock.monotonic(), 0, self.log.start_offset
        while offset < (end := self.log.end_offset) and self.state is ShardState.LOADING:
            found = self.log.read(offset, LOAD_BYTES)
            records += len(found.records)
            await self._replay(found.records)
            # A slice without an end to go on from would never end.
            offset = found.next_offset if found.next_offset > offset else end
        if self.state is not ShardState.LOADING:
            return
        now = self._clock.monotonic()
        self._applied = offset
        self.machine.loaded(now)
        self.state = ShardState.ACTIVE
        if records:
            log.info("loaded %s: records=%d seconds=%.3f epoch=%d", self.name, records, now - begun, epoch)
        self._on_deadline_moved(self.machine.next_deadline())

    async def _replay(self, records: Sequence[StoredRecord]) -> None:
        started = time.perf_counter()
        for record in records:
            self.machine.apply(record)
            if time.perf_counter() - started > LOAD_SECONDS:
                await trio.lowlevel.checkpoint()
                started = time.perf_counter()

    def resigned(self) -> None:
        """Stop: waiting requests, and all that come later, get NOT_COORDINATOR."""
        self.state = ShardState.RESIGNED
        for ticket in self._tickets.values():
            ticket.settle(failed=KafkaError(ErrorCode.NOT_COORDINATOR))
        self._tickets.clear()

    async def ask(self, decide: Callable[[int, float, int], Decision[C, A]]) -> A:
        """Give ``decide(token, now, now_ms)`` its turn and return the answer to its token.

        Raises :class:`KafkaError`: COORDINATOR_LOAD_IN_PROGRESS, NOT_COORDINATOR,
        COORDINATOR_NOT_AVAILABLE (not acknowledged in time), or what ``decide`` and the append raise.
        A caller that is cancelled leaves no trace here; what was decided stays decided.
        """
        self._check_active()
        self._tokens += 1
        token, ticket = self._tokens, _Ticket[A]()
        self._tickets[token] = ticket
        try:
            now, now_ms = self._clock.monotonic(), self._clock.time_ms()
            self._carry_out(decide(token, now, now_ms), now_ms)
            self._run_due()
            answer = await ticket.wait()
        finally:
            self._tickets.pop(token, None)
        await self._acknowledged(ticket.after)
        return answer

    async def view(self, look: Callable[[M], V]) -> V:
        """Return ``look(machine)``, once all it can have seen is acknowledged.  Raises as :meth:`ask`."""
        self._check_active()
        seen = look(self.machine)
        await self._acknowledged(self._applied)
        return seen

    def next_deadline(self) -> float:
        """Monotonic time at which :meth:`on_deadline` wants to be called."""
        return self.machine.next_deadline() if self.state is ShardState.ACTIVE else math.inf

    def on_deadline(self) -> None:
        """Do all that is due now."""
        if self.state is ShardState.ACTIVE:
            self._run_due()

    def _run_due(self) -> None:
        now = self._clock.monotonic()
        while self.machine.next_deadline() <= now:
            now_ms = self._clock.time_ms()
            try:
                self._carry_out(self.machine.on_deadline(now, now_ms), now_ms)
            except KafkaError as error:
                log.warning("cannot write what is due in %s, trying again: error=%s", self.name, error)
                self.machine.postpone(now + RETRY_SECONDS)
                break
        self._on_deadline_moved(self.machine.next_deadline())

    def _carry_out(self, decision: Decision[C, A], now_ms: int) -> None:
        """Append, settle, apply, answer.  When the append raises, nothing has changed."""
        records = decision.records
        base = self._append(records, now_ms) if records else 0
        if decision.changes:
            self.machine.settle(decision.changes)
        for offset, record in enumerate(records, base):
            self.machine.apply(StoredRecord(offset, record.key, record.value))
        if records:
            self._applied = base + len(records)
        for token, answer in decision.replies:
            ticket = self._tickets.get(token)
            if ticket is not None:
                ticket.settle(answer=answer, after=self._applied)

    def _append(self, records: Sequence[NewRecord], now_ms: int) -> int:
        try:
            return self.log.append(records, now_ms=now_ms)
        except KafkaError as error:
            raise _as_coordinator(error) from error

    def _check_active(self) -> None:
        if self.state is ShardState.LOADING:
            raise KafkaError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
        if self.state is ShardState.RESIGNED:
            raise KafkaError(ErrorCode.NOT_COORDINATOR)

    async def _acknowledged(self, offset: int) -> None:
        if self.log.high_watermark >= offset:
            return
        with trio.move_on_after(self._commit_timeout_s):
            try:
                await self.log.wait_high_watermark(offset)
            except KafkaError as error:
                raise _as_coordinator(error) from error
            # What the high watermark has passed is kept, even if this shard has resigned meanwhile.
            return
        raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE, f"{self.name}: not acknowledged in time")
