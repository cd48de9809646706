"""The checker of one log: silent about a sound one, and it names everything that is wrong with another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pykbroker.log.check import check_log
from pykbroker.log.report import Report
from pykbroker.records.batch import iter_headers, write_crc
from tests.log.support import Config, append, fill, make_batch, open_log, read_values

CONFIG = Config(segment_bytes=1500, index_interval_bytes=300)
FIRST = f"{0:020d}.log"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A log of several segments after a clean stop, offsets 0 to 39, with a producer."""
    log = open_log(tmp_path / "t-0", CONFIG)
    fill(log, 38, epoch=2)
    for sequence in (0, 1):
        append(log, make_batch([b"x"], producer_id=9, producer_epoch=3, base_sequence=sequence), epoch=2)
    log.close(clean=True)
    return tmp_path / "t-0"


def edges(path: Path) -> list[int]:
    return [position for position, _ in iter_headers(path.read_bytes())]


def change(path: Path, at: int, mask: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= mask
    path.write_bytes(data)


def test_silent_when_all_is_well(directory: Path) -> None:
    check = check_log(directory, clean=True, gaps=False)
    report = check.report
    assert list(report) == []
    assert (check.start, check.end) == (0, 40)
    assert (report.partitions, report.batches, report.records) == (1, 40, 40)
    assert report.segments == len(list(directory.glob("*.log"))) > 2
    assert report.bytes == sum(path.stat().st_size for path in directory.glob("*.log"))


def flip_a_record(directory: Path) -> str:
    change(directory / FIRST, edges(directory / FIRST)[3] + 70)
    return "damage: offsets 3 to 3 are lost"


def flip_an_epoch(directory: Path) -> str:
    change(directory / FIRST, edges(directory / FIRST)[3] + 15, 4)
    return "does not fit"


def cut_a_closed_segment(directory: Path) -> str:
    path = sorted(directory.glob("*.log"))[1]
    at = edges(path)[-1]
    path.write_bytes(path.read_bytes()[: at + 30])
    return "damage at the end"


def drop_the_last_batch_of_a_closed_segment(directory: Path) -> str:
    path = sorted(directory.glob("*.log"))[1]
    path.write_bytes(path.read_bytes()[: edges(path)[-1]])
    return "only compaction leaves such gaps"


def drop_a_segment(directory: Path) -> str:
    sorted(directory.glob("*.log"))[1].unlink()
    return "only compaction leaves such gaps"


def rename_the_first_segment(directory: Path) -> str:
    (directory / FIRST).rename(directory / f"{2:020d}.log")
    return "base offset 0 is below 2"


def a_count_that_lies(directory: Path) -> str:
    data = bytearray((directory / FIRST).read_bytes())
    data[60] = 2
    write_crc(data, 0)
    (directory / FIRST).write_bytes(data)
    return "records of a batch cannot be read"


@pytest.mark.parametrize(
    "harm",
    [
        flip_a_record,
        flip_an_epoch,
        cut_a_closed_segment,
        drop_the_last_batch_of_a_closed_segment,
        drop_a_segment,
        rename_the_first_segment,
        a_count_that_lies,
    ],
)
@pytest.mark.parametrize("clean", [True, False])
def test_lost_records_are_a_problem_after_any_stop(
    directory: Path, harm: Callable[[Path], str], clean: bool
) -> None:
    what = harm(directory)
    report = check_log(directory, clean=clean, gaps=False).report
    assert any(what in problem.what for problem in report.problems), list(map(str, report.problems))


def cut_the_tail(directory: Path) -> tuple[str, str]:
    active = max(directory.glob("*.log"))
    active.write_bytes(active.read_bytes()[:-5])
    return active.name, "torn tail from offset 39 on"


def odd_index(directory: Path) -> tuple[str, str]:
    path = sorted(directory.glob("*.index"))[1]
    path.write_bytes(b"odd")
    return path.name, "not in order"


def shifted_index(directory: Path) -> tuple[str, str]:
    path = sorted(directory.glob("*.index"))[1]
    change(path, 7)
    return path.name, "no batch at"


def missing_index(directory: Path) -> tuple[str, str]:
    path = sorted(directory.glob("*.index"))[1]
    path.unlink()
    return path.name, "missing"


def lying_time_index(directory: Path) -> tuple[str, str]:
    path = sorted(directory.glob("*.timeindex"))[1]
    change(path, 7)
    return path.name, "largest timestamp"


def empty_time_index(directory: Path) -> tuple[str, str]:
    path = sorted(directory.glob("*.timeindex"))[1]
    path.write_bytes(b"")
    return path.name, "largest timestamp"


def broken_snapshot(directory: Path) -> tuple[str, str]:
    path = max(directory.glob("*.snapshot"))
    change(path, 20)
    return path.name, "cannot be read"


def snapshot_of_other_batches(directory: Path) -> tuple[str, str]:
    path = max(directory.glob("*.snapshot"))
    active = max(directory.glob("*.log"))
    data = bytearray(active.read_bytes())
    at = edges(active)[-1]
    data[at + 56] ^= 8  # base sequence
    write_crc(data, at)
    active.write_bytes(data)
    return path.name, "is not that of producer 9"


def broken_epochs(directory: Path) -> tuple[str, str]:
    (directory / "leader-epoch-checkpoint").write_bytes(b"x")
    return "leader-epoch-checkpoint", "cannot be read"


def epochs_behind(directory: Path) -> tuple[str, str]:
    (directory / "leader-epoch-checkpoint").write_bytes(b"0\n0\n")
    return "leader-epoch-checkpoint", "the latest leader epoch is 2"


def broken_metadata(directory: Path) -> tuple[str, str]:
    (directory / "partition.metadata").write_bytes(b"version: 0")
    return "partition.metadata", "no topic_id"


def index_alone(directory: Path) -> tuple[str, str]:
    (directory / "00000000000000000099.index").write_bytes(b"")
    return "00000000000000000099.index", "without its .log"


def snapshot_behind_the_end(directory: Path) -> tuple[str, str]:
    newest = max(directory.glob("*.snapshot"))
    newest.rename(directory / f"{41:020d}.snapshot")
    return f"{41:020d}.snapshot", "behind the log end 40"


@pytest.mark.parametrize(
    "harm",
    [
        cut_the_tail,
        odd_index,
        shifted_index,
        missing_index,
        lying_time_index,
        empty_time_index,
        broken_snapshot,
        snapshot_of_other_batches,
        broken_epochs,
        epochs_behind,
        broken_metadata,
        index_alone,
        snapshot_behind_the_end,
    ],
)
def test_what_a_start_repairs_is_a_problem_only_after_a_clean_stop(
    directory: Path, harm: Callable[[Path], tuple[str, str]]
) -> None:
    name, what = harm(directory)

    def found(report: Report) -> tuple[bool, bool]:
        problems, notes = (
            any(each.path.name == name and what in each.what for each in kind)
            for kind in (report.problems, report.notes)
        )
        return problems, notes

    clean = check_log(directory, clean=True, gaps=False).report
    assert found(clean) == (True, False), [str(each) for _, each in clean]
    unclean = check_log(directory, clean=False, gaps=False).report
    assert found(unclean) == (False, True), [str(each) for _, each in unclean]


def test_indexes_of_what_was_on_the_disk_are_a_problem_after_any_stop(directory: Path) -> None:
    odd_index(directory)
    assert check_log(directory, clean=False, recovery_point=40).report.problems


@pytest.mark.parametrize("suffix", [".cleaned", ".swap", ".deleted", ".tmp"])
def test_leftovers_and_unknown_files_are_notes(directory: Path, suffix: str) -> None:
    (directory / f"{FIRST}{suffix}").write_bytes(b"any")
    (directory / "replacement-commit").write_bytes(b"0\n0\n0\n")
    (directory / "holiday.jpg").write_bytes(b"any")
    report = check_log(directory, clean=True).report
    assert report.problems == []
    assert [note.path.name for note in report.notes] == [
        f"{FIRST}{suffix}", "holiday.jpg", "replacement-commit",
    ]  # fmt: skip


def test_it_goes_on_and_changes_nothing(directory: Path) -> None:
    expected = [flip_a_record(directory), odd_index(directory)[1], broken_epochs(directory)[1]]
    (directory / "damage-checkpoint").write_bytes(b"0\n1\nnonsense\n")
    before = {path: path.read_bytes() for path in directory.iterdir()}
    found = [str(each) for _, each in check_log(directory, clean=False).report]
    assert all(any(what in line for line in found) for what in [*expected, "not every line is a hole"]), found
    assert {path: path.read_bytes() for path in directory.iterdir()} == before


def test_known_damage_is_reported_once(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t-0")
    fill(log, 10)
    log.close(clean=False)
    path = tmp_path / "t-0" / FIRST
    start = edges(path)[3]
    change(path, start + 16)
    log = open_log(tmp_path / "t-0", clean=False)
    assert len(read_values(log)[1]) == 1
    log.close(clean=True)
    report = check_log(tmp_path / "t-0", clean=True, gaps=False).report
    (problem,) = report.problems
    assert str(problem).startswith(f"{path} at byte {start}: known damage: offsets 3 to 3 are lost")
    assert report.notes == []


def test_an_epoch_that_the_checkpoint_does_not_have(directory: Path) -> None:
    """All batches agree, the checkpoint says otherwise."""
    (directory / "leader-epoch-checkpoint").write_bytes(b"0\n2\n1 0\n2 20\n")
    report = check_log(directory, clean=False, recovery_point=40).report
    assert any("leader epoch 2 at offset 0, 1 in the checkpoint" in p.what for p in report.problems)
