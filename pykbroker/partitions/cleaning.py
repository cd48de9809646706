"""When which compacted log is compacted; the work itself is done by a worker process.

Every ``log.cleaner.backoff.ms`` the dirtiest log is taken whose dirty share is above its
``min.cleanable.dirty.ratio``, or whose oldest dirty record is past ``max.compaction.lag.ms``, until none is
left.  The worker reads the closed segments and writes cleaned ones beside them; here they are swapped in,
if the log still has the segments that they replace.  Up to where each log is clean is kept in Kafka's
``cleaner-offset-checkpoint``; without it a log is compacted from its start again, with the same result.

Others may have closed segments of their logs rewritten in the same way (:meth:`Cleaner.rewrite`).  There is
one worker at a time.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import subprocess
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from pykbroker.catalog.catalog import Catalog
from pykbroker.clock import Clock
from pykbroker.errors import KafkaError
from pykbroker.log import checkpoints
from pykbroker.log.cleaner_worker import COMMAND
from pykbroker.log.compaction import CompactionError, Job, Outcome, is_due, last_offsets
from pykbroker.log.files import Files
from pykbroker.partitions.acknowledging import NEVER
from pykbroker.partitions.partition import Partition
from pykbroker.protocol.schema import FileRegion
from pykbroker.records.batch import HEADER_SIZE, read_header

if TYPE_CHECKING:
    from pykbroker.partitions.manager import Partitions

log = logging.getLogger(__name__)

CHECKPOINT: Final = "cleaner-offset-checkpoint"


class Cleaner:
    """Compaction of the partitions of one manager, one log at a time."""

    def __init__(
        self, partitions: Partitions, catalog: Catalog, data_dir: Path, clock: Clock, files: Files
    ) -> None:
        self._partitions = partitions
        self._catalog = catalog
        self._path = data_dir / CHECKPOINT
        self._clock = clock
        self._files = files
        self._clean_to: dict[tuple[str, int], int] | None = None
        self._idle_until: dict[Partition, int] = {}
        self._one = trio.Lock()
        self.runs = 0
        """Compactions that were done."""

    async def clean_all(self) -> None:
        """Compact until no log is dirty enough."""
        if not self._catalog.broker_config.log_cleaner_enable:
            return
        if self._clean_to is None:
            try:
                read = checkpoints.read_offsets
                self._clean_to = await trio.to_thread.run_sync(read, self._path, self._files)
            except OSError as error:  # it only saves work
                log.error("checkpoint not read: file=%s: %s", self._path.name, error)
                self._clean_to = {}
        while (partition := self._dirtiest()) is not None:
            await self.clean(partition)

    def _dirtiest(self) -> Partition | None:
        best: tuple[float, Partition | None] = (0.0, None)
        for partition in self._partitions:
            if not partition.config.compacted or partition.closed:
                continue
            if self._idle_until.get(partition, 0) > self._clock.time_ms():
                continue
            ratio = self._dirtiness(partition)
            if ratio > best[0]:
                best = ratio, partition
        return best[1]

    def _dirty_start(self, partition: Partition) -> int:
        known = (self._clean_to or {}).get((partition.topic, partition.index), 0)
        if known > partition.log_end_offset:
            known = 0  # the log was cut, or is another one
        return max(known, partition.log_start_offset)

    def _dirtiness(self, partition: Partition) -> float:
        """Its dirty share if it should be compacted now (infinite when overdue), else 0."""
        start, end = self._dirty_start(partition), _end(partition)
        if start >= end:
            return 0.0
        overdue = self._is_overdue(partition, start, end)
        if overdue:
            try:
                partition.log.roll(self._clock.time_ms())
            except KafkaError as error:
                log.error("log not rolled for compaction: partition=%r: %s", partition, error)
                return 0.0
        segments = partition.log.segments()
        due = is_due(
            segments,
            dirty_start=start,
            end=end,
            min_cleanable_dirty_ratio=partition.config.min_cleanable_dirty_ratio,
            overdue=overdue,
        )
        if not due:
            return 0.0
        dirty = sum(size for base, size in segments.items() if base >= start)
        return math.inf if overdue else dirty / max(1, partition.log.size)

    def _is_overdue(self, partition: Partition, start: int, end: int) -> bool:
        lag_ms = partition.config.max_compaction_lag_ms
        if lag_ms == NEVER or start >= end:
            return False
        try:
            read = partition.log.read(start, 1, end)
            first = read.records
            if isinstance(first, FileRegion):
                first = os.pread(first.fd, HEADER_SIZE, first.position)
        except (KafkaError, OSError):
            return False  # damage: what is there is left alone
        if not read.size:
            return False
        return read_header(first).base_timestamp <= self._clock.time_ms() - lag_ms

    async def clean(self, partition: Partition) -> None:
        """Compact ``partition`` now, whatever its dirty share."""
        job = self._job(partition)
        try:
            outcome = await self.rewrite(partition, COMMAND, job.encode())
        except (OSError, KafkaError, CompactionError) as error:
            log.error("compaction failed: partition=%s-%d: %s", partition.topic, partition.index, error)
            self._idle_until[partition] = self._clock.time_ms() + 10 * self._backoff_ms
            return
        self.runs += 1
        if outcome.damaged:
            log.warning("segments left alone, damaged: partition=%r segments=%s", partition, outcome.damaged)
        if outcome.dirty_start <= job.dirty_start:  # all of it too young, or damaged
            wait_ms = max(partition.config.min_compaction_lag_ms, self._backoff_ms)
            self._idle_until[partition] = self._clock.time_ms() + wait_ms
        else:
            self._idle_until.pop(partition, None)
        await self._note(partition, outcome)

    async def rewrite(self, partition: Partition, command: Sequence[str], job: bytes) -> Outcome:
        """Have ``command`` do ``job``, and put what it wrote in place of what it read.

        Raises :class:`OSError`, :class:`KafkaError` and :class:`CompactionError`; then nothing is lost.
        """
        async with self._one:
            outcome = Outcome.decode(await _run_worker(command, job))
        self._swap(partition, outcome)
        return outcome

    @property
    def _backoff_ms(self) -> int:
        return max(1, self._catalog.broker_config.log_cleaner_backoff_ms)

    def _job(self, partition: Partition) -> Job:
        *closed, active = partition.log.segments()
        config = partition.config
        return Job(
            directory=str(partition.log.directory),
            segments=closed,
            next_base=active,
            dirty_start=self._dirty_start(partition),
            end=_end(partition),
            now_ms=self._clock.time_ms(),
            delete_retention_ms=config.delete_retention_ms,
            min_compaction_lag_ms=config.min_compaction_lag_ms,
            segment_bytes=config.segment_bytes,
            index_interval_bytes=config.index_interval_bytes,
            map_bytes=self._catalog.broker_config.log_cleaner_dedupe_buffer_size,
            last_offsets=last_offsets(partition.log.producers),
        )

    def _swap(self, partition: Partition, outcome: Outcome) -> None:
        if not outcome.old:
            return
        present = partition.log.segments()
        if partition.closed or any(base not in present for base in outcome.old):
            # Retention or a deletion was faster; what the worker wrote is removed when the log is opened.
            log.info("compaction thrown away, the log has changed: partition=%r", partition)
            return
        due_ms = self._clock.time_ms() + partition.config.file_delete_delay_ms
        for old, new in _runs(list(present), outcome):
            self._partitions.upkeep.remove_later(partition.log.replace_segments(old, new), due_ms)
        log.info(
            "compacted: partition=%s-%d records=%d->%d bytes=%d->%d",
            partition.topic, partition.index, outcome.records_before, outcome.records_after,
            outcome.bytes_before, outcome.bytes_after,
        )  # fmt: skip

    async def _note(self, partition: Partition, outcome: Outcome) -> None:
        clean_to = {} if self._clean_to is None else self._clean_to
        known = {(p.topic, p.index) for p in self._partitions}
        clean_to[partition.topic, partition.index] = outcome.dirty_start
        self._clean_to = {key: offset for key, offset in clean_to.items() if key in known}
        try:
            await trio.to_thread.run_sync(checkpoints.write_offsets, self._path, self._clean_to, self._files)
        except OSError as error:
            log.error("checkpoint not written: file=%s: %s", self._path.name, error)

    def forget(self, key: tuple[str, int]) -> None:
        """This partition was deleted; another of its name starts anew."""
        if self._clean_to is not None:
            self._clean_to.pop(key, None)
        for partition in [p for p in self._idle_until if p.closed]:
            del self._idle_until[partition]


def _end(partition: Partition) -> int:
    """Where compaction ends: before what may be aborted, and what the broker itself still has to read."""
    return min(partition.last_stable_offset, partition.deletable_end)


def _runs(present: Sequence[int], outcome: Outcome) -> Iterator[tuple[list[int], list[int]]]:
    """The segments that were rewritten, by runs of neighbours, each with what takes its place: segments
    that stay as they are, because they are damaged, may lie between."""
    rewritten = set(outcome.old)
    upper = [*present[1:], 1 << 63]
    pairs = zip(present, upper, strict=True)
    for is_rewritten, group in groupby(pairs, lambda pair: pair[0] in rewritten):
        run = list(group)
        new = [base for base in outcome.new if run[0][0] <= base < run[-1][1]]
        if is_rewritten and new:
            yield [base for base, _ in run], new


async def _run_worker(command: Sequence[str], job: bytes) -> bytes:
    """What the worker printed.  Raises :class:`OSError` if there can be none."""
    process = await trio.lowlevel.open_process(list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None
    assert stdout is not None
    # Open until the worker has answered: the end of its input tells it that this process was killed.
    async with stdin, stdout:
        try:
            with contextlib.suppress(trio.BrokenResourceError):  # it died; its output says so
                await stdin.send_all(job + b"\n")
            output = b"".join([chunk async for chunk in stdout])
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                with trio.CancelScope(shield=True):
                    await process.wait()
    return output
