"""The records of an ingress partition, in order or again by their offsets."""

from __future__ import annotations

import logging
import os
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import trio

from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.forwarding.copying import Source, picked, sources
from pykbroker.log.errors import CorruptRange
from pykbroker.partitions.partition import Partition
from pykbroker.protocol.schema import FileRegion
from pykbroker.records.batch import BatchError, BatchHeader, crc_ok, iter_headers
from pykbroker.records.decode import payload_of

log = logging.getLogger(__name__)

READ_BYTES = 1024 * 1024
SPARSE_BYTES = 32 * 1024
"""What is read for a single record, where its batch is not larger."""
SLICE_S = 0.001
"""Decoding lets others have their turn after this long."""
LOOK = 32
"""Records between two looks at the clock."""
LARGE = 16 * 1024
"""Compressed bytes beyond which decompressing is worth a thread: they may hold many times their size."""


class Chunk(NamedTuple):
    """Some records, and the offset to go on from.  There may be none before it: markers, damage, what
    compaction took."""

    records: list[Source]
    next_offset: int


class Reader:
    """Reads one ingress partition; remembers where in a batch it is, so that a large one is taken apart
    once however many plans it takes."""

    def __init__(self, partition: Partition, max_decompressed: int, *, keep_provenance: bool) -> None:
        self._partition = partition
        self._keep_provenance = keep_provenance
        self._max_decompressed = max_decompressed
        self._next = self._read_end = -1
        self._data = b""
        self._batches: Iterator[tuple[int, BatchHeader]] = iter(())
        self._records: Iterator[Source] = iter(())
        self._batch_end = 0
        self._ahead: Source | None = None
        self.lost = 0
        """Offsets passed over because they are damaged."""

    async def take(self, offset: int, end: int, *, max_records: int, max_bytes: int) -> Chunk:
        """Records from ``offset`` on, all below ``end``, one at least if there is one.

        Raises :class:`KafkaError` where the log cannot be read.
        """
        if offset != self._next:
            self._begin(offset)
        found: list[Source] = []
        size = 0
        started = time.perf_counter()
        while True:
            record = await self._peek(offset, end)
            if record is None:
                # ``_batch_end`` is what has been looked at; a batch may reach over ``end``.
                self._next = min(max(self._batch_end, offset), end)
                break
            if record.offset >= end:
                self._next = end
                break
            if found and (len(found) >= max_records or size + record.size > max_bytes):
                self._next = record.offset
                break
            self._ahead = None
            if record.offset >= offset:
                found.append(record)
                size += record.size
                if not len(found) % LOOK and time.perf_counter() - started > SLICE_S:
                    await trio.lowlevel.checkpoint()
                    started = time.perf_counter()
        return Chunk(found, self._next)

    async def pick(self, offsets: Sequence[int]) -> list[Source]:
        """The records at rising ``offsets``; what is lost to damage is left out."""
        wanted, found = set(offsets), []
        at, end = offsets[0], offsets[-1] + 1
        while at < end:
            chunk = await self.take(at, end, max_records=1000, max_bytes=READ_BYTES)
            found += [record for record in chunk.records if record.offset in wanted]
            if chunk.next_offset <= at:
                break
            at = chunk.next_offset
        return found

    def _begin(self, offset: int) -> None:
        self._next = self._batch_end = self._read_end = offset
        self._batches, self._records, self._ahead = iter(()), iter(()), None

    async def _peek(self, offset: int, end: int) -> Source | None:
        """The next record, which stays the next; None: there is nothing more below ``end``."""
        while self._ahead is None:
            try:
                self._ahead = next(self._records, None)
            except BatchError as error:
                _report(self._partition, self._batch_end, str(error))
                self._records = iter(())
            if self._ahead is None and not await self._next_batch(max(offset, self._batch_end), end):
                return None
        return self._ahead

    async def _next_batch(self, offset: int, end: int) -> bool:
        while True:
            entry = self._next_header()
            if entry is None:
                if offset >= end or not self._read(offset, end):
                    return False
                offset = max(offset, self._batch_end)
                continue
            position, header = entry
            self._batch_end = max(self._batch_end, header.next_offset)
            if header.is_control or header.next_offset <= offset:
                continue
            if not crc_ok(self._data, position):
                # Clients check what they fetch; what the broker moves nobody else checks.
                _report(self._partition, header.next_offset, "the CRC does not match")
                self.lost += header.record_count
                continue
            self._records = await self._opened(header, position)
            return True

    def _next_header(self) -> tuple[int, BatchHeader] | None:
        try:
            entry = next(self._batches, None)
            if entry is not None or self._batch_end >= self._read_end:
                return entry
            reason = "batches are missing"
        except BatchError as error:
            reason = str(error)
        # The log does not look at what it has looked at before: it would say the same again.
        _report(self._partition, self._read_end, reason)
        self.lost += self._read_end - self._batch_end
        self._batches, self._batch_end = iter(()), self._read_end
        return None

    async def _opened(self, header: BatchHeader, position: int) -> Iterator[Source]:
        try:
            data = await _payload(self._data, position, header, self._max_decompressed)
        except BatchError as error:
            _report(self._partition, header.next_offset, str(error))
            self.lost += header.record_count
            return iter(())
        return sources(header, data, keep_provenance=self._keep_provenance)

    def _read(self, offset: int, end: int) -> bool:
        """Read more batches; False: there are none below ``end`` yet."""
        partition = self._partition
        start = partition.log_start_offset
        if offset < start:
            log.warning(
                "records were deleted before they were moved: partition=%s offsets=%d-%d",
                partition.label, offset, start - 1,
            )  # fmt: skip
            self.lost += start - offset
            self._batch_end = start
            return start < end
        limit = partition.last_stable_offset
        if offset >= limit:
            return False
        try:
            found = partition.log.read(offset, READ_BYTES, limit)
        except CorruptRange as damage:
            hole = damage.hole
            self._batch_end = max(hole.next_offset, offset + 1)
            _report(self._partition, self._batch_end, hole.reason)
            self.lost += self._batch_end - offset
            return True
        self._data = bytes_of(found.records)
        self._batches = iter_headers(self._data)
        self._read_end = found.next_offset
        if not found.size:
            # Nothing at or behind the offset: compaction took it.
            self._batch_end = limit
        return True


