"""The checker of whole data directories, on one that a broker has left."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pykbroker.catalog import snapshot
from pykbroker.catalog.local import DIRECTORY as CATALOG
from pykbroker.delivery.sqlite_index import FILE as INDEX
from pykbroker.log import checkpoints
from pykbroker.log.files import Files
from pykbroker.log.report import Report
from pykbroker.partitions.check import check
from pykbroker.records.build import RecordData, encode_batch
from pykbroker.testing import BrokerThread
from tests.log.support import placed

RECORDS = 20


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Topic ``t`` with a few records in its one partition, after a clean stop."""
    data_dir = tmp_path_factory.mktemp("stopped")
    with BrokerThread(data_dir=data_dir) as broker:
        services = broker.broker.services
        broker.run_async(lambda: services.topics.auto_create("t"))

        def append() -> None:
            for number in range(RECORDS):
                batch = encode_batch([RecordData(value=b"%02d" % number)], timestamp_ms=1000 + number)
                services.partitions.get("t", 0).append_as_leader(bytearray(batch), now_ms=2000)

        broker.run(append)
    return data_dir


@pytest.fixture
def data_dir(stopped: Path, tmp_path: Path) -> Path:
    """A copy to do harm to."""
    return Path(shutil.copytree(stopped, tmp_path / "data"))


def lines(report: Report) -> list[str]:
    return [f"{kind} {each}" for kind, each in report]


def test_silent_about_what_a_broker_leaves(stopped: Path) -> None:
    told: list[tuple[int, int, str]] = []
    report = check(stopped, lambda *arguments: told.append(arguments))
    assert lines(report) == []
    assert (report.partitions, report.records > RECORDS, report.bytes > 0) == (2, True, True)
    assert told[-1] == (report.bytes, report.bytes, "t-0")


def test_an_empty_directory_is_no_data_directory(tmp_path: Path) -> None:
    report = check(tmp_path)
    assert report.problems == []
    assert "no broker has used this directory" in lines(report)[0]


def meta_gone(data: Path) -> str:
    (data / checkpoints.META_PROPERTIES).unlink()
    return "says nothing of cluster.id, node.id"


def meta_garbage(data: Path) -> str:
    (data / checkpoints.META_PROPERTIES).write_text("garbage")
    return "meta.properties: cannot be read"


def checkpoint_garbage(data: Path) -> str:
    (data / checkpoints.LOG_STARTS).write_text("0\n7\n")
    return f"{checkpoints.LOG_STARTS}: cannot be read"


def high_watermark_behind_the_end(data: Path) -> str:
    checkpoints.write_offsets(data / checkpoints.HIGH_WATERMARKS, {("t", 0): RECORDS + 1})
    return f"t-0: offset {RECORDS + 1} lies behind the end of the log, {RECORDS}"


def directory_gone(data: Path) -> str:
    shutil.rmtree(data / "t-0")
    return f"t-0: offset {RECORDS}, but there is no such directory"


def catalog_gone(data: Path) -> str:
    shutil.rmtree(data / CATALOG)
    return "nothing says which topics exist"


def a_change_of_another_version(data: Path) -> str:
    path = max((data / CATALOG).glob("*.log"))
    end = check(data).records - RECORDS
    batch, _ = placed([encode_batch([RecordData(value=b'{"type": "future"}')], timestamp_ms=1)], end, 0)
    with path.open("ab") as log:
        log.write(batch)
    return f"a change at offset {end} cannot be applied"


def a_snapshot_of_the_catalog_that_is_none(data: Path) -> str:
    snapshot.path_of(data / CATALOG, 1).write_bytes(b"?" * 70)
    return ".checkpoint: is damaged"


def records_lost(data: Path) -> str:
    """Not one record too little: the last batch is cut off at its edge."""
    path = max((data / "t-0").glob("*.log"))
    path.write_bytes(path.read_bytes()[: -path.stat().st_size // RECORDS])
    return "records are lost that were on the disk"


@pytest.mark.parametrize(
    "harm",
    [
        meta_gone,
        meta_garbage,
        checkpoint_garbage,
        high_watermark_behind_the_end,
        directory_gone,
        catalog_gone,
        a_change_of_another_version,
        a_snapshot_of_the_catalog_that_is_none,
        records_lost,
    ],
)
def test_it_names_what_is_wrong(data_dir: Path, harm: Callable[[Path], str]) -> None:
    what = harm(data_dir)
    before = {path: path.read_bytes() for path in data_dir.rglob("*") if path.is_file()}
    report = check(data_dir)
    assert any(what in str(problem) for problem in report.problems), lines(report)
    assert {path: path.read_bytes() for path in data_dir.rglob("*") if path.is_file()} == before


def test_lost_records_are_a_problem_after_a_power_cut_too(data_dir: Path) -> None:
    (data_dir / checkpoints.CLEAN_SHUTDOWN).unlink()
    what = records_lost(data_dir)
    assert any(what in problem.what for problem in check(data_dir).problems)


def test_what_a_crash_leaves_is_noted(data_dir: Path) -> None:
    (data_dir / checkpoints.CLEAN_SHUTDOWN).unlink()
    (data_dir / checkpoints.RECOVERY_POINTS).unlink()
    path = max((data_dir / "t-0").glob("*.log"))
    path.write_bytes(path.read_bytes()[:-3])
    notes = lines(check(data_dir))
    assert all(note.startswith("note ") for note in notes), notes
    assert any("torn tail" in note for note in notes)
    assert any("lies behind the end of the log" in note for note in notes)


def test_what_does_not_belong_there_is_noted(data_dir: Path) -> None:
    name = f"u-0.{0:032x}"
    for directory in (f"{name}-stray", f"{name}-delete", "t-7", "photos"):
        (data_dir / directory).mkdir()
    for file in ("x.tmp", "pykbroker.json", "notes.txt"):
        (data_dir / file).write_text("any")
    for suffix in ("", "-wal", "-shm"):
        (data_dir / f"{INDEX}{suffix}").write_text("any")
    checkpoints.write_partition_metadata(data_dir / "t-0", bytes(16))
    report = check(data_dir)
    assert report.problems == []
    expected = {
        "photos": "no partition's",
        f"{name}-stray": "set aside",
        f"{name}-delete": "the next start removes it",
        "t-7": "the catalog has no such partition",
        "t-0": "of an earlier topic of that name",
        "x.tmp": "did not end",
        "pykbroker.json": "that was killed",
        "notes.txt": "nothing that belongs here",
    }
    found = {note.path.name: note.what for note in report.notes}
    assert found.keys() == expected.keys()
    assert all(what in found[name] for name, what in expected.items()), found


def test_a_catalog_that_was_cut_below_a_snapshot(data_dir: Path) -> None:
    """The snapshot stands for what is gone; an older one is left over."""
    with BrokerThread(data_dir=data_dir) as broker:
        catalog = broker.broker.services.catalog
        image, end = catalog.image, broker.run(lambda: check(data_dir).records - RECORDS)
    for offset in (end - 1, end):
        snapshot.write(data_dir / CATALOG, offset, image, now_ms=1, files=Files())
    report = check(data_dir)
    assert report.problems == [], lines(report)
    assert [note.what for note in report.notes] == ["an older snapshot; the next one removes it"]
