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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

from pykbroker.log.files import Files
from pykbroker.log.retaining import KeyMap, Retention, is_aborted, spans_of
from pykbroker.log.rewriting import Survey, Writer, copy, last_of_runs
from pykbroker.records.producers import ProducerEntry


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
    old: list[int] = field(default_factory=list)
    new: list[int] = field(default_factory=list)
    bytes_before: int = 0
    bytes_after: int = 0
    records_before: int = 0
    records_after: int = 0
    damaged: list[int] = field(default_factory=list)
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
    for base, following in pairwise(bases):
        if following > end:
            break
        if following <= dirty_start:
            clean += segments[base]
        else:
            dirty += segments[base]
    if not dirty:
        return False
    return overdue or dirty / (clean + dirty) > min_cleanable_dirty_ratio


def last_offsets(producers: Iterable[ProducerEntry]) -> list[tuple[int, int]]:
    """``Job.last_offsets`` out of a log's producer state."""
    return [(p.producer_id, p.window[-1].last_offset if p.window else -1 - p.epoch) for p in producers]


def compact(job: Job, files: Files | None = None) -> Outcome:
    """Do ``job``: on return the cleaned files are on the disk, beside the old ones.

    Raises :class:`OSError` (and then leaves no cleaned files).
    """
    files = files or Files()
    directory = Path(job.directory)
    lag = job.min_compaction_lag_ms
    survey = Survey(
        directory,
        [*job.segments, job.next_base],
        files,
        end=job.end,
        dirty_start=job.dirty_start,
        youngest_ms=job.now_ms - lag if lag > 0 else None,
    )
    dirty_start = max(job.dirty_start, job.segments[0] if job.segments else 0)
    keys, mapped_end = _map_keys(survey, dirty_start, job.map_bytes)
    sources = [source for source in survey.sources if source.base < mapped_end]
    intact = [source for source in sources if source.intact]
    damaged = [source.base for source in sources if not source.intact]
    if not intact or mapped_end <= dirty_start:
        return Outcome(dirty_start=mapped_end, damaged=damaged)
    retention = Retention(
        keys,
        mapped_end=mapped_end,
        aborted=survey.aborted,
        last_offsets=dict(job.last_offsets),
        keep_headers=last_of_runs(sources),
        now_ms=job.now_ms,
        delete_retention_ms=job.delete_retention_ms,
    )
    with Writer(directory, job.segment_bytes, job.index_interval_bytes, files) as writer:
        changed = copy(sources, retention, writer)
        new = writer.finish()
        if not changed and len(new) == len(intact):
            return Outcome(dirty_start=mapped_end, damaged=damaged)
        writer.keep()
    return Outcome(
        dirty_start=mapped_end,
        old=[source.base for source in intact],
        new=new,
        bytes_before=sum(source.size for source in intact),
        bytes_after=writer.total,
        records_before=retention.records_read,
        records_after=retention.records_kept,
        damaged=damaged,
    )


def _map_keys(survey: Survey, dirty_start: int, map_bytes: int) -> tuple[KeyMap, int]:
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
                for span in spans_of(header, batch)[1]:
                    if span.key is not None:
                        keys.put(span.key, header.base_offset + span.offset_delta)
            mapped_end = header.next_offset
        mapped_end = source.next_base
    return keys, mapped_end
