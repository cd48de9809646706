"""From the memory of the system to the disk, and the end of a log.

After a failed sync other than for lack of space or descriptors the disk may have forgotten what the
system believes to be written, so that no later sync proves anything: :meth:`Syncing.flush` fails until
the log is opened again.
"""

from __future__ import annotations

import errno

from pykbroker.log import epochs as epoch_file
from pykbroker.log.errors import StorageError
from pykbroker.log.segment import (
    INDEX,
    LOG,
    TIME_INDEX,
)
from pykbroker.log.state import LogState

_PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)
"""No space, or no descriptor to sync by: the system has dropped nothing."""


class Syncing(LogState):
    """The operations that make a log durable, and close it."""

    def flush(self) -> int:
        """Wait until everything appended before the call is on the disk; returns the offset reached.

        Blocks; may run in another thread while the loop appends.  Moves ``recovery_point``, unless
        the log was cut meanwhile.  Raises :class:`StorageError`.
        """
        if self._sync_failed is not None:
            raise StorageError(f"an earlier flush failed: {self._sync_failed}")
        # In this order: a roll on the loop puts the old segment into the list before it is replaced.
        cuts, end = self._cuts, self.log_end_offset
        if end == self.recovery_point:
            return end
        active = self._active
        finished, names, epochs = self._unsynced, self._names, self._epochs_saved
        try:
            for segment in finished:
                for suffix in (LOG, INDEX, TIME_INDEX):
                    self._sync(segment.file(suffix))
            if active not in finished:
                self._sync(active.path)
            if epochs != self._epochs_synced:
                self._sync(str(self.directory / epoch_file.FILE_NAME))
            if names != self._names_synced:
                self._files.sync_directory(self.directory)
        except OSError as e:
            if e.errno not in _PASSING:
                self._sync_failed = e
            raise self._failed("flush", e) from e
        with self._sync_lock:
            self._epochs_synced, self._names_synced = epochs, names
            if cuts == self._cuts:
                self.recovery_point = max(self.recovery_point, end)
                self._unsynced = [s for s in self._unsynced if s not in finished]
        return end

    def _sync(self, path: str) -> None:
        """Sync a file by a descriptor of its own: those of the loop may be closed under our hands.
        A file that is gone (deleted, replaced) needs none."""
        try:
            fd = self._files.open(path, 0)
        except FileNotFoundError:
            return
        try:
            self._files.sync_data(fd)
        finally:
            self._files.close(fd)

    def flushed(self, offset: int) -> None:
        """Note that everything below ``offset`` is on the disk (:meth:`flush` has done so already)."""
        with self._sync_lock:
            self.recovery_point = max(self.recovery_point, min(offset, self.log_end_offset))

    def close(self, *, clean: bool) -> None:
        """Release the files.  ``clean`` also flushes, and writes indexes and a producer snapshot
        (blocks: call it in a thread).  Raises :class:`StorageError`."""
        if self._closed:
            return
        self._closed = True
        try:
            if clean:
                self._close_cleanly()
        except OSError as e:
            raise self._failed("close", e) from e
        finally:
            for segment in self._segments:
                self._descriptors.indexes_dropped(segment)
                self._descriptors.forget(segment.path)

    def _close_cleanly(self) -> None:
        if self._tail_dirty:
            self._cut_tail()
        if self.epochs.dirty:
            self._save_epochs()
        if self._active.size:
            self._active.finish_if_loaded()
        if self.log_end_offset not in self._snapshots and self.log_end_offset > self._bases[0]:
            self._write_snapshot(sync=False)
        self.flush()

    def delete(self) -> None:
        """Close without flushing and remove the directory with everything in it (blocks)."""
        self.close(clean=False)
        for name in self._files.listing(self.directory):
            self._files.unlink(self.directory / name)
        self.directory.rmdir()
