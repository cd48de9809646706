"""Compaction of one partition: files in, files out.

The closed segments of a compacted topic are rewritten so that of each key the last record stays
(the rules are in :mod:`pykbroker.log.retaining`).  Nothing here touches a live log: the result is
``<base>.log.cleaned`` with both indexes, synced, which ``Log.replace_segments`` swaps in.  That is
the crash-safe part (:mod:`pykbroker.log.replacing`): a directory opened after a crash has the old
segments or the new ones, and leftovers of a compaction are removed.

Three passes: *survey* (every batch's CRC, timestamps, aborted transactions), *map* (the last offset
of each key in the dirty part, as far as memory goes), *copy*.  Batches of a segment that is damaged are
neither counted nor touched: the segment stays where it is, with its hole, for whoever looks at it.

Run it in a worker process (:mod:`pykbroker.log.cleaner_worker`): a thread would hold the GIL for
seconds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pykbroker.log.files import Files
from pykbroker.log.retaining import KeyMap, Retention, is_aborted
from pykbroker.log.segment import CLEANED, INDEX, LOG, TIME_INDEX, file_name, write_indexes
from pykbroker.records.batch import HEADER_SIZE, BatchError, BatchHeader, Buffer, crc_ok, read_header
from pykbroker.records.decode import iter_spans, marker_commits, payload_of

_CHUNK = 1 << 20
_MAX_RELATIVE = 0x7FFF_FFFF


class CompactionError(Exception):
    """The worker could not do its job: a full disk, files that are gone.  Nothing was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to compact.  Offsets are absolute, times and durations ms, sizes bytes."""

    directory: str
    segments: Sequence[int]
    """Base offsets of all closed segments, in order."""
    next_base: int
    """Base offset of the segment behind them, the one being written."""
    dirty_start: int
    """What lies below was compacted before: ``Outcome.dirty_start`` of the last time, at first 0."""
    end: int
    """No segment is touched that reaches this offset: high watermark or last stable offset."""
    now_ms: int
    delete_retention_ms: int
    min_compaction_lag_ms: int = 0
    segment_bytes: int = 1 << 30
    index_interval_bytes: int = 4096
    map_bytes: int = 128 << 20
    last_offsets: Sequence[tuple[int, int]] = ()
    """Of each live producer (id, offset of its last data record, or -1 - epoch if it has none)."""

    def encode(self) -> bytes:
        """As the worker reads it."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> Job:
        """What :meth:`encode` made."""
        return cls(**json.loads(data))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of it: call ``Log.replace_segments(old, new)`` if ``old`` is not empty."""

    dirty_start: int
    """Where the next compaction begins; everything below is clean."""
    old: Sequence[int] = ()
    new: Sequence[int] = ()
    bytes_before: int = 0
    bytes_after: int = 0
    records_before: int = 0
    records_after: int = 0
    damaged: Sequence[int] = ()
    """Segments left as they are because a batch in them is damaged."""

    def encode(self) -> bytes:
        """As the worker prints it."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> Outcome:
        """The outcome in the worker's output.  Raises :class:`CompactionError` if it failed."""
        try:
            fields = json.loads(data)
        except ValueError as e:
            raise CompactionError(f"the worker died: output={data[-200:]!r}") from e
        if "error" in fields:
            raise CompactionError(fields["error"])
        return cls(**fields)


def is_due(
    segments: Mapping[int, int],
    *,
    dirty_start: int,
    end: int,
    min_cleanable_dirty_ratio: float,
    overdue: bool = False,
) -> bool:
    """Whether compaction is worth while: the dirty share of what could be compacted is large enough.

    ``segments``: base offset -> bytes, in order, the last one being written.  ``overdue``: the
    oldest dirty record is past ``max.compaction.lag.ms``, so that any dirty segment will do.
    """
    bases = list(segments)
    clean = dirty = 0
    for base, following in zip(bases, bases[1:], strict=False):
        if following > end:
            break
        if following <= dirty_start:
            clean += segments[base]
        else:
            dirty += segments[base]
    if not dirty:
        return False
    return overdue or dirty / (clean + dirty) > min_cleanable_dirty_ratio