class SourceReader:
    """Reads single records of a log, wherever they lie in it.  Provenance of earlier copies stays.

    Offsets that lie close together are read together: the log is looked up for each cluster.
    """

    def __init__(self, partition: Partition, max_decompressed: int) -> None:
        self._partition = partition
        self._max_decompressed = max_decompressed

    async def pick(self, offsets: Iterable[int]) -> dict[int, Source]:
        """The records at ``offsets``, given in any order, by offset, in rising order.

        Those that do not exist (any more) or are damaged are left out; control records do not count.
        Up to the log end, whatever the high watermark.  Raises :class:`KafkaError` where the log cannot
        be read.
        """
        wanted = sorted(set(offsets))
        found: dict[int, Source] = {}
        start = self._partition.log_start_offset
        number = bisect_left(wanted, start)
        if number:
            log.warning(
                "records were deleted before they were moved: partition=%s records=%d below=%d",
                self._partition.label, number, start,
            )  # fmt: skip
        size, began = SPARSE_BYTES, time.perf_counter()
        while number < len(wanted):
            offset, end = wanted[number], self._partition.log_end_offset
            if offset >= end:
                break
            try:
                read = self._partition.log.read(offset, size, end)
            except CorruptRange as damage:
                behind = max(damage.hole.next_offset, offset + 1)
                _report(self._partition, behind, damage.hole.reason)
                number = bisect_left(wanted, behind, number)
                continue
            if not read.size:
                break
            before = number
            number = await self._take(bytes_of(read.records), wanted, number, found)
            if number == before:  # damaged since the log looked at it: it would say the same again
                number += 1
            # Of what lies close behind, more is read at once.
            near = number < len(wanted) and wanted[number] < 2 * read.next_offset - read.first_offset
            size = min(2 * size, READ_BYTES) if near else SPARSE_BYTES
            if time.perf_counter() - began > SLICE_S:
                await trio.lowlevel.checkpoint()
                began = time.perf_counter()
        return found

    async def _take(self, data: bytes, wanted: list[int], number: int, found: dict[int, Source]) -> int:
        """Of the batches in ``data``, what is wanted; the number of the first offset behind them."""
        began = time.perf_counter()
        for position, header in batches_in(data, self._partition):
            behind = bisect_left(wanted, header.next_offset, number)
            if behind == number:
                continue
            here = wanted[bisect_left(wanted, header.base_offset, number) : behind]
            number = behind
            if not here or header.is_control:
                continue
            if not crc_ok(data, position):
                _report(self._partition, header.next_offset, "the CRC does not match")
                continue
            try:
                payload = await _payload(data, position, header, self._max_decompressed)
                for record in picked(header, payload, here):
                    found[record.offset] = record
                    if not len(found) % LOOK and time.perf_counter() - began > SLICE_S:
                        await trio.lowlevel.checkpoint()
                        began = time.perf_counter()
            except BatchError as error:
                _report(self._partition, header.next_offset, str(error))
        return number


async def _payload(data: bytes, position: int, header: BatchHeader, max_decompressed: int) -> bytes:
    """The decompressed records of a batch.  Raises :class:`BatchError`."""

    def payload() -> bytes:
        return bytes(payload_of(data, position, max_decompressed))

    if header.codec and header.size > LARGE:
        return await trio.to_thread.run_sync(payload)
    return payload()


def _report(partition: Partition, next_offset: int, reason: str) -> None:
    log.error(
        "records are lost to damage before they are moved: partition=%s next=%d reason=%s",
        partition.label, next_offset, reason,
    )  # fmt: skip


def batches_in(data: bytes, partition: Partition) -> Iterator[tuple[int, BatchHeader]]:
    """The batches in what was read of ``partition``, up to damage that its log did not notice."""
    at = -1
    try:
        for position, header in iter_headers(data):
            at = header.next_offset
            yield position, header
    except BatchError as error:
        _report(partition, at, str(error))


def bytes_of(records: bytes | FileRegion) -> bytes:
    """Records that were read, in memory.  Raises :class:`KafkaError`."""
    if isinstance(records, FileRegion):
        try:
            return os.pread(records.fd, records.size, records.position)
        except OSError as error:
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, str(error)) from error
    return records
