"""A file system that refuses: nothing acknowledged is lost, nothing half-written stays."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from pykbroker.errors import ErrorCode
from pykbroker.log.errors import StorageError
from pykbroker.log.files import FaultyFiles
from tests.log.support import NOW, Config, append, fill, make_batch, open_log, read_values, value_for

CONFIG = Config(segment_bytes=700, index_interval_bytes=100)


@pytest.mark.parametrize("short", [0, 1, 50, 61, 100])
def test_a_full_disk_leaves_no_half_batch_and_passes(tmp_path: Path, short: int) -> None:
    files = FaultyFiles(short=short)
    log = open_log(tmp_path / "t", files=files)
    fill(log, 3)
    size = log.size
    files.fail_at, files.for_good = files.count + 1, True
    with pytest.raises(StorageError) as caught:
        fill(log, 1)
    assert caught.value.code == ErrorCode.KAFKA_STORAGE_ERROR
    files.fail_at = 0
    assert (log.log_end_offset, log.size) == (3, size)
    assert read_values(log)[0] == {o: value_for(o) for o in range(3)}
    fill(log, 2)
    log.close(clean=False)
    log = open_log(tmp_path / "t", clean=False)
    assert read_values(log) == ({o: value_for(o) for o in range(5)}, [])


@pytest.mark.parametrize("for_good", [False, True])
@pytest.mark.parametrize("short", [0, 20])
def test_any_operation_may_fail(tmp_path: Path, for_good: bool, short: int) -> None:
    """Fail the 1st, 2nd, 3rd ... operation until the story passes untouched."""
    n = 0
    while True:
        n += 1
        directory = tmp_path / str(n)
        files = FaultyFiles(n, for_good=for_good, short=short)
        acknowledged = []
        with contextlib.suppress(StorageError, OSError):
            log = open_log(directory, CONFIG, files=files)
            for i in range(20):
                with contextlib.suppress(StorageError):
                    end = log.log_end_offset
                    append(log, make_batch([value_for(end)], timestamp_ms=NOW + i))
                    acknowledged.append(end)
                if i % 7 == 6:
                    with contextlib.suppress(StorageError):
                        log.flush()
            log.close(clean=True)
        files.fail_at = 0
        log = open_log(directory, CONFIG, clean=False)
        assert read_values(log) == ({o: value_for(o) for o in acknowledged}, []), n
        assert acknowledged == list(range(len(acknowledged)))
        log.close(clean=False)
        if not files.failed:
            break
    assert n > 50


@pytest.mark.parametrize("step", ["truncate", "retention", "start over"])
def test_taking_back_may_fail_anywhere(tmp_path: Path, step: str) -> None:
    n = 0
    while True:
        n += 1
        directory = tmp_path / str(n)
        files = FaultyFiles()
        log = open_log(directory, CONFIG, files=files)
        fill(log, 20)
        files.fail_at, files.for_good = files.count + n, True
        with contextlib.suppress(StorageError):
            match step:
                case "truncate":
                    log.truncate_to(8)
                case "retention":
                    log.advance_log_start(12)
                    log.delete_expired(NOW, 20)
                case _:
                    log.truncate_fully_and_start_at(30)
        log.close(clean=False)
        failed, files.fail_at = files.failed, 0
        log = open_log(directory, CONFIG, clean=False)
        values, holes = read_values(log)
        assert holes == []
        assert values == {o: value_for(o) for o in values}
        offsets = sorted(values)
        assert offsets == list(range(log.log_start_offset, log.log_end_offset))
        match step:
            case "truncate":
                assert offsets[0] == 0
                assert len(offsets) >= 8
            case "retention":
                assert offsets[-1] == 19
        log.close(clean=False)
        if not failed:
            break
    assert n > 2


def test_a_failed_sync_is_not_made_good_by_the_next(tmp_path: Path) -> None:
    files = FaultyFiles(code=errno.EIO)
    log = open_log(tmp_path / "t", files=files, clean=False)
    fill(log, 3)
    files.fail_at = files.count + 2  # after the open
    with pytest.raises(StorageError):
        log.flush()
    files.fail_at = 0
    with pytest.raises(StorageError):
        log.flush()
    assert log.recovery_point == 0


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EMFILE, errno.ENFILE])
def test_a_sync_that_was_never_made_may_be_tried_again(tmp_path: Path, code: int) -> None:
    """No space, or no descriptor for the file: the system has dropped nothing."""
    files = FaultyFiles(code=code)
    log = open_log(tmp_path / "t", files=files, clean=False)
    fill(log, 3)
    files.fail_at = files.count + (1 if code in (errno.EMFILE, errno.ENFILE) else 2)  # the open, or the sync
    with pytest.raises(StorageError):
        log.flush()
    assert log.flush() == 3


def test_a_read_that_fails_is_a_storage_error(tmp_path: Path) -> None:
    files = FaultyFiles(code=errno.EIO)
    log = open_log(tmp_path / "t", files=files)
    fill(log, 3)
    files.fail_at = files.count + 1
    with pytest.raises(StorageError):
        log.read(0, 100, 3)
    assert log.read(0, 100, 3).next_offset == 1


_LIMITED = """
import logging, resource, signal, sys
from pathlib import Path
from pykbroker.log.errors import StorageError
from tests.log.support import fill, open_log, read_values, value_for
logging.disable(logging.CRITICAL)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = open_log(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
try:
    fill(log, 100)
except StorageError:
    pass
count = log.log_end_offset
assert 5 < count < 20, count
assert read_values(log)[0] == {o: value_for(o) for o in range(count)}
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
fill(log, 10)
assert read_values(log)[0] == {o: value_for(o) for o in range(count + 10)}
print(count + 10)
"""


def test_a_limit_of_the_system_on_the_size_of_files(tmp_path: Path) -> None:
    """The kernel itself cuts the write short, as a full disk does."""
    assert resource.RLIMIT_FSIZE >= 0
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(tmp_path / "t")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert done.returncode == 0, done.stderr
    log = open_log(tmp_path / "t", clean=False)
    assert log.log_end_offset == int(done.stdout)
    assert log.damage == []
