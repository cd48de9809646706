"""A partition's log: segments on disk, and what is known about them in memory.

Deviations from the first plan: ``delete_expired`` returns the paths of the renamed files instead of
segments, since removing them is all that is left to do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pykbroker.log.epochs import LeaderEpochs
from pykbroker.log.files import Files
from pykbroker.log.holes import Hole
from pykbroker.protocol.schema import FileRegion
from pykbroker.records.batch import BatchHeader
from pykbroker.records.producers import ProducerStates

Progress = Callable[[int, int], None]
"""Called with bytes examined and bytes to examine while a log is recovered."""


class LogConfig(Protocol):
    """The settings that a log looks at; ``TopicConfig`` has them all, and may be replaced any time."""

    @property
    def segment_bytes(self) -> int: ...
    @property
    def segment_ms(self) -> int: ...
    @property
    def segment_jitter_ms(self) -> int: ...
    @property
    def segment_index_bytes(self) -> int: ...
    @property
    def index_interval_bytes(self) -> int: ...
    @property
    def retention_ms(self) -> int: ...
    @property
    def retention_bytes(self) -> int: ...
    @property
    def cleanup_policy(self) -> frozenset[str]: ...


@dataclass(slots=True)
class LogRead:
    """Whole batches from ``first_offset`` (the base offset of the first, which may lie below what was
    asked for) up to ``next_offset``, where the next read goes on.

    ``records`` are bytes for small answers and a region of a file for large ones; empty bytes when
    there is nothing (then ``first_offset == next_offset`` == the offset asked for).
    """

    records: bytes | FileRegion
    size: int
    first_offset: int
    next_offset: int


class Log:
    """See the module.  Attributes: ``directory``, ``config`` (assign to change), ``log_start_offset``,
    ``log_end_offset``, ``recovery_point`` (everything below it is on the disk), ``epochs``,
    ``producers``, ``size`` (bytes of all ``.log`` files), ``damage`` (holes, sorted)."""

    directory: Path
    config: LogConfig
    log_start_offset: int
    log_end_offset: int
    recovery_point: int
    epochs: LeaderEpochs
    producers: ProducerStates
    damage: list[Hole]

    @classmethod
    def open(
        cls,
        directory: Path,
        config: LogConfig,
        *,
        clean: bool,
        recovery_point: int,
        log_start: int,
        now_ms: int,
        files: Files | None = None,
        on_progress: Progress | None = None,
    ) -> Log:
        """Open the log in ``directory``, which is made if it is missing.

        ``clean``: the last stop was clean (``.kafka_cleanshutdown`` was there), so only cheap checks
        are made; otherwise every batch from ``recovery_point`` on is verified.  Blocks: for a large
        unclean log call it in a thread.  Raises :class:`OSError`.
        """
        raise NotImplementedError

    @property
    def size(self) -> int:
        """Bytes in all ``.log`` files."""
        raise NotImplementedError

    @property
    def unflushed(self) -> int:
        """Offsets that are not known to be on the disk."""
        return self.log_end_offset - self.recovery_point

    def append(self, batches: memoryview, headers: Sequence[BatchHeader], now_ms: int) -> None:
        """Write ``batches``, whose base offsets and leader epochs are set already.

        ``headers`` are those of the batches in order, *with* the final offsets and epochs.  On any
        failure the file is cut back to where it was and :class:`StorageError` is raised.
        """
        raise NotImplementedError

    def read(self, offset: int, max_bytes: int, end_offset: int, *, first_whole: bool = True) -> LogRead:
        """Whole batches from the one with ``offset`` on, up to ``max_bytes``, all below ``end_offset``.

        ``first_whole``: the first batch comes whole, however large.  Raises
        :class:`OffsetOutOfRange`, :class:`CorruptRange`, :class:`StorageError`.
        """
        raise NotImplementedError

    def offset_for_timestamp(self, timestamp_ms: int, end_offset: int) -> tuple[int, int] | None:
        """(offset, timestamp) of the first record below ``end_offset`` with a timestamp not below
        ``timestamp_ms``; None if there is none.  May read up to one index interval per call."""
        raise NotImplementedError

    def max_timestamp(self) -> tuple[int, int] | None:
        """(offset, timestamp) of the first record with the largest timestamp; None when empty."""
        raise NotImplementedError

    def truncate_to(self, offset: int) -> None:
        """Take back everything at or above ``offset``: records, indexes, epochs, producer state."""
        raise NotImplementedError

    def truncate_fully_and_start_at(self, offset: int) -> None:
        """Drop everything and go on, empty, at ``offset``."""
        raise NotImplementedError

    def advance_log_start(self, offset: int) -> None:
        """Make what lies below ``offset`` unreadable; segments go with the next :meth:`delete_expired`."""
        raise NotImplementedError

    def roll(self, now_ms: int) -> None:
        """Start a new segment at the log end, unless the active one is empty."""
        raise NotImplementedError

    def flush(self) -> int:
        """Wait until everything appended before the call is on the disk; returns the offset reached.

        Blocks; may run in another thread while the loop appends.  The caller passes the result to
        :meth:`flushed` in the loop's thread.  Raises :class:`StorageError`.
        """
        raise NotImplementedError

    def flushed(self, offset: int) -> None:
        """Note that everything below ``offset`` is on the disk."""
        raise NotImplementedError

    def delete_expired(self, now_ms: int, high_watermark: int) -> list[Path]:
        """Take segments out of the log that time, size or the log start have overtaken.

        Their files are renamed ``*.deleted``; the caller unlinks the returned paths after
        ``file.delete.delay.ms``, in a thread.
        """
        raise NotImplementedError

    def replace_segments(self, old: Sequence[int], cleaned: Sequence[int]) -> list[Path]:
        """Put cleaned segments in place of ``old`` ones (both by base offset).

        The cleaned files lie in the directory as ``<base>.log.cleaned`` (indexes are made here).
        Returns the paths of the old files, renamed ``*.deleted``.  A crash at any point leaves
        either the old segments or the new ones.
        """
        raise NotImplementedError

    def segments(self) -> Mapping[int, int]:
        """Base offset -> bytes of each segment, in order; the last one is being written."""
        raise NotImplementedError

    def close(self, *, clean: bool) -> None:
        """Release the files.  ``clean`` also flushes, and writes indexes and a producer snapshot
        (blocks: call it in a thread)."""
        raise NotImplementedError

    def delete(self) -> None:
        """Close without flushing and remove the directory with everything in it (blocks)."""
        raise NotImplementedError
