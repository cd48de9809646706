"""Taking back the end of a log: records, indexes, epochs, producer state, holes.

A failure in the middle leaves files that a restart can use, but the log in memory may then refuse
to append until it is opened again.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections.abc import Sequence

from pykbroker.log import holes as hole_file
from pykbroker.log.recovery import Loader, place_holes
from pykbroker.log.segment import (
    DELETED,
    SNAPSHOT,
    Segment,
    file_name,
)
from pykbroker.log.state import LogState


class Cutting(LogState):
    """The operations that shorten a log at its end."""

    def truncate_to(self, offset: int) -> None:
        """Take back everything at or above ``offset``: records, indexes, epochs, producer state.

        A batch that holds ``offset`` goes too, and the log then ends at its base offset.  Raises
        :class:`StorageError`.
        """
        if offset >= self.log_end_offset:
            return
        if offset <= self._bases[0]:
            self.truncate_fully_and_start_at(offset)
            return
        try:
            self._truncate(offset)
        except OSError as e:
            raise self._failed("truncate", e) from e

    def _truncate(self, offset: int) -> None:
        keep = bisect_right(self._bases, offset - 1)
        self._drop(self._segments[keep:])
        del self._segments[keep:], self._bases[keep:]
        active = self._active = self._segments[-1]
        active.sealed = False
        self._descriptors.indexes_dropped(active)
        self.damage = [h for h in self.damage if h.first_offset < offset]
        place_holes(self._segments, self.damage)
        position, end = self._cut_point(active, offset)
        active.index.truncate(position)
        active.time_index.truncate(end - active.base_offset)
        active.cut(position)
        active.save_indexes()
        active.walked = bytearray()
        self._reset_tail(active)
        self._ended_at(end)

    def _cut_point(self, segment: Segment, offset: int) -> tuple[int, int]:
        """(position, offset) where the segment ends when ``offset`` and all behind it go."""
        position, end = 0, segment.base_offset
        start = segment.index.position_for(offset - segment.base_offset)
        for at, header in segment.headers(start):
            if header.next_offset > offset:
                return at, max(end, header.base_offset)
            position, end = at + header.size, header.next_offset
        hole = self.damage[-1] if self.damage else None
        if hole is not None and hole.segment == segment.base_offset and hole.end_position >= position:
            position, end = hole.end_position, min(hole.next_offset, offset)
        return position, end

    def _reset_tail(self, segment: Segment) -> None:
        """Compute anew what appending keeps up to date, after a cut."""
        segment.max_timestamp, segment.max_timestamp_offset = -1, segment.base_offset
        segment.first_timestamp = None
        if len(segment.time_index):
            segment.max_timestamp = segment.time_index.timestamps[-1]
            segment.max_timestamp_offset = segment.base_offset + segment.time_index.offsets[-1]
        start = segment.index.positions[-1] if len(segment.index) else 0
        if len(segment.time_index) < len(segment.index):  # entries of different ages: begin earlier
            start = 0
        for _at, header in segment.headers(start):
            if header.max_timestamp > segment.max_timestamp:
                segment.max_timestamp = header.max_timestamp
                segment.max_timestamp_offset = header.last_offset
        segment.since_index = segment.size - start

    def _ended_at(self, end: int) -> None:
        """Bring everything else down to the new log end."""
        with self._sync_lock:
            self._cuts += 1
            self.recovery_point = min(self.recovery_point, end)
        self._hints.clear()
        self._accepted.clear()
        self._tail_dirty = False
        self.log_end_offset = end
        self.log_start_offset = min(self.log_start_offset, end)
        self.epochs.truncate_from_end(end)
        if self.epochs.dirty:
            self._save_epochs()
        self._save_holes_if_any()
        for stray in [o for o in self._snapshots if o > end]:
            self._files.unlink(self.directory / file_name(stray, SNAPSHOT))
            self._snapshots.discard(stray)
        if not self.producers.truncate(end):
            self._reload_producers(end)
        self.producers.next_offset = end

    def _save_holes_if_any(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._files.stat(self.directory / hole_file.FILE_NAME)
            self._save_holes()

    def _reload_producers(self, end: int) -> None:
        loader = Loader(
            directory=self.directory,
            interval=self._interval,
            recovery_point=end,
            log_start=self.log_start_offset,
            now_ms=max((entry.seen_ms for entry in self.producers), default=0),
            files=self._files,
            descriptors=self._descriptors,
        )
        self.producers = loader.rebuild_producers(self._segments, self._snapshots, end)

    def truncate_fully_and_start_at(self, offset: int) -> None:
        """Drop everything and go on, empty, at ``offset``.  Raises :class:`StorageError`."""
        try:
            self._drop(self._segments)
            segment = self._new_segment(offset, 0)
        except OSError as e:
            raise self._failed("truncate", e) from e
        self._segments, self._bases, self._active = [segment], [offset], segment
        self.damage = []
        self.log_start_offset = offset
        self.epochs.clear()
        self.producers.truncate(0)
        try:
            self._ended_at(offset)
        except OSError as e:
            raise self._failed("truncate", e) from e
        self.log_start_offset = offset

    def _drop(self, segments: Sequence[Segment]) -> None:
        """Remove the files of ``segments``, last one first, so that a crash leaves no gap."""
        for segment in reversed(segments):
            self._descriptors.indexes_dropped(segment)
            for path in segment.rename(DELETED):
                self._files.unlink(path)
        with self._sync_lock:
            self._unsynced = [s for s in self._unsynced if s not in segments]
