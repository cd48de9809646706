"""The leader epoch checkpoint is written unsynced: after a power cut it may be older than the records.

What verifies stays then, and the checkpoint is made anew from it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pykbroker.log.epochs import FILE_NAME, LeaderEpochs
from tests.log.support import Config, fill, open_log, read_values


@pytest.mark.parametrize("batches", [1, 2, 5])
@pytest.mark.parametrize("rolled", [False, True])
@pytest.mark.parametrize("flushed", [0, 6])
@pytest.mark.parametrize("gone", [False, True], ids=["older", "gone"])
def test_records_of_an_epoch_that_the_checkpoint_lost(
    tmp_path: Path, batches: int, rolled: bool, flushed: int, gone: bool
) -> None:
    directory = tmp_path / "t-0"
    log = open_log(directory, clean=False)
    fill(log, 6, epoch=3)
    if flushed:
        log.flush()
    older = (directory / FILE_NAME).read_bytes()
    fill(log, batches, epoch=4)
    if rolled:
        log.roll(0)
    log.close(clean=False)
    (directory / FILE_NAME).unlink() if gone else (directory / FILE_NAME).write_bytes(older)

    log = open_log(directory, clean=False, recovery_point=flushed, leader_epoch=4)
    end = 6 + batches
    assert log.damage == []
    assert log.log_end_offset == end
    assert log.epochs.entries == [(3, 0), (4, 6)]
    fill(log, 1, epoch=5)
    log.close(clean=True)
    log = open_log(directory, recovery_point=end + 1)
    assert log.epochs.entries == [(3, 0), (4, 6), (5, end)]
    assert (sorted(read_values(log)[0]), log.damage) == (list(range(end + 1)), [])
    log.close(clean=True)


def test_an_epoch_of_records_that_were_taken_back(tmp_path: Path) -> None:
    """The cut was saved, the power cut brings the checkpoint before it back."""
    directory = tmp_path / "t-0"
    log = open_log(directory, clean=False)
    fill(log, 6, epoch=1)
    fill(log, 4, epoch=2)
    older = (directory / FILE_NAME).read_bytes()
    log.truncate_to(5)
    fill(log, 8, epoch=3)
    log.close(clean=False)
    (directory / FILE_NAME).write_bytes(older)
    log = open_log(directory, clean=False)
    assert (log.damage, log.log_end_offset) == ([], 13)
    assert log.epochs.entries == [(1, 0), (3, 5)]
    log.close(clean=True)


@pytest.mark.parametrize(("point", "leader_epoch", "epoch"), [(6, 9, 7), (0, 5, 7), (0, -1, 7)])
def test_an_epoch_that_cannot_have_been_is_damage(
    tmp_path: Path, point: int, leader_epoch: int, epoch: int
) -> None:
    """Below the recovery point it was synced with the records; above, no leader had it."""
    directory = tmp_path / "t-0"
    log = open_log(directory, clean=False)
    fill(log, 6, epoch=3)
    log.close(clean=False)
    path = directory / f"{0:020d}.log"
    data = bytearray(path.read_bytes())
    data[len(data) // 6 * 5 + 15] = epoch
    path.write_bytes(data)
    log = open_log(directory, clean=False, recovery_point=point, leader_epoch=leader_epoch)
    assert (log.log_end_offset, log.epochs.latest) == (5, 3)
    log.close(clean=True)


@pytest.mark.parametrize("content", [None, b"", b"garbage"])
@pytest.mark.parametrize("clean", [True, False])
def test_a_checkpoint_that_is_gone_is_made_from_all_records(
    tmp_path: Path, content: bytes | None, clean: bool
) -> None:
    """It is replaced without a sync: a power cut may leave an empty file, and the segments below the
    recovery point are not scanned."""
    directory = tmp_path / "t-0"
    config = Config(segment_bytes=1000)
    log = open_log(directory, config, clean=False)
    for epoch in (1, 2, 4):
        fill(log, 8, epoch=epoch)
    log.close(clean=True)
    path = directory / FILE_NAME
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    log = open_log(directory, config, clean=clean, recovery_point=20, log_start=3)
    assert log.epochs.entries == [(1, 3), (2, 8), (4, 16)]
    log.close(clean=False)
    assert LeaderEpochs.decode(path.read_bytes()).entries == [(1, 3), (2, 8), (4, 16)]
