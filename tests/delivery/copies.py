"""Records as lanes see them, and what becomes of their bytes in a log."""

from __future__ import annotations

from collections.abc import Sequence

from pykbroker.forwarding.copying import Building, Source, sources
from pykbroker.records.batch import read_header
from pykbroker.records.build import RecordData, encode_batch
from pykbroker.records.decode import Record, iter_records, payload_of

Header = tuple[str, bytes | None]


def source(
    headers: Sequence[Header] = (), key: bytes | None = b"k", value: bytes | None = b"v", *, offset: int = 0
) -> Source:
    """One record out of a log."""
    batch = encode_batch([RecordData(key, value, 7, headers)], timestamp_ms=5, base_offset=offset)
    (found,) = sources(read_header(batch), bytes(payload_of(batch)), keep_provenance=True)
    return found


def stored(suffix: bytes) -> Record:
    """The record that a consumer reads of a copy with this suffix."""
    building = Building(0)
    building.add(7, suffix)
    batch = building.finish(producer_id=-1, epoch=-1, base_sequence=-1, append_time_ms=None, level=None)
    (record,) = iter_records(batch)
    return record
