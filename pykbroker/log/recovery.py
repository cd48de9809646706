"""From the files of a directory to a log that can be used.

After a clean stop: the last index entry of the active segment, the headers behind it, the epochs and
the producer snapshot, which is written at the log end; a few KB per log.  Other segments are only
looked at (names and sizes); their indexes are loaded when needed.

After an unclean stop: every batch of the segments that reach beyond the recovery point is verified
(:mod:`pykbroker.log.scan`), their indexes are made anew, producer state is replayed on top of the
last snapshot before them, and epochs are taken from the batches.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pykbroker.log import epochs as epoch_file
from pykbroker.log import holes as hole_file
from pykbroker.log import replacing
from pykbroker.log.descriptors import Descriptors
from pykbroker.log.epochs import LeaderEpochs
from pykbroker.log.files import Files
from pykbroker.log.holes import Hole, covered, merge
from pykbroker.log.indexes import OffsetIndex
from pykbroker.log.scan import Anchors, Limits, Result, Source, scan
from pykbroker.log.segment import DELETED, INDEX, LOG, SNAPSHOT, TIME_INDEX, Segment, file_name, offset_of
from pykbroker.records.batch import BatchHeader
from pykbroker.records.producers import ProducerStates
from pykbroker.records.snapshot import SnapshotError, decode_snapshot

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with bytes examined and bytes to examine while a log is recovered."""

_PROGRESS_STEP = 16 * 1024 * 1024


@dataclass(slots=True)
class Loaded:
    """What :func:`load` found: everything a :class:`~pykbroker.log.log.Log` starts from."""

    segments: list[Segment]
    log_start: int
    log_end: int
    epochs: LeaderEpochs
    producers: ProducerStates
    holes: list[Hole]
    snapshots: set[int]
    """Offsets of the producer snapshots in the directory."""
    new_names: bool = False
    """Files were created or renamed since the directory was last synced."""
    holes_changed: bool = field(default=False)


