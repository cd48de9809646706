"""The catalog of one broker: an internal log with fsync, and a snapshot now and then.

``__pykbroker_catalog-0`` in the data directory is a log like any other, in Kafka's format; one
proposal is one batch, whose CRC makes it all or nothing.  A proposal is checked and appended in one
stretch without waiting, then waits for the sync that it shares with all that came meanwhile, and is
announced only after it.  Every so many records the image is written as a snapshot and the log cut
below it, so that a start does not read all history.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

from pykbroker.catalog import snapshot
from pykbroker.catalog.catalog import Catalog
from pykbroker.catalog.changes import Change, Conflict, decode, encode
from pykbroker.catalog.draft import Draft
from pykbroker.catalog.image import Image
from pykbroker.clock import Clock
from pykbroker.config import BrokerConfig, TopicConfig
from pykbroker.errors import KafkaError
from pykbroker.log.errors import StorageError
from pykbroker.log.files import Files
from pykbroker.log.log import Log
from pykbroker.protocol.schema import FileRegion
from pykbroker.records.batch import BatchHeader, iter_headers
from pykbroker.records.build import RecordData, encode_batch
from pykbroker.records.decode import iter_records

log = logging.getLogger(__name__)

DIRECTORY = "__pykbroker_catalog-0"

SNAPSHOT_AFTER = 2000
"""Changes since the last snapshot that make a new one worth it: reading them takes about 20 ms."""

_LOG_CONFIG = TopicConfig(segment_bytes=2**20, retention_ms=-1, retention_bytes=-1)
"""Small segments, so that what a snapshot has overtaken can go; never by age or size."""


class CatalogError(Exception):
    """The catalog on disk cannot be read; ``str()`` says which file and why."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A proposal that is written and not synced yet: the log's end behind it, the image after it."""

    end: int
    image: Image
    failed: KafkaError | None = None


class LocalCatalog(Catalog):
    """A catalog in ``<data dir>/__pykbroker_catalog-0``; made by :meth:`open`."""

    def __init__(
        self, journal: Log, image: Image, config: BrokerConfig, clock: Clock, files: Files, snapshot_at: int
    ) -> None:
        super().__init__(image, config)
        self._log = journal
        self._clock = clock
        self._files = files
        self._newest = image
        self._durable = journal.log_end_offset
        self._snapshot_at = snapshot_at
        self._waiting: list[_Waiting] = []
        self._syncing = trio.Lock()
        self._broken: KafkaError | None = None

    @classmethod
    def open(
        cls,
        data_dir: Path,
        config: BrokerConfig,
        *,
        cluster_id: str,
        clock: Clock,
        files: Files | None = None,
    ) -> LocalCatalog:
        """Read the catalog from disk, or begin an empty one; blocks (files).

        Raises :class:`CatalogError` when it is damaged, OSError when it cannot be read or written.
        """
        files = files or Files()
        directory = data_dir / DIRECTORY
        begin, image = _newest_snapshot(directory, cluster_id, files)
        journal = Log.open(
            directory,
            _LOG_CONFIG,
            clean=False,  # it is short, and nothing in it may be wrong
            recovery_point=begin,
            log_start=begin,
            now_ms=clock.time_ms(),
            files=files,
        )
        try:
            image = _replay(journal, begin, image)
            journal.flushed(journal.flush())
            files.sync_directory(data_dir)  # the name of its directory, which may be new
        except BaseException:
            journal.close(clean=False)
            raise
        catalog = cls(journal, image, config, clock, files, begin)
        if catalog._snapshot_due():
            catalog._cut(catalog._write_snapshot(image, journal.log_end_offset))
        return catalog

    def newest(self) -> Image:
        return self._newest

    async def propose(self, changes: Sequence[Change]) -> Image:
        if not changes:
            return self._image
        waiting = self._append(changes)
        # Written is written: whoever asked may go away, the announcement must still be made.
        with trio.CancelScope(shield=True):
            async with self._syncing:
                if waiting in self._waiting:
                    await self._sync()
        if waiting.failed is not None:
            raise waiting.failed
        return self._image

    async def settle(self) -> None:
        with trio.CancelScope(shield=True):
            async with self._syncing:
                if self._waiting:
                    await self._sync()

    def _append(self, changes: Sequence[Change]) -> _Waiting:
        """Check and write; raises Conflict, ObjectTooLarge, KafkaError, and then nothing happened."""
        if self._broken is not None:
            raise self._broken
        draft = Draft(self._newest)
        for change in changes:
            draft.apply(change)
        now_ms = self._clock.time_ms()
        records = [RecordData(value=encode(change)) for change in changes]
        batch = encode_batch(records, timestamp_ms=now_ms, base_offset=self._log.log_end_offset)
        headers: list[BatchHeader] = [header for _, header in iter_headers(batch)]
        self._log.append(memoryview(batch), headers, now_ms)
        self._newest = draft.finish()
        waiting = _Waiting(self._log.log_end_offset, self._newest)
        self._waiting.append(waiting)
        return waiting

    async def _sync(self) -> None:
        """Sync what is written by now, announce it, or take all of it back."""
        try:
            reached = await trio.to_thread.run_sync(self._log.flush)
        except KafkaError as error:
            self._take_back(error)
            return
        self._log.flushed(reached)
        self._durable = reached
        done = [waiting for waiting in self._waiting if waiting.end <= reached]
        self._waiting = self._waiting[len(done) :]
        self._publish(done[-1].image)
        if self._snapshot_due():
            await self._snapshot(self._image, reached)

    def _take_back(self, error: KafkaError) -> None:
        """The disk may have any part of what is not synced: nobody was told, so drop it."""
        log.error("catalog: changes are taken back: they cannot be synced: %s", error)
        for waiting in self._waiting:
            waiting.failed = error
        self._waiting = []
        self._newest = self._image
        try:
            self._log.truncate_to(self._durable)
        except (KafkaError, OSError) as failure:
            log.error("catalog: read-only until the next start: cannot cut its log: %s", failure)
            self._broken = StorageError(f"the catalog is read-only until the next start: {failure}")

    def _snapshot_due(self) -> bool:
        return self._durable - self._snapshot_at >= SNAPSHOT_AFTER

    async def _snapshot(self, image: Image, offset: int) -> None:
        """Write a snapshot and cut the log; a failure costs only time at the next start."""
        try:
            old = await trio.to_thread.run_sync(self._write_snapshot, image, offset)
            paths = self._cut_log(offset)
            await trio.to_thread.run_sync(self._unlink, [*old, *paths])
        except (OSError, KafkaError) as error:
            log.warning("catalog: snapshot left out, the next start takes longer: %s", error)
            self._snapshot_at = offset

    def _cut(self, old: Sequence[Path]) -> None:
        """The end of a snapshot made at the start, where blocking is fine."""
        self._unlink([*old, *self._cut_log(self._snapshot_at)])

    def _write_snapshot(self, image: Image, offset: int) -> list[Path]:
        """Blocks; returns the older snapshots, which are in the way now."""
        directory = self._log.directory
        snapshot.write(directory, offset, image, now_ms=self._clock.time_ms(), files=self._files)
        self._snapshot_at = offset
        return [path for at, path in snapshot.found_in(directory, self._files).items() if at < offset]

    def _cut_log(self, offset: int) -> list[Path]:
        """Take what lies below ``offset`` out of the log; returns files to remove."""
        now_ms = self._clock.time_ms()
        self._log.roll(now_ms)
        self._log.advance_log_start(offset)
        return self._log.delete_expired(now_ms, offset)

    def _unlink(self, paths: Sequence[Path]) -> None:
        for path in paths:
            try:
                self._files.unlink(path)
            except FileNotFoundError:
                pass  # a restart in between has removed it

    def close(self) -> None:
        """Sync and close the files; no proposal may be on its way.  Blocks."""
        self._log.close(clean=True)


