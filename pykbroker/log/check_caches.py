"""The checker's view of what is derived from a log: its indexes and producer snapshots.

Both are read before the log and hold on to what they say about it; then every batch is shown to them.
So memory goes by the size of the index, not by the number of batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from pykbroker.log.files import Files
from pykbroker.log.indexes import OffsetIndex, TimeIndex
from pykbroker.log.segment import INDEX, SNAPSHOT, TIME_INDEX, Segment, file_name, offset_of
from pykbroker.records.batch import BatchHeader
from pykbroker.records.snapshot import SnapshotError, decode_snapshot

I = TypeVar("I", OffsetIndex, TimeIndex)  # noqa: E741

Fault = tuple[str | Path, str]
"""File and what is wrong with it."""


class IndexChecker:
    """The two indexes of one segment; ``behind``: their newest entries need not be there (yet)."""

    def __init__(self, segment: Segment, files: Files, *, behind: bool) -> None:
        self._segment = segment
        self._files = files
        self._behind = behind
        self._faults: list[Fault] = []
        index = self._read(INDEX, lambda data: OffsetIndex.decode(data, segment.size))
        times = self._read(TIME_INDEX, TimeIndex.decode)
        self._last_times = times
        self._edges = {} if index is None else dict(zip(index.positions, index.offsets, strict=True))
        self._times = {} if times is None else dict(zip(times.offsets, times.timestamps, strict=True))
        self._largest = -1

    def _read(self, suffix: str, decode: Callable[[bytes], I | None]) -> I | None:
        path = self._segment.file(suffix)
        try:
            index = decode(self._files.read_all(path))
        except FileNotFoundError:
            if self._segment.size and not self._behind:
                self._faults.append((path, "missing"))
            return None
        if index is None:
            self._faults.append((path, "entries are not in order, or not inside the .log file"))
        return index

    def note(self, position: int, header: BatchHeader) -> None:
        """Take in the batch at ``position``, the next one of the segment."""
        self._largest = max(self._largest, header.max_timestamp)
        last = header.last_offset - self._segment.base_offset
        if self._edges.get(position) == last:
            del self._edges[position]
        if last in self._times:
            if self._times[last] != self._largest:
                what = f"largest timestamp up to {last} is {self._largest}, not {self._times[last]}"
                self._faults.append((self._segment.file(TIME_INDEX), what))
            del self._times[last]

    def faults(self) -> Iterator[Fault]:
        """What is wrong, once all batches were noted."""
        yield from self._faults
        base, holes = self._segment.base_offset, self._segment.holes
        for position, last in self._edges.items():
            if not any(h.position <= position < h.end_position for h in holes):
                yield self._segment.file(INDEX), f"no batch at {position} ends with {last}"
        for last in self._times:
            if not any(h.first_offset <= base + last < h.next_offset for h in holes):
                yield self._segment.file(TIME_INDEX), f"no batch ends with {last}"
        times = self._last_times
        newest = times.timestamps[-1] if times is not None and len(times) else -1
        if times is not None and newest < self._largest and not holes and not self._behind:
            what = f"largest timestamp is {self._largest} in the records, {newest} here"
            yield self._segment.file(TIME_INDEX), what


class SnapshotChecker:
    """The producer snapshots of one log."""

    def __init__(self, directory: Path, names: dict[str, int], files: Files) -> None:
        self._directory = directory
        self._faults: list[Fault] = []
        self._offsets = sorted(o for n in names if n.endswith(SNAPSHOT) and (o := offset_of(n)) is not None)
        self._ends: dict[int, list[tuple[int, int, int, int]]] = {}
        """Last offset of a batch -> (snapshot, producer, epoch, last sequence) that say it is theirs."""
        for offset in self._offsets:
            self._read(offset, files)

    def _path(self, offset: int) -> Path:
        return self._directory / file_name(offset, SNAPSHOT)

    def _read(self, offset: int, files: Files) -> None:
        path = self._path(offset)
        try:
            states = decode_snapshot(files.read_all(path), offset)
        except SnapshotError as error:
            self._faults.append((path, f"cannot be read: {error}"))
            return
        for entry in states:
            for span in entry.window:
                if span.last_offset >= offset:
                    what = f"producer {entry.producer_id} has a batch at {span.last_offset}, behind it"
                    self._faults.append((path, what))
                says = offset, entry.producer_id, entry.epoch, span.last_sequence
                self._ends.setdefault(span.last_offset, []).append(says)

    def note(self, header: BatchHeader) -> None:
        """Take in a batch of the log."""
        for offset, producer, epoch, sequence in self._ends.get(header.last_offset, ()):
            if (header.producer_id, header.producer_epoch, header.last_sequence) != (
                producer,
                epoch,
                sequence,
            ):
                what = (
                    f"the batch that ends at {header.last_offset} is not that of producer {producer}, "
                    f"epoch {epoch}, with sequence {sequence}"
                )
                self._faults.append((self._path(offset), what))

    def faults(self, end: int) -> Iterator[Fault]:
        """What is wrong, once all batches were noted and the log is known to end at ``end``."""
        yield from self._faults
        for offset in self._offsets:
            if offset > end:
                yield self._path(offset), f"lies behind the log end {end}"
