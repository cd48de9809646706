"""Everything that is wrong with a data directory, without changing a byte of it.

Reads every ``.log`` file from its first to its last byte, compares indexes, snapshots and checkpoints
with it, and goes on after whatever it finds.  Meant for a directory that no broker is using: beside a
running one it may report the tail of a log that is being written.

A problem is *serious* when records are lost or would be served wrongly; otherwise the next start
repairs it (a torn tail after a crash, an index to be made anew).  Tests run it when they are done,
``pykbroker log check`` on request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from pykbroker.log import checkpoints, replacing
from pykbroker.log import epochs as epoch_file
from pykbroker.log import holes as hole_file
from pykbroker.log.descriptors import Descriptors
from pykbroker.log.epochs import LeaderEpochs
from pykbroker.log.files import Files
from pykbroker.log.holes import Hole, covered
from pykbroker.log.indexes import OffsetIndex, TimeIndex
from pykbroker.log.recovery import place_holes, read_anchors
from pykbroker.log.scan import Limits, Result, Source, scan
from pykbroker.log.segment import (
    CLEANED,
    DELETED,
    INDEX,
    LOG,
    SNAPSHOT,
    TIME_INDEX,
    Segment,
    file_name,
    offset_of,
)
from pykbroker.records.batch import BatchError, BatchHeader
from pykbroker.records.decode import iter_records
from pykbroker.records.snapshot import SnapshotError, decode_snapshot

I = TypeVar("I", OffsetIndex, TimeIndex)  # noqa: E741


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: in which file, at which byte if that means anything, and what."""

    path: Path
    text: str
    serious: bool
    position: int | None = None

    def __str__(self) -> str:
        where = "" if self.position is None else f" at byte {self.position}"
        return f"{'error' if self.serious else 'note'}: {self.path}{where}: {self.text}"


def check_data_dir(data_dir: Path) -> list[Problem]:
    """All problems of a broker's data directory, partition by partition.  Raises :class:`OSError`."""
    problems: list[Problem] = []
    ends: dict[checkpoints.TopicPartition, tuple[int, int]] = {}
    for directory in sorted(path for path in data_dir.iterdir() if path.is_dir()):
        key = _partition_of(directory.name)
        if key is None or not any(directory.glob("*.log")):
            continue
        checker = _LogChecker(directory)
        problems += checker.check()
        ends[key] = checker.start, checker.end
    problems += _check_checkpoints(data_dir, ends)
    return problems


def check_log(directory: Path) -> list[Problem]:
    """All problems of one partition's directory.  Raises :class:`OSError`."""
    return _LogChecker(directory).check()


def _partition_of(name: str) -> checkpoints.TopicPartition | None:
    topic, dash, partition = name.rpartition("-")
    return (topic, int(partition)) if dash and partition.isdigit() else None


def _check_checkpoints(
    data_dir: Path, ends: dict[checkpoints.TopicPartition, tuple[int, int]]
) -> Iterator[Problem]:
    for name in (checkpoints.RECOVERY_POINTS, checkpoints.HIGH_WATERMARKS, checkpoints.LOG_STARTS):
        path = data_dir / name
        if not path.exists():
            continue
        offsets = checkpoints.read_offsets(path)
        if not offsets and path.stat().st_size > 4:
            yield Problem(path, "cannot be read", serious=False)
        for (topic, partition), offset in offsets.items():
            start, end = ends.get((topic, partition), (0, offset))
            if offset > end:
                text = f"{topic}-{partition}: offset {offset} lies behind the log end {end}"
                yield Problem(path, text, serious=True)
            elif offset < 0 or (name == checkpoints.HIGH_WATERMARKS and 0 < offset < start):
                yield Problem(path, f"{topic}-{partition}: offset {offset} lies below {start}", serious=False)


