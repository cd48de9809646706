"""One partition as clients see it.

A :class:`~pykbroker.log.log.Log` holds bytes; a :class:`Partition` adds what Kafka's clients and
coordinators build on: offsets are assigned by a leader in a leader epoch, producers are held to their
sequences, and only what lies below the high watermark is seen.  Appending is synchronous and never
waits; whoever needs the high watermark to pass waits for that in a separate step.

The high watermark of a single broker follows the log end at once, except for what ``flush.messages``
demands: an append that reaches that many unflushed records holds the watermark where it is until the
flush thread has made it durable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pykbroker.config import TopicConfig
    from pykbroker.log.log import Log, LogRead
    from pykbroker.records.batch import BatchHeader

Watcher = Callable[[], None]


class Appended(NamedTuple):
    """What became of an append.

    ``log_append_time_ms`` is -1 unless the topic stamps records with the time of the append.
    ``duplicate`` is true when the batch had been appended before; the offsets are then the old ones.
    """

    base_offset: int
    last_offset: int
    log_append_time_ms: int
    log_start_offset: int
    duplicate: bool

    @property
    def next_offset(self) -> int:
        """What the high watermark must reach for this append to be acknowledged."""
        return self.last_offset + 1


class Partition:
    """Log, leader epoch, high watermark and waiters of one partition.  Used in the loop's thread only."""

    topic: str
    index: int
    topic_id: bytes
    leader_epoch: int
    log: Log
    config: TopicConfig
    high_watermark: int
    """Offset below which consumers read; also "the next offset that is not yet acknowledged"."""

    @property
    def log_start_offset(self) -> int:
        """The first offset that has not been deleted."""
        raise NotImplementedError

    @property
    def log_end_offset(self) -> int:
        """The offset that the next record gets."""
        raise NotImplementedError

    @property
    def last_stable_offset(self) -> int:
        """Offset below which a read_committed consumer reads."""
        raise NotImplementedError

    def append_as_leader(
        self,
        batches: memoryview | bytearray | bytes,
        headers: Sequence[BatchHeader] | None = None,
        *,
        now_ms: int,
        internal: bool = False,
    ) -> Appended:
        """Assign offsets and the leader epoch to ``batches`` and write them.

        The caller has checked their structure (:mod:`pykbroker.records.validate`); ``headers``, in
        order, spares parsing them again.  A writable buffer is changed in place (base offsets, leader
        epochs, append time).  ``internal`` appends (coordinators, the broker's own) keep their
        timestamps and codec whatever the topic says.

        Raises :class:`KafkaError`: sequence errors (45, 47, 87), KAFKA_STORAGE_ERROR (disk full, or a
        flush failed and has not succeeded since), NOT_LEADER_OR_FOLLOWER after :meth:`close`.
        Nothing is appended then.
        """
        raise NotImplementedError

    def append_as_follower(self, batches: memoryview | bytearray | bytes, *, now_ms: int) -> None:
        """Append batches that a leader wrote: offsets and epochs stay.  They must follow the log end."""
        raise NotImplementedError

    def truncate_to(self, offset: int) -> None:
        """Drop everything from ``offset`` on: log, indexes, epochs, producer state; waiters are told."""
        raise NotImplementedError

    def read(self, offset: int, max_bytes: int, *, read_committed: bool = False) -> LogRead:
        """Whole batches from the one that holds ``offset``, up to ``max_bytes`` and the high watermark
        (or the last stable offset); the first batch always, however large.

        Raises :class:`KafkaError`: OFFSET_OUT_OF_RANGE, CORRUPT_MESSAGE (damage at ``offset`` and the
        policy is ``stop``), KAFKA_STORAGE_ERROR.
        """
        raise NotImplementedError

    def watch(self, fn: Watcher) -> None:
        """Have ``fn`` called, synchronously, whenever the high watermark moves, a flush fails, or the
        partition closes.  It must be quick and must not append."""
        raise NotImplementedError

    def unwatch(self, fn: Watcher) -> None:
        """End :meth:`watch`; not being watched is fine."""
        raise NotImplementedError

    async def wait_high_watermark(self, offset: int) -> None:
        """Return when ``high_watermark >= offset`` (pass :attr:`Appended.next_offset`).

        Raises :class:`KafkaError`: KAFKA_STORAGE_ERROR when a flush failed meanwhile,
        NOT_LEADER_OR_FOLLOWER when the partition was closed or cut below ``offset``.
        """
        raise NotImplementedError
