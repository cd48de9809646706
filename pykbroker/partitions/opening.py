"""Opening the logs of a data directory at start.

After a clean stop a log is opened in a millisecond or so and everything is done in this thread, with a
checkpoint now and then.  After an unclean one each log is verified from its recovery point on; that
blocks, so logs with more than a little to verify are opened in threads.  (A thread and not a process:
nobody is served yet, and reading and checksums release the interpreter.)
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import trio

from pykbroker.catalog.image import Image
from pykbroker.catalog.retrying import HELD_LOGS
from pykbroker.clock import Clock
from pykbroker.config import TopicConfig
from pykbroker.log import checkpoints
from pykbroker.log.checkpoints import TopicPartition
from pykbroker.log.errors import StorageError
from pykbroker.log.files import Files
from pykbroker.log.log import Log
from pykbroker.partitions import directories

log = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]
"""Called as (bytes verified, bytes to verify, partition)."""

SMALL: Final = 4 * 2**20
"""Bytes to verify up to which a log is opened on the loop: about 20 ms."""
THREADS: Final = 2
SLICE_S: Final = 0.02
PROGRESS_EVERY_S: Final = 0.05


class Opening:
    """The work of one start; its results are in :attr:`opened` and :attr:`failed`."""

    def __init__(self, data_dir: Path, clock: Clock, files: Files | None) -> None:
        self._data_dir = data_dir
        self._clock = clock
        self._given_files = files
        self._files = files or Files()
        self._clean = False
        self._image: Image
        self._recovery_points: dict[TopicPartition, int] = {}
        self._log_starts: dict[TopicPartition, int] = {}
        self._on_progress: Progress | None = None
        self._done = 0
        self._total = 0
        self._told = 0.0
        self._running: dict[TopicPartition, int] = {}
        self.opened: dict[TopicPartition, Log] = {}
        self.failed: dict[TopicPartition, str] = {}
        """Why a log could not be opened."""

    @property
    def checkpointed(self) -> set[TopicPartition]:
        """What the checkpoints of the last run name."""
        return {*self._recovery_points, *self._log_starts}

    async def survey(self, image: Image) -> directories.Found:
        """Take the clean mark, read the checkpoints, and sort the directories."""
        return await trio.to_thread.run_sync(self._survey, image)

    def _survey(self, image: Image) -> directories.Found:
        self._clean = checkpoints.take_clean_mark(self._data_dir, self._files)
        self._recovery_points = checkpoints.read_offsets(
            self._data_dir / checkpoints.RECOVERY_POINTS, self._files
        )
        self._log_starts = checkpoints.read_offsets(self._data_dir / checkpoints.LOG_STARTS, self._files)
        self._image = image
        if not self._clean:  # directories that a killed broker made: flushes go on without their names
            self._files.sync_directory(self._data_dir)
        return directories.survey(self._data_dir, image, self._files)

    async def open_logs(
        self, configs: Mapping[TopicPartition, TopicConfig], on_progress: Progress | None
    ) -> None:
        """Open the logs of ``configs``."""
        begun = time.monotonic()
        self._on_progress = on_progress
        large: list[tuple[int, TopicPartition]] = []
        last_pause = begun
        for key, config in configs.items():
            to_verify = 0 if self._clean else self._to_verify(key)
            if to_verify > SMALL:
                large.append((to_verify, key))
            else:
                self._open(key, config)
            if time.monotonic() - last_pause > SLICE_S:
                await trio.lowlevel.checkpoint()
                last_pause = time.monotonic()
        if large:
            await self._open_large(sorted(large), configs)
        if configs:
            log.info(
                "logs opened: partitions=%d clean=%s verified_bytes=%d seconds=%.2f",
                len(self.opened), self._clean, self._total, time.monotonic() - begun,
            )  # fmt: skip

    async def _open_large(
        self, large: list[tuple[int, TopicPartition]], configs: Mapping[TopicPartition, TopicConfig]
    ) -> None:
        self._total = sum(size for size, _ in large)

        async def work() -> None:
            while large:
                size, key = large.pop()
                await trio.to_thread.run_sync(self._open, key, configs[key], True)
                self._done += size
                self._running.pop(key, None)
                if self._on_progress is not None:
                    self._on_progress(self._done, self._total, directories.name_of(*key))

        async with trio.open_nursery() as nursery:
            for _ in range(THREADS):
                nursery.start_soon(work)

    def _open(self, key: TopicPartition, config: TopicConfig, tell: bool = False) -> None:
        """Open one log; blocks.  With ``tell``, called from a thread, progress is reported."""
        name = directories.name_of(*key)

        def progress(done: int, of: int) -> None:
            now = time.monotonic()
            if self._on_progress is not None and now - self._told >= PROGRESS_EVERY_S:
                self._told = now
                self._running[key] = done
                done_in_all = min(self._total, self._done + sum(self._running.values()))
                trio.from_thread.run_sync(self._on_progress, done_in_all, self._total, name)

        try:
            self.opened[key] = Log.open(
                self._data_dir / name,
                config,
                clean=self._clean,
                recovery_point=self._recovery_points.get(key, 0),
                log_start=self._log_starts.get(key, 0),
                now_ms=self._clock.time_ms(),
                files=self._given_files,
                on_progress=progress if tell else None,
                leader_epoch=self._leader_epoch(key),
                sparse=key[0].startswith(HELD_LOGS),
            )
        except (OSError, StorageError) as error:
            self.failed[key] = f"log cannot be opened: {error}"
            log.error("log cannot be opened, the partition is offline: partition=%s: %s", name, error)

    def _leader_epoch(self, key: TopicPartition) -> int:
        topic = self._image.topics[key[0]]
        return topic.partitions[key[1]].leader_epoch

    def _to_verify(self, key: TopicPartition) -> int:
        """Bytes of the segments that lie, at least in part, above the recovery point."""
        try:
            listing = self._files.listing(self._data_dir / directories.name_of(*key))
        except OSError:
            return 0  # opening it says what is wrong
        recovery_point = self._recovery_points.get(key, 0)
        segments = sorted(
            (int(name[:-4]), size)
            for name, size in listing.items()
            if name.endswith(".log") and name[:-4].isdigit()
        )
        # There are none where a kill came before the first.
        after = [base for base, _ in segments[1:]] + [1 << 63]
        return sum(size for (_, size), end in zip(segments, after, strict=False) if end > recovery_point)
