"""The two sparse indexes of a segment, in memory and as Kafka's files.

``.index``: entries of 8 bytes, int32 offset relative to the segment's base, int32 position.  The
offset is the *last* one of the batch at that position, so that a search for an offset inside the
batch starts before it.

``.timeindex``: entries of 12 bytes, int64 timestamp, int32 relative offset: the largest timestamp up
to there and the last offset of the first batch that has it.  Timestamps rise strictly.

Both are caches: made while appending, checked when loaded, rebuilt from the ``.log`` file.  Files
have no preallocated tail.  The first entry comes once an index interval of bytes lies before it.
"""

from __future__ import annotations

import operator
import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from itertools import islice

_TIME = struct.Struct(">qi")
ENTRY_SIZE = 8
TIME_ENTRY_SIZE = 12
MAX_RELATIVE = 0x7FFF_FFFF
"""Largest offset relative to the base, and largest position."""
_CHECKED_ENTRIES = 16_384
"""Up to here all entries are checked on loading (under 1 ms); longer ones are checked as they are used."""
_SWAP = sys.byteorder == "little"


class OffsetIndex:
    """Relative last offsets and positions of some batches of a segment, both rising."""

    __slots__ = ("offsets", "positions", "saved")

    def __init__(self) -> None:
        self.offsets = array("i")
        self.positions = array("i")
        self.saved = 0
        """Entries that are in the file."""

    def __len__(self) -> int:
        return len(self.offsets)

    def add(self, relative_offset: int, position: int) -> None:
        """Add the batch at ``position``; both must lie above the last entry's."""
        self.offsets.append(relative_offset)
        self.positions.append(position)

    def position_for(self, relative_offset: int) -> int:
        """A batch edge at or before the batch that holds ``relative_offset``."""
        i = bisect_right(self.offsets, relative_offset) - 1
        return self.positions[i] if i >= 0 else 0

    def edge_at_or_before(self, position: int) -> int:
        """The last indexed batch edge not behind ``position``; 0 if there is none."""
        i = bisect_right(self.positions, position) - 1
        return self.positions[i] if i >= 0 else 0

    def truncate(self, position: int) -> None:
        """Drop entries of batches at or behind ``position``."""
        keep = bisect_left(self.positions, position)
        del self.offsets[keep:], self.positions[keep:]
        self.saved = min(self.saved, keep)

    def encode(self, start: int = 0) -> bytes:
        """The file's bytes from entry ``start`` on."""
        count = len(self.offsets) - start
        flat = array("i", bytes(count * ENTRY_SIZE))
        flat[0::2], flat[1::2] = self.offsets[start:], self.positions[start:]
        if _SWAP:
            flat.byteswap()
        return flat.tobytes()

    @classmethod
    def decode(cls, data: bytes, log_size: int) -> OffsetIndex | None:
        """The index in ``data``; None unless its entries rise and lie inside the log file."""
        if len(data) % ENTRY_SIZE:
            return None
        flat = array("i", data)
        if _SWAP:
            flat.byteswap()
        index = cls()
        index.offsets, index.positions = flat[0::2], flat[1::2]
        index.saved = len(index.offsets)
        if not index.offsets:
            return index
        sound = (
            index.offsets[0] >= 0
            and index.positions[0] > 0
            and index.positions[-1] < log_size
            and _rises(index.offsets)
            and _rises(index.positions)
        )
        return index if sound else None


def _rises(values: array[int]) -> bool:
    if len(values) > _CHECKED_ENTRIES:
        return values[0] < values[-1]
    return all(map(operator.lt, values, islice(values, 1, None)))


class TimeIndex:
    """Running maximum of timestamps (ms) and relative last offsets of the batches that brought it."""

    __slots__ = ("offsets", "saved", "timestamps")

    def __init__(self) -> None:
        self.timestamps = array("q")
        self.offsets = array("i")
        self.saved = 0

    def __len__(self) -> int:
        return len(self.timestamps)

    def maybe_add(self, timestamp_ms: int, relative_offset: int) -> bool:
        """Add an entry if ``timestamp_ms`` is a new maximum; True if it was added."""
        if timestamp_ms < 0 or (self.timestamps and timestamp_ms <= self.timestamps[-1]):
            return False
        self.timestamps.append(timestamp_ms)
        self.offsets.append(relative_offset)
        return True

    def offset_before(self, timestamp_ms: int) -> int:
        """A relative offset such that all records before it are older than ``timestamp_ms``."""
        i = bisect_left(self.timestamps, timestamp_ms) - 1
        return self.offsets[i] if i >= 0 else 0

    def truncate(self, relative_offset: int) -> None:
        """Drop entries at or above ``relative_offset``."""
        keep = bisect_left(self.offsets, relative_offset)
        del self.timestamps[keep:], self.offsets[keep:]
        self.saved = min(self.saved, keep)

    def encode(self, start: int = 0) -> bytes:
        """The file's bytes from entry ``start`` on."""
        pairs = zip(self.timestamps[start:], self.offsets[start:], strict=True)
        return b"".join(_TIME.pack(timestamp, offset) for timestamp, offset in pairs)

    @classmethod
    def decode(cls, data: bytes) -> TimeIndex | None:
        """The index in ``data``; None unless timestamps and offsets rise."""
        if len(data) % TIME_ENTRY_SIZE:
            return None
        index = cls()
        for timestamp, offset in _TIME.iter_unpack(data):
            index.timestamps.append(timestamp)
            index.offsets.append(offset)
        index.saved = len(index.timestamps)
        if index.timestamps and (
            index.timestamps[0] < 0
            or index.offsets[0] < 0
            or not _rises(index.timestamps)
            or not _rises(index.offsets)
        ):
            return None
        return index
