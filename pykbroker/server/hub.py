"""What all connections of a server share: clock, limits, the receive buffer, counters, memory."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import trio

from pykbroker.clock import Clock
from pykbroker.server.limits import ServerLimits
from pykbroker.server.timers import Timers

RECEIVE_SIZE = 256 * 1024
"""One buffer for all connections: what a read brings is copied out before anything else happens."""

LINES, LINES_PERIOD_S = 10, 10.0
"""Lines about bad clients in so many seconds; a port scan must not fill the log."""


@dataclass(slots=True, eq=False)
class Hub:
    """Owned by the server, handed to each connection."""

    clock: Clock
    limits: ServerLimits
    timers: Timers
    draining: bool = False
    accepted: int = 0
    refused: int = 0
    closed_idle: int = 0
    closed_malformed: int = 0
    closed_memory: int = 0
    parked: int = 0
    buffered: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    buffer: memoryview = field(default_factory=lambda: memoryview(bytearray(RECEIVE_SIZE)))
    _memory: trio.Event | None = None

    @property
    def is_full(self) -> bool:
        """Whether the connections together hold more than they may."""
        return self.buffered > self.limits.max_buffered_bytes

    def account(self, change: int) -> None:
        """The bytes held have changed by so many."""
        self.buffered += change
        if self._memory is not None and not self.is_full:
            self._memory.set()
            self._memory = None

    async def wait_memory(self) -> bool:
        """Wait until connections may receive again; false if it took longer than ``memory_wait_s``."""
        with trio.move_on_after(self.limits.memory_wait_s):
            while self.is_full:
                if self._memory is None:
                    self._memory = trio.Event()
                await self._memory.wait()
        return not self.is_full


class LimitedLog:
    """Warnings at a limited rate; what was left out is counted in the next line that is not."""

    def __init__(self, log: logging.Logger, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._since = float("-inf")
        self._lines = 0

    def warning(self, message: str, *values: object) -> None:
        """Log unless too many were logged just now."""
        now = self._clock.monotonic()
        if now - self._since >= LINES_PERIOD_S:
            if self._lines > LINES:
                self._log.warning("left out %d lines like the following", self._lines - LINES)
            self._since, self._lines = now, 0
        self._lines += 1
        if self._lines <= LINES:
            self._log.warning(message, *values)
