"""A partition's log: segments on disk, and what is known about them in memory.

The last segment is *active*: appends go to its end, with one write each.  What was written is
readable at once; it is on the disk when ``recovery_point`` has passed it.  Everything runs in the
loop's thread, except :meth:`Log.flush`, and :meth:`Log.open` and :meth:`Log.close` while nobody else
uses the log.

After a failed write the file is cut back to where it was, at the latest before the next one.  The
operations are in the classes that :class:`Log` is made of: :mod:`~pykbroker.log.serving`,
:mod:`~pykbroker.log.cutting`, :mod:`~pykbroker.log.aging`, :mod:`~pykbroker.log.syncing`.

Deviations from the first plan: ``delete_expired`` and ``replace_segments`` return the paths of the
renamed files, since removing them is all that is left to do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from pykbroker.log.aging import Aging
from pykbroker.log.cutting import Cutting
from pykbroker.log.descriptors import Descriptors, shared
from pykbroker.log.files import Files
from pykbroker.log.recovery import Loader, Progress
from pykbroker.log.segment import (
    SAVE_EVERY,
    Segment,
)
from pykbroker.log.serving import LogRead, Serving
from pykbroker.log.state import LogConfig
from pykbroker.log.syncing import Syncing
from pykbroker.records.batch import BatchHeader

__all__ = ["Log", "LogConfig", "LogRead"]

_MAX_RELATIVE = 0x7FFF_FFFF


class Log(Serving, Cutting, Aging, Syncing):
    """See the module.  Use :meth:`open`."""

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
        descriptors: Descriptors | None = None,
        on_progress: Progress | None = None,
        leader_epoch: int = -1,
        sparse: bool = False,
    ) -> Log:
        """Open the log in ``directory``, which is made if it is missing.

        ``clean``: the last stop was clean (``.kafka_cleanshutdown`` was there), so only cheap checks
        are made; otherwise every batch from ``recovery_point`` on is verified.  ``leader_epoch``: no
        batch can have a higher one, if that is known.  ``sparse``: offsets may be missing though the
        topic is not compacted.  Blocks: for a large unclean log call it in a thread.  Raises
        :class:`OSError`.
        """
        if files is None:
            files = Files()
            descriptors = shared() if descriptors is None else descriptors
        elif descriptors is None:
            descriptors = Descriptors(files)
        loader = Loader(
            directory=directory,
            interval=config.index_interval_bytes,
            recovery_point=recovery_point,
            log_start=log_start,
            now_ms=now_ms,
            files=files,
            descriptors=descriptors,
            compacted=sparse or "compact" in config.cleanup_policy,
            leader_epoch=leader_epoch,
            on_progress=on_progress,
        )
        loaded = loader.load(clean=clean)
        opened = cls(directory, config, files, descriptors, loaded, sparse=sparse)
        if not clean:  # what the kernel has, the disk may not have yet
            opened.recovery_point = min(max(recovery_point, loaded.log_start), loaded.log_end)
            ends = [segment.base_offset for segment in loaded.segments[1:]]
            finished = zip(loaded.segments[:-1], ends, strict=True)
            opened._unsynced = [segment for segment, end in finished if end > recovery_point]
            opened._names += 1
            opened._epochs_saved += 1
        if loaded.holes_changed:
            opened._save_holes()
        if loaded.epochs.dirty:
            opened._save_epochs()
        return opened

    def append(self, batches: memoryview, headers: Sequence[BatchHeader], now_ms: int) -> None:
        """Write ``batches``, whose base offsets and leader epochs are set already.

        ``headers`` are those of the batches in order, *with* the final offsets and epochs.  On any
        failure the file is cut back to where it was and :class:`StorageError` is raised.
        """
        first, last = headers[0], headers[-1]
        if first.base_offset < self.log_end_offset:
            raise ValueError(f"append at {first.base_offset} below the log end {self.log_end_offset}")
        size = len(batches)
        end_offset = last.base_offset + last.last_offset_delta + 1
        try:
            active = self._active
            if end_offset - 1 - active.base_offset > _MAX_RELATIVE:
                active = self._roll_to(first.base_offset, now_ms)
            elif active.size and self._is_full(active, size, headers, now_ms):
                active = self._roll_to(self.log_end_offset, now_ms)
            if self.epochs.dirty or last.leader_epoch != self.epochs.latest:
                self._begin_epochs(headers)
            if self._tail_dirty:
                self._cut_tail()
            # Loaded before the write: once it is done, nothing may fail any more.
            index = active.index
            descriptor = active.descriptor()
            position = active.size
            written = self._files.pwrite(descriptor.fd, batches, position)
            if written != size:
                self._tail_dirty = True
                self._files.write_all(descriptor.fd, batches[written:], position + written)
                self._tail_dirty = False
        except OSError as e:
            self._tail_dirty = True
            with contextlib.suppress(OSError):  # else before the next write
                self._cut_tail()
            raise self._failed("append", e) from e
        producers = self.producers
        interval = self._interval
        for header in headers:
            active.note(position, header, interval)
            position += header.batch_length + 12
            if header.producer_id >= 0:
                producers.update(header, now_ms)
        active.size += size
        producers.next_offset = self.log_end_offset = end_offset
        if len(index) - index.saved >= SAVE_EVERY:
            active.save_indexes()

    def _is_full(self, active: Segment, size: int, headers: Sequence[BatchHeader], now_ms: int) -> bool:
        if (
            active.size + size > self._segment_bytes
            or len(active.index) >= self._max_entries
            or len(active.time_index) >= self._max_time_entries
        ):
            return True
        first_timestamp = active.first_timestamp
        if first_timestamp is None:
            first_timestamp = active.load_first_timestamp()
        if first_timestamp < 0:
            return now_ms - active.created_ms > self._segment_ms
        newest = headers[0].max_timestamp if len(headers) == 1 else max(h.max_timestamp for h in headers)
        return newest - first_timestamp > self._segment_ms

    def _begin_epochs(self, headers: Sequence[BatchHeader]) -> None:
        """Write down new leader epochs before the first batch that carries them."""
        for header in headers:
            self.epochs.assign(header.leader_epoch, header.base_offset)
        if self.epochs.dirty:
            self._save_epochs()

    def roll(self, now_ms: int) -> None:
        """Start a new segment at the log end, unless the active one is empty.

        Raises :class:`StorageError`; the log then goes on with the old one.
        """
        if not self._active.size:
            return
        try:
            self._roll_to(self.log_end_offset, now_ms)
        except OSError as e:
            raise self._failed("roll", e) from e
