"""Which records of a batch compaction keeps, and the batch made of them.

Kafka's rules (source: its log cleaner, KIP-534 for the delete horizon):

* Of each key the last record stays, and whatever lies behind the mapped part of the log.
* A tombstone (null value) stays for ``delete.retention.ms`` after the first compaction that saw it.
  That moment is written into the batch: attribute bit 6 is set and the base timestamp becomes the
  *delete horizon*, the time from which the tombstone may go; timestamp deltas are adapted.
* Records of aborted transactions go.  A marker stays as long as a batch of its transaction was there
  in this pass, then until its own delete horizon.
* Offsets never change: base offset, last offset delta, producer id, epoch and base sequence stay
  as they were, however many records went.  A batch without records goes, unless it is the last data of a live
  producer or the last of the compacted part: then its header stays.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from hashlib import blake2b

from pykbroker.records.batch import (
    CODEC_MASK,
    CONTROL_BIT,
    DELETE_HORIZON_BIT,
    HEADER_SIZE,
    LOG_APPEND_TIME_BIT,
    NO_TIMESTAMP,
    TRANSACTIONAL_BIT,
    BatchError,
    BatchHeader,
    Buffer,
    seal,
)
from pykbroker.records.compression import CompressionError, compress, decompress
from pykbroker.records.decode import RecordSpan, iter_spans
from pykbroker.records.varint import append_varint

_DIGEST = 20
_ENTRY_COST = 200
"""Bytes of a dict entry with its bytes and int objects, growth of the table included (CPython 3.11)."""


class KeyMap:
    """Key -> offset of its last record, in at most about ``max_bytes`` of memory."""

    def __init__(self, max_bytes: int) -> None:
        self._max_entries = max(1, max_bytes // _ENTRY_COST)
        self._offsets: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._offsets)

    @property
    def full(self) -> bool:
        """Whether the memory is used up."""
        return len(self._offsets) >= self._max_entries

    def put(self, key: bytes, offset: int) -> None:
        """The record at ``offset``, above all others so far, has ``key``."""
        self._offsets[_short(key)] = offset

    def last_offset(self, key: bytes) -> int:
        """Offset of the last record with ``key``; -1 if none was put."""
        return self._offsets.get(_short(key), -1)


def _short(key: bytes) -> bytes:
    # No shorter key has a digest's length, so a key cannot be made to look like another's digest.
    return key if len(key) < _DIGEST else blake2b(key, digest_size=_DIGEST).digest()


class Retention:
    """Decides batch by batch, in offset order, over the whole compacted part of a log.

    ``mapped_end``: records at or above it stay as they are.  ``last_offsets``: of each live
    producer, the offset of its last data record; for one that has none in its epoch, ``-1 - epoch``
    (its last marker stays, which holds the epoch).  ``keep_headers``: last offsets of the batches
    whose headers stay in any case.
    """

    def __init__(
        self,
        keys: KeyMap,
        *,
        mapped_end: int,
        aborted: Mapping[int, Sequence[tuple[int, int]]],
        last_offsets: Mapping[int, int],
        keep_headers: Collection[int],
        now_ms: int,
        delete_retention_ms: int,
    ) -> None:
        self._keys = keys
        self._mapped_end = mapped_end
        self._aborted = aborted
        self._last_offsets = last_offsets
        self._keep_headers = keep_headers
        self._now_ms = now_ms
        self._new_horizon = now_ms + delete_retention_ms
        self._seen_data: set[int] = set()
        self.records_read = 0
        self.records_kept = 0

    def filter(self, header: BatchHeader, batch: Buffer) -> Buffer | None:
        """What stays of ``batch``: itself, a smaller batch, its header alone, or None."""
        if header.is_control:
            return self._filter_marker(header, batch)
        if header.is_transactional:
            self._seen_data.add(header.producer_id)
        self.records_read += header.record_count
        if header.base_offset >= self._mapped_end:
            self.records_kept += header.record_count
            return batch
        if is_aborted(self._aborted, header):
            return self._without_records(header)
        payload, spans = spans_of(header, batch)
        if not spans and header.record_count:
            self.records_kept += header.record_count
            return batch
        kept = [span for span in spans if self._stays(header, span)]
        self.records_kept += len(kept)
        if not kept:
            return self._without_records(header)
        horizon = header.delete_horizon_ms
        if horizon is None and any(not span.has_value for span in kept):
            return rebuild(header, payload, kept, self._new_horizon)
        if len(kept) == header.record_count:
            return batch
        return rebuild(header, payload, kept, None)

    def _stays(self, header: BatchHeader, span: RecordSpan) -> bool:
        offset = header.base_offset + span.offset_delta
        if offset >= self._mapped_end:
            return True
        if span.key is None or offset < self._keys.last_offset(span.key):
            return False
        horizon = header.delete_horizon_ms
        return span.has_value or horizon is None or self._now_ms < horizon

    def _filter_marker(self, header: BatchHeader, batch: Buffer) -> Buffer | None:
        transaction_gone = header.producer_id not in self._seen_data
        self._seen_data.discard(header.producer_id)
        self.records_read += header.record_count
        horizon = header.delete_horizon_ms
        if header.base_offset < self._mapped_end and transaction_gone:
            if header.record_count == 0 or (horizon is not None and horizon <= self._now_ms):
                return self._without_records(header)
            if horizon is None:
                payload, kept = spans_of(header, batch)
                self.records_kept += len(kept)
                if not kept:
                    return batch
                return rebuild(header, payload, kept, self._new_horizon)
        self.records_kept += header.record_count
        return batch

    def _without_records(self, header: BatchHeader) -> bytes | None:
        if header.last_offset in self._keep_headers or _is_last_of_producer(header, self._last_offsets):
            return without_records(header)
        return None


Settled = Callable[[BatchHeader, bytes], Collection[int]]
"""The offsets of the records of a batch that nobody needs, from its header and its decompressed payload.
Raises :class:`BatchError` where it cannot tell."""


class SettledRetention:
    """Drops the records that are settled, whatever their keys, and nothing else: of a log that only the
    broker itself reads.

    ``last_offsets`` and ``keep_headers`` as in :class:`Retention`; batches whose last offsets are in
    ``keep_whole`` stay as they are, and so does what cannot be understood.
    """

    def __init__(
        self,
        settled: Settled,
        *,
        last_offsets: Mapping[int, int],
        keep_headers: Collection[int],
        keep_whole: Collection[int],
    ) -> None:
        self._settled = settled
        self._last_offsets = last_offsets
        self._keep_headers = keep_headers
        self._keep_whole = keep_whole
        self.records_read = 0
        self.records_kept = 0

    def filter(self, header: BatchHeader, batch: Buffer) -> Buffer | None:
        """What stays of ``batch``: itself, a smaller batch, its header alone, or None."""
        self.records_read += header.record_count
        split = None if header.last_offset in self._keep_whole else remaining(self._settled, header, batch)
        if split is None or (header.record_count and len(split[1]) == header.record_count):
            self.records_kept += header.record_count
            return batch
        payload, kept = split
        self.records_kept += len(kept)
        if kept:
            return rebuild(header, payload, kept, None)
        if header.last_offset in self._keep_headers or _is_last_of_producer(header, self._last_offsets):
            return without_records(header) if header.record_count else batch
        return None


def remaining(settled: Settled, header: BatchHeader, batch: Buffer) -> tuple[bytes, list[RecordSpan]] | None:
    """The payload of a batch, and the records in it that are not settled; None: that cannot be said."""
    if header.is_control or header.is_transactional:
        return None
    payload, spans = spans_of(header, batch)
    if not spans and header.record_count:
        return None
    try:
        gone = settled(header, payload)
    except BatchError:
        return None
    return payload, [span for span in spans if header.base_offset + span.offset_delta not in gone]


def _is_last_of_producer(header: BatchHeader, last_offsets: Mapping[int, int]) -> bool:
    """Whether a batch holds what must be known of a live producer."""
    last = last_offsets.get(header.producer_id) if header.has_producer_id else None
    if last is None:
        return False
    if last >= 0:
        return header.last_offset == last
    return header.is_control and header.producer_epoch == -1 - last


def spans_of(header: BatchHeader, batch: Buffer) -> tuple[bytes, list[RecordSpan]]:
    """The records of a batch, decompressed, and where each is; none if they cannot be read.

    A producer may have written what is no record inside lengths that add up: such a batch is kept
    as it is.
    """
    try:
        payload = bytes(decompress(header.codec, memoryview(batch)[HEADER_SIZE:]))
        return payload, list(iter_spans(payload, header.record_count))
    except (BatchError, CompressionError):
        return b"", []


def is_aborted(aborted: Mapping[int, Sequence[tuple[int, int]]], header: BatchHeader) -> bool:
    """Whether ``header``'s batch belongs to one of the aborted transactions, by producer id
    (first offset, offset of the marker)."""
    if not header.is_transactional:
        return False
    spans = aborted.get(header.producer_id, ())
    return any(first <= header.base_offset < marker for first, marker in spans)


def rebuild(header: BatchHeader, payload: bytes, kept: Sequence[RecordSpan], horizon_ms: int | None) -> bytes:
    """The batch with only the records ``kept``; with ``horizon_ms`` as its new delete horizon."""
    attributes, base_timestamp = header.attributes, header.base_timestamp
    if horizon_ms is None:
        records = b"".join([payload[span.start : span.end] for span in kept])
    else:
        records = _shifted(payload, kept, header.base_timestamp - horizon_ms)
        attributes, base_timestamp = attributes | DELETE_HORIZON_BIT, horizon_ms
    codec = attributes & CODEC_MASK
    max_timestamp = header.max_timestamp
    if not header.log_append:
        max_timestamp = header.base_timestamp + max(span.timestamp_delta for span in kept)
    return seal(
        header._replace(
            attributes=attributes,
            base_timestamp=base_timestamp,
            max_timestamp=max_timestamp,
            record_count=len(kept),
        ),
        compress(codec, records) if codec else records,
    )


def without_records(header: BatchHeader) -> bytes:
    """The batch as a header alone, as Kafka writes it: no codec, no delete horizon."""
    kept_bits = LOG_APPEND_TIME_BIT | TRANSACTIONAL_BIT | CONTROL_BIT
    return seal(
        header._replace(
            attributes=header.attributes & kept_bits, base_timestamp=NO_TIMESTAMP, record_count=0
        ),
        b"",
    )


def _shifted(payload: bytes, kept: Sequence[RecordSpan], shift: int) -> bytes:
    """The records with ``shift`` added to their timestamp deltas."""
    out = bytearray()
    for span in kept:
        start = bytearray(1)  # the record's attributes: no bit is in use
        append_varint(start, span.timestamp_delta + shift)
        append_varint(out, len(start) + span.end - span.body)
        out += start
        out += payload[span.body : span.end]
    return bytes(out)
