"""Appending, reading, rolling, reopening: a log without anything going wrong."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from pykbroker.log.errors import OffsetOutOfRange
from pykbroker.log.log import Log
from pykbroker.protocol.schema import FileRegion
from pykbroker.records.batch import iter_headers
from tests.log.support import (
    NOW,
    Config,
    append,
    data_of,
    fill,
    make_batch,
    open_log,
    placed,
    read_all,
    read_values,
)

DAY = 24 * 3600 * 1000


def bases(log: Log) -> list[int]:
    return list(log.segments())


def test_what_is_appended_is_read_at_once(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t")
    assert (log.log_start_offset, log.log_end_offset, log.size) == (0, 0, 0)
    assert append(log, make_batch([b"a", b"b"]), epoch=3) == 0
    assert append(log, make_batch([b"c"]), make_batch([b"d"]), epoch=3) == 2
    answer = log.read(0, 1 << 20, log.log_end_offset)
    assert [h.base_offset for _pos, h in iter_headers(data_of(answer.records))] == [0, 2, 3]
    assert (answer.first_offset, answer.next_offset, answer.size) == (0, 4, log.size)


def test_an_offset_inside_a_batch_gives_the_whole_batch(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t")
    fill(log, 3, per_batch=10)
    answer = log.read(15, 1, log.log_end_offset)
    assert (answer.first_offset, answer.next_offset) == (10, 20)


def test_limits_cut_at_whole_batches_and_the_first_comes_whole(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t")
    fill(log, 3)
    one = log.size // 3
    assert log.read(0, 1, 3).size == one
    assert log.read(0, 1, 3, first_whole=False).size == 0
    assert log.read(0, 2 * one + 5, 3).next_offset == 2
    assert log.read(0, 1 << 20, 2).next_offset == 2
    assert log.read(2, 1 << 20, 2).size == 0


def test_out_of_range(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t", log_start=5)
    fill(log, 3)
    assert log.read(8, 100, 8).size == 0
    for offset in (-1, 4, 9):
        with pytest.raises(OffsetOutOfRange):
            log.read(offset, 100, 8)


@pytest.mark.parametrize("size", [100, 5_000, 60_000, 200_000])
@pytest.mark.parametrize("max_bytes", [1, 10_000, 40_000, 150_000, 1 << 20])
def test_every_batch_is_read_once_in_order(tmp_path: Path, size: int, max_bytes: int) -> None:
    log = open_log(tmp_path / "t", Config(index_interval_bytes=4096))
    fill(log, max(10, 1_000_000 // size // 4), size=size)
    for _ in range(2):  # the second time, intervals were walked before
        headers = [h for _pos, h in iter_headers(read_all(log, 0, max_bytes))]
        assert [h.base_offset for h in headers] == list(range(log.log_end_offset))


def test_large_answers_leave_as_regions_of_the_file(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t", Config(segment_bytes=10 << 20))
    fill(log, 40, size=10_000)
    answer = log.read(3, 200_000, log.log_end_offset)
    assert isinstance(answer.records, FileRegion)
    assert answer.first_offset == 3
    assert 100_000 < answer.size <= 200_000
    data = data_of(answer.records)
    assert [h.base_offset for _pos, h in iter_headers(data)] == list(range(3, answer.next_offset))
    below = log.read(3, 200_000, 9)
    assert below.next_offset == 9


def test_rolls_by_size(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t", Config(segment_bytes=1000))
    fill(log, 30)
    assert all(size <= 1000 for size in log.segments().values())
    assert bases(log)[:3] == [0, 5, 10]
    assert len(read_values(log)[0]) == 30


def test_rolls_by_record_time_not_by_the_clock(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t", Config(segment_ms=1000))
    append(log, make_batch([b"a"], timestamp_ms=NOW))
    append(log, make_batch([b"b"], timestamp_ms=NOW + 1000), now_ms=NOW + 10 * DAY)
    assert bases(log) == [0]
    append(log, make_batch([b"c"], timestamp_ms=NOW + 1001))
    assert bases(log) == [0, 2]


def test_rolls_by_the_clock_when_records_have_no_time(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t", Config(segment_ms=1000))
    append(log, make_batch([b"a"], timestamp_ms=-1))
    append(log, make_batch([b"b"], timestamp_ms=-1), now_ms=NOW + 1000)
    assert bases(log) == [0]
    append(log, make_batch([b"c"], timestamp_ms=-1), now_ms=NOW + 1001)
    assert bases(log) == [0, 2]


def test_rolls_when_an_index_is_full(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t", Config(index_interval_bytes=0, segment_index_bytes=8 * 5))
    fill(log, 30)
    assert len(bases(log)) == 5
    assert len(read_values(log)[0]) == 30


def test_rolls_when_an_offset_no_longer_fits(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t", Config(cleanup_policy=frozenset({"compact"})))
    fill(log, 2)
    far = (1 << 31) + 5
    log.append(*placed([make_batch([b"far"])], far, 0), NOW)
    assert bases(log) == [0, far]
    log.append(*placed([make_batch([b"next"])], far + 1, 0), NOW)
    assert log.read(2, 1000, far + 2).first_offset == far


def test_roll_of_an_empty_segment_does_nothing(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t")
    log.roll(NOW)
    assert bases(log) == [0]
    fill(log, 1)
    log.roll(NOW)
    log.roll(NOW)
    assert bases(log) == [0, 1]


@pytest.mark.parametrize("clean", [True, False])
def test_reopening_finds_everything(tmp_path: Path, clean: bool) -> None:
    config = Config(segment_bytes=2000)
    log = open_log(tmp_path / "t", config)
    fill(log, 25, epoch=1)
    fill(log, 25, epoch=4)
    data, segments, entries = read_all(log), log.segments(), log.epochs.entries
    log.close(clean=clean)
    log = open_log(tmp_path / "t", config, clean=clean, recovery_point=50 if clean else 0)
    assert log.log_end_offset == 50
    assert log.segments() == segments
    assert log.epochs.entries == entries == [(1, 0), (4, 25)]
    assert read_all(log) == data
    assert log.damage == []
    fill(log, 5, epoch=4)
    assert len(read_values(log)[0]) == 55


def test_a_clean_reopening_changes_no_file(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t", Config(segment_bytes=2000))
    fill(log, 50)
    log.close(clean=True)
    before = {p.name: p.read_bytes() for p in (tmp_path / "t").iterdir()}
    log = open_log(tmp_path / "t", Config(segment_bytes=2000), recovery_point=50)
    log.close(clean=True)
    assert {p.name: p.read_bytes() for p in (tmp_path / "t").iterdir()} == before


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("harm", ["missing", "empty", "odd", "garbage", "stale", "zeros"])
@pytest.mark.parametrize("suffix", [".index", ".timeindex"])
@pytest.mark.parametrize("which", [0, -1])
def test_index_files_may_be_anything(tmp_path: Path, clean: bool, harm: str, suffix: str, which: int) -> None:
    config = Config(segment_bytes=4000, index_interval_bytes=200)
    log = open_log(tmp_path / "t", config)
    for i in range(60):
        append(log, make_batch([b"%08d" % i], timestamp_ms=NOW + i))
    data = read_all(log)
    base = bases(log)[which]
    log.close(clean=clean)
    path = tmp_path / "t" / f"{base:020d}{suffix}"
    content = path.read_bytes() if path.exists() else bytes(96)
    match harm:
        case "missing":
            path.unlink(missing_ok=True)
        case "empty":
            path.write_bytes(b"")
        case "odd":
            path.write_bytes(content + b"xyz")
        case "garbage":
            path.write_bytes(os.urandom(len(content)))
        case "stale":
            path.write_bytes(
                content[: len(content) // 24 * 12 if suffix == ".timeindex" else len(content) // 16 * 8]
            )
        case _:
            path.write_bytes(bytes(len(content)))
    log = open_log(tmp_path / "t", config, clean=clean, recovery_point=60 if clean else 0)
    for offset in range(60):
        assert log.read(offset, 1, 60).first_offset == offset
    assert all(log.offset_for_timestamp(NOW + i, 60) == (i, NOW + i) for i in range(60))
    assert read_all(log) == data
    assert log.damage == []


def test_config_may_change_while_running(tmp_path: Path) -> None:
    config = Config()
    log = open_log(tmp_path / "t", config)
    fill(log, 10)
    log.config = replace(config, segment_bytes=500)
    fill(log, 10)
    assert len(bases(log)) > 3


def test_truncation_takes_everything_back(tmp_path: Path) -> None:
    config = Config(segment_bytes=2000, index_interval_bytes=300)
    for offset in (0, 1, 7, 10, 11, 25, 39, 40, 41):
        directory = tmp_path / str(offset)
        log = open_log(directory, config)
        fill(log, 20, epoch=1)
        fill(log, 20, epoch=2)
        log.flush()
        log.truncate_to(offset)
        end = min(offset, 40)
        assert log.log_end_offset == end
        assert log.recovery_point == end
        assert log.epochs.entries == [e for e in [(1, 0), (2, 20)] if e[1] < max(end, 0)]
        assert sorted(read_values(log)[0]) == list(range(end))
        fill(log, 5, epoch=3)
        expected = list(range(end + 5))
        assert sorted(read_values(log)[0]) == expected
        log.close(clean=False)
        log = open_log(directory, config, clean=False)
        assert sorted(read_values(log)[0]) == expected
        assert log.damage == []


def test_truncation_inside_a_batch_takes_the_batch(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t")
    fill(log, 3, per_batch=10)
    log.truncate_to(25)
    assert log.log_end_offset == 20


def test_starting_over_elsewhere(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t", Config(segment_bytes=1000))
    fill(log, 30)
    log.truncate_fully_and_start_at(100)
    assert (log.log_start_offset, log.log_end_offset, bases(log)) == (100, 100, [100])
    fill(log, 3)
    log.close(clean=False)
    log = open_log(tmp_path / "t", clean=False)
    assert sorted(read_values(log)[0]) == [100, 101, 102]


def test_log_start_moves_up_and_survives_as_the_checkpoint_says(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t")
    fill(log, 10, epoch=1)
    fill(log, 10, epoch=2)
    log.advance_log_start(15)
    log.advance_log_start(3)
    assert log.log_start_offset == 15
    assert log.epochs.entries == [(2, 15)]
    with pytest.raises(OffsetOutOfRange):
        log.read(14, 100, 20)
    log.close(clean=True)
    log = open_log(tmp_path / "t", recovery_point=20, log_start=15)
    assert sorted(read_values(log)[0]) == list(range(15, 20))


def test_delete_leaves_nothing(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t", Config(segment_bytes=1000))
    fill(log, 30)
    log.delete()
    assert not (tmp_path / "t").exists()


def test_leftovers_are_removed_and_strangers_left_alone(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t")
    fill(log, 3)
    log.close(clean=True)
    for name in (
        "00000000000000000000.log.deleted",
        "00000000000000000009.log.cleaned",
        "00000000000000000077.index",
        "leader-epoch-checkpoint.tmp",
        "README",
    ):
        (tmp_path / "t" / name).write_bytes(b"x")
    open_log(tmp_path / "t")
    names = {p.name for p in (tmp_path / "t").iterdir()}
    assert "README" in names
    assert not any(
        n.endswith((".deleted", ".cleaned", ".tmp")) or n.startswith("0" * 18 + "77") for n in names
    )


def test_flush_moves_the_recovery_point_unless_the_log_was_cut_meanwhile(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t", Config(segment_bytes=1000), clean=False)
    assert log.unflushed == 0
    fill(log, 12)
    assert (log.recovery_point, log.unflushed) == (0, 12)
    assert log.flush() == 12
    assert (log.recovery_point, log.unflushed) == (12, 0)
    fill(log, 2)
    sync = log._files.sync_data

    def cut(fd: int) -> None:
        sync(fd)
        if log.log_end_offset == 14:
            log.truncate_to(10)

    log._files.sync_data = cut  # type: ignore[method-assign]  # the moment between two threads
    log.flush()
    assert log.recovery_point == 10


def test_after_an_unclean_stop_what_was_not_flushed_is_not_taken_for_durable(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t", clean=False)
    fill(log, 5)
    log.flush()
    fill(log, 5)
    log.close(clean=False)
    log = open_log(tmp_path / "t", clean=False, recovery_point=5)
    assert (log.recovery_point, log.unflushed) == (5, 5)
    assert log.flush() == 10
