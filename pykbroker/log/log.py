"""A partition's log: segments on disk, and what is known about them in memory.

The last segment is *active*: appends go to its end, with one write each.  What was written is
readable at once; it is on the disk when ``recovery_point`` has passed it.  Everything runs in the
loop's thread, except :meth:`Log.flush`, and :meth:`Log.open` and :meth:`Log.close` while nobody else
uses the log.

After a failed write the file is cut back to where it was, at the latest before the next one.  After
a failed sync other than for lack of space the disk may have forgotten what the system believes to be
written, so that no later sync proves anything: :meth:`Log.flush` fails until the log is opened again.

Deviations from the first plan: ``delete_expired`` and ``replace_segments`` return the paths of the
renamed files, since removing them is all that is left to do.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import random
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from pykbroker.log import epochs as epoch_file
from pykbroker.log import holes as hole_file
from pykbroker.log import replacing, retention, timestamps
from pykbroker.log.descriptors import Descriptors, shared
from pykbroker.log.epochs import LeaderEpochs
from pykbroker.log.errors import CorruptRange, OffsetOutOfRange, StorageError
from pykbroker.log.files import Files
from pykbroker.log.holes import Hole, covered, find, merge
from pykbroker.log.indexes import ENTRY_SIZE, TIME_ENTRY_SIZE
from pykbroker.log.reading import SMALL, Cursor, Suspicious, read_first, read_large, read_small, region
from pykbroker.log.recovery import Loaded, Loader, Progress, place_holes
from pykbroker.log.scan import Anchors, Limits, Source, scan
from pykbroker.log.segment import (
    CLEANED,
    DELETED,
    INDEX,
    LOG,
    SAVE_EVERY,
    SNAPSHOT,
    TIME_INDEX,
    Segment,
    file_name,
    write_indexes,
)
from pykbroker.protocol.schema import FileRegion
from pykbroker.records.batch import BatchHeader
from pykbroker.records.producers import ProducerStates
from pykbroker.records.snapshot import encode_snapshot

log = logging.getLogger(__name__)

T = TypeVar("T")

_MAX_RELATIVE = 0x7FFF_FFFF
_MAX_HINTS = 256
_MAX_ACCEPTED = 4096
_BLIND = 256 * 1024
"""Bytes behind a hole for which an index is worth a rebuild."""
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


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
    """See the module.  Use :meth:`open`."""

    def __init__(
        self, directory: Path, config: LogConfig, files: Files, descriptors: Descriptors, loaded: Loaded
    ) -> None:
        self.directory = directory
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
    ) -> Log:
        """Open the log in ``directory``, which is made if it is missing.

        ``clean``: the last stop was clean (``.kafka_cleanshutdown`` was there), so only cheap checks
        are made; otherwise every batch from ``recovery_point`` on is verified.  Blocks: for a large
        unclean log call it in a thread.  Raises :class:`OSError`.
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
            on_progress=on_progress,
        )
        loaded = loader.load(clean=clean)
        opened = cls(directory, config, files, descriptors, loaded)
        if not clean:  # what the kernel has, the disk may not have yet
            opened.recovery_point = min(max(recovery_point, loaded.log_start), loaded.log_end)
            opened._unsynced = [s for s in loaded.segments[:-1] if s.base_offset >= recovery_point]
        if loaded.holes_changed:
            opened._save_holes()
        if loaded.epochs.dirty:
            opened._save_epochs()
        return opened

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

    # -- appending

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

    def _save_epochs(self) -> None:
        self._files.replace(self.directory / epoch_file.FILE_NAME, self.epochs.encode(), sync=False)
        self.epochs.dirty = False
        self._epochs_saved += 1
        self._names += 1

    def _cut_tail(self) -> None:
        self._files.truncate(self._active.descriptor().fd, self._active.size)
        self._tail_dirty = False

    def _failed(self, what: str, error: OSError) -> StorageError:
        log.error("%s failed: directory=%s error=%s", what, self.directory, error)
        return StorageError(f"{what} failed: {error.strerror or error}")

    # -- rolling

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

    def _new_segment(self, base_offset: int, now_ms: int) -> Segment:
        segment = Segment(self.directory, base_offset, 0, self._files, self._descriptors)
        self._descriptors.create(segment.path)
        segment.start_fresh()
        segment.created_ms = now_ms
        self._names += 1
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

    # -- reading

    def read(self, offset: int, max_bytes: int, end_offset: int, *, first_whole: bool = True) -> LogRead:
        """Whole batches from the one with ``offset`` on, up to ``max_bytes``, all below ``end_offset``.

        ``first_whole``: the first batch comes whole, however large.  Raises
        :class:`OffsetOutOfRange`, :class:`CorruptRange`, :class:`StorageError`.
        """
        log_end = self.log_end_offset
        if offset >= end_offset or offset >= log_end:
            if offset > log_end or offset < self.log_start_offset:
                raise OffsetOutOfRange(offset, self.log_start_offset, log_end)
            return LogRead(b"", 0, offset, offset)
        if offset < self.log_start_offset:
            raise OffsetOutOfRange(offset, self.log_start_offset, log_end)
        return self._looking_closely(
            lambda strict: self._read(offset, max_bytes, end_offset, first_whole, strict)
        )

    def _looking_closely(self, step: Callable[[bool], T]) -> T:
        """Run ``step``; where it meets something suspicious, find out what it is, and run it again.

        Each round finds a hole, repairs an index, or stops insisting on what did not fit.
        """
        strict = True
        try:
            while True:
                try:
                    return step(strict)
                except Suspicious as e:
                    if not strict:
                        raise CorruptRange(self._unreadable(e.segment, e.position)) from None
                    place = e.segment.base_offset, e.position
                    if not self._examine(e.segment, e.position, e.previous):
                        strict = place not in self._accepted
                        self._accept(place)
        except OSError as e:
            raise self._failed("read", e) from e

    def _read(self, offset: int, max_bytes: int, end_offset: int, first_whole: bool, strict: bool) -> LogRead:
        hint = self._hints.get(offset)
        i = len(self._bases) - 1
        if offset < self._bases[i]:
            i = bisect_right(self._bases, offset) - 1
        while True:
            segment = self._segments[i]
            upper = self._bases[i + 1] if i + 1 < len(self._bases) else self.log_end_offset
            limit, limit_offset = segment.size, upper
            if self.damage:
                hole = find(self.damage, offset)
                if hole is not None:
                    raise CorruptRange(hole)
                for hole in segment.holes:
                    if hole.first_offset > offset:
                        limit, limit_offset = hole.position, hole.first_offset
                        break
            cursor = self._cursor(segment, limit, limit_offset, upper, strict)
            if hint is not None and hint[0] is segment and hint[1] <= limit:
                cursor.position = cursor.previous = hint[1]
                cursor.expected = offset
            elif offset > segment.base_offset:
                cursor.locate(offset)
            if cursor.position < limit:
                break
            if segment is self._active and limit == segment.size and strict:
                raise Suspicious(segment, limit, cursor.previous)
            # Nothing at or behind the offset in this segment: compaction took it.
            if limit < segment.size:
                hole = find(self.damage, limit_offset)
                assert hole is not None
                raise CorruptRange(hole)
            i += 1
            if i == len(self._segments):
                return LogRead(b"", 0, offset, offset)
        return self._take(cursor, offset, max_bytes, min(end_offset, self.log_end_offset), first_whole)

    def _cursor(self, segment: Segment, limit: int, limit_offset: int, upper: int, strict: bool) -> Cursor:
        """A cursor at the segment's start."""
        epochs = self.epochs if self._epochs_trusted else None
        accepted = None if "compact" in self._config.cleanup_policy else self._accepted
        return Cursor(segment, epochs, 0, segment.base_offset, limit, limit_offset, upper, accepted, strict)

    def _take(
        self, cursor: Cursor, offset: int, max_bytes: int, end_offset: int, first_whole: bool
    ) -> LogRead:
        segment, start = cursor.segment, cursor.position
        records: bytes | FileRegion = b""
        available = cursor.limit - start
        if available <= SMALL or max_bytes <= SMALL:
            records = read_small(cursor, max_bytes, end_offset)
            size = len(records)
        else:
            whole = cursor.limit, cursor.limit_offset
            if end_offset < cursor.limit_offset:
                cursor.limit, cursor.limit_offset = self._position_of(cursor, end_offset), end_offset
            size = read_large(cursor, max_bytes, end_offset)
            cursor.limit, cursor.limit_offset = whole
            if 0 < size <= SMALL:
                records = self._files.pread(segment.descriptor().fd, size, start)
            elif size:
                records = region(segment, start, size)
        if not size and first_whole:
            size = read_first(cursor, end_offset)
            if 0 < size <= SMALL:
                records = self._files.pread(segment.descriptor().fd, size, start)
            elif size:
                records = region(segment, start, size)
        if not size:
            return LogRead(b"", 0, offset, offset)
        if cursor.position >= cursor.limit and cursor.expected != cursor.limit_offset:
            if not segment.sealed and cursor.strict:  # compaction takes no batch from the active one
                raise Suspicious(segment, cursor.position, cursor.previous)
            cursor.expected = cursor.limit_offset
        self._hint(cursor.expected, segment, cursor.position)
        if isinstance(records, bytes):
            first = int.from_bytes(records[:8], "big")
        else:
            header = segment.header_at(start)
            first = header.base_offset if header is not None else offset
        return LogRead(records, size, first, cursor.expected)

    def _position_of(self, cursor: Cursor, offset: int) -> int:
        """Where the batches below ``offset`` end in the cursor's segment."""
        hint = self._hints.get(offset)
        if hint is not None and hint[0] is cursor.segment:
            return hint[1]
        other = self._cursor(cursor.segment, cursor.limit, cursor.limit_offset, cursor.upper, cursor.strict)
        other.locate(offset)
        self._hint(offset, cursor.segment, other.position)
        return max(other.position, cursor.position)

    def _hint(self, offset: int, segment: Segment, position: int) -> None:
        """Remember where a batch begins: the next read usually goes on where this one ends."""
        hints = self._hints
        if len(hints) >= _MAX_HINTS and offset not in hints:
            del hints[next(iter(hints))]
        hints[offset] = segment, position

    # -- damage

    def _accept(self, place: tuple[int, int]) -> None:
        """What was suspicious at ``place`` (segment and position) is as it should be."""
        if len(self._accepted) >= _MAX_ACCEPTED:
            self._accepted.clear()
        self._accepted.add(place)

    def _examine(self, segment: Segment, position: int, previous: int) -> bool:
        """Look closely at the bytes from ``previous`` to behind ``position``; True if a hole was found
        or an index made anew, False if all is as it should be."""
        self._hints.clear()
        i = self._segments.index(segment)
        upper = self._bases[i + 1] if i + 1 < len(self._bases) else self.log_end_offset
        start, expected = self._edge_before(segment, previous)
        limits = Limits(
            segment=segment.base_offset,
            upper=upper,
            sealed=True,
            epochs=self.epochs,
            anchors=Anchors(segment.base_offset, segment.index),
            known=self.damage,
        )
        source = Source(self._files, segment.descriptor().fd, segment.size)
        batches: list[tuple[int, int]] = []
        found = []
        while True:
            result = scan(
                source,
                limits,
                start=start,
                expected=expected,
                on_batch=lambda at, header: batches.append((at, header.last_offset)),
                stop_behind=position,
            )
            found += result.holes
            known = next((h for h in segment.holes if h.position == result.end < h.end_position), None)
            if result.torn is None or known is None:
                break
            start, expected = known.end_position, known.next_offset
        if result.torn is not None and result.next_offset < upper:
            found.append(
                Hole(
                    first_offset=result.next_offset,
                    next_offset=upper,
                    segment=segment.base_offset,
                    position=result.end,
                    end_position=segment.size,
                    reason=result.torn,
                )
            )
        new = [hole for hole in found if not covered(self.damage, hole)]
        for hole in new:
            self._add_hole(hole)
        repaired = self._repair_index(segment, dict(batches), position, new)
        if not new and not repaired:
            header = segment.header_at(position)
            if header is not None and self.epochs.epoch_for(header.base_offset) != header.leader_epoch:
                log.warning("leader epochs do not fit the records: directory=%s", self.directory)
                self._epochs_trusted = False
        return bool(new) or repaired

    def _edge_before(self, segment: Segment, position: int) -> tuple[int, int]:
        """The last batch edge before ``position`` that the index names rightly, and its offset."""
        index = segment.index
        holes = [h for h in segment.holes if h.end_position < position]
        floor = holes[-1].end_position if holes else 0
        for k in range(len(index) - 1, -1, -1):
            at = index.positions[k]
            if at >= position:
                continue
            if at < floor:
                break
            header = segment.header_at(at)
            if header is not None and header.last_offset == segment.base_offset + index.offsets[k]:
                return at, header.base_offset
        return (floor, holes[-1].next_offset) if holes else (0, segment.base_offset)

    def _repair_index(
        self, segment: Segment, batches: Mapping[int, int], position: int, new: Sequence[Hole]
    ) -> bool:
        """Make the index anew if it names a batch edge near ``position`` that is none, or if it ends
        at one of the ``new`` holes (a rebuild could not see behind it then)."""
        index = segment.index
        last = max(batches, default=position)
        lying = any(
            batches.get(at) != segment.base_offset + offset
            for at, offset in zip(index.positions, index.offsets, strict=True)
            if (at in batches or at == position or min(batches, default=at) <= at <= last)
            and not any(h.position <= at < h.end_position for h in segment.holes)
        )
        end = index.positions[-1] if len(index) else 0
        blind = any(end <= hole.position and segment.size - hole.end_position > _BLIND for hole in new)
        if lying or blind:
            log.warning("index rebuilt: it does not fit the records: file=%s", segment.path)
            segment.rebuild_indexes()
        return lying or blind

    def _add_hole(self, hole: Hole) -> None:
        log.error(
            "damage found: file=%s/%s position=%d bytes=%d offsets=%d-%d reason=%r",
            self.directory, file_name(hole.segment, LOG), hole.position,
            hole.end_position - hole.position, hole.first_offset, hole.next_offset - 1, hole.reason,
        )  # fmt: skip
        self.damage = merge(self.damage, hole)
        place_holes(self._segments, self.damage)
        self._save_holes()

    def _save_holes(self) -> None:
        path = self.directory / hole_file.FILE_NAME
        try:
            self._files.replace(path, hole_file.encode(self.damage), sync=True)
        except OSError as e:
            log.warning("damage not written down: directory=%s error=%s", self.directory, e)

    def _unreadable(self, segment: Segment, position: int) -> Hole:
        """For what is neither readable nor a hole by the rules of the scan: the rest of the segment."""
        i = self._segments.index(segment)
        upper = self._bases[i + 1] if i + 1 < len(self._bases) else self.log_end_offset
        _at, expected = self._edge_before(segment, position)
        return Hole(
            first_offset=expected,
            next_offset=upper,
            segment=segment.base_offset,
            position=position,
            end_position=segment.size,
            reason="not readable",
        )

    # -- timestamps

    def offset_for_timestamp(self, timestamp_ms: int, end_offset: int) -> tuple[int, int] | None:
        """(offset, timestamp) of the first record below ``end_offset`` with a timestamp not below
        ``timestamp_ms``; None if there is none.

        Reads headers, normally of one index interval, and decodes one batch.  Raises
        :class:`StorageError`.
        """
        return self._looking_closely(lambda _strict: self._offset_for_timestamp(timestamp_ms, end_offset))

    def _offset_for_timestamp(self, timestamp_ms: int, end_offset: int) -> tuple[int, int] | None:
        for segment in self._readable():
            if segment.base_offset >= end_offset:
                break
            if segment.largest_timestamp() >= timestamp_ms:
                found = timestamps.first_at_or_after(segment, timestamp_ms, self.log_start_offset, end_offset)
                if found is not None:
                    return found
        return None

    def max_timestamp(self) -> tuple[int, int] | None:
        """(offset, timestamp) of the first record with the largest timestamp; None when empty."""
        return self._looking_closely(lambda _strict: self._max_timestamp())

    def _max_timestamp(self) -> tuple[int, int] | None:
        best: tuple[int, int] | None = None
        for segment in self._readable():
            if best is None or segment.largest_timestamp() > best[1]:
                found = timestamps.largest(segment, self.log_start_offset)
                if found is not None and (best is None or found[1] > best[1]):
                    best = found
        return best

    def _readable(self) -> Iterator[Segment]:
        first = max(bisect_right(self._bases, self.log_start_offset) - 1, 0)
        return iter(self._segments[first:])

    # -- taking back

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

    # -- going with time

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

    # -- durability

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
            if e.errno not in _NO_SPACE:
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

    # -- the end

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
