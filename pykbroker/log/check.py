"""Everything that is wrong with one log, without changing a byte of it.

Every ``.log`` file is read from its first to its last byte, by the rules that recovery goes by
(:mod:`pykbroker.log.scan`), with every record of it; indexes, producer snapshots, leader epochs and
recorded holes are compared with what was read.  A check goes on after whatever it finds.

After a clean stop everything must be as it should.  After any other, what the next start makes anew or
cuts (a torn tail; indexes, epochs and snapshots of what was not known to be on the disk) is a note.
The whole data directory is :mod:`pykbroker.partitions.check`'s.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from pykbroker.log import checkpoints, replacing
from pykbroker.log import epochs as epoch_file
from pykbroker.log import holes as hole_file
from pykbroker.log.check_caches import IndexChecker, SnapshotChecker
from pykbroker.log.descriptors import Descriptors
from pykbroker.log.epochs import LeaderEpochs
from pykbroker.log.files import Files
from pykbroker.log.holes import Hole, covered
from pykbroker.log.recovery import place_holes, read_anchors
from pykbroker.log.report import Report
from pykbroker.log.scan import Limits, Source, scan
from pykbroker.log.segment import (
    CLEANED,
    DELETED,
    INDEX,
    LOG,
    SNAPSHOT,
    SWAP,
    TIME_INDEX,
    Segment,
    file_name,
    offset_of,
)
from pykbroker.records.batch import BatchError, BatchHeader
from pykbroker.records.decode import iter_records

Progress = Callable[[int], None]
"""Called with the bytes of ``.log`` files that were read since the last call."""

TEMPORARY = ".tmp"
_PROGRESS_STEP = 1 << 20
_OURS = re.compile(rf"[0-9]{{20}}({LOG}|{INDEX}|{TIME_INDEX}|{SNAPSHOT})".replace(".", r"\."))
_OTHERS = {checkpoints.PARTITION_METADATA, epoch_file.FILE_NAME, hole_file.FILE_NAME}
_LEFT = {
    CLEANED: "left by a compaction that did not end; the next start removes it",
    SWAP: "left by a compaction that did not end (of Apache Kafka)",
    DELETED: "deleted; the next start removes it",
    TEMPORARY: "left by a write that did not end; the next start removes it",
}


def check_log(
    directory: Path,
    *,
    report: Report | None = None,
    clean: bool = False,
    recovery_point: int = 0,
    gaps: bool = True,
    also: re.Pattern[str] | None = None,
    on_progress: Progress | None = None,
) -> LogCheck:
    """Check the log in ``directory``.

    ``clean``: the last stop was clean.  ``recovery_point``: everything below it must be on the disk,
    whatever happened.  ``gaps``: offsets may be missing (the log is or was compacted).  ``also``:
    names of other files that belong there.  Raises :class:`OSError`.
    """
    check = LogCheck(directory, report or Report(), clean, recovery_point, gaps, on_progress)
    check.run(also)
    return check


class LogCheck:
    """One check; the offsets that were found are in ``start`` and ``end`` (both 0 without segments)."""

    def __init__(
        self,
        directory: Path,
        report: Report,
        clean: bool,
        recovery_point: int,
        gaps: bool,
        on_progress: Progress | None,
    ) -> None:
        self.directory = directory
        self.report = report
        self.start = self.end = 0
        self._clean = clean
        self._recovery_point = recovery_point
        self._gaps = gaps
        self._on_progress = on_progress
        self._files = Files()
        self._descriptors = Descriptors(self._files, 4)
        self._epochs: LeaderEpochs | None = None
        self._last_epoch = -1
        self._expected = 0
        self._told = 0

    def run(self, also: re.Pattern[str] | None) -> None:
        names = self._files.listing(self.directory)
        self._check_names(names, also)
        if checkpoints.PARTITION_METADATA in names:
            self._check_metadata()
        if epoch_file.FILE_NAME in names:
            self._epochs = self._read_epochs()
        bases = sorted(o for n in names if n.endswith(LOG) and (o := offset_of(n)) is not None)
        segments = [
            Segment(self.directory, base, names[file_name(base, LOG)], self._files, self._descriptors)
            for base in bases
        ]
        self.report.partitions += 1
        known = self._read_holes(names, segments)
        snapshots = SnapshotChecker(self.directory, names, self._files)
        if segments:
            self.start = self.end = self._expected = bases[0]
        for i, segment in enumerate(segments):
            upper = bases[i + 1] if i + 1 < len(bases) else None
            self._check_segment(segment, upper, known, snapshots)
        for path, what in snapshots.faults(self.end):
            self._repairable(path, what)
        if self._last_epoch >= 0 and (
            self._epochs is None or self._epochs.latest is None or self._epochs.latest < self._last_epoch
        ):
            latest = None if self._epochs is None else self._epochs.latest
            what = f"the latest leader epoch is {self._last_epoch} in the records, {latest} here"
            self._repairable(self.directory / epoch_file.FILE_NAME, what)

    def _repairable(self, path: Path | str, what: str, position: int | None = None) -> None:
        """What the next start puts right, and only a crash may leave."""
        (self.report.problem if self._clean else self.report.note)(path, what, position)

    # -- the small files

    def _check_names(self, names: dict[str, int], also: re.Pattern[str] | None) -> None:
        for name in sorted(names):
            path = self.directory / name
            left = next((what for suffix, what in _LEFT.items() if name.endswith(suffix)), None)
            if left is not None:
                self.report.note(path, left)
            elif name == replacing.COMMIT:
                self.report.note(path, "compacted segments are being put in place; the next start ends it")
            elif _OURS.fullmatch(name):
                if name.endswith((INDEX, TIME_INDEX)) and f"{name[:20]}{LOG}" not in names:
                    self._repairable(path, "an index without its .log file")
            elif name not in _OTHERS and (also is None or not also.fullmatch(name)):
                self.report.note(path, "nothing that belongs here")

    def _check_metadata(self) -> None:
        path = self.directory / checkpoints.PARTITION_METADATA
        try:
            checkpoints.parse_partition_metadata(self._files.read_all(path))
        except ValueError as error:
            self._repairable(path, f"cannot be read: {error}")

    def _read_epochs(self) -> LeaderEpochs | None:
        path = self.directory / epoch_file.FILE_NAME
        try:
            return LeaderEpochs.decode(self._files.read_all(path))
        except ValueError as error:
            self._repairable(path, f"cannot be read: {error}")
            return None

    def _read_holes(self, names: dict[str, int], segments: list[Segment]) -> list[Hole]:
        if hole_file.FILE_NAME not in names:
            return []
        path = self.directory / hole_file.FILE_NAME
        data = self._files.read_all(path)
        holes = hole_file.decode(data)
        if hole_file.encode(holes) != data:
            self._repairable(path, "not every line is a hole")
        sizes = {segment.base_offset: segment.size for segment in segments}
        kept = []
        for hole in holes:
            if hole.end_position > sizes.get(hole.segment, -1):
                self._repairable(path, f"no bytes {hole.position} to {hole.end_position} in {hole.segment}")
            else:
                kept.append(hole)
                self._hole(hole, "known damage")
        place_holes(segments, kept)
        return kept

    def _hole(self, hole: Hole, what: str) -> None:
        path = self.directory / file_name(hole.segment, LOG)
        lost = f"offsets {hole.first_offset} to {hole.next_offset - 1} are lost"
        size = hole.end_position - hole.position
        self.report.problem(path, f"{what}: {lost}, {size} bytes: {hole.reason}", hole.position)

    # -- one segment

    def _check_segment(
        self, segment: Segment, upper: int | None, known: list[Hole], snapshots: SnapshotChecker
    ) -> None:
        limits = Limits(
            segment=segment.base_offset,
            sealed=upper is not None,
            compacted=upper is not None,  # or not: the policy is not known here
            epochs=self._epochs or LeaderEpochs(),
            anchors=read_anchors(segment, self._files),
            known=known,
        )
        if upper is not None:
            limits.upper = upper
        self.report.segments += 1
        self.report.bytes += segment.size
        source = Source(self._files, segment.descriptor().fd, segment.size)
        # New entries are written in groups: after a kill the active segment's are behind as a rule.
        indexes = IndexChecker(segment, self._files, behind=upper is None and not self._clean)
        self._told = 0

        def on_batch(position: int, header: BatchHeader) -> None:
            self._check_offsets(segment, position, header, known)
            self._check_epoch(segment, position, header)
            self._check_records(segment, position, header, bytes(source.view(position, header.size)))
            indexes.note(position, header)
            snapshots.note(header)
            self._tell(position)

        # A tail that is known to be damaged ends a scan; what lies behind it is scanned on its own.
        start, expected = 0, segment.base_offset
        while True:
            result = scan(source, limits, start=start, expected=expected, on_batch=on_batch)
            for hole in result.holes:
                if not covered(known, hole):
                    self._hole(hole, "damage")
                self._expected = max(self._expected, hole.next_offset)
            tail = next((h for h in segment.holes if h.position == result.end < h.end_position), None)
            if result.torn is None or tail is None:
                break
            start, expected = tail.end_position, tail.next_offset
            self._expected = max(self._expected, expected)
        self._end_segment(segment, result.end, result.next_offset, result.torn, upper)
        self._tell(segment.size, last=True)
        for path, what in indexes.faults():
            self._repairable_above(self.end, path, what)

    def _repairable_above(
        self, offset: int, path: Path | str, what: str, position: int | None = None
    ) -> None:
        """A note only if ``offset`` was not known to be on the disk."""
        if offset > self._recovery_point:
            self._repairable(path, what, position)
        else:
            self.report.problem(path, what, position)

    def _end_segment(
        self, segment: Segment, position: int, offset: int, torn: str | None, upper: int | None
    ) -> None:
        if torn is None:
            self.end = max(offset, self._expected)
            if upper is not None and self.end < upper:
                self._missing(segment.path, self.end, upper, segment.size)
        elif upper is not None:
            self._hole(
                Hole(
                    first_offset=offset, next_offset=upper, segment=segment.base_offset,
                    position=position, end_position=segment.size, reason=torn,
                ),
                "damage at the end",
            )  # fmt: skip
        else:
            self.end = offset
            what = f"torn tail from offset {offset} on, {segment.size - position} bytes: {torn}"
            self._repairable(segment.path, what, position)
        if upper is not None:
            self.end = self._expected = upper

    def _missing(self, path: str, first: int, after: int, position: int) -> None:
        if not self._gaps:
            what = f"offsets {first} to {after - 1} are missing; only compaction leaves such gaps"
            self.report.problem(path, what, position)

    def _check_offsets(self, segment: Segment, position: int, header: BatchHeader, known: list[Hole]) -> None:
        expected, self._expected = self._expected, header.next_offset
        if header.base_offset > expected and not any(
            h.first_offset <= expected and header.base_offset <= h.next_offset for h in known
        ):
            self._missing(segment.path, expected, header.base_offset, position)

    def _check_epoch(self, segment: Segment, position: int, header: BatchHeader) -> None:
        self._last_epoch = max(self._last_epoch, header.leader_epoch)
        epoch = None if self._epochs is None else self._epochs.epoch_for(header.base_offset)
        if epoch is not None and epoch != header.leader_epoch:
            found = f"leader epoch {header.leader_epoch} at offset {header.base_offset}"
            what = f"{found}, {epoch} in the checkpoint"
            self._repairable_above(header.next_offset, segment.path, what, position)

    def _check_records(self, segment: Segment, position: int, header: BatchHeader, batch: bytes) -> None:
        self.report.batches += 1
        try:
            offsets = [record.offset for record in iter_records(batch)]
        except BatchError as error:
            self.report.problem(segment.path, f"records of a batch cannot be read: {error}", position)
            return
        self.report.records += len(offsets)
        if any(a >= b for a, b in pairwise(offsets)):
            self.report.problem(segment.path, "offsets of a batch's records do not rise", position)
        elif offsets and not header.base_offset <= offsets[0] <= offsets[-1] <= header.last_offset:
            self.report.problem(segment.path, "records lie outside their batch's offsets", position)

    def _tell(self, position: int, *, last: bool = False) -> None:
        if self._on_progress is not None and (last or position - self._told >= _PROGRESS_STEP):
            self._on_progress(position - self._told)
            self._told = position
