"""When an append counts: the high watermark, the flushes that it waits for, and who waits for it.

The high watermark of a single broker follows the log end at once, except for what ``flush.messages``
demands: an append that reaches that many unflushed records holds the watermark where it is until the
flush thread has made it durable (``flush.ms=0`` is the same as ``flush.messages=1``; a larger
``flush.ms`` flushes in the background and holds nothing).  When a flush fails, nothing above the
watermark is acknowledged and the partition refuses appends until a flush succeeds; each refused append
asks for one.  (After a full disk one will; after an I/O error none does before a restart, since the
kernel has dropped what it could not write: the log sees to that.)
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import trio

from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.log.errors import StorageError
from pykbroker.log.log import Log
from pykbroker.partitions.flusher import Flushable, Flusher

log = logging.getLogger(__name__)

Watcher = Callable[[], None]

NEVER = (1 << 63) - 1
"""What ``flush.ms`` and ``flush.messages`` are when nothing is asked for."""


class Acknowledging:
    """The part of a partition that decides what is acknowledged.  Its subclass appends."""

    def __init__(
        self,
        label: str,
        log: Log,
        flusher: Flusher,
        flush_target: Flushable,
        on_unflushed: Callable[[], None] | None,
    ) -> None:
        self.label = label
        """``<topic>-<partition>``, as its directory is called."""
        self.log = log
        self.high_watermark = log.log_end_offset
        """Offset below which consumers read: the next offset that is not yet acknowledged."""
        self.visible_bytes = 0
        """Bytes that have become readable since the partition was opened; only ever grows."""
        self.disturbances = 0
        """How often something happened that a waiting fetch must look at, other than an append: cut,
        closed, records deleted, a new leader epoch."""
        self.failure: StorageError | None = None
        """Why the last flush failed, until one succeeds."""
        self.closed = False
        self._flusher = flusher
        self._flush_target = flush_target
        self._flush_every = NEVER
        self._timed_flush = False
        self._on_unflushed = on_unflushed
        self._noted_unflushed = False
        self._flushing = False
        self._hidden_bytes = 0  # appended, not yet visible
        self._cuts = 0
        self._watchers: dict[Watcher, None] = {}

    def _set_flush_policy(self, flush_messages: int, flush_ms: int) -> None:
        self._flush_every = 1 if flush_ms == 0 else flush_messages
        self._timed_flush = 0 < flush_ms < NEVER

    def _resume(self) -> None:
        """At start: what a killed broker wrote may be in the kernel only, and then it does not count yet
        where ``flush.messages`` asks for more."""
        if self.log.log_end_offset - self.log.recovery_point >= self._flush_every:
            self.high_watermark = max(self.log.recovery_point, self.log.log_start_offset)
            self.request_flush()

    def _check_writable(self) -> None:
        if self.closed:
            raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER, "the partition is closed")
        if self.failure is not None:
            self.request_flush()
            raise self.failure

    def _appended(self, size: int) -> None:
        """After an append of ``size`` bytes as leader."""
        self._hidden_bytes += size
        self._advance()

    def _advance(self) -> None:
        """Move the high watermark as far as it may go."""
        if self._timed_flush and not self._noted_unflushed and self._on_unflushed is not None:
            self._noted_unflushed = True
            self._on_unflushed()
        end = self.log.log_end_offset
        if end - self.log.recovery_point < self._flush_every:
            self._set_high_watermark(end)
        else:
            self.request_flush()

    def _set_high_watermark(self, offset: int) -> None:
        if offset <= self.high_watermark:
            return
        self.high_watermark = offset
        # Not exact when only a part becomes visible; it is what long polls count, not what they send.
        self.visible_bytes += self._hidden_bytes
        self._hidden_bytes = 0
        self._tell_watchers()

    def request_flush(self) -> None:
        """Have the flush thread make durable what was appended so far; does nothing while it is at it."""
        if not self._flushing and not self.closed:
            self._flushing = True
            self._flusher.request(self._flush_target, self._flush_ended)

    async def flush(self) -> None:
        """Return when what was appended so far is on the disk.  Raises StorageError."""
        await trio.to_thread.run_sync(self._flush_target.flush)

    def _flush_ended(self, reached: int, failure: StorageError | None) -> None:
        self._flushing = self._noted_unflushed = False
        if self.closed:
            return
        if failure is not None:
            if self.failure is None:
                log.error("flush failed, appends are refused: partition=%s: %s", self.label, failure)
            self.failure = failure
            self._tell_watchers()
            return
        if self.failure is not None:
            log.warning("flush succeeded again: partition=%s", self.label)
            self.failure = None
        # Not up to ``reached``: the log may have been cut meanwhile, and then it did not move this.
        self._set_high_watermark(self.log.recovery_point)
        if self.log.recovery_point < self.log.log_end_offset:
            self._advance()

    def watch(self, fn: Watcher) -> None:
        """Have ``fn`` called, synchronously, whenever the high watermark moves, a flush fails, or the
        partition is cut or closes.  It must be quick and must not append."""
        self._watchers[fn] = None

    def unwatch(self, fn: Watcher) -> None:
        """End :meth:`watch`; not being watched is fine."""
        self._watchers.pop(fn, None)

    def _tell_watchers(self) -> None:
        if self._watchers:
            for fn in tuple(self._watchers):
                fn()

    def _disturb(self) -> None:
        """Something happened that everybody who waits must look at."""
        self.disturbances += 1
        self._tell_watchers()

    def _cut(self) -> None:
        """After the log was truncated."""
        self._cuts += 1
        self.high_watermark = min(self.high_watermark, self.log.log_end_offset)
        self._disturb()

    async def wait_high_watermark(self, offset: int) -> None:
        """Return when ``high_watermark >= offset`` (pass :attr:`Appended.next_offset`).

        Raises :class:`KafkaError`: KAFKA_STORAGE_ERROR when a flush failed meanwhile,
        NOT_LEADER_OR_FOLLOWER when the partition was closed, or cut below ``offset``.
        """
        cuts = self._cuts
        while self.high_watermark < offset:
            if self.closed or (cuts != self._cuts and self.log.log_end_offset < offset):
                raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
            if self.failure is not None:
                raise self.failure
            moved = trio.Event()
            self.watch(moved.set)
            try:
                await moved.wait()
            finally:
                self.unwatch(moved.set)

    def close(self) -> None:
        """Refuse everything from now on and tell who waits; the log is the caller's to close."""
        self.closed = True
        self._disturb()