def compact(job: Job, files: Files | None = None) -> Outcome:
    """Do ``job``: on return the cleaned files are on the disk, beside the old ones.

    Raises :class:`OSError` (and then leaves no cleaned files).
    """
    files = files or Files()
    survey = _Survey(job, files)
    dirty_start = max(job.dirty_start, job.segments[0] if job.segments else 0)
    keys, mapped_end = _map_keys(survey, dirty_start, job.map_bytes)
    sources = [source for source in survey.sources if source.base < mapped_end]
    intact = [source for source in sources if source.intact]
    if not intact or mapped_end <= dirty_start:
        return Outcome(
            dirty_start=max(mapped_end, dirty_start), damaged=[s.base for s in sources if not s.intact]
        )
    retention = Retention(
        keys,
        mapped_end=mapped_end,
        aborted=survey.aborted,
        last_offsets=dict(job.last_offsets),
        keep_header=intact[-1].last_offset,
        now_ms=job.now_ms,
        delete_retention_ms=job.delete_retention_ms,
    )
    writer = _Writer(job, files)
    try:
        changed = _copy(sources, retention, writer)
        new = writer.finish()
    except BaseException:
        writer.discard()
        raise
    unchanged = not changed and len(new) == len(intact)
    if unchanged:
        writer.discard()
    return Outcome(
        dirty_start=mapped_end,
        old=[] if unchanged else [source.base for source in intact],
        new=[] if unchanged else new,
        bytes_before=sum(source.size for source in intact),
        bytes_after=writer.total,
        records_before=retention.records_read,
        records_after=retention.records_kept,
        damaged=[source.base for source in sources if not source.intact],
    )


@dataclass(slots=True)
class _Source:
    """A segment to read.  ``next_base`` is the base offset of the one behind it."""

    base: int
    next_base: int
    path: Path
    files: Files
    size: int = 0
    last_offset: int = -1
    max_timestamp: int = -1
    intact: bool = True

    def batches(self) -> Iterator[tuple[BatchHeader, memoryview]]:
        """Header and bytes of each batch.  Raises :class:`BatchError` at the first that is not good."""
        fd = self.files.open(self.path, os.O_RDONLY)
        try:
            self.size = self.files.size(fd)
            position = 0
            while position < self.size:
                chunk = memoryview(self.files.read_exactly(fd, _CHUNK, position))
                at = 0
                while len(chunk) - at >= HEADER_SIZE:
                    header = read_header(chunk, at)
                    if header.size > self.size - position - at:
                        raise BatchError(f"batch passes the end of the file: position={position + at}")
                    if header.size > len(chunk) - at:
                        break
                    yield header, chunk[at : at + header.size]
                    at += header.size
                if at == 0:
                    size = read_header(chunk).size  # raises where the file ends inside a header
                    chunk = memoryview(self.files.read_exactly(fd, size, position))
                    yield read_header(chunk), chunk
                    at = size
                position += at
        finally:
            self.files.close(fd)


@dataclass(slots=True)
class _Survey:
    """First pass: which segments can be compacted, and what must be known before."""

    job: Job
    files: Files
    sources: list[_Source] = field(init=False)
    aborted: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    """Producer id -> (first offset, offset of the marker) of its aborted transactions."""

    def __post_init__(self) -> None:
        job, self.sources = self.job, []
        opened: dict[int, int] = {}
        behind = [*job.segments[1:], job.next_base]
        for base, next_base in zip(job.segments, behind, strict=True):
            if next_base > job.end:
                break
            source = _Source(base, next_base, Path(job.directory) / file_name(base, LOG), self.files)
            self._look_at(source, opened)
            too_young = source.max_timestamp > job.now_ms - job.min_compaction_lag_ms
            if job.min_compaction_lag_ms > 0 and next_base > job.dirty_start and too_young:
                break
            self.sources.append(source)

    def _look_at(self, source: _Source, opened: dict[int, int]) -> None:
        expected = source.base
        try:
            for header, batch in source.batches():
                if header.base_offset < expected or header.next_offset > source.next_base:
                    raise BatchError(f"offsets out of order: offset={header.base_offset}")
                if not crc_ok(batch):
                    raise BatchError(f"CRC does not match: offset={header.base_offset}")
                expected = header.next_offset
                source.last_offset = header.last_offset
                source.max_timestamp = max(source.max_timestamp, header.max_timestamp)
                if header.is_transactional:
                    self._note_transaction(header, batch, opened)
        except BatchError:
            source.intact = False

    def _note_transaction(self, header: BatchHeader, batch: Buffer, opened: dict[int, int]) -> None:
        if not header.is_control:
            opened.setdefault(header.producer_id, header.base_offset)
            return
        first = opened.pop(header.producer_id, None)
        if first is not None and marker_commits(batch) is False:
            self.aborted.setdefault(header.producer_id, []).append((first, header.base_offset))