def _newest_snapshot(directory: Path, cluster_id: str, files: Files) -> tuple[int, Image]:
    for offset, path in snapshot.found_in(directory, files).items():
        try:
            image = snapshot.read(path, files)
        except snapshot.SnapshotError as error:
            raise CatalogError(f"{error}; restore it from a backup") from error
        if image.cluster_id != cluster_id:
            raise CatalogError(f"{path} belongs to cluster {image.cluster_id}, not {cluster_id}")
        return offset, image
    return 0, Image(cluster_id=cluster_id)


def _replay(journal: Log, begin: int, image: Image) -> Image:
    """Apply all changes from ``begin`` on; raises :class:`CatalogError` for a gap or nonsense."""
    if journal.damage:
        raise CatalogError(f"{journal.directory} is damaged: {journal.damage[0]}; restore it from a backup")
    draft, offset = Draft(image), begin
    while offset < journal.log_end_offset:
        read = journal.read(offset, 2**20, journal.log_end_offset)
        if not read.size:
            raise CatalogError(
                f"{journal.directory} has nothing at offset {offset}; restore it from a backup"
            )
        data = _bytes(read.records)
        for position, header in iter_headers(data):
            if header.last_offset < offset:
                continue  # a batch that the snapshot covers
            if header.base_offset != offset:
                raise CatalogError(
                    f"{journal.directory} has a gap: offset {offset} is missing; restore it from a backup"
                )
            _apply_batch(journal, data, position, draft)
            offset = header.next_offset
    return draft.finish()


def _apply_batch(journal: Log, data: bytes, position: int, draft: Draft) -> None:
    for record in iter_records(data, position):
        try:
            draft.apply(decode(record.value or b""))
        except (ValueError, KeyError, TypeError, Conflict) as error:
            raise CatalogError(
                f"{journal.directory} has a change at offset {record.offset} that cannot be applied "
                f"({error}); was the data written by a newer version?"
            ) from error


def _bytes(records: bytes | FileRegion) -> bytes:
    if isinstance(records, FileRegion):
        return Files().read_exactly(records.fd, records.size, records.position)
    return records
