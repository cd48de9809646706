"""What goes with time: the beginning of a log, and segments that compaction rewrote."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from pykbroker.log import replacing, retention
from pykbroker.log.recovery import place_holes
from pykbroker.log.segment import (
    CLEANED,
    DELETED,
    INDEX,
    LOG,
    SNAPSHOT,
    TIME_INDEX,
    Segment,
    file_name,
    write_indexes,
)
from pykbroker.log.state import LogState

log = logging.getLogger(__name__)


class Aging(LogState):
    """The operations that take finished segments out of a log."""

    def advance_log_start(self, offset: int) -> None:
        """Make what lies below ``offset`` unreadable; segments go with the next :meth:`delete_expired`."""
        if offset <= self.log_start_offset:
            return
        self.log_start_offset = min(offset, self.log_end_offset)
        self.epochs.truncate_from_start(self.log_start_offset)
        kept = [h for h in self.damage if h.next_offset > self.log_start_offset]
        if len(kept) != len(self.damage):
            self.damage = kept
            self._save_holes()
            place_holes(self._segments, self.damage)

    def delete_expired(self, now_ms: int, high_watermark: int) -> list[Path]:
        """Take segments out of the log that time, size or the log start have overtaken.

        Their files are renamed ``*.deleted``; the caller unlinks the returned paths after
        ``file.delete.delay.ms``, in a thread.  Raises :class:`StorageError`.
        """
        try:
            count = retention.expired(
                self._segments,
                self._config,
                log_start=self.log_start_offset,
                log_end=self.log_end_offset,
                high_watermark=high_watermark,
                now_ms=now_ms,
            )
            if not count:
                return []
            if count == len(self._segments):
                self._roll_to(self.log_end_offset, now_ms)
            return self._delete_first(count)
        except OSError as e:
            raise self._failed("retention", e) from e

    def _delete_first(self, count: int) -> list[Path]:
        gone = self._segments[:count]
        self.advance_log_start(self._bases[count])
        paths = []
        for segment in gone:  # oldest first: a crash leaves no gap
            paths += self._take_out(segment)
            del self._segments[0], self._bases[0]
        self._hints.clear()
        self.damage = [h for h in self.damage if h.segment >= self._bases[0]]
        return paths

    def _take_out(self, segment: Segment) -> list[Path]:
        self._descriptors.indexes_dropped(segment)
        with self._sync_lock:
            self._unsynced = [s for s in self._unsynced if s is not segment]
        paths = [Path(path) for path in segment.rename(DELETED)]
        if segment.base_offset in self._snapshots:
            path = self.directory / file_name(segment.base_offset, SNAPSHOT)
            self._files.rename(path, f"{path}{DELETED}")
            self._snapshots.discard(segment.base_offset)
            paths.append(Path(f"{path}{DELETED}"))
        return paths

    def replace_segments(self, old: Sequence[int], cleaned: Sequence[int]) -> list[Path]:
        """Put cleaned segments in place of ``old`` ones (both by base offset, neither empty).

        The cleaned files lie in the directory, synced, as ``<base>.log.cleaned``; index files are
        made here unless they are there too (:func:`pykbroker.log.segment.write_indexes` makes them
        anywhere).  Returns the paths of the old files, renamed ``*.deleted``.  A crash at any point
        leaves either the old segments or the new ones.  Raises :class:`StorageError`, and
        :class:`ValueError` if ``old`` are not finished neighbours that ``cleaned`` fits.
        """
        try:
            first = self._bases.index(old[0])
        except ValueError:
            raise ValueError(f"no such segment: base_offset={old[0]}") from None
        last = first + len(old)
        if self._bases[first:last] != list(old) or last >= len(self._bases):
            raise ValueError(f"not finished neighbours: old={list(old)}")
        if list(cleaned) != sorted(set(cleaned)) or not (
            old[0] <= cleaned[0] and cleaned[-1] < self._bases[last]
        ):
            raise ValueError(f"cleaned segments do not fit: old={list(old)} cleaned={list(cleaned)}")
        try:
            return self._replace(first, last, cleaned)
        except OSError as e:
            raise self._failed("replacing segments", e) from e

    def _replace(self, first: int, last: int, cleaned: Sequence[int]) -> list[Path]:
        new = []
        for base in cleaned:
            size = self._files.stat(self.directory / (file_name(base, LOG) + CLEANED)).st_size
            if not all(
                (self.directory / (file_name(base, suffix) + CLEANED)).exists()
                for suffix in (INDEX, TIME_INDEX)
            ):
                write_indexes(self.directory, base, suffix=CLEANED, interval=self._interval)
            segment = Segment(self.directory, base, size, self._files, self._descriptors)
            segment.sealed = True
            new.append(segment)
        gone = self._segments[first:last]
        old = [segment.base_offset for segment in gone]
        for segment in gone:
            self._descriptors.indexes_dropped(segment)
            self._descriptors.forget(segment.path)
        paths = replacing.commit(self.directory, old, cleaned, self._files)
        self._segments[first:last] = new
        self._bases[first:last] = list(cleaned)
        with self._sync_lock:
            self._unsynced = [s for s in self._unsynced if s not in gone]
        self._hints.clear()
        self._accepted.clear()
        kept = [hole for hole in self.damage if hole.segment not in old]
        if len(kept) != len(self.damage):
            log.warning("damaged bytes cleaned away: directory=%s segments=%s", self.directory, old)
            self.damage = kept
            self._save_holes()
        place_holes(self._segments, self.damage)
        return paths
