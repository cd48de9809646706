"""Idempotence: what one partition remembers about each producer id.

A producer numbers its records per partition (the batch header carries the first number, its
*sequence*) and repeats a batch when it saw no answer.  The partition keeps, per producer id, the
epoch and the last five batches; from these follow the answers (SEMANTICS: Kafka 4.3.1, KIP-98)::

    batch                                                   answer
    ------------------------------------------------------  ------------------------------------
    same epoch, (first, last) sequence of a kept batch      Duplicate: success, nothing appended
    epoch below the known one                               47 INVALID_PRODUCER_EPOCH
    sequence -1                                             87 INVALID_RECORD
    same epoch, first sequence = last known + 1 (wrapping)  accepted
    same epoch, anything else                               45 OUT_OF_ORDER_SEQUENCE_NUMBER
    higher epoch, first sequence 0                          accepted; the window starts anew
    higher epoch, anything else                             45
    producer id not known here                              accepted with any sequence
    not transactional while a transaction is open           48 INVALID_TXN_STATE

The state lives ``producer.id.expiration.ms`` after the last append, not as long as its records.

``check`` decides and changes nothing; ``update`` applies, after the append and on replay alike.
Deviation from the first plan: ``check`` takes no time, since no answer depends on it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.records.batch import NO_PRODUCER_EPOCH, NO_SEQUENCE, NO_TIMESTAMP, BatchHeader, add_sequence

WINDOW = 5
"""Batches kept per producer: Kafka's number, and the most that clients have in flight."""


class Duplicate(NamedTuple):
    """A batch that is in the log already: where, and the timestamp Kafka answers for it (ms)."""

    base_offset: int
    last_offset: int
    timestamp_ms: int


class BatchSpan(NamedTuple):
    """A batch of the window.  ``offset_delta`` is its number of offsets less one."""

    last_sequence: int
    last_offset: int
    offset_delta: int
    timestamp_ms: int

    @property
    def first_sequence(self) -> int:
        """Sequence of the batch's first record; counts back over the wrap."""
        return add_sequence(self.last_sequence, -self.offset_delta)

    @property
    def base_offset(self) -> int:
        """Offset of the batch's first record."""
        return self.last_offset - self.offset_delta


class CompletedTransaction(NamedTuple):
    """What a control batch ended: offsets of the first data record and of the marker."""

    producer_id: int
    first_offset: int
    last_offset: int


@dataclass(slots=True, kw_only=True)
class ProducerEntry:
    """State of one producer id.  ``seen_ms`` is the time of its last append here."""

    producer_id: int
    epoch: int = NO_PRODUCER_EPOCH
    coordinator_epoch: int = -1
    seen_ms: int = NO_TIMESTAMP
    last_timestamp_ms: int = NO_TIMESTAMP
    open_since: int | None = None
    """First offset of its open transaction."""
    window: deque[BatchSpan] = field(default_factory=lambda: deque(maxlen=WINDOW))

    @property
    def last_sequence(self) -> int:
        """Sequence of the last record; -1 when there is none in this epoch."""
        return self.window[-1].last_sequence if self.window else NO_SEQUENCE

    def find(self, header: BatchHeader) -> Duplicate | None:
        """The kept batch with the very sequence range of ``header``, if any."""
        if header.producer_epoch != self.epoch:
            return None
        first, last = header.base_sequence, header.last_sequence
        for span in self.window:
            if span.last_sequence == last and span.first_sequence == first:
                return Duplicate(span.base_offset, span.last_offset, span.timestamp_ms)
        return None


