"""Compacted segments in place of old ones: all or nothing, whatever interrupts it."""

from __future__ import annotations

import contextlib
from collections.abc import Set
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from pykbroker.log.errors import StorageError
from pykbroker.log.files import FaultyFiles
from pykbroker.log.log import Log
from pykbroker.records.batch import iter_headers
from tests.log.support import Config, fill, open_log, read_all, read_values, value_for

CONFIG = Config(segment_bytes=700, index_interval_bytes=200, cleanup_policy=frozenset({"compact"}))
KEPT = frozenset({0, 4, 5, 7})
"""Offsets that stay of the first three segments."""


def clean(directory: Path, log: Log, stay: Set[int] = KEPT) -> tuple[list[int], list[int]]:
    """Write the compacted form of the first three segments; returns (old, new) bases."""
    old = list(log.segments())[:3]
    assert len(log.segments()) > 4
    data = read_all(log, 0)
    kept = b"".join(data[p : p + h.size] for p, h in iter_headers(data) if h.base_offset in stay)
    (directory / f"{0:020d}.log.cleaned").write_bytes(kept)
    return old, [0]


def expected(log: Log, below: int, stay: Set[int] = KEPT) -> dict[int, bytes]:
    return {o: value_for(o) for o in range(log.log_end_offset) if o >= below or o in stay}


def test_reads_pass_over_what_compaction_took(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t", CONFIG)
    fill(log, 25)
    below = list(log.segments())[3]
    old, new = clean(tmp_path / "t", log)
    for path in log.replace_segments(old, new):
        path.unlink()
    assert list(log.segments())[:2] == [0, below]
    for max_bytes in (1, 300, 1 << 20):
        assert read_values(log, max_bytes) == (expected(log, below), [])
    for offset in range(25):
        first = log.read(offset, 1, 25).first_offset
        assert first == min(o for o in expected(log, below) if o >= offset)
    for stop in (True, False):
        log.close(clean=stop)
        log = open_log(tmp_path / "t", CONFIG, clean=stop, recovery_point=25 if stop else 0)
        assert read_values(log) == (expected(log, below), [])
        assert log.log_end_offset == 25


def test_a_policy_changed_later_does_not_make_gaps_damage(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t", CONFIG)
    fill(log, 25)
    below = list(log.segments())[3]
    log.replace_segments(*clean(tmp_path / "t", log))
    log.config = replace(CONFIG, cleanup_policy=frozenset({"delete"}))
    for max_bytes in (1, 300, 1 << 20):
        assert read_values(log, max_bytes) == (expected(log, below), [])
    assert log.damage == []


def test_only_finished_neighbours_may_be_replaced(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t", CONFIG)
    fill(log, 25)
    bases = list(log.segments())
    for old, new in (
        ([bases[0], bases[2]], [bases[0]]),
        ([bases[-1]], [bases[-1]]),
        ([99], [99]),
        ([bases[1]], [bases[0]]),
        ([bases[0]], [bases[1]]),
    ):
        with pytest.raises(ValueError, match=r"\w"):
            log.replace_segments(old, new)


@pytest.mark.parametrize("reopened_by", ["recovery", "clean open"])
def test_a_crash_at_any_step_leaves_old_or_new(tmp_path: Path, reopened_by: str) -> None:
    outcomes = set()
    n = 0
    while True:
        n += 1
        directory = tmp_path / str(n)
        files = FaultyFiles()
        log = open_log(directory, CONFIG, files=files)
        fill(log, 25)
        below = list(log.segments())[3]
        log.flush()
        old, new = clean(directory, log)
        files.fail_at, files.for_good = files.count + n, True
        with contextlib.suppress(StorageError):
            log.replace_segments(old, new)
        log.close(clean=False)
        failed, files.fail_at = files.failed, 0
        log = open_log(directory, CONFIG, clean=reopened_by == "clean open", recovery_point=25)
        values, holes = read_values(log)
        assert holes == []
        outcomes.add("old" if values == {o: value_for(o) for o in range(25)} else "new")
        if "old" not in outcomes or values != {o: value_for(o) for o in range(25)}:
            assert values == expected(log, below), n
        assert not list(directory.glob("*.cleaned"))
        assert not list(directory.glob("replacement-commit"))
        log.close(clean=False)
        if not failed:
            break
    assert outcomes == {"old", "new"}


def test_a_step_that_fails_is_not_taken_for_damage(tmp_path: Path) -> None:
    """The log that goes on is read as it is on the disk, or says that it cannot be read."""
    stay = frozenset({1, 7})
    for number in count(1):
        files = FaultyFiles()
        log = open_log(tmp_path / str(number), CONFIG, files=files)
        fill(log, 25)
        log.flush()
        below = list(log.segments())[3]
        old, new = clean(tmp_path / str(number), log, stay)
        files.fail_at = files.count + number
        is_new = False
        with contextlib.suppress(StorageError):
            log.replace_segments(old, new)
            is_new = True
        failed, files.fail_at = files.failed, 0
        there = expected(log, below, stay if is_new else frozenset(range(below)))
        for offset in range(25):
            with contextlib.suppress(StorageError):
                assert log.read(offset, 1, 25).first_offset == min(each for each in there if each >= offset)
        assert log.damage == [], number
        log.close(clean=False)
        if not failed:
            break
