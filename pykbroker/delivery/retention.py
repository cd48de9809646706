"""What may go of a retry topic, and when.

A retried record keeps its original timestamp, so retention by time would sweep it away before it is read:
retry topics have ``retention.ms=-1``, and this is their retention.  A closed segment goes when its last
offset lies below what the group of the topic's role has committed, and it was closed ``log.retention.ms``
ago (-1: never).  A group that has committed nothing keeps everything, and so do dead-letter topics.

When a segment was closed is known for those closed while the broker runs; for others it is the time of the
producer snapshot that is written then, or else of the last write to the segment.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from pykbroker.catalog.retrying import RoleKind, role_of
from pykbroker.clock import Clock, pause
from pykbroker.errors import KafkaError
from pykbroker.log.segment import LOG, SNAPSHOT, file_name

if TYPE_CHECKING:
    from pykbroker.catalog.catalog import Catalog
    from pykbroker.groups.service import GroupCoordinator
    from pykbroker.log.log import Log
    from pykbroker.partitions.manager import Partitions
    from pykbroker.partitions.partition import Partition

log = logging.getLogger(__name__)

BATCH: Final = 50
"""Partitions looked at between two checkpoints of the loop."""


class Closed(NamedTuple):
    """A segment that is not written to any more: its offsets, ``end`` not included, and since when (ms)."""

    base: int
    end: int
    closed_ms: int


def deletable(segments: Sequence[Closed], committed: int, now_ms: int, keep_ms: int) -> int | None:
    """The offset below which everything may go; None: nothing may.

    ``segments`` from the oldest on; ``committed`` is the group's offset, -1 for none; ``keep_ms`` is
    ``log.retention.ms``.
    """
    end = None
    for segment in segments:
        if keep_ms < 0 or segment.end > committed or now_ms - segment.closed_ms < keep_ms:
            break
        end = segment.end
    return end


class Closings:
    """Since when the segments of one log are closed: looks again and again, and remembers."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._active = -1
        self._closed_ms: dict[int, int] = {}

    def look(self, now_ms: int) -> list[Closed]:
        """The closed segments, from the oldest on.  Raises :class:`OSError`."""
        bases = list(self._log.segments())
        known, self._closed_ms = self._closed_ms, {}
        for base, end in pairwise(bases):
            if base in known:
                self._closed_ms[base] = known[base]
            elif -1 < self._active <= base:
                self._closed_ms[base] = now_ms
            else:
                self._closed_ms[base] = _closed_ms(self._log.directory, base, end)
        self._active = bases[-1]
        return [Closed(base, end, self._closed_ms[base]) for base, end in pairwise(bases)]


class RetryRetention:
    """Applies that to all retry topics, every ``log.retention.check.interval.ms``.

    Life: construct when groups and partitions are there, ``await nursery.start(run)``, cancel.
    """

    def __init__(
        self, clock: Clock, catalog: Catalog, partitions: Partitions, groups: GroupCoordinator
    ) -> None:
        self._clock = clock
        self._catalog = catalog
        self._partitions = partitions
        self._groups = groups
        self._closings: dict[Partition, Closings] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled."""
        task_status.started()
        while True:
            await pause(self._clock, max(1, self._catalog.broker_config.log_retention_check_interval_ms))
            await self.apply()

    async def apply(self) -> None:
        """Look at all retry topics once."""
        keep_ms = self._catalog.broker_config.topic_defaults["retention_ms"]
        assert isinstance(keep_ms, int)
        now_ms = self._clock.time_ms()
        known, self._closings = self._closings, {}
        for number, (partition, group) in enumerate(self._retried(), 1):
            closings = self._closings[partition] = known.get(partition) or Closings(partition.log)
            try:
                segments = closings.look(now_ms)
                if deletable(segments, partition.deletable_end, now_ms, keep_ms) is not None:
                    await self._apply(partition, group, segments, now_ms, keep_ms)
            except (OSError, KafkaError) as error:
                log.warning("retention of a retry topic put off: partition=%r error=%s", partition, error)
            if number % BATCH == 0:
                await trio.lowlevel.checkpoint()

    def _retried(self) -> list[tuple[Partition, str]]:
        """The partitions of retry topics here, with the group of each."""
        topics = self._catalog.image.topics
        found = []
        for partition in self._partitions:
            topic = topics.get(partition.topic)
            if topic is None or topic.hidden or topic.topic_id != partition.topic_id or partition.closed:
                continue
            role = role_of(topic)
            if role is not None and role.kind is RoleKind.RETRY:
                found.append((partition, role.group))
        return found

    async def _apply(
        self, partition: Partition, group: str, segments: Sequence[Closed], now_ms: int, keep_ms: int
    ) -> None:
        wanted = [(partition.topic, partition.topic_id, partition.index)]
        (committed,) = await self._groups.fetch(group, wanted)
        end = deletable(segments, min(committed.offset, partition.deletable_end), now_ms, keep_ms)
        if end is not None and end > partition.log_start_offset and not partition.closed:
            log.info("read by its group, let go: partition=%r group=%s below=%d", partition, group, end)
            partition.delete_records_before(end)


def _closed_ms(directory: Path, base: int, end: int) -> int:
    """When the segment of these offsets was closed, by its files.  Raises :class:`OSError`."""
    snapshot = directory / file_name(end, SNAPSHOT)
    written = snapshot if snapshot.exists() else directory / file_name(base, LOG)
    return written.stat().st_mtime_ns // 1_000_000
