"""Logs and batches for the tests of this room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pykbroker.errors import KafkaError
from pykbroker.log.errors import CorruptRange
from pykbroker.log.files import Files
from pykbroker.log.holes import Hole
from pykbroker.log.log import Log
from pykbroker.protocol.schema import FileRegion
from pykbroker.records.batch import BatchHeader, iter_headers, read_header, set_offsets
from pykbroker.records.build import RecordData, encode_batch
from pykbroker.records.decode import iter_records

NOW = 1_700_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings a log looks at, small enough that segments roll in a test."""

    segment_bytes: int = 1 << 20
    segment_ms: int = 7 * 24 * 3600 * 1000
    segment_jitter_ms: int = 0
    segment_index_bytes: int = 10 << 20
    index_interval_bytes: int = 512
    retention_ms: int = -1
    retention_bytes: int = -1
    cleanup_policy: frozenset[str] = frozenset({"delete"})


def make_batch(
    values: Sequence[bytes],
    *,
    timestamp_ms: int = NOW,
    timestamps: Sequence[int] | None = None,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
) -> bytes:
    """A batch as a producer sends it, with one record per value."""
    times = timestamps or [timestamp_ms] * len(values)
    records = [RecordData(key=None, value=v, timestamp_ms=t) for v, t in zip(values, times, strict=True)]
    return encode_batch(
        records,
        timestamp_ms=times[0],
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
    )


def placed(batches: Sequence[bytes], base_offset: int, epoch: int) -> tuple[memoryview, list[BatchHeader]]:
    """The batches with offsets from ``base_offset`` on, as :meth:`Log.append` takes them."""
    data = bytearray().join(batches)
    headers = []
    for pos, _header in iter_headers(bytes(data)):
        set_offsets(data, pos, base_offset, epoch)
        headers.append(read_header(data, pos))
        base_offset = headers[-1].next_offset
    return memoryview(data), headers


def append(log: Log, *batches: bytes, epoch: int = 0, now_ms: int = NOW) -> int:
    """Append to ``log``; returns the base offset."""
    base = log.log_end_offset
    log.append(*placed(batches, base, epoch), now_ms)
    return base


def fill(log: Log, count: int, *, size: int = 100, epoch: int = 0, per_batch: int = 1) -> None:
    """Append ``count`` batches of ``per_batch`` records, whose values begin with their offset."""
    for _ in range(count):
        base = log.log_end_offset
        append(log, make_batch([value_for(base + i, size) for i in range(per_batch)]), epoch=epoch)


def value_for(offset: int, size: int = 100) -> bytes:
    """The value that :func:`fill` writes at ``offset``."""
    return f"{offset:08d}".encode().ljust(size, b".")


def open_log(
    directory: Path,
    config: Config | None = None,
    *,
    clean: bool = True,
    recovery_point: int = 0,
    log_start: int = 0,
    files: Files | None = None,
    leader_epoch: int = -1,
    sparse: bool = False,
) -> Log:
    """Open with defaults for a test."""
    return Log.open(
        directory,
        config or Config(),
        clean=clean,
        recovery_point=recovery_point,
        log_start=log_start,
        now_ms=NOW,
        files=files,
        leader_epoch=leader_epoch,
        sparse=sparse,
    )


def data_of(records: bytes | FileRegion) -> bytes:
    """The bytes of an answer, wherever they are."""
    if isinstance(records, FileRegion):
        return Files().read_exactly(records.fd, records.size, records.position)
    return records


def read_all(log: Log, start: int | None = None, max_bytes: int = 1 << 20) -> bytes:
    """All batches from ``start`` to the log end.  Raises what :meth:`Log.read` raises."""
    offset = log.log_start_offset if start is None else start
    parts = []
    while offset < log.log_end_offset:
        answer = log.read(offset, max_bytes, log.log_end_offset)
        if not answer.size:
            break
        assert answer.size == len(answer.records)
        parts.append(data_of(answer.records))
        offset = answer.next_offset
    return b"".join(parts)


def read_values(log: Log, max_bytes: int = 1 << 20) -> tuple[dict[int, bytes | None], list[Hole]]:
    """Offset -> value of all that can be read, CRCs checked by nobody; and the holes met on the way."""
    values: dict[int, bytes | None] = {}
    holes: list[Hole] = []
    offset = log.log_start_offset
    while offset < log.log_end_offset:
        try:
            answer = log.read(offset, max_bytes, log.log_end_offset)
        except CorruptRange as e:
            hole: Hole | None = e.hole
        else:
            hole = None
        if hole is not None:
            assert hole.next_offset > offset
            holes.append(hole)
            offset = hole.next_offset
            continue
        if not answer.size:
            break
        data = data_of(answer.records)
        for pos, header in iter_headers(data):
            assert header.next_offset > offset
            for record in iter_records(data, pos):
                if record.offset >= offset:
                    values[record.offset] = record.value
        assert answer.next_offset > offset
        offset = answer.next_offset
    return values, holes


def code_of(error: KafkaError) -> str:
    """Name of the Kafka error code."""
    return error.code.name
