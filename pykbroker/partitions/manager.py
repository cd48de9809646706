"""All partitions of this broker: opening, following the catalog, upkeep, closing.

A partition's directory and log are made when it is first asked for (:meth:`Partitions.get`), so that
an internal topic with fifty partitions costs nothing until it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from pykbroker.catalog.catalog import Catalog, Delta
    from pykbroker.catalog.image import Image
    from pykbroker.clock import Clock
    from pykbroker.log.files import Files
    from pykbroker.partitions.partition import Partition

Progress = Callable[[int, int, str], None]
"""Called as (bytes or partitions done, total, what) while logs are opened."""


class Partitions:
    """Owns every :class:`Partition` and its upkeep.  Used in the loop's thread only.

    Life: construct, ``await open_all(image)``, subscribe :meth:`on_delta` to the catalog,
    ``nursery.start(run)``, and at the end, after ``run`` was cancelled, ``await shutdown()``.
    """

    def __init__(self, catalog: Catalog, data_dir: Path, clock: Clock, *, files: Files | None = None) -> None:
        raise NotImplementedError

    def get(self, topic: str, index: int) -> Partition:
        """The partition; made on disk if the catalog has it and it was never used.

        Raises :class:`KafkaError` UNKNOWN_TOPIC_OR_PARTITION, or KAFKA_STORAGE_ERROR when its
        directory cannot be made.
        """
        raise NotImplementedError

    def get_by_id(self, topic_id: bytes, index: int) -> Partition:
        """As :meth:`get`; UNKNOWN_TOPIC_ID for an id that the catalog does not have."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Partition]:
        """The partitions that exist on disk, in no order."""
        raise NotImplementedError

    async def open_all(self, image: Image, *, on_progress: Progress | None = None) -> None:
        """Open what the data directory holds for ``image``; set everything else aside.

        Reads and removes the clean-shutdown mark: without it logs are recovered.
        """
        raise NotImplementedError

    def on_delta(self, delta: Delta) -> None:
        """Follow the catalog: new configs and leader epochs, deleted topics."""
        raise NotImplementedError

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Upkeep until cancelled: retention, flushes, checkpoints, producer expiry, compaction."""
        raise NotImplementedError

    async def shutdown(self) -> None:
        """Flush everything, write the checkpoints and the clean mark, close all logs."""
        raise NotImplementedError
