"""Producer state through rolls, stops, crashes and cuts: the window of five survives all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pykbroker.errors import KafkaError
from pykbroker.log.log import Log
from pykbroker.records.producers import Duplicate
from tests.log.support import NOW, Config, append, make_batch, open_log, placed

COUNT = 12


def numbered(i: int) -> bytes:
    return make_batch([b"v" * 50], producer_id=9, producer_epoch=1, base_sequence=i)


def check_window(log: Log, count: int = COUNT) -> None:
    for i in range(count - 5, count):
        answer = log.producers.check(placed([numbered(i)], 0, 0)[1][0])
        assert isinstance(answer, Duplicate)
        assert answer.base_offset == i
    assert log.producers.check(placed([numbered(count)], 0, 0)[1][0]) is None
    for wrong in (count - 6, count + 1):
        with pytest.raises(KafkaError):
            log.producers.check(placed([numbered(wrong)], 0, 0)[1][0])


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("segment_bytes", [250, 500, 1 << 20])
@pytest.mark.parametrize("lost", ["nothing", "snapshots", "newest", "garbled"])
def test_the_window_survives(tmp_path: Path, clean: bool, segment_bytes: int, lost: str) -> None:
    config = Config(segment_bytes=segment_bytes)
    log = open_log(tmp_path / "t", config)
    for i in range(COUNT):
        append(log, numbered(i))
    check_window(log)
    log.close(clean=clean)
    snapshots = sorted((tmp_path / "t").glob("*.snapshot"))
    for path in snapshots[-1:] if lost == "newest" else snapshots:
        if lost in ("snapshots", "newest"):
            path.unlink()
        elif lost == "garbled":
            path.write_bytes(path.read_bytes()[:-1])
    for _ in range(2):
        log = open_log(tmp_path / "t", config, clean=clean, recovery_point=COUNT if clean else 0)
        check_window(log)
        log.close(clean=clean)


def test_a_cut_takes_producer_state_back(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t", Config(segment_bytes=500))
    for i in range(COUNT):
        append(log, numbered(i))
    for end in (11, 8, 6):
        log.truncate_to(end)
        check_window(log, end)
    log.close(clean=False)
    check_window(open_log(tmp_path / "t", Config(segment_bytes=500), clean=False), 6)


def test_one_snapshot_per_segment_and_one_at_the_end(tmp_path: Path) -> None:
    config = Config(segment_bytes=500)
    log = open_log(tmp_path / "t", config)
    for i in range(COUNT):
        append(log, numbered(i))
        if i % 5 == 2:
            log.close(clean=True)
            log = open_log(tmp_path / "t", config, recovery_point=i + 1)
    bases = list(log.segments())
    log.close(clean=True)
    names = sorted(int(p.stem) for p in (tmp_path / "t").glob("*.snapshot"))
    assert set(names) <= {*bases, COUNT}
    assert names[-1] == COUNT
    log = open_log(tmp_path / "t", config, recovery_point=COUNT)
    log.advance_log_start(bases[2])
    for path in log.delete_expired(NOW, COUNT):
        path.unlink()
    assert min(int(p.stem) for p in (tmp_path / "t").glob("*.snapshot")) >= bases[2]
