"""The checker: silent about a sound directory, and it names everything that is wrong with another."""

from __future__ import annotations

from pathlib import Path

import pytest

from pykbroker.log import checkpoints
from pykbroker.log.check import check_data_dir, check_log
from pykbroker.records.batch import iter_headers
from tests.log.support import Config, fill, open_log, read_values

CONFIG = Config(segment_bytes=1500, index_interval_bytes=300)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Two partitions after a clean stop."""
    for partition in (0, 1):
        log = open_log(tmp_path / f"a.b-{partition}", CONFIG)
        fill(log, 40, epoch=2)
        log.close(clean=True)
        checkpoints.write_partition_metadata(tmp_path / f"a.b-{partition}", bytes(15) + b"\1")
    for name in (checkpoints.RECOVERY_POINTS, checkpoints.HIGH_WATERMARKS):
        checkpoints.write_offsets(tmp_path / name, {("a.b", 0): 40, ("a.b", 1): 40})
    return tmp_path


def test_silent_when_all_is_well(data_dir: Path) -> None:
    assert check_data_dir(data_dir) == []


def test_names_everything(data_dir: Path) -> None:
    one, other = data_dir / "a.b-0", data_dir / "a.b-1"
    first = one / f"{0:020d}.log"
    start = [pos for pos, _header in iter_headers(first.read_bytes())][3]
    data = bytearray(first.read_bytes())
    data[start + 70] ^= 1
    first.write_bytes(data)
    sorted(one.glob("*.index"))[1].write_bytes(b"odd")
    sorted(one.glob("*.timeindex"))[1].write_bytes(bytes(12))
    (one / "00000000000000000040.snapshot").write_bytes(b"?")
    (one / "leader-epoch-checkpoint").write_bytes(b"x")
    (other / "00000000000000000099.index").write_bytes(b"")
    active = max(other.glob("*.log"))
    active.write_bytes(active.read_bytes()[:-5])
    checkpoints.write_offsets(data_dir / checkpoints.HIGH_WATERMARKS, {("a.b", 1): 41})
    before = {path: path.read_bytes() for path in data_dir.rglob("*") if path.is_file()}
    found = [(p.serious, str(p.path.relative_to(data_dir)), p.text) for p in check_data_dir(data_dir)]
    expected = [
        (True, f"a.b-0/{0:020d}.log", "offsets 3 to 3 are lost"),
        (False, ".index", "not sound"),
        (False, ".timeindex", "largest timestamp"),
        (False, ".snapshot", "not readable"),
        (False, "leader-epoch-checkpoint", "cannot be read"),
        (False, "00000000000000000099.index", "without its .log"),
        (False, active.name, "torn tail"),
        (False, ".snapshot", "behind the log end"),
        (True, checkpoints.HIGH_WATERMARKS, "behind the log end 39"),
    ]
    for serious, path, text in expected:
        assert any(s == serious and path in p and text in t for s, p, t in found), (path, text, found)
    assert {path: path.read_bytes() for path in data_dir.rglob("*") if path.is_file()} == before


def test_known_damage_is_reported_once(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t-0")
    fill(log, 10)
    log.close(clean=False)
    path = tmp_path / "t-0" / f"{0:020d}.log"
    start = [pos for pos, _header in iter_headers(path.read_bytes())][3]
    data = bytearray(path.read_bytes())
    data[start + 16] ^= 1
    path.write_bytes(data)
    log = open_log(tmp_path / "t-0", clean=False)
    assert len(read_values(log)[1]) == 1
    log.close(clean=True)
    problems = check_log(tmp_path / "t-0")
    assert [p.serious for p in problems] == [True]
    assert str(problems[0]).startswith("error: ")
    assert f"at byte {start}: known damage: offsets 3 to 3" in str(problems[0])