def _map_keys(survey: _Survey, dirty_start: int, map_bytes: int) -> tuple[KeyMap, int]:
    """Second pass: the keys of the dirty part, and the offset up to which they are known.

    Ends at a batch edge when memory is used up; at least one batch is mapped, so that every
    compaction gets somewhere.
    """
    keys, mapped_end = KeyMap(map_bytes), dirty_start
    for source in survey.sources:
        if source.next_base <= dirty_start:
            continue
        for header, batch in source.batches() if source.intact else ():
            if header.next_offset <= dirty_start:
                continue
            if keys.full:
                return keys, mapped_end
            if not header.is_control and not is_aborted(survey.aborted, header):
                for span in iter_spans(bytes(payload_of(batch)), header.record_count):
                    if span.key is not None:
                        keys.put(span.key, header.base_offset + span.offset_delta)
            mapped_end = header.next_offset
        mapped_end = source.next_base
    return keys, mapped_end


def _copy(sources: Sequence[_Source], retention: Retention, writer: _Writer) -> bool:
    """Third pass; True if anything went or changed."""
    changed = False
    for source in sources:
        if not source.intact:
            writer.end_segment()
            continue
        writer.begin_source(source.base)
        for header, batch in source.batches():
            kept = retention.filter(header, batch)
            changed = changed or kept is not batch
            if kept is not None:
                writer.append(header, kept)
    return changed


class _Writer:
    """Writes cleaned segments, each up to ``segment_bytes``.

    A segment begins at the base offset of a source, so that the log's start stays where it is, or
    where the one before it was full.
    """

    def __init__(self, job: Job, files: Files) -> None:
        self._job = job
        self._files = files
        self._fd = -1
        self._base = -1
        self._size = 0
        self._bases: list[int] = []
        self._pending = bytearray()
        self.total = 0

    def begin_source(self, base: int) -> None:
        """The batches of the source ``base`` follow."""
        if self._fd < 0:
            self._open(base)

    def append(self, header: BatchHeader, batch: Buffer) -> None:
        """Write what was kept of a batch."""
        full = self._size and self._size + len(batch) > self._job.segment_bytes
        if full or header.last_offset - self._base > _MAX_RELATIVE:
            self.end_segment()
        if self._fd < 0:
            self._open(header.base_offset)
        self._pending += batch
        self._size += len(batch)
        self.total += len(batch)
        if len(self._pending) >= _CHUNK:
            self._write()

    def end_segment(self) -> None:
        """Finish the segment being written, if any: synced, with indexes."""
        if self._fd < 0:
            return
        self._write()
        self._files.sync_data(self._fd)
        self._files.close(self._fd)
        self._fd = -1
        if not self._size:
            # Everything in it went.  The swap removes the old files; the next segment follows.
            self._files.unlink(self._path(LOG))
            self._bases.pop()
            return
        write_indexes(
            self._path(LOG), self._path(INDEX), self._path(TIME_INDEX), self._base,
            self._job.index_interval_bytes,
        )  # fmt: skip

    def finish(self) -> list[int]:
        """End the last segment; base offsets of all that were written."""
        self.end_segment()
        return self._bases

    def discard(self) -> None:
        """Remove everything that was written."""
        if self._fd >= 0:
            self._files.close(self._fd)
            self._fd = -1
        for base in self._bases:
            self._base = base
            for suffix in (LOG, INDEX, TIME_INDEX):
                self._path(suffix).unlink(missing_ok=True)

    def _open(self, base: int) -> None:
        self._base, self._size = base, 0
        self._bases.append(base)
        self._fd = self._files.open(self._path(LOG), os.O_RDWR | os.O_CREAT | os.O_TRUNC)

    def _write(self) -> None:
        self._files.write_all(self._fd, self._pending, self._size - len(self._pending))
        self._pending = bytearray()

    def _path(self, suffix: str) -> Path:
        return Path(self._job.directory) / (file_name(self._base, suffix) + CLEANED)
