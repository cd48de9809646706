"""Removing settled records from the closed segments of a log that only the broker itself reads.

A held log has records that wait for a week among millions that wait for seconds: by its start alone it could
give nothing back.  Here its segments are rewritten so that what is settled goes, offset by offset, and
everything else stays as it is.  What is settled is the caller's to say
(:data:`~pykbroker.log.retaining.Settled`); that and the way back in, ``Log.replace_segments``, is all that
differs from a compaction, whose parts are used.

First pass: CRCs, and how much would stay of each segment.  A segment that is large and would keep most
(:data:`WORTH`) is left where it is, and so is one that is damaged.  Second pass: the others are copied, and
neighbours become one, as far as ``segment_bytes`` goes.  The last batch of all stays whole: a log whose very
end is damaged is read backwards from there.

Run it in a worker process (:mod:`pykbroker.log.cleaner_worker`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from pykbroker.log.compaction import Outcome
from pykbroker.log.files import Files
from pykbroker.log.retaining import Settled, SettledRetention, remaining
from pykbroker.log.rewriting import Source, Writer, copy, last_of_runs
from pykbroker.log.segment import LOG, file_name
from pykbroker.records.batch import HEADER_SIZE, BatchError

WORTH: Final = 0.75
"""A segment that would keep more than this share of its bytes is left alone, if it is not small."""
SMALL: Final = 0.5
"""One of fewer bytes than this share of ``segment_bytes`` is small: it becomes part of a larger one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlingJob:
    """What to rewrite: closed segments that are neighbours."""

    directory: str
    segments: Sequence[int]
    """Their base offsets, in order."""
    next_base: int
    """Base offset of the segment behind them."""
    segment_bytes: int
    index_interval_bytes: int
    last_offsets: Sequence[tuple[int, int]] = ()
    """See :class:`~pykbroker.log.compaction.Job`."""
    needed: str = ""
    """What the worker has to know to tell what is settled, in the form of whoever starts it."""

    def encode(self) -> bytes:
        """As the worker reads it."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> SettlingJob:
        """What :meth:`encode` made."""
        return cls(**json.loads(data))


def settle(job: SettlingJob, settled: Settled, files: Files | None = None) -> Outcome:
    """Do ``job``: on return the cleaned files are on the disk, beside the old ones.

    Raises :class:`OSError` (and then leaves no cleaned files).
    """
    files = files or Files()
    directory = Path(job.directory)
    sources = [
        Source(base, next_base, directory / file_name(base, LOG), files)
        for base, next_base in pairwise([*job.segments, job.next_base])
    ]
    kept = [_look(source, settled) for source in sources]
    _choose(sources, kept, job.segment_bytes)
    damaged = [source.base for source in sources if not source.intact]
    rewritten = [source for source in sources if source.is_rewritten]
    if not rewritten:
        return Outcome(dirty_start=job.next_base, damaged=damaged)
    retention = SettledRetention(
        settled,
        last_offsets=dict(job.last_offsets),
        keep_headers=last_of_runs(sources),
        keep_whole={rewritten[-1].last_offset},
    )
    with Writer(directory, job.segment_bytes, job.index_interval_bytes, files) as writer:
        changed = copy(sources, retention, writer)
        new = writer.finish()
        if not changed and len(new) >= len(rewritten):
            return Outcome(dirty_start=job.next_base, damaged=damaged)
        writer.keep()
    return Outcome(
        dirty_start=job.next_base,
        old=[source.base for source in rewritten],
        new=new,
        bytes_before=sum(source.size for source in rewritten),
        bytes_after=writer.total,
        records_before=retention.records_read,
        records_after=retention.records_kept,
        damaged=damaged,
    )


def _look(source: Source, settled: Settled) -> int:
    """About how many bytes of a segment would stay; says in it whether it is damaged."""
    kept = 0
    try:
        for header, batch in source.verified():
            split = remaining(settled, header, batch)
            if split is None or len(split[1]) == header.record_count:
                kept += header.size
            elif split[1]:
                kept += HEADER_SIZE + sum(span.end - span.start for span in split[1])
    except BatchError:
        source.intact = False
    return kept


def _choose(sources: Sequence[Source], kept: Sequence[int], segment_bytes: int) -> None:
    """Say of each source whether it is worth while to rewrite it."""
    for source, stays in zip(sources, kept, strict=True):
        if stays > WORTH * source.size and source.size >= SMALL * segment_bytes:
            source.wanted = False
    # A small one alone, of which nothing goes, would only become itself again.
    for number, (source, stays) in enumerate(zip(sources, kept, strict=True)):
        neighbours = [*sources[max(0, number - 1) : number], *sources[number + 1 : number + 2]]
        if stays >= source.size and not any(each.is_rewritten for each in neighbours):
            source.wanted = False
