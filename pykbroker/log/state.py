"""What a log knows about itself, and the steps that several of its operations share.

:class:`LogState` is the base of the classes that make up a :class:`~pykbroker.log.log.Log`; it has
no operations of its own.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from pykbroker.log import epochs as epoch_file
from pykbroker.log import holes as hole_file
from pykbroker.log.descriptors import Descriptors
from pykbroker.log.epochs import LeaderEpochs
from pykbroker.log.errors import StorageError
from pykbroker.log.files import Files
from pykbroker.log.holes import Hole
from pykbroker.log.indexes import ENTRY_SIZE, TIME_ENTRY_SIZE
from pykbroker.log.recovery import Loaded
from pykbroker.log.segment import (
    SNAPSHOT,
    Segment,
    file_name,
)
from pykbroker.records.producers import ProducerStates
from pykbroker.records.snapshot import encode_snapshot

log = logging.getLogger(__name__)


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


class LogState:
    """Segments on disk, and what is known about them in memory."""

    def __init__(
        self,
        directory: Path,
        config: LogConfig,
        files: Files,
        descriptors: Descriptors,
        loaded: Loaded,
        *,
        sparse: bool = False,
    ) -> None:
        self.directory = directory
        self._sparse = sparse
        self._files = files
        self._descriptors = descriptors
        self._segments = loaded.segments
        self._bases = [segment.base_offset for segment in loaded.segments]
        self._active = loaded.segments[-1]
        for segment in loaded.segments[:-1]:
            segment.sealed = True
        self.log_start_offset = loaded.log_start
        self.log_end_offset = loaded.log_end
        self.recovery_point = loaded.log_end
        """Everything below it is on the disk."""
        self.epochs: LeaderEpochs = loaded.epochs
        self.producers: ProducerStates = loaded.producers
        self.damage: list[Hole] = loaded.holes
        """Holes, sorted; replaced as a whole when one is found."""
        self._snapshots = loaded.snapshots
        self._hints: dict[int, tuple[Segment, int]] = {}
        self._accepted: set[tuple[int, int]] = set()
        self._epochs_trusted = True
        self._tail_dirty = False
        # Written by the loop, and by flush in its thread; lists are replaced, under the lock.
        self._sync_lock = threading.Lock()
        self._unsynced: list[Segment] = []
        self._names = 1 if loaded.new_names else 0
        self._names_synced = 0
        self._epochs_saved = self._epochs_synced = 0
        self._sync_failed: OSError | None = None
        self._cuts = 0
        self._closed = False
        self.config = config

    @property
    def config(self) -> LogConfig:
        """The topic's settings; assign to change them."""
        return self._config

    @config.setter
    def config(self, config: LogConfig) -> None:
        self._config = config
        self._segment_bytes = config.segment_bytes
        self._interval = config.index_interval_bytes
        # At least one entry, or a tiny value would roll for ever.
        self._max_entries = max(1, config.segment_index_bytes // ENTRY_SIZE)
        self._max_time_entries = max(1, config.segment_index_bytes // TIME_ENTRY_SIZE - 1)
        jitter = min(config.segment_jitter_ms, config.segment_ms)
        self._segment_ms = config.segment_ms - (random.randrange(jitter) if jitter > 0 else 0)

    @property
    def gaps_are_usual(self) -> bool:
        """Whether offsets may be missing without damage: what is rewritten may have lost records."""
        return self._sparse or "compact" in self._config.cleanup_policy

    @property
    def size(self) -> int:
        """Bytes in all ``.log`` files."""
        return sum(segment.size for segment in self._segments)

    @property
    def unflushed(self) -> int:
        """Offsets that are not known to be on the disk."""
        return self.log_end_offset - self.recovery_point

    def segments(self) -> Mapping[int, int]:
        """Base offset -> bytes of each segment, in order; the last one is being written."""
        return {segment.base_offset: segment.size for segment in self._segments}

    def _failed(self, what: str, error: OSError) -> StorageError:
        log.error("%s failed: directory=%s error=%s", what, self.directory, error)
        return StorageError(f"{what} failed: {error.strerror or error}")

    def _save_epochs(self) -> None:
        self._files.replace(self.directory / epoch_file.FILE_NAME, self.epochs.encode(), sync=False)
        self.epochs.dirty = False
        self._epochs_saved += 1
        self._names += 1

    def _save_holes(self) -> None:
        path = self.directory / hole_file.FILE_NAME
        try:
            self._files.replace(path, hole_file.encode(self.damage), sync=True)
        except OSError as e:
            log.warning("damage not written down: directory=%s error=%s", self.directory, e)

    def _cut_tail(self) -> None:
        self._files.truncate(self._active.descriptor().fd, self._active.size)
        self._tail_dirty = False

    def _new_segment(self, base_offset: int, now_ms: int) -> Segment:
        segment = Segment(self.directory, base_offset, 0, self._files, self._descriptors)
        self._descriptors.create(segment.path)
        segment.start_fresh()
        segment.created_ms = now_ms
        self._names += 1
        return segment

    def _roll_to(self, base_offset: int, now_ms: int) -> Segment:
        if self._tail_dirty:
            self._cut_tail()
        old = self._active
        old.finish()
        self._write_snapshot(sync=False)
        segment = self._new_segment(base_offset, now_ms)  # the last step that may fail
        old.sealed = True
        self._descriptors.indexes_loaded(old, len(old.index))
        with self._sync_lock:
            self._unsynced = [*self._unsynced, old]
        self._segments.append(segment)
        self._bases.append(segment.base_offset)
        self._active = segment
        log.debug("segment rolled: directory=%s base_offset=%d", self.directory, segment.base_offset)
        return segment

    def _write_snapshot(self, *, sync: bool) -> None:
        """Write producer state as of the log end.  Failure only means a longer replay."""
        offset = self.log_end_offset
        try:
            path = self.directory / file_name(offset, SNAPSHOT)
            self._files.replace(path, encode_snapshot(self.producers), sync=sync)
        except OSError as e:
            log.warning("producer snapshot not written: directory=%s error=%s", self.directory, e)
            return
        kept = {*self._bases, offset}
        for stray in self._snapshots - kept:
            with contextlib.suppress(OSError):
                self._files.unlink(self.directory / file_name(stray, SNAPSHOT))
        self._snapshots = (self._snapshots & kept) | {offset}
