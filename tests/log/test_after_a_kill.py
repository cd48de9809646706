"""A kill leaves to the kernel what was written: the next process must still bring it to the disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pykbroker.log.epochs import FILE_NAME
from pykbroker.log.files import Files, PathLike
from tests.log.support import Config, append, fill, make_batch, open_log


class Noting(Files):
    """Notes which files were synced."""

    def __init__(self) -> None:
        self.inodes: set[int] = set()

    def sync_data(self, fd: int) -> None:
        self.inodes.add(os.fstat(fd).st_ino)
        super().sync_data(fd)

    def sync_directory(self, path: PathLike) -> None:
        self.inodes.add(os.stat(path).st_ino)
        super().sync_directory(path)


@pytest.mark.parametrize("appended", [False, True])
def test_a_flush_syncs_what_the_killed_process_did_not(tmp_path: Path, appended: bool) -> None:
    directory = tmp_path / "t-0"
    config = Config(segment_bytes=1000)
    log = open_log(directory, config, clean=False)
    fill(log, 12, epoch=1)
    log.close(clean=False)  # killed
    first, second, *_ = (int(path.stem) for path in sorted(directory.glob("*.log")))
    point = (first + second) // 2
    assert first < point < second
    files = Noting()
    log = open_log(directory, config, clean=False, recovery_point=point, files=files)
    assert log.recovery_point == point
    if appended:
        append(log, make_batch([b"x"]), epoch=1)
    assert log.flush() == log.recovery_point == log.log_end_offset
    log.close(clean=False)
    due = {*directory.glob("*.log"), directory / FILE_NAME, directory}
    assert {path.name for path in due if path.stat().st_ino not in files.inodes} == set()
