"""What happens to partitions over time: retention, flushes, checkpoints, producer expiry, compaction.

Each kind is a task of its own with its own interval, on the wall clock too, so that a clock that a test
moves forward brings them about.  Decisions are made in the loop; whatever waits for a disk, removing files
and writing checkpoints, runs in threads.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from pykbroker.catalog.catalog import Catalog
from pykbroker.catalog.ingress import INGRESS_PREFIX
from pykbroker.catalog.retrying import DELAYED_PREFIX, HELD_PREFIX, REPLAY_TOPIC
from pykbroker.clock import Clock, pause
from pykbroker.errors import KafkaError
from pykbroker.log import checkpoints
from pykbroker.log.checkpoints import TopicPartition
from pykbroker.log.files import Files
from pykbroker.partitions.agenda import Agenda
from pykbroker.partitions.cleaning import Cleaner
from pykbroker.partitions.partition import Partition

if TYPE_CHECKING:
    from pykbroker.partitions.manager import Partitions

log = logging.getLogger(__name__)

PASSED_ON: Final = (INGRESS_PREFIX, DELAYED_PREFIX, HELD_PREFIX, REPLAY_TOPIC)
"""How logs are called that only the broker itself reads."""
BATCH: Final = 50
"""Partitions looked at between two checkpoints of the loop: well below a millisecond when idle."""


class Upkeep:
    """The background work on the partitions of one manager."""

    def __init__(
        self, partitions: Partitions, catalog: Catalog, data_dir: Path, clock: Clock, files: Files
    ) -> None:
        self._partitions = partitions
        self._catalog = catalog
        self._data_dir = data_dir
        self._clock = clock
        self._files = files
        self._removals: Agenda[list[Path]] = Agenda(clock)
        self._flushes: Agenda[Partition] = Agenda(clock)
        self.cleaner = Cleaner(partitions, catalog, data_dir, clock, files)
        self._written: dict[str, dict[TopicPartition, int]] = {}
        self._writing = trio.Lock()
        self._outdated = trio.Event()
        self.is_producer_needed: Callable[[int], bool] = lambda producer_id: False
        """Whether the broker itself still relies on what partitions remember of a producer id."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled."""
        config = self._catalog.broker_config
        tasks: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (config.log_retention_check_interval_ms, self.apply_retention),
            (config.producer_id_expiration_check_interval_ms, self.expire_producers),
            (config.log_flush_offset_checkpoint_interval_ms, self.checkpoint_recovery_points),
            (config.replica_high_watermark_checkpoint_interval_ms, self.checkpoint_high_watermarks),
            (config.log_flush_start_offset_checkpoint_interval_ms, self.checkpoint_log_starts),
            (config.log_cleaner_backoff_ms, self.cleaner.clean_all),
        ]
        async with trio.open_nursery() as nursery:
            for interval_ms, work in tasks:
                nursery.start_soon(self._every, interval_ms, work)
            nursery.start_soon(self._remove_when_due)
            nursery.start_soon(self._flush_when_due)
            nursery.start_soon(self._rewrite_outdated)
            task_status.started()

    async def _every(self, interval_ms: int, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await pause(self._clock, max(1, interval_ms))
            await work()

    async def _each(self, work: Callable[[Partition], None]) -> None:
        """Apply ``work`` to all partitions, a few at a time."""
        for number, partition in enumerate(self._partitions, 1):
            if not partition.closed:
                work(partition)
            if number % BATCH == 0:
                await trio.lowlevel.checkpoint()

    # -- retention ------------------------------------------------------------------------------

    async def apply_retention(self) -> None:
        """Take expired segments out of all logs; their files go after ``file.delete.delay.ms``."""
        await self._each(self._apply_retention)

    def _apply_retention(self, partition: Partition) -> None:
        now_ms = self._clock.time_ms()
        try:
            if partition.needed_from is not None:
                _let_go(partition)
            files = partition.log.delete_expired(now_ms, partition.deletable_end)
        except (OSError, KafkaError) as error:
            log.error("retention failed: partition=%r: %s", partition, error)
            return
        if files:
            self.remove_later(files, now_ms + partition.config.file_delete_delay_ms)

    def remove_later(self, files: Iterable[Path], due_ms: int) -> None:
        """Remove ``files`` or directories, which nothing uses any more, at ``due_ms``."""
        self._removals.add(list(files), due_ms)

    def remove_directories(self, doomed: Iterable[Path]) -> None:
        """Remove directories, which nothing uses any more, soon."""
        self.remove_later(doomed, self._clock.time_ms())

    async def _remove_when_due(self) -> None:
        while True:
            due = await self._removals.take_due()
            await trio.to_thread.run_sync(_remove, [path for paths in due for path in paths])

    # -- flushing -------------------------------------------------------------------------------

    def note_unflushed(self, partition: Partition) -> None:
        """``partition`` has something to flush within its topic's ``flush.ms``."""
        self._flushes.add(partition, self._clock.time_ms() + partition.config.flush_ms)

    async def _flush_when_due(self) -> None:
        while True:
            for partition in await self._flushes.take_due():
                partition.request_flush()

    async def expire_producers(self) -> None:
        """Forget producers that have been idle for ``producer.id.expiration.ms``."""
        now_ms = self._clock.time_ms()
        after_ms = self._catalog.broker_config.producer_id_expiration_ms

        def expire(partition: Partition) -> None:
            partition.log.producers.expire(now_ms, after_ms, self.is_producer_needed)

        await self._each(expire)

    # -- checkpoints ----------------------------------------------------------------------------

    async def checkpoint_recovery_points(self) -> None:
        """Write down up to where the logs are durable, and flush closed segments that are not yet.

        Flushing at this pace and not at every roll keeps what a recovery has to verify near the size of a
        segment, as Kafka does, without a sync in the way of an append.
        """
        await self._each(_flush_closed_segments)
        await self._write(checkpoints.RECOVERY_POINTS, self._partitions, _recovery_point)

    async def checkpoint_high_watermarks(self) -> None:
        """Write down the high watermarks."""
        await self._write(checkpoints.HIGH_WATERMARKS, self._partitions, _high_watermark)

    async def checkpoint_log_starts(self) -> None:
        """Write down the log starts."""
        await self._write(checkpoints.LOG_STARTS, self._partitions, _log_start)

    def checkpoints_outdated(self) -> None:
        """The checkpoints name a partition that is gone: write them soon, not at their usual pace.

        They know names, not topic ids.  If a topic of that name is made again and the broker is killed
        before the checkpoints are written, the old log start would hide acknowledged records of the new
        topic, and the old recovery point would call them verified.
        """
        self._outdated.set()

    async def _rewrite_outdated(self) -> None:
        while True:
            await self._outdated.wait()
            self._outdated = trio.Event()
            await self.checkpoint_log_starts()
            await self._write(checkpoints.RECOVERY_POINTS, self._partitions, _recovery_point)

    async def write_checkpoints(self, partitions: Sequence[Partition]) -> None:
        """Write all checkpoints of ``partitions``, as the last thing before the end."""
        await self._write(checkpoints.RECOVERY_POINTS, partitions, _recovery_point)
        await self._write(checkpoints.HIGH_WATERMARKS, partitions, _high_watermark)
        await self._write(checkpoints.LOG_STARTS, partitions, _log_start)

    async def _write(
        self, name: str, partitions: Iterable[Partition], offset_of: Callable[[Partition], int]
    ) -> None:
        async with self._writing:
            offsets = {(p.topic, p.index): offset_of(p) for p in partitions}
            if self._written.get(name) == offsets:
                return
            try:
                await trio.to_thread.run_sync(
                    checkpoints.write_offsets, self._data_dir / name, offsets, self._files
                )
            except OSError as error:
                log.error("checkpoint not written: file=%s: %s", name, error)
            else:
                self._written[name] = offsets


def _let_go(partition: Partition) -> None:
    """Give up the segments that only the broker itself needed, and needs no more.

    Those are the segments of an ingress log, of the logs of a flow, and of an exchange that does not keep
    what it has forwarded.
    """
    config = partition.config
    if (config.pykbroker_exchange_type and not config.pykbroker_exchange_keep) or partition.topic.startswith(
        PASSED_ON
    ):
        end = partition.deletable_end
        start = max((base for base in partition.log.segments() if base <= end), default=0)
        if start > partition.log_start_offset:
            partition.delete_records_before(start)


def _recovery_point(partition: Partition) -> int:
    return partition.log.recovery_point


def _high_watermark(partition: Partition) -> int:
    return partition.high_watermark


def _log_start(partition: Partition) -> int:
    return partition.log_start_offset


def _flush_closed_segments(partition: Partition) -> None:
    active = max(partition.log.segments(), default=0)
    if partition.log.recovery_point < active:
        partition.request_flush()


def _remove(paths: Sequence[Path]) -> None:
    """Remove files and directories; what is gone already is fine.  Blocks."""
    for path in paths:
        try:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            log.error("not removed: path=%s: %s", path, error)
