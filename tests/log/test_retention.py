"""Which segments go, and when."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from pykbroker.log.log import Log
from tests.log.support import NOW, Config, append, fill, make_batch, open_log, read_values

CONFIG = Config(segment_bytes=1000, retention_ms=1000)


def aged(path: Path, config: Config = CONFIG) -> Log:
    """Six segments of five records, one millisecond apart; the last one active."""
    log = open_log(path, config)
    for i in range(30):
        append(log, make_batch([b"x" * 100], timestamp_ms=NOW + i))
    assert list(log.segments()) == [0, 5, 10, 15, 20, 25]
    return log


def test_time_counts_from_the_largest_timestamp_of_the_segment(tmp_path: Path) -> None:
    log = aged(tmp_path / "t")
    assert log.delete_expired(NOW + 1000 + 4, 30) == []
    gone = log.delete_expired(NOW + 1000 + 10, 30)
    assert log.log_start_offset == 10
    assert all(p.name.endswith(".deleted") and p.exists() for p in gone)
    assert {p.name.split(".", 1)[1] for p in gone} >= {"log.deleted", "index.deleted", "timeindex.deleted"}
    assert sorted(read_values(log)[0]) == list(range(10, 30))


def test_time_is_known_after_a_restart_without_reading_records(tmp_path: Path) -> None:
    aged(tmp_path / "t").close(clean=True)
    log = open_log(tmp_path / "t", CONFIG, recovery_point=30)
    log.delete_expired(NOW + 1000 + 10, 30)
    assert log.log_start_offset == 10


def test_all_expired_rolls_the_active_segment(tmp_path: Path) -> None:
    log = aged(tmp_path / "t")
    log.delete_expired(NOW + 5000, 30)
    assert (log.log_start_offset, log.log_end_offset, list(log.segments())) == (30, 30, [30])
    assert log.delete_expired(NOW + 50_000, 30) == []
    fill(log, 1)
    log.close(clean=False)
    log = open_log(tmp_path / "t", CONFIG, clean=False, log_start=30)
    assert sorted(read_values(log)[0]) == [30]


def test_nothing_above_the_high_watermark_goes(tmp_path: Path) -> None:
    log = aged(tmp_path / "t")
    log.delete_expired(NOW + 5000, 14)
    assert log.log_start_offset == 10


def test_size_keeps_at_least_what_was_asked_for(tmp_path: Path) -> None:
    log = aged(tmp_path / "t", replace(CONFIG, retention_ms=-1, retention_bytes=2000))
    log.delete_expired(NOW, 30)
    assert 2000 <= log.size < 3000
    assert log.delete_expired(NOW, 30) == []


def test_log_start_takes_segments_whatever_the_policy(tmp_path: Path) -> None:
    log = aged(tmp_path / "t", replace(CONFIG, cleanup_policy=frozenset({"compact"})))
    assert log.delete_expired(NOW + 10**9, 30) == []
    log.advance_log_start(12)
    log.delete_expired(NOW, 30)
    assert (next(iter(log.segments())), log.log_start_offset) == (10, 12)


def test_without_timestamps_the_age_of_the_file_counts(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t", CONFIG)
    for _ in range(10):
        append(log, make_batch([b"x" * 100], timestamp_ms=-1))
    first = tmp_path / "t" / f"{0:020d}.log"
    os.utime(first, ns=(NOW * 1_000_000, NOW * 1_000_000))
    log.delete_expired(NOW + 1000, 10)
    assert log.log_start_offset == 0
    log.delete_expired(NOW + 1001, 10)
    assert log.log_start_offset == 5


def test_zeros_in_a_time_index_do_not_make_records_old(tmp_path: Path) -> None:
    aged(tmp_path / "t").close(clean=True)
    for path in (tmp_path / "t").glob("*.timeindex"):
        path.write_bytes(bytes(12))
    log = open_log(tmp_path / "t", CONFIG, recovery_point=30)
    assert log.delete_expired(NOW + 1000, 30) == []