@dataclass(slots=True, kw_only=True)
class Loader:
    """The steps of opening one log; :meth:`load` runs them."""

    directory: Path
    interval: int
    recovery_point: int
    log_start: int
    now_ms: int
    files: Files
    descriptors: Descriptors
    compacted: bool = False
    """Compaction may have left gaps between offsets."""
    leader_epoch: int = -1
    """No batch can have a higher epoch; -1: not known."""
    on_progress: Progress | None = None
    epochs_lost: bool = False
    """There is no checkpoint of the leader epochs that can be read."""
    done_bytes: int = 0
    told_bytes: int = 0
    total_bytes: int = 0

    def load(self, *, clean: bool) -> Loaded:
        """Open the directory.  Raises :class:`OSError`."""
        names = self._listing()
        segments = self._segments(names)
        new = not segments
        if new:
            segments = [self._create(self.log_start)]
        known = self._holes(names, segments)
        loaded = Loaded(
            segments,
            max(self.log_start, segments[0].base_offset),
            segments[-1].base_offset,
            self._read_epochs(names),
            ProducerStates(),
            known,
            {offset for name in names if (offset := _snapshot_offset(name)) is not None},
            new_names=new,
        )
        if new:
            loaded.producers.next_offset = loaded.log_end
        elif clean and self._tail_is_sound(loaded):
            self._load_producers(loaded, loaded.log_end)
            self._replay(loaded, segments, loaded.log_end)
            if self.epochs_lost:
                loaded.epochs = _epochs_of(segments)
        else:
            self._recover(loaded, hold=self.recovery_point if clean else 0)
        if clean and not new and loaded.log_end < self.recovery_point:
            self._note_missing_end(loaded)
        loaded.segments[-1].created_ms = self.now_ms
        self._finish(loaded)
        return loaded

    # -- what is there

    def _listing(self) -> dict[str, int]:
        try:
            names = self.files.listing(self.directory)
        except FileNotFoundError:
            self.files.make_directory(self.directory)
            return {}
        if replacing.complete(self.directory, names, self.files):
            names = self.files.listing(self.directory)
        for name in [name for name in names if name.endswith((DELETED, ".tmp")) or self._orphan(name, names)]:
            self.files.unlink(self.directory / name)
            del names[name]
        return names

    def _orphan(self, name: str, names: dict[str, int]) -> bool:
        offset = offset_of(name) if name.endswith((INDEX, TIME_INDEX)) else None
        return offset is not None and file_name(offset, LOG) not in names

    def _segments(self, names: dict[str, int]) -> list[Segment]:
        found = sorted(
            (offset, size)
            for name, size in names.items()
            if name.endswith(LOG) and (offset := offset_of(name)) is not None and len(name) == 24
        )
        return [Segment(self.directory, offset, size, self.files, self.descriptors) for offset, size in found]

    def _create(self, base_offset: int) -> Segment:
        segment = Segment(self.directory, base_offset, 0, self.files, self.descriptors)
        self.descriptors.create(segment.path)
        segment.start_fresh()
        segment.created_ms = self.now_ms
        return segment

    def _read_epochs(self, names: dict[str, int]) -> LeaderEpochs:
        if epoch_file.FILE_NAME in names:
            try:
                return LeaderEpochs.decode(self.files.read_all(self.directory / epoch_file.FILE_NAME))
            except ValueError as e:
                log.warning("leader epochs not readable: directory=%s error=%s", self.directory, e)
        self.epochs_lost = True
        return LeaderEpochs()

    def _holes(self, names: dict[str, int], segments: list[Segment]) -> list[Hole]:
        if hole_file.FILE_NAME not in names:
            return []
        by_base = {segment.base_offset: segment for segment in segments}
        holes = []
        for hole in hole_file.decode(self.files.read_all(self.directory / hole_file.FILE_NAME)):
            segment = by_base.get(hole.segment)
            if segment is not None and hole.end_position <= segment.size:
                holes.append(hole)
        place_holes(segments, holes)
        return holes

    # -- after a clean stop

    def _tail_is_sound(self, loaded: Loaded) -> bool:
        """Whether the active segment ends as it should; sets the log end and its largest timestamp."""
        active = loaded.segments[-1]
        position = active.index.positions[-1] if len(active.index) else 0
        active.largest_timestamp()
        expected = active.base_offset
        end = position
        for at, header in active.headers(position):
            if (at > position or not position) and not self._continues(header, expected, loaded.holes):
                return False
            expected, end = header.next_offset, at + header.size
        for hole in active.holes:
            if hole.position <= end and hole.end_position >= end and hole.first_offset <= expected:
                expected, end = max(expected, hole.next_offset), hole.end_position
        loaded.log_end = expected
        active.since_index = end - position
        active.release_large_indexes()
        return end == active.size

    def _continues(self, header: BatchHeader, expected: int, holes: list[Hole]) -> bool:
        return header.base_offset == expected or any(
            hole.first_offset <= expected and header.base_offset <= hole.next_offset for hole in holes
        )

    def _note_missing_end(self, loaded: Loaded) -> None:
        """The log was longer when it was stopped cleanly.  Its offsets are not given out again."""
        active = loaded.segments[-1]
        self._add_hole(
            loaded,
            Hole(
                first_offset=loaded.log_end,
                next_offset=self.recovery_point,
                segment=active.base_offset,
                position=active.size,
                end_position=active.size,
                reason="the file ends too early",
            ),
        )
        loaded.log_end = self.recovery_point

    # -- after an unclean stop

    def _recover(self, loaded: Loaded, *, hold: int) -> None:
        """Verify from the recovery point on.  What is damaged at the very end is cut, unless ``hold``
        says that the log ended there after a clean stop: then it was in the log, and is a hole."""
        segments = loaded.segments
        first = len(segments) - 1
        while first > 0 and segments[first].base_offset > self.recovery_point:
            first -= 1
        self.total_bytes = sum(segment.size for segment in segments[first:])
        scanned_from = segments[first].base_offset
        checkpoint = loaded.epochs
        loaded.epochs = LeaderEpochs(checkpoint.entries)
        loaded.epochs.truncate_from_end(scanned_from)
        if self.epochs_lost:
            loaded.epochs = _epochs_of(segments[:first])
        self._load_producers(loaded, scanned_from)
        self._replay(loaded, segments[:first], scanned_from)
        for i in range(first, len(segments)):
            upper = segments[i + 1].base_offset if i + 1 < len(segments) else None
            self._recover_segment(loaded, segments[i], checkpoint, upper, hold)
        if loaded.epochs.entries == checkpoint.entries:
            loaded.epochs.dirty = checkpoint.dirty
        else:
            loaded.epochs.dirty = True

    def _recover_segment(
        self, loaded: Loaded, segment: Segment, checkpoint: LeaderEpochs, upper: int | None, hold: int
    ) -> None:
        limits = Limits(
            segment=segment.base_offset,
            sealed=upper is not None,
            compacted=self.compacted,
            epochs=checkpoint,
            epochs_synced=self.recovery_point,
            leader_epoch=self.leader_epoch,
            anchors=read_anchors(segment, self.files),
            known=loaded.holes,
        )
        if upper is not None:
            limits.upper = upper
        segment.start_fresh()

        def on_batch(position: int, header: BatchHeader) -> None:
            segment.note(position, header, self.interval)
            if header.leader_epoch > (-1 if loaded.epochs.latest is None else loaded.epochs.latest):
                loaded.epochs.assign(header.leader_epoch, header.base_offset)
            if header.base_offset >= loaded.producers.next_offset:
                loaded.producers.update(header, self.now_ms)
            self._progress(position)

        source = Source(self.files, segment.descriptor().fd, segment.size)
        result = scan(source, limits, expected=segment.base_offset, on_batch=on_batch)
        for hole in result.holes:
            self._add_hole(loaded, hole)
        while result.torn is not None and (kept := self._kept_tail(loaded, segment, result, upper, hold)):
            self._add_hole(loaded, kept)
            if kept.end_position >= segment.size:
                result = Result([], segment.size, kept.next_offset, None)
                break
            result = scan(
                source, limits, start=kept.end_position, expected=kept.next_offset, on_batch=on_batch
            )
            for hole in result.holes:
                self._add_hole(loaded, hole)
        self._end_segment(loaded, segment, result, upper)
        self.done_bytes += segment.size

    def _kept_tail(
        self, loaded: Loaded, segment: Segment, result: Result, upper: int | None, hold: int
    ) -> Hole | None:
        """The hole that the bytes at the end of the segment are, if they are not to be cut."""
        for hole in loaded.holes:
            if (
                hole.segment == segment.base_offset
                and hole.position == result.end < hole.end_position
                and hole.next_offset > result.next_offset
            ):
                return hole
        after = upper if upper is not None else hold
        if after <= result.next_offset:
            return None
        return Hole(
            first_offset=result.next_offset,
            next_offset=after,
            segment=segment.base_offset,
            position=result.end,
            end_position=segment.size,
            reason=result.torn or "missing",
        )

    def _end_segment(self, loaded: Loaded, segment: Segment, result: Result, upper: int | None) -> None:
        if result.torn is not None and upper is None:
            log.warning(
                "torn tail cut: file=%s position=%d bytes=%d offsets_from=%d reason=%r",
                segment.path, result.end, segment.size - result.end, result.next_offset, result.torn,
            )  # fmt: skip
            segment.cut(result.end)
            loaded.holes = [h for h in loaded.holes if h.first_offset < result.next_offset]
            place_holes(loaded.segments, loaded.holes)
        if upper is None:
            loaded.log_end = max(
                (h.next_offset for h in loaded.holes if h.first_offset == result.next_offset),
                default=result.next_offset,
            )
            segment.save_indexes()
        else:
            segment.finish()
            segment.forget_indexes()

    def _add_hole(self, loaded: Loaded, hole: Hole) -> None:
        if covered(loaded.holes, hole):
            return
        log.error(
            "damage found: file=%s/%s position=%d bytes=%d offsets=%d-%d reason=%r",
            self.directory, file_name(hole.segment, LOG), hole.position,
            hole.end_position - hole.position, hole.first_offset, hole.next_offset - 1, hole.reason,
        )  # fmt: skip
        loaded.holes = merge(loaded.holes, hole)
        loaded.holes_changed = True
        place_holes(loaded.segments, loaded.holes)

    def _progress(self, position: int) -> None:
        done = self.done_bytes + position
        if self.on_progress is not None and done - self.told_bytes >= _PROGRESS_STEP:
            self.told_bytes = done
            self.on_progress(done, self.total_bytes)

    # -- producer state

    def rebuild_producers(self, segments: list[Segment], snapshots: set[int], end: int) -> ProducerStates:
        """Producer state as of ``end``, which is the end of ``segments``: snapshot and replay."""
        loaded = Loaded(segments, 0, end, LeaderEpochs(), ProducerStates(), [], snapshots)
        self._load_producers(loaded, end)
        self._replay(loaded, segments, end)
        return loaded.producers

    def _load_producers(self, loaded: Loaded, limit: int) -> None:
        """The newest usable snapshot not above ``limit``, else nothing as of the first segment."""
        for offset in sorted((o for o in loaded.snapshots if o <= limit), reverse=True):
            path = self.directory / file_name(offset, SNAPSHOT)
            try:
                loaded.producers = decode_snapshot(self.files.read_all(path), offset)
            except SnapshotError as e:
                log.warning("producer snapshot ignored: file=%s error=%s", path, e)
                loaded.snapshots.discard(offset)
            else:
                return
        loaded.producers = ProducerStates(next_offset=loaded.segments[0].base_offset)

    def _replay(self, loaded: Loaded, segments: list[Segment], end_offset: int) -> None:
        """Bring producer state from its snapshot up to ``end_offset`` by reading headers."""
        producers = loaded.producers
        for i, segment in enumerate(segments):
            after = segments[i + 1].base_offset if i + 1 < len(segments) else end_offset
            if after <= producers.next_offset or not segment.size:
                continue
            start = segment.index.position_for(max(producers.next_offset - segment.base_offset, 0))
            for _position, header in segment.headers(start):
                if header.base_offset >= producers.next_offset and header.next_offset <= end_offset:
                    producers.update(header, self.now_ms)
        producers.next_offset = max(producers.next_offset, end_offset)

    # -- the end

    def _finish(self, loaded: Loaded) -> None:
        loaded.log_start = min(max(loaded.log_start, loaded.segments[0].base_offset), loaded.log_end)
        before = len(loaded.holes)
        loaded.holes = [
            h for h in loaded.holes if h.next_offset > loaded.log_start and h.first_offset < loaded.log_end
        ]
        loaded.holes_changed = loaded.holes_changed or len(loaded.holes) != before
        place_holes(loaded.segments, loaded.holes)
        loaded.producers.next_offset = loaded.log_end
        loaded.epochs.truncate_from_end(loaded.log_end + 1)
        loaded.epochs.truncate_from_start(loaded.log_start)
        for offset in [o for o in loaded.snapshots if o > loaded.log_end]:
            self.files.unlink(self.directory / file_name(offset, SNAPSHOT))
            loaded.snapshots.discard(offset)


def _snapshot_offset(name: str) -> int | None:
    return offset_of(name) if name.endswith(SNAPSHOT) else None


def _epochs_of(segments: list[Segment]) -> LeaderEpochs:
    """The leader epochs that the records of ``segments`` have, by their headers."""
    epochs = LeaderEpochs()
    for segment in segments:
        for _position, header in segment.headers(0):
            if header.leader_epoch != epochs.latest:
                epochs.assign(header.leader_epoch, header.base_offset)
    return epochs


def place_holes(segments: list[Segment], holes: list[Hole]) -> None:
    """Tell each segment the holes in its file."""
    for segment in segments:
        segment.holes = [hole for hole in holes if hole.segment == segment.base_offset]


def read_anchors(segment: Segment, files: Files) -> Anchors:
    """The batch edges that the segment's index file names."""
    try:
        data = files.read_all(segment.file(INDEX))
    except FileNotFoundError:
        return Anchors()
    return Anchors(segment.base_offset, OffsetIndex.decode(data[: len(data) // 8 * 8], segment.size))
