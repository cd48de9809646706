"""All partitions of this broker: opening, following the catalog, closing.

A partition's directory and log are made when it is first asked for (:meth:`Partitions.get`), so that
an internal topic with fifty partitions costs nothing until it is used.  A partition whose log cannot be
opened is offline: it answers KAFKA_STORAGE_ERROR, the others work.

Deviation from the first plan: the manager is given the catalog, which knows the topics' effective
settings; :meth:`Partitions.open_all` still takes the image to begin with.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Final

import trio

from pykbroker.catalog.catalog import Catalog, Delta
from pykbroker.catalog.image import Image, PartitionState, Topic
from pykbroker.catalog.inheriting import taking_from
from pykbroker.catalog.retrying import HELD_LOGS
from pykbroker.clock import Clock
from pykbroker.config import TopicConfig
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.log import checkpoints
from pykbroker.log.checkpoints import TopicPartition
from pykbroker.log.errors import StorageError
from pykbroker.log.files import Files
from pykbroker.log.log import Log
from pykbroker.partitions import directories
from pykbroker.partitions.flusher import Flushable, Flusher, NewLog
from pykbroker.partitions.opening import Opening, Progress
from pykbroker.partitions.partition import Partition
from pykbroker.partitions.upkeep import Upkeep

log = logging.getLogger(__name__)

CLOSING_THREADS: Final = 4
"""Logs closed at the same time: their syncs wait for the same disk, which takes some together."""


class Partitions:
    """Owns every :class:`Partition` and its upkeep.  Used in the loop's thread only.

    Life: construct, ``await open_all(image)``, subscribe :meth:`on_delta` to the catalog,
    ``nursery.start(run)``, and at the end, after ``run`` was cancelled, ``await shutdown()``.
    """

    def __init__(self, catalog: Catalog, data_dir: Path, clock: Clock, *, files: Files | None = None) -> None:
        self.data_dir = data_dir
        self._catalog = catalog
        self._clock = clock
        self._files = files
        self._image = catalog.image
        self._open: dict[TopicPartition, Partition] = {}
        self._offline: dict[TopicPartition, str] = {}
        self._sealed: set[bytes] = set()
        self._closed = False
        self._flusher = Flusher()
        self.on_opened: Callable[[Partition], None] | None = None
        """Told of each partition that is made or opened after the start."""
        self.upkeep = Upkeep(self, catalog, data_dir, clock, files or Files())

    def __iter__(self) -> Iterator[Partition]:
        """The partitions that exist on disk and are open, in no order."""
        return iter(tuple(self._open.values()))

    def __len__(self) -> int:
        return len(self._open)

    def get(self, topic: str, index: int) -> Partition:
        """The partition; made on disk if the catalog has it and it was never used.

        Raises :class:`KafkaError`: UNKNOWN_TOPIC_OR_PARTITION, NOT_LEADER_OR_FOLLOWER when another
        broker leads it or this one stops, KAFKA_STORAGE_ERROR when its log cannot be opened.
        """
        found = self._open.get((topic, index))
        return found if found is not None else self._first_use(topic, index)

    def opened(self, topic: str, index: int) -> Partition | None:
        """The partition, if it is open: it is not made."""
        return self._open.get((topic, index))

    def is_offline(self, topic: str, index: int) -> bool:
        """Whether there is a log of the partition that could not be opened."""
        return (topic, index) in self._offline

    def get_by_id(self, topic_id: bytes, index: int) -> Partition:
        """As :meth:`get`; UNKNOWN_TOPIC_ID for an id that the catalog does not have."""
        name = self._image.names_by_id.get(topic_id)
        if name is None:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_ID)
        found = self._open.get((name, index))
        return found if found is not None else self._first_use(name, index)

    def seal(self, topic_ids: Collection[bytes]) -> None:
        """Have all partitions of these topics, also those that were never used, refuse appends with
        NOT_LEADER_OR_FOLLOWER: whoever appends tries again.  Undone by :meth:`unseal`."""
        self._sealed.update(topic_ids)
        self._set_sealed(topic_ids, True)

    def unseal(self, topic_ids: Collection[bytes]) -> None:
        """These topics stay."""
        self._sealed.difference_update(topic_ids)
        self._set_sealed(topic_ids, False)

    def _set_sealed(self, topic_ids: Collection[bytes], sealed: bool) -> None:
        for partition in self._open.values():
            if partition.topic_id in topic_ids:
                partition.sealed = sealed

    def _first_use(self, name: str, index: int) -> Partition:
        topic, state = self._state(name, index)
        if self._closed:
            raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER, "the broker stops")
        reason = self._offline.get((name, index))
        if reason is not None:
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, reason)
        if state.leader != self._catalog.broker_config.node_id:
            raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        directory = self.data_dir / directories.name_of(name, index)
        config = self._catalog.topic_config(topic)
        try:
            opened = Log.open(
                directory,
                config,
                clean=True,
                recovery_point=0,
                log_start=0,
                now_ms=self._clock.time_ms(),
                files=self._files,
                sparse=name.startswith(HELD_LOGS),
            )
            checkpoints.write_partition_metadata(directory, topic.topic_id, self._files or Files())
        except (OSError, StorageError) as error:
            log.error("partition cannot be made: directory=%s: %s", directory, error)
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, str(error)) from error
        flush_target = NewLog(opened, self.data_dir, self._files or Files())
        return self._add(topic, index, opened, config, flush_target)

    def _state(self, name: str, index: int) -> tuple[Topic, PartitionState]:
        topic = self._image.topics.get(name)
        if topic is None or not 0 <= index < len(topic.partitions):
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        return topic, topic.partitions[index]

    def _add(
        self, topic: Topic, index: int, opened: Log, config: TopicConfig, flush_target: Flushable
    ) -> Partition:
        state = topic.partitions[index]
        partition = Partition(
            topic.name,
            index,
            topic.topic_id,
            opened,
            config,
            self._flusher,
            leader_epoch=state.leader_epoch,
            flush_target=flush_target,
            on_unflushed=self.upkeep.note_unflushed,
        )
        partition.under_min_isr = _under_min_isr(state, config)
        partition.sealed = topic.topic_id in self._sealed
        self._open[topic.name, index] = partition
        if self.on_opened is not None:
            self.on_opened(partition)
        return partition

    async def open_all(self, image: Image, *, on_progress: Progress | None = None) -> None:
        """Open what the data directory holds for ``image``; set everything else aside.

        Reads and removes the clean-shutdown mark: without it logs are recovered.  ``on_progress`` is
        called in this thread as (bytes done, bytes in all, partition) while large logs are recovered.
        """
        self._image = image
        opening = Opening(self.data_dir, self._clock, self._files)
        found = await opening.survey(image)
        self.upkeep.remove_directories(found.deleted)
        if opening.checkpointed - set(found.known):
            self.upkeep.checkpoints_outdated()
        await opening.open_logs(
            {key: self._catalog.topic_config(image.topics[key[0]]) for key in found.known}, on_progress
        )
        self._offline = opening.failed
        for (name, index), opened in opening.opened.items():
            topic = image.topics[name]
            self._add(topic, index, opened, self._catalog.topic_config(topic), opened)

    def on_delta(self, delta: Delta) -> None:
        """Follow the catalog: new configs and leader epochs, deleted topics."""
        self._image = delta.after
        for topic in delta.deleted:
            self._sealed.discard(topic.topic_id)
            for state in topic.partitions:
                self._delete(topic.name, state.index)
        for topic in delta.changed:
            self._follow(topic)
        if delta.broker_settings:
            reconfigured = {name: self._image.topics[name] for name, _ in self._open}
        else:
            reconfigured = {topic.name: topic for topic in delta.reconfigured}
            for topic in delta.reconfigured:
                reconfigured.update((taker.name, taker) for taker in taking_from(self._image, topic))
        for topic in reconfigured.values():
            self._reconfigure(topic)

    def _follow(self, topic: Topic) -> None:
        for state in topic.partitions:
            partition = self._open.get((topic.name, state.index))
            if partition is None:
                continue
            if state.leader_epoch != partition.leader_epoch:
                partition.lead(state.leader_epoch)
            partition.under_min_isr = _under_min_isr(state, partition.config)

    def _reconfigure(self, topic: Topic) -> None:
        config = self._catalog.topic_config(topic)
        for state in topic.partitions:
            partition = self._open.get((topic.name, state.index))
            if partition is not None:
                partition.set_config(config)
                partition.under_min_isr = _under_min_isr(state, config)

    def _delete(self, name: str, index: int) -> None:
        """Let go of a partition now; its files go in a thread, later."""
        self._offline.pop((name, index), None)
        self.upkeep.cleaner.forget((name, index))
        self.upkeep.checkpoints_outdated()
        partition = self._open.pop((name, index), None)
        if partition is not None:
            partition.close()
            partition.log.close(clean=False)
        directory = self.data_dir / directories.name_of(name, index)
        doomed = directory.with_name(directories.marked_name(directory.name, directories.DELETED))
        try:
            # Out of the way at once: the name may be created anew before the files are gone.
            (self._files or Files()).rename(directory, doomed)
        except FileNotFoundError:
            return
        except OSError as error:
            log.error("deleted partition cannot be renamed: directory=%s: %s", directory, error)
            return
        self.upkeep.remove_directories([doomed])

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Upkeep until cancelled: retention, flushes, checkpoints, producer expiry, compaction."""
        await self.upkeep.run(task_status=task_status)

    async def shutdown(self) -> None:
        """Flush everything, close all logs, write the checkpoints and the clean mark.

        A log that cannot be closed cleanly is reported, and then the mark is not written: the next
        start recovers.
        """
        self._closed = True
        open_now = list(self._open.values())
        for partition in open_now:
            partition.close()
        await self._flusher.aclose()
        clean = not self._offline
        waiting = list(open_now)

        async def close_some() -> None:
            nonlocal clean
            while waiting:
                some = [waiting.pop() for _ in range(min(len(waiting), 16))]
                clean = await trio.to_thread.run_sync(_close_logs, some) and clean

        async with trio.open_nursery() as nursery:
            for _ in range(CLOSING_THREADS):
                nursery.start_soon(close_some)
        await self.upkeep.write_checkpoints(open_now)
        self._open.clear()
        if clean:
            try:
                files = self._files or Files()
                await trio.to_thread.run_sync(checkpoints.write_clean_mark, self.data_dir, files)
            except OSError as error:  # a full disk: everything else is done and flushed
                log.error("the stop cannot be marked as clean, the next start verifies: %s", error)


def _close_logs(partitions: list[Partition]) -> bool:
    clean = True
    for partition in partitions:
        try:
            partition.log.close(clean=True)
        except (OSError, StorageError) as error:
            clean = False
            log.error("log not closed cleanly: partition=%s-%d: %s", partition.topic, partition.index, error)
    return clean


def _under_min_isr(state: PartitionState, config: TopicConfig) -> bool:
    # A minimum above the number of replicas counts as all of them (SEMANTICS: Kafka caps it).
    return len(state.isr) < min(config.min_insync_replicas, len(state.replicas))