class ProducerStates:
    """The producer ids of one partition, as of ``next_offset`` (the offset behind the last update)."""

    def __init__(self, entries: Iterable[ProducerEntry] = (), next_offset: int = 0) -> None:
        self.next_offset = next_offset
        self._entries = {entry.producer_id: entry for entry in entries}
        self._open = {e.open_since: e.producer_id for e in self._entries.values() if e.open_since is not None}
        self._ended: dict[int, int] = {}  # first offset -> marker's, until the high watermark passes it

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[ProducerEntry]:
        return iter(self._entries.values())

    def get(self, producer_id: int) -> ProducerEntry | None:
        """The state of ``producer_id``, or None when it is not known here."""
        return self._entries.get(producer_id)

    def check(self, header: BatchHeader) -> Duplicate | None:
        """Decide whether a client's batch may be appended (None), or is there already.

        Raises :class:`KafkaError` as the table above says.  Batches without producer id pass.
        """
        producer_id = header.producer_id
        if producer_id < 0:
            return None
        entry = self._entries.get(producer_id)
        if entry is not None and (duplicate := entry.find(header)) is not None:
            return duplicate
        epoch, sequence = header.producer_epoch, header.base_sequence
        if sequence < 0:
            raise KafkaError(
                ErrorCode.INVALID_RECORD,
                f"Invalid sequence number {sequence} in record batch with producer id {producer_id}",
            )
        if entry is not None:
            if epoch < entry.epoch:
                raise KafkaError(
                    ErrorCode.INVALID_PRODUCER_EPOCH,
                    f"Epoch {epoch} of producer {producer_id} is smaller than the last seen, {entry.epoch}",
                )
            _check_sequence(entry, epoch, sequence)
            if entry.open_since is not None and not header.is_transactional:
                raise KafkaError(
                    ErrorCode.INVALID_TXN_STATE,
                    f"Producer {producer_id} has a transaction open since offset {entry.open_since}",
                )
        return None

    def update(self, header: BatchHeader, now_ms: int) -> CompletedTransaction | None:
        """Take in a batch that is in the log now; returns the transaction that a marker ended.

        Never refuses: what is in the log is true (replay, replication).
        """
        self.next_offset = header.next_offset
        if header.producer_id < 0:
            return None
        entry = self._entries.get(header.producer_id)
        if entry is None:
            entry = self._entries[header.producer_id] = ProducerEntry(producer_id=header.producer_id)
        if entry.epoch != header.producer_epoch:
            entry.epoch = header.producer_epoch
            entry.window.clear()
        entry.seen_ms = now_ms
        entry.last_timestamp_ms = header.max_timestamp
        if header.is_control:
            return self._end_transaction(entry, header)
        if header.base_sequence >= 0:
            entry.window.append(
                BatchSpan(
                    header.last_sequence, header.last_offset, header.last_offset_delta, header.max_timestamp
                )
            )
        if header.is_transactional and entry.open_since is None:
            entry.open_since = header.base_offset
            self._open[header.base_offset] = header.producer_id
        return None

    def _end_transaction(self, entry: ProducerEntry, header: BatchHeader) -> CompletedTransaction | None:
        first, entry.open_since = entry.open_since, None
        if first is None:
            return None
        self._open.pop(first, None)
        self._ended[first] = header.last_offset
        return CompletedTransaction(entry.producer_id, first, header.last_offset)

    def first_unstable_offset(self, high_watermark: int) -> int | None:
        """First offset of the oldest transaction that readers of committed data wait for.

        That is one that is open, or whose marker the high watermark has not passed yet.
        """
        if not self._open and not self._ended:
            return None
        for first in [first for first, last in self._ended.items() if last < high_watermark]:
            del self._ended[first]
        return min((*self._open, *self._ended), default=None)

    def expire(
        self, now_ms: int, expiration_ms: int, is_needed: Callable[[int], bool] = lambda producer_id: False
    ) -> int:
        """Forget ids idle for ``expiration_ms``, open transactions and those that somebody needs excepted;
        returns how many."""
        idle = [
            entry.producer_id
            for entry in self._entries.values()
            if entry.open_since is None
            and now_ms - entry.seen_ms >= expiration_ms
            and not is_needed(entry.producer_id)
        ]
        for producer_id in idle:
            del self._entries[producer_id]
        return len(idle)

    def truncate(self, offset: int) -> bool:
        """Forget what lies at or above ``offset``; True if the state is exactly that of ``offset``.

        False: something was taken back, and what it had pushed out (older batches of the window,
        the epoch before) is gone.  The caller then loads the last snapshot and replays behind it.
        """
        if offset >= self.next_offset:
            return True
        self.next_offset = offset
        exact = not any(last >= offset for last in self._ended.values())
        for entry in list(self._entries.values()):
            kept = [span for span in entry.window if span.last_offset < offset]
            if len(kept) == len(entry.window):
                continue
            exact = False
            if not kept:
                del self._entries[entry.producer_id]
            entry.window = deque(kept, WINDOW)
        self._open = {first: pid for first, pid in self._open.items() if first < offset}
        self._ended = {first: last for first, last in self._ended.items() if last < offset}
        for entry in self._entries.values():
            if entry.open_since is not None and entry.open_since >= offset:
                entry.open_since = None
        return exact


def _check_sequence(entry: ProducerEntry, epoch: int, sequence: int) -> None:
    if entry.epoch == NO_PRODUCER_EPOCH:
        return  # nothing to compare with: Kafka lets producers without epoch through
    if epoch != entry.epoch:
        expected = 0
    elif entry.window:
        expected = add_sequence(entry.last_sequence, 1)
    else:
        expected = 0  # after a marker's epoch bump: the new epoch has no data yet
    if sequence != expected:
        raise KafkaError(
            ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
            f"Out of order sequence number for producer {entry.producer_id}: "
            f"{sequence} (incoming, epoch {epoch}), {entry.last_sequence} (last known, epoch {entry.epoch})",
        )
