"""From a timestamp to an offset, and the largest timestamp."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pykbroker.log.log import Log
from tests.log.support import NOW, Config, append, make_batch, open_log


def write(log: Log, times: list[int], per_batch: int) -> None:
    for i in range(0, len(times), per_batch):
        some = times[i : i + per_batch]
        append(log, make_batch([b"v"] * len(some), timestamps=some))


@pytest.mark.parametrize("order", ["rising", "random", "falling", "equal"])
@pytest.mark.parametrize("per_batch", [1, 4])
@pytest.mark.parametrize("segment_bytes", [900, 1 << 20])
def test_the_first_record_that_is_not_older(
    tmp_path: Path, order: str, per_batch: int, segment_bytes: int
) -> None:
    times = [NOW + 10 * i for i in range(80)]
    match order:
        case "random":
            random.Random(5).shuffle(times)
        case "falling":
            times.reverse()
        case "equal":
            times = [NOW] * 80
        case _:
            pass
    config = Config(segment_bytes=segment_bytes, index_interval_bytes=200)
    log = open_log(tmp_path / "t", config)
    write(log, times, per_batch)
    for _ in range(2):
        for start in (0, 33):
            log.advance_log_start(start)
            for wanted in [NOW - 5, NOW, NOW + 1, NOW + 395, NOW + 790, NOW + 791]:
                for end in (80, 60):
                    found = log.offset_for_timestamp(wanted, end)
                    expected = next(
                        ((o, t) for o, t in enumerate(times[:end]) if t >= wanted and o >= start), None
                    )
                    assert found == expected, (wanted, start, end)
            newest = max(times[start:])
            assert log.max_timestamp() == (times.index(newest, start), newest)
        log.close(clean=True)
        log = open_log(tmp_path / "t", config, recovery_point=80)


def test_an_empty_log_has_none(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t")
    assert log.offset_for_timestamp(0, 0) is None
    assert log.max_timestamp() is None


def test_records_without_timestamps(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t", Config(index_interval_bytes=0))
    write(log, [-1] * 5, 1)
    assert log.offset_for_timestamp(0, 5) is None
    assert log.max_timestamp() is None
    log.close(clean=True)
    log = open_log(tmp_path / "t", recovery_point=5)
    assert log.max_timestamp() is None
