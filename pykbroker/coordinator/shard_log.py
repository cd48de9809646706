"""The port between a state machine and its partition of an internal topic, and an in-memory twin.

``append`` is synchronous and all or nothing: the records of one decision become one batch.  Being
below the high watermark is a separate step, which whoever answers a client waits for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import trio

from pykbroker.errors import ErrorCode, KafkaError


class NewRecord(NamedTuple):
    """A record to append; ``value`` None is a tombstone."""

    key: bytes
    value: bytes | None


class StoredRecord(NamedTuple):
    """A record that is in the log at ``offset``."""

    offset: int
    key: bytes
    value: bytes | None


class LogSlice(NamedTuple):
    """What one read gave: the records, and the offset to go on from."""

    records: Sequence[StoredRecord]
    next_offset: int


class ShardLog(Protocol):
    """One partition of an internal topic, as its leader sees it."""

    @property
    def start_offset(self) -> int:
        """The first offset that is still there."""
        ...

    @property
    def end_offset(self) -> int:
        """The offset that the next record gets."""
        ...

    @property
    def high_watermark(self) -> int:
        """The offset below which everything is acknowledged."""
        ...

    def append(self, records: Sequence[NewRecord], *, now_ms: int) -> int:
        """Append ``records`` as one batch and return the offset of the first.

        Raises :class:`KafkaError`; then nothing was appended.
        """
        ...

    def read(self, offset: int, max_bytes: int) -> LogSlice:
        """The records from ``offset`` on, about ``max_bytes`` of them, up to the log's end.

        Raises :class:`KafkaError`.
        """
        ...

    async def wait_high_watermark(self, offset: int) -> None:
        """Return when ``high_watermark >= offset``.

        Raises :class:`KafkaError` when that cannot come true any more.
        """
        ...


class MemoryLog:
    """A :class:`ShardLog` in memory, for tests: it can hold its high watermark back and fail.

    With ``held`` true the high watermark stays until :meth:`release`.  ``failing`` is the error that
    the next appends raise.  ``batches`` holds what was appended, one list per decision.
    """

    def __init__(self, records: Sequence[StoredRecord] = ()) -> None:
        self.records = list(records)
        self.batches: list[list[NewRecord]] = []
        self.held = False
        self.failing: ErrorCode | None = None
        self.start_offset = 0
        self.end_offset = self.records[-1].offset + 1 if self.records else 0
        self.high_watermark = self.end_offset
        self._moved = trio.Event()

    def append(self, records: Sequence[NewRecord], *, now_ms: int) -> int:
        if self.failing is not None:
            raise KafkaError(self.failing)
        base = self.end_offset
        self.batches.append(list(records))
        self.records += [StoredRecord(base + at, r.key, r.value) for at, r in enumerate(records)]
        self.end_offset += len(records)
        if not self.held:
            self.release()
        return base

    def release(self) -> None:
        """Let the high watermark follow the end."""
        self.high_watermark = self.end_offset
        self._moved.set()
        self._moved = trio.Event()

    def read(self, offset: int, max_bytes: int) -> LogSlice:
        """Each record counts for its bytes; at least one comes."""
        found: list[StoredRecord] = []
        size = 0
        for record in self.records:
            if record.offset >= offset:
                size += len(record.key) + len(record.value or b"")
                if found and size > max_bytes:
                    break
                found.append(record)
        return LogSlice(found, found[-1].offset + 1 if found else self.end_offset)

    def compact(self) -> None:
        """Keep only the last record of each key, tombstones included."""
        last = {record.key: record for record in self.records}
        self.records = sorted(last.values())

    async def wait_high_watermark(self, offset: int) -> None:
        while self.high_watermark < offset:
            await self._moved.wait()