class _LogChecker:
    """Goes through one directory; ``start`` and ``end`` are the log's offsets afterwards."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files = Files()
        self.descriptors = Descriptors(self.files, 4)
        self.problems: list[Problem] = []
        self.start = self.end = 0
        self.last_epoch = -1

    def check(self) -> list[Problem]:
        names = self.files.listing(self.directory)
        self._check_names(names)
        epochs = self._read_epochs(names)
        bases = sorted(o for n in names if n.endswith(LOG) and (o := offset_of(n)) is not None)
        segments = [
            Segment(self.directory, base, names[file_name(base, LOG)], self.files, self.descriptors)
            for base in bases
        ]
        known = self._read_holes(names)
        place_holes(segments, known)
        if segments:
            self.start = self.end = bases[0]
        for i, segment in enumerate(segments):
            self._check_segment(segment, bases[i + 1] if i + 1 < len(bases) else None, epochs, known)
        for offset in sorted(o for n in names if n.endswith(SNAPSHOT) and (o := offset_of(n)) is not None):
            self._check_snapshot(offset)
        if epochs is not None and epochs.latest is not None and epochs.latest < self.last_epoch:
            text = f"latest epoch {epochs.latest} is below that of the records, {self.last_epoch}"
            self._note(self.directory / epoch_file.FILE_NAME, text)
        return self.problems

    def _error(self, path: Path | str, text: str, position: int | None = None) -> None:
        self.problems.append(Problem(Path(path), text, serious=True, position=position))

    def _note(self, path: Path | str, text: str, position: int | None = None) -> None:
        self.problems.append(Problem(Path(path), text, serious=False, position=position))

    # -- the directory

    def _check_names(self, names: dict[str, int]) -> None:
        for name in sorted(names):
            path = self.directory / name
            if name.endswith((CLEANED, ".tmp")) or name == replacing.COMMIT:
                self._note(path, "left over from an interrupted step")
            elif name.endswith((INDEX, TIME_INDEX)):
                offset = offset_of(name)
                if offset is None or file_name(offset, LOG) not in names:
                    self._note(path, "an index without its .log file")
            elif name.endswith(DELETED):
                self._note(path, "deleted, but still there")
        if (
            checkpoints.PARTITION_METADATA in names
            and checkpoints.read_partition_metadata(self.directory) is None
        ):
            self._note(self.directory / checkpoints.PARTITION_METADATA, "cannot be read")

    def _read_epochs(self, names: dict[str, int]) -> LeaderEpochs | None:
        if epoch_file.FILE_NAME not in names:
            return None
        path = self.directory / epoch_file.FILE_NAME
        try:
            return LeaderEpochs.decode(self.files.read_all(path))
        except ValueError as e:
            self._note(path, f"cannot be read: {e}")
            return None

    def _read_holes(self, names: dict[str, int]) -> list[Hole]:
        if hole_file.FILE_NAME not in names:
            return []
        holes = hole_file.decode(self.files.read_all(self.directory / hole_file.FILE_NAME))
        for hole in holes:
            self._hole(hole, "known damage")
        return holes

    def _hole(self, hole: Hole, what: str) -> None:
        self._error(
            self.directory / file_name(hole.segment, LOG),
            f"{what}: offsets {hole.first_offset} to {hole.next_offset - 1} are lost, "
            f"{hole.end_position - hole.position} bytes: {hole.reason}",
            hole.position,
        )

    # -- one segment

    def _check_segment(
        self, segment: Segment, upper: int | None, epochs: LeaderEpochs | None, known: Sequence[Hole]
    ) -> None:
        limits = Limits(
            segment=segment.base_offset,
            sealed=upper is not None,
            epochs=epochs or LeaderEpochs(),
            anchors=read_anchors(segment, self.files),
            known=list(known),
        )
        if upper is not None:
            limits.upper = upper
        source = Source(self.files, segment.descriptor().fd, segment.size)
        batches: dict[int, tuple[int, int]] = {}  # position -> (last offset, largest timestamp so far)
        largest = -1

        def on_batch(position: int, header: BatchHeader) -> None:
            nonlocal largest
            largest = max(largest, header.max_timestamp)
            batches[position] = header.last_offset, largest
            self._check_batch(segment, source, position, header, epochs)

        result = scan(source, limits, expected=segment.base_offset, on_batch=on_batch)
        for hole in result.holes:
            if not covered(known, hole):
                self._hole(hole, "damage")
        self.end = self._segment_end(segment, result, upper, known)
        self._check_indexes(segment, batches)

    def _segment_end(self, segment: Segment, result: Result, upper: int | None, known: Sequence[Hole]) -> int:
        if result.torn is None:
            return result.next_offset
        tail = Hole(
            first_offset=result.next_offset,
            next_offset=upper if upper is not None else result.next_offset,
            segment=segment.base_offset,
            position=result.end,
            end_position=segment.size,
            reason=result.torn,
        )
        if covered(known, tail):
            return max((h.next_offset for h in known if h.position == tail.position), default=self.end)
        if upper is not None:
            self._hole(tail, "damage at the end")
            return upper
        self._note(segment.path, f"torn tail, {segment.size - result.end} bytes: {result.torn}", result.end)
        return result.next_offset

    def _check_batch(
        self,
        segment: Segment,
        source: Source,
        position: int,
        header: BatchHeader,
        epochs: LeaderEpochs | None,
    ) -> None:
        self.last_epoch = max(self.last_epoch, header.leader_epoch)
        epoch = epochs.epoch_for(header.base_offset) if epochs is not None else None
        if epoch is not None and epoch != header.leader_epoch:
            text = f"leader epoch {header.leader_epoch}, but {epoch} in the checkpoint"
            self._note(segment.path, text, position)
        try:
            offsets = [record.offset for record in iter_records(bytes(source.view(position, header.size)))]
        except BatchError as e:
            self._error(segment.path, f"records of a batch cannot be read: {e}", position)
            return
        if len(offsets) != header.record_count or any(a >= b for a, b in pairwise(offsets)):
            self._error(segment.path, f"{len(offsets)} records where {header.record_count} are due", position)
        if offsets and not header.base_offset <= offsets[0] <= offsets[-1] <= header.last_offset:
            self._error(segment.path, "records lie outside their batch's offsets", position)

    def _check_indexes(self, segment: Segment, batches: dict[int, tuple[int, int]]) -> None:
        index = self._read_index(segment, INDEX, lambda data: OffsetIndex.decode(data, segment.size))
        if index is not None:
            for relative, position in zip(index.offsets, index.positions, strict=True):
                if any(h.position <= position < h.end_position for h in segment.holes):
                    continue
                if batches.get(position, (-1, -1))[0] != segment.base_offset + relative:
                    self._note(segment.file(INDEX), f"no batch ends with {relative} at {position}")
                    break
        times = self._read_index(segment, TIME_INDEX, TimeIndex.decode)
        if times is not None:
            by_offset = dict(batches.values())
            for relative, timestamp in zip(times.offsets, times.timestamps, strict=True):
                found = by_offset.get(segment.base_offset + relative)
                if found is not None and found != timestamp:
                    text = f"largest timestamp up to {relative} is {found}, not {timestamp}"
                    self._note(segment.file(TIME_INDEX), text)
                    break

    def _read_index(self, segment: Segment, suffix: str, decode: Callable[[bytes], I | None]) -> I | None:
        path = Path(segment.file(suffix))
        try:
            index = decode(self.files.read_all(path))
        except FileNotFoundError:
            return None  # of the active segment after a crash; made anew for any other
        if index is None:
            self._note(path, "not sound")
        return index

    def _check_snapshot(self, offset: int) -> None:
        path = self.directory / file_name(offset, SNAPSHOT)
        try:
            states = decode_snapshot(self.files.read_all(path), offset)
        except SnapshotError as e:
            self._note(path, f"not readable: {e}")
            return
        for entry in states:
            if any(span.last_offset >= offset for span in entry.window):
                self._note(path, f"producer {entry.producer_id} has batches behind the snapshot")
        if offset > self.end:
            self._note(path, f"behind the log end {self.end}")
