"""One partition as clients see it.

A :class:`~pykbroker.log.log.Log` holds bytes; a :class:`Partition` adds what Kafka's clients and
coordinators build on: offsets are assigned by a leader in a leader epoch, producers are held to their
sequences, and only what lies below the high watermark is seen.  Appending is synchronous and never
waits; whoever needs the high watermark to pass waits for that in a separate step.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pykbroker.catalog.image import HIDDEN_PREFIX
from pykbroker.config import TopicConfig
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.log.errors import CorruptRange, OffsetOutOfRange
from pykbroker.log.log import Log, LogRead
from pykbroker.partitions.acknowledging import Acknowledging
from pykbroker.partitions.flusher import Flushable, Flusher
from pykbroker.records.batch import BatchHeader, iter_headers, read_header, set_offsets
from pykbroker.records.compression import CODEC_NAMES, Codec
from pykbroker.records.recode import recompress, stamp_append_time

log = logging.getLogger(__name__)


class Appended(NamedTuple):
    """What became of an append.

    ``log_append_time_ms`` is -1 unless the topic stamps records with the time of the append (of a
    duplicate it is, as in Kafka, the batch's largest timestamp).  ``duplicate`` is true when the batch
    had been appended before; the offsets are then the old ones.
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


class Partition(Acknowledging):
    """Log, leader epoch, high watermark and waiters of one partition.  Used in the loop's thread only."""

    def __init__(
        self,
        topic: str,
        index: int,
        topic_id: bytes,
        log: Log,
        config: TopicConfig,
        flusher: Flusher,
        *,
        leader_epoch: int = 0,
        on_unflushed: Callable[[Partition], None] | None = None,
        flush_target: Flushable | None = None,
    ) -> None:
        """``on_unflushed`` is called at the first append after a flush where the topic has ``flush.ms``.
        ``flush_target`` is flushed in place of ``log``, if something has to happen before."""
        note = None if on_unflushed is None else lambda: on_unflushed(self)
        super().__init__(f"{topic}-{index}", log, flusher, flush_target or log, note)
        self.topic = topic
        self.index = index
        self.topic_id = topic_id
        self.leader_epoch = leader_epoch
        self.under_min_isr = False
        """Whether acks=all has to be refused because too few replicas are in sync."""
        self.skipped_holes = 0
        """Reads that went on behind damage (``pykbroker.corruption.policy=skip``)."""
        self.sealed = False
        """Whether appends are refused: the topic is about to be deleted, which may come to nothing."""
        self.needed_from: Callable[[], int] | None = None
        """The offset below which the broker itself has no use for the records any more, where it has one:
        nothing from there on is deleted or compacted."""
        self.is_face = False
        """Whether the broker moves on what is produced here: an exchange, a topic with a partitioner or one
        that delays, or a retry topic."""
        self.config = config
        self.set_config(config)
        log.epochs.assign(leader_epoch, log.log_end_offset)
        self._resume()

    def __repr__(self) -> str:
        return f"<Partition {self.topic}-{self.index} {self.log_start_offset}..{self.high_watermark}>"

    def set_config(self, config: TopicConfig) -> None:
        """Work with these settings from now on."""
        self.config = config
        self.log.config = config
        self.is_face = not self.topic.startswith(HIDDEN_PREFIX) and bool(
            config.pykbroker_partitioner
            or config.pykbroker_exchange_type
            or config.pykbroker_delay_enable
            or config.pykbroker_role.startswith("retry:")
        )
        self._stamps = config.message_timestamp_type == "LogAppendTime"
        self._set_flush_policy(config.flush_messages, config.flush_ms)
        self._codec: Codec | None = None
        self._level: int | None = None
        if config.compression_type != "producer":
            self._codec = CODEC_NAMES[config.compression_type]
            self._level = {
                Codec.GZIP: None if config.compression_gzip_level == -1 else config.compression_gzip_level,
                Codec.LZ4: config.compression_lz4_level,
                Codec.ZSTD: config.compression_zstd_level,
            }.get(self._codec)

    def lead(self, leader_epoch: int) -> None:
        """Lead in ``leader_epoch`` from the log end on (the catalog said so)."""
        self.leader_epoch = leader_epoch
        self.log.epochs.assign(leader_epoch, self.log.log_end_offset)
        self._disturb()

    @property
    def log_start_offset(self) -> int:
        """The first offset that has not been deleted."""
        return self.log.log_start_offset

    @property
    def log_end_offset(self) -> int:
        """The offset that the next record gets."""
        return self.log.log_end_offset

    @property
    def last_stable_offset(self) -> int:
        """Offset below which a read_committed consumer reads."""
        unstable = self.log.producers.first_unstable_offset(self.high_watermark)
        return self.high_watermark if unstable is None else min(unstable, self.high_watermark)

    @property
    def deletable_end(self) -> int:
        """Offset below which records may be deleted."""
        if self.needed_from is None:
            return self.high_watermark
        return min(self.high_watermark, self.needed_from())

    def check_leader_epoch(self, epoch: int) -> None:
        """Hold a client's idea of the leader epoch against ours; -1 is "does not know".

        Raises :class:`KafkaError` FENCED_LEADER_EPOCH (theirs is old) or UNKNOWN_LEADER_EPOCH (ours is).
        """
        if epoch == -1 or epoch == self.leader_epoch:
            return
        if epoch < self.leader_epoch:
            raise KafkaError(ErrorCode.FENCED_LEADER_EPOCH)
        raise KafkaError(ErrorCode.UNKNOWN_LEADER_EPOCH)

    # -- appending ------------------------------------------------------------------------------

    def needs_recoding(self, header: BatchHeader) -> bool:
        """Whether the topic's ``compression.type`` asks for another codec than the batch has."""
        return self._codec is not None and header.codec != self._codec

    def recode(self, batch: memoryview | bytearray | bytes) -> bytes:
        """``batch`` in the codec that the topic asks for.  CPU only: call it in a thread when large.

        Raises :class:`KafkaError` MESSAGE_TOO_LARGE when it has grown over ``max.message.bytes``.
        """
        assert self._codec is not None
        recoded = recompress(batch, self._codec, level=self._level)
        if len(recoded) > self.config.max_message_bytes:
            raise KafkaError(
                ErrorCode.MESSAGE_TOO_LARGE,
                f"The record batch size is {len(recoded)} bytes as {self.config.compression_type} which "
                f"exceeds the maximum configured value of {self.config.max_message_bytes}",
            )
        return recoded

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
        timestamps and codec whatever the topic says, and their sequences are not looked at: the broker
        compares them itself, and leaves some out.

        Raises :class:`KafkaError`: sequence errors (45, 47, 48, 87), KAFKA_STORAGE_ERROR (disk full, or a
        flush failed and none has succeeded since), NOT_LEADER_OR_FOLLOWER after :meth:`close`.
        Nothing is appended then.
        """
        self._check_writable()
        if headers is None:
            headers = [header for _, header in iter_headers(batches)]
        producers = self.log.producers
        for header in headers:
            if header.producer_id >= 0 and not header.is_control and not internal:
                duplicate = producers.check(header)
                if duplicate is not None:
                    return Appended(
                        duplicate.base_offset,
                        duplicate.last_offset,
                        duplicate.timestamp_ms,
                        self.log.log_start_offset,
                        True,
                    )
        if self._codec is not None and not internal and any(map(self.needs_recoding, headers)):
            assert len(headers) == 1, "only a client's batch is recoded, and clients send one"
            batches = self.recode(batches)
            headers = [read_header(batches)]
        view = memoryview(batches)
        if view.readonly:
            view = memoryview(bytearray(view))
        stamp = self._stamps and not internal
        base_offset = offset = self.log.log_end_offset
        assigned: list[BatchHeader] = []
        position = 0
        for header in headers:
            set_offsets(view, position, offset, self.leader_epoch)
            if stamp:
                stamp_append_time(view, position, now_ms)
                header = read_header(view, position)
            else:
                header = header._replace(base_offset=offset, leader_epoch=self.leader_epoch)
            assigned.append(header)
            position += header.size
            offset = header.next_offset
        assert position == len(view), "headers describe all the bytes"
        self.log.append(view, assigned, now_ms)
        self._appended(position)
        return Appended(base_offset, offset - 1, now_ms if stamp else -1, self.log.log_start_offset, False)

    def append_as_follower(self, batches: memoryview | bytearray | bytes, *, now_ms: int) -> None:
        """Append batches that a leader wrote: offsets and epochs stay.  They must follow the log end.

        Raises :class:`KafkaError`: KAFKA_STORAGE_ERROR, or OFFSET_OUT_OF_RANGE for a batch that lies
        below the log end.
        """
        self._check_writable()
        headers = [header for _, header in iter_headers(batches)]
        end = self.log.log_end_offset
        for header in headers:
            if header.base_offset < end:
                raise OffsetOutOfRange(header.base_offset, self.log.log_start_offset, end)
            end = header.next_offset
        view = memoryview(batches)[: sum(header.size for header in headers)]
        self.log.append(view, headers, now_ms)
        self._hidden_bytes += len(view)

    def truncate_to(self, offset: int) -> None:
        """Drop everything from ``offset`` on: log, indexes, epochs, producer state; waiters are told.

        Raises :class:`KafkaError` KAFKA_STORAGE_ERROR.
        """
        self.log.truncate_to(offset)
        self._cut()

    def _check_writable(self) -> None:
        if self.closed or self.sealed:
            why = "closed" if self.closed else "about to be deleted"
            raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER, f"the partition is {why}")
        if self.failure is not None:
            self.request_flush()
            raise self.failure

    # -- reading ----------------------------------------------------------------------------------

    def read(
        self, offset: int, max_bytes: int, *, read_committed: bool = False, first_whole: bool = True
    ) -> LogRead:
        """Whole batches from the one that holds ``offset``, up to ``max_bytes`` and the high watermark
        (or the last stable offset).  With ``first_whole`` the first one comes however large it is.

        Raises :class:`KafkaError`: OFFSET_OUT_OF_RANGE, CORRUPT_MESSAGE (damage at ``offset`` and the
        policy is ``stop``), KAFKA_STORAGE_ERROR.
        """
        end = self.last_stable_offset if read_committed else self.high_watermark
        if not self.log.log_start_offset <= offset <= self.log.log_end_offset:
            raise OffsetOutOfRange(offset, self.log.log_start_offset, self.log.log_end_offset)
        asked = offset
        while offset < end and (first_whole or max_bytes > 0):
            try:
                return self.log.read(offset, max_bytes, end, first_whole=first_whole)
            except CorruptRange as damage:
                if self.config.pykbroker_corruption_policy != "skip":
                    raise
                hole = damage.hole
                self.skipped_holes += 1
                log.warning(
                    "a read goes on behind damage: partition=%s-%d offset=%d next=%d reason=%s",
                    self.topic, self.index, offset, hole.next_offset, hole.reason,
                )  # fmt: skip
                offset = max(hole.next_offset, offset + 1)
        return LogRead(b"", 0, asked, asked)

    def end_offset_for_epoch(self, leader_epoch: int) -> tuple[int, int]:
        """(epoch, end offset) of the largest epoch not above ``leader_epoch``; (-1, -1) if unknown."""
        return self.log.epochs.end_offset_for(leader_epoch, self.log.log_end_offset)

    def delete_records_before(self, offset: int) -> int:
        """Make records below ``offset`` (-1: the high watermark) unreadable; returns the log start.

        What the broker still has to move is not deleted: -1 leaves it.  Raises :class:`KafkaError`:
        OFFSET_OUT_OF_RANGE above the high watermark or below -1, POLICY_VIOLATION for what is not moved.
        """
        end = self.deletable_end
        if offset == -1:
            offset = end
        if not 0 <= offset <= self.high_watermark:
            raise OffsetOutOfRange(offset, self.log.log_start_offset, self.high_watermark)
        if offset > end:
            raise KafkaError(
                ErrorCode.POLICY_VIOLATION, f"Records from offset {end} on are still to be forwarded"
            )
        if offset > self.log.log_start_offset:
            self.log.advance_log_start(offset)
            self._disturb()
        return self.log.log_start_offset
