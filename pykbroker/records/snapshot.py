"""Producer state as Kafka's ``<offset>.snapshot`` file, readable by Kafka's own tools.

Layout (big endian; source: ``ProducerSnapshot.json`` version 1)::

    int16 version = 1 | uint32 CRC32C of all that follows | int32 count | count entries:
    int64 producer id, int16 epoch, int32 last sequence, int64 last offset, int32 offset delta,
    int64 timestamp, int32 coordinator epoch, int64 first offset of the open transaction (-1: none)

Kafka keeps only the last batch of the window in the file, and takes a client's timestamp for the
time of the last append.  So that a restart forgets neither, a block of ours follows the entries:
Kafka's readers check it as part of the CRC and do not look at it (tried with DumpLogSegments)::

    "pykb" | int8 version = 1 | int32 count | count times:
    int64 producer id, int64 time of the last append (ms), int8 older batches, each:
    int32 last sequence, int64 last offset, int32 offset delta, int64 timestamp

A file without the block (written by Kafka) is read as Kafka reads it.
"""

from __future__ import annotations

import struct
from collections import deque

import crc32c

from pykbroker.records.batch import Buffer
from pykbroker.records.producers import WINDOW, BatchSpan, ProducerEntry, ProducerStates

_PREFIX = struct.Struct(">hI")
_COUNT = struct.Struct(">i")
_ENTRY = struct.Struct(">qhiqiqiq")
_MARK = struct.Struct(">4sbi")
_SEEN = struct.Struct(">qqb")
_SPAN = struct.Struct(">iqiq")
_VERSION = 1
_OUR_MARK = b"pykb"
_OUR_VERSION = 1


class SnapshotError(ValueError):
    """The bytes are not a producer snapshot, or are damaged.  Older files or a replay replace it."""


def encode_snapshot(states: ProducerStates) -> bytes:
    """The content of the file ``<states.next_offset>.snapshot``."""
    body = bytearray(_COUNT.pack(len(states)))
    for entry in states:
        last = entry.window[-1] if entry.window else BatchSpan(-1, -1, 0, entry.last_timestamp_ms)
        body += _ENTRY.pack(
            entry.producer_id, entry.epoch, last.last_sequence, last.last_offset, last.offset_delta,
            entry.last_timestamp_ms, entry.coordinator_epoch,
            -1 if entry.open_since is None else entry.open_since,
        )  # fmt: skip
    body += _MARK.pack(_OUR_MARK, _OUR_VERSION, len(states))
    for entry in states:
        older = list(entry.window)[:-1]
        body += _SEEN.pack(entry.producer_id, entry.seen_ms, len(older))
        for span in older:
            body += _SPAN.pack(*span)
    return _PREFIX.pack(_VERSION, crc32c.crc32c(body)) + bytes(body)


def decode_snapshot(data: Buffer, next_offset: int) -> ProducerStates:
    """The state that a snapshot file holds; ``next_offset`` is the number in its name.

    Raises :class:`SnapshotError`.
    """
    if len(data) < _PREFIX.size + _COUNT.size:
        raise SnapshotError(f"snapshot too short: bytes={len(data)}")
    version, crc = _PREFIX.unpack_from(data)
    if version != _VERSION:
        raise SnapshotError(f"snapshot version is not {_VERSION}: version={version}")
    computed = crc32c.crc32c(memoryview(data)[_PREFIX.size :])
    if crc != computed:
        raise SnapshotError(f"snapshot CRC does not match: stored={crc} computed={computed}")
    try:
        entries, pos = _decode_entries(data)
        if len(data) - pos >= _MARK.size:
            _decode_block(data, pos, entries)
    except struct.error as e:
        raise SnapshotError(f"snapshot ends inside an entry: bytes={len(data)}") from e
    return ProducerStates(entries.values(), next_offset)


def _decode_entries(data: Buffer) -> tuple[dict[int, ProducerEntry], int]:
    (count,) = _COUNT.unpack_from(data, _PREFIX.size)
    pos = _PREFIX.size + _COUNT.size
    entries: dict[int, ProducerEntry] = {}
    for _ in range(count):
        pid, epoch, sequence, offset, delta, timestamp, coordinator, first = _ENTRY.unpack_from(data, pos)
        pos += _ENTRY.size
        window = deque([BatchSpan(sequence, offset, delta, timestamp)] if offset >= 0 else [], WINDOW)
        entries[pid] = ProducerEntry(
            producer_id=pid, epoch=epoch, coordinator_epoch=coordinator, seen_ms=timestamp,
            last_timestamp_ms=timestamp, open_since=first if first >= 0 else None, window=window,
        )  # fmt: skip
    return entries, pos


def _decode_block(data: Buffer, pos: int, entries: dict[int, ProducerEntry]) -> None:
    mark, version, count = _MARK.unpack_from(data, pos)
    if mark != _OUR_MARK or version != _OUR_VERSION:
        return
    pos += _MARK.size
    for _ in range(count):
        producer_id, seen_ms, older = _SEEN.unpack_from(data, pos)
        pos += _SEEN.size
        spans = [BatchSpan(*_SPAN.unpack_from(data, pos + i * _SPAN.size)) for i in range(older)]
        pos += older * _SPAN.size
        entry = entries.get(producer_id)
        if entry is not None:
            entry.seen_ms = seen_ms
            entry.window.extendleft(reversed(spans))
