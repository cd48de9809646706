"""A :class:`~pykbroker.coordinator.shard_log.ShardLog` over a partition of an internal topic."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pykbroker.coordinator.shard_log import LogSlice, NewRecord, StoredRecord
from pykbroker.log.errors import CorruptRange
from pykbroker.protocol.schema import FileRegion
from pykbroker.records.batch import BatchError, crc_ok, iter_headers
from pykbroker.records.build import RecordData, encode_batch
from pykbroker.records.decode import iter_records

if TYPE_CHECKING:
    from pykbroker.partitions.partition import Partition

log = logging.getLogger(__name__)


class PartitionLog:
    """Reads to the log's end, not only to the high watermark: a new leader takes over all it has."""

    def __init__(self, partition: Partition) -> None:
        self._partition = partition

    @property
    def start_offset(self) -> int:
        """The first offset that is still there."""
        return self._partition.log_start_offset

    @property
    def end_offset(self) -> int:
        """The offset that the next record gets."""
        return self._partition.log_end_offset

    @property
    def high_watermark(self) -> int:
        """The offset below which everything is acknowledged."""
        return self._partition.high_watermark

    def append(self, records: Sequence[NewRecord], *, now_ms: int) -> int:
        """Append ``records`` as one batch and return the offset of the first.  Raises KafkaError."""
        batch = encode_batch([RecordData(r.key, r.value) for r in records], timestamp_ms=now_ms)
        return self._partition.append_as_leader(bytearray(batch), now_ms=now_ms, internal=True).base_offset

    def read(self, offset: int, max_bytes: int) -> LogSlice:
        """The records from ``offset`` on.  Damage is passed over: it costs what was in it, no more.

        Raises :class:`KafkaError`.
        """
        try:
            found = self._partition.log.read(offset, max_bytes, self._partition.log_end_offset)
        except CorruptRange as damage:
            self._report(offset, damage.hole.next_offset, damage.hole.reason)
            return LogSlice((), max(damage.hole.next_offset, offset + 1))
        records: list[StoredRecord] = []
        data = _bytes_of(found.records)
        for position, header in iter_headers(data):
            if header.is_control:
                continue
            if not crc_ok(data, position):
                # Clients check what they fetch; nobody but us checks what we read.
                self._report(header.base_offset, header.next_offset, "the CRC does not match")
                continue
            try:
                records += [
                    StoredRecord(r.offset, r.key, r.value)
                    for r in iter_records(data, position)
                    if r.key is not None and r.offset >= offset
                ]
            except BatchError as error:
                self._report(header.base_offset, header.next_offset, str(error))
        return LogSlice(records, found.next_offset)

    async def wait_high_watermark(self, offset: int) -> None:
        """Return when ``high_watermark >= offset``.  Raises :class:`KafkaError`."""
        await self._partition.wait_high_watermark(offset)

    def _report(self, offset: int, next_offset: int, reason: str) -> None:
        log.error(
            "coordinator records are lost to damage: partition=%s-%d offset=%d next=%d reason=%s",
            self._partition.topic, self._partition.index, offset, next_offset, reason,
        )  # fmt: skip


def _bytes_of(records: bytes | FileRegion) -> bytes:
    if isinstance(records, FileRegion):
        return os.pread(records.fd, records.size, records.position)
    return records
