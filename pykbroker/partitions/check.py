"""Everything that is wrong with a data directory, without changing a byte of it.

For a directory that no broker is using: what a running one is writing looks torn.  See
:mod:`pykbroker.log.check` for what is checked in each log, and what counts as a problem; here it is
what lies around the logs, and whether logs, checkpoints and catalog agree.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pykbroker.catalog.check import check_catalog
from pykbroker.catalog.image import Image, Topic
from pykbroker.catalog.local import DIRECTORY as CATALOG_DIRECTORY
from pykbroker.catalog.retrying import HELD_LOGS
from pykbroker.log import checkpoints
from pykbroker.log.check import LogCheck, check_log
from pykbroker.log.checkpoints import TopicPartition
from pykbroker.log.report import Report
from pykbroker.partitions import cleaning, directories

Progress = Callable[[int, int, str], None]
"""Called as (bytes read, bytes to read, partition)."""

_CATALOG_FILES: Final = re.compile(r"[0-9]{20}-[0-9]{10}\.checkpoint")
_CHECKPOINTS: Final = (
    checkpoints.RECOVERY_POINTS,
    checkpoints.HIGH_WATERMARKS,
    checkpoints.LOG_STARTS,
    cleaning.CHECKPOINT,
)
_KNOWN: Final = {*_CHECKPOINTS, checkpoints.META_PROPERTIES, checkpoints.CLEAN_SHUTDOWN, ".lock"}
_INFO_FILE: Final = "pykbroker.json"
_DUE_TIMES: Final = re.compile(r"pykbroker-held\.sqlite(-wal|-shm)?")
"""The index of what waits (``delivery/sqlite_index.py``): made of the logs again when it is lost."""


def check(data_dir: Path, on_progress: Progress | None = None) -> Report:
    """Check everything in ``data_dir``.  Raises :class:`OSError` when it cannot be read."""
    return _Check(data_dir, on_progress).run()


@dataclass(slots=True)
class _Check:
    data_dir: Path
    on_progress: Progress | None
    report: Report = field(default_factory=Report)
    clean: bool = False
    total: int = 0
    done: int = 0
    offsets: dict[str, Mapping[TopicPartition, int]] = field(default_factory=dict)

    def run(self) -> Report:
        with os.scandir(self.data_dir) as entries:
            kinds = {e.name: e.is_dir(follow_symlinks=False) for e in entries}
        self.clean = checkpoints.CLEAN_SHUTDOWN in kinds
        logs = {name: key for name in kinds if kinds[name] and (key := directories.parse_name(name))}
        for name in sorted(kinds):
            if name not in logs:
                self._check_name(name, directory=kinds[name])
        cluster_id = self._check_identity(kinds)
        self.offsets = {name: self._read_checkpoint(name) for name in _CHECKPOINTS if name in kinds}
        self.total = sum(
            path.stat().st_size for name in logs for path in (self.data_dir / name).glob("*.log")
        )
        image: Image | None = None
        if CATALOG_DIRECTORY in logs:
            key = logs.pop(CATALOG_DIRECTORY)
            self._check_log(CATALOG_DIRECTORY, key, gaps=False, also=_CATALOG_FILES)
            image = check_catalog(self.data_dir / CATALOG_DIRECTORY, self.report, cluster_id)
        elif logs:
            self.report.problem(self.data_dir / CATALOG_DIRECTORY, "missing: nothing says which topics exist")
        found = {key: self._check_partition(name, key, image) for name, key in sorted(logs.items())}
        self._compare(found, image)
        return self.report

    def _repairable(self, path: Path, what: str) -> None:
        (self.report.problem if self.clean else self.report.note)(path, what)

    # -- what lies around

    def _check_name(self, name: str, *, directory: bool) -> None:
        path = self.data_dir / name
        if directory:
            if name.endswith(directories.STRAY):
                self.report.note(path, "set aside: the catalog did not know it; look at it, then remove it")
            elif name.endswith(directories.DELETED):
                self.report.note(path, "of a deleted topic; the next start removes it")
            else:
                self.report.note(path, "a directory that is no partition's")
        elif name.endswith(".tmp"):
            self.report.note(path, "left by a write that did not end")
        elif name == _INFO_FILE:
            self.report.note(path, "left by a broker that was killed; the next start replaces it")
        elif name not in _KNOWN and not _DUE_TIMES.fullmatch(name):
            self.report.note(path, "nothing that belongs here")

    def _check_identity(self, kinds: Mapping[str, bool]) -> str | None:
        path = self.data_dir / checkpoints.META_PROPERTIES
        try:
            properties = checkpoints.read_meta_properties(self.data_dir)
        except ValueError as error:
            self.report.problem(path, f"cannot be read: {error}")
            return None
        if not properties and not any(kinds.values()):
            self.report.note(path, "missing: no broker has used this directory")
            return None
        missing = [name for name in ("cluster.id", "node.id") if name not in properties]
        if missing:
            self.report.problem(path, f"says nothing of {', '.join(missing)}")
        return properties.get("cluster.id")

    def _read_checkpoint(self, name: str) -> Mapping[TopicPartition, int]:
        path = self.data_dir / name
        try:
            return checkpoints.parse_offsets(path.read_bytes())
        except ValueError as error:
            self._repairable(path, f"cannot be read: {error}")
            return {}

    # -- logs

    def _check_partition(self, name: str, key: TopicPartition, image: Image | None) -> LogCheck:
        topic = None if image is None else image.topics.get(key[0])
        path = self.data_dir / name
        if image is not None and (topic is None or key[1] >= len(topic.partitions)):
            self.report.note(path, "the catalog has no such partition; the next start sets it aside")
            topic = None
        topic_id = checkpoints.read_partition_metadata(path)
        if topic is not None and topic_id not in (None, topic.topic_id):
            self.report.note(path, "of an earlier topic of that name; the next start sets it aside")
        compacted = key in self.offsets.get(cleaning.CHECKPOINT, {})
        gaps = topic is None or compacted or _is_compacted(topic) or key[0].startswith(HELD_LOGS)
        return self._check_log(name, key, gaps=gaps)

    def _check_log(
        self, name: str, key: TopicPartition, *, gaps: bool, also: re.Pattern[str] | None = None
    ) -> LogCheck:
        def progress(size: int) -> None:
            self.done += size
            if self.on_progress is not None:
                self.on_progress(self.done, self.total, name)

        return check_log(
            self.data_dir / name,
            report=self.report,
            clean=self.clean,
            recovery_point=self.offsets.get(checkpoints.RECOVERY_POINTS, {}).get(key, 0),
            gaps=gaps,
            also=also,
            on_progress=progress,
        )

    # -- whether they agree

    def _compare(self, found: Mapping[TopicPartition, LogCheck], image: Image | None) -> None:
        for name, offsets in self.offsets.items():
            for key, offset in offsets.items():
                path, partition = self.data_dir / name, directories.name_of(*key)
                log = found.get(key)
                if offset < 0:
                    self._repairable(path, f"{partition}: offset {offset}")
                elif log is not None and offset > log.end:
                    self._behind_the_end(path, partition, offset, log.end)
                elif log is None and offset and image is not None and key[0] in image.topics:
                    self._repairable(path, f"{partition}: offset {offset}, but there is no such directory")

    def _behind_the_end(self, path: Path, partition: str, offset: int, end: int) -> None:
        what = f"{partition}: offset {offset} lies behind the end of the log, {end}"
        if path.name == checkpoints.RECOVERY_POINTS:  # it is written when the disk has everything below
            self.report.problem(path, f"{what}: records are lost that were on the disk")
        else:
            self._repairable(path, what)


def _is_compacted(topic: Topic) -> bool:
    return "compact" in topic.overrides.get("cleanup.policy", "")
