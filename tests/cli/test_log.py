"""``pykbroker log``: what it prints, what it answers scripts, what it refuses."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pykbroker._datadir import DataDirectory
from pykbroker.cli import cli
from pykbroker.log.dump import pieces
from pykbroker.records.batch import iter_headers
from pykbroker.records.build import RecordData, encode_batch
from pykbroker.records.compression import Codec
from pykbroker.testing import BrokerThread
from tests.log.support import placed


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["log", *map(str, arguments)])


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    with BrokerThread(data_dir=tmp_path / "data"):
        pass
    return tmp_path / "data"


@pytest.fixture
def segment(tmp_path: Path) -> Path:
    """Three batches: offsets 0-1, 2 with a producer and gzip, 3 with bytes that are not text."""
    records = [
        RecordData(key=b"k", value=b"one"),
        RecordData(value=b"two", headers=(("h", b"x"),), offset_delta=1),
    ]
    batches = [
        encode_batch(records, timestamp_ms=1000),
        encode_batch(
            records[:1], timestamp_ms=1001, codec=Codec.GZIP, producer_id=5, producer_epoch=1, base_sequence=7
        ),
        encode_batch([RecordData(value=b"\xff")], timestamp_ms=1002),
    ]
    path = tmp_path / f"{0:020d}.log"
    path.write_bytes(placed(batches, 0, 4)[0])
    return path


def test_a_sound_directory(data_dir: Path) -> None:
    result = run("check", data_dir)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("sound: 1 partitions, 1 segments, ")
    report = json.loads(run("check", data_dir, "--format", "json").output)
    assert report["problems"] == report["notes"] == []
    assert report["partitions"] == 1


def test_problems_are_exit_status_1(data_dir: Path) -> None:
    path = data_dir / "replication-offset-checkpoint"
    path.write_text("?")
    (data_dir / "photo").write_text("?")
    result = run("check", data_dir)
    assert result.exit_code == 1
    assert result.output.splitlines()[:2] == [
        f"problem: {path}: cannot be read: version is not 0: '?'",
        f"note: {data_dir / 'photo'}: nothing that belongs here",
    ]
    result = run("check", data_dir, "--format", "json")
    assert result.exit_code == 1
    (problem,) = json.loads(result.output)["problems"]
    assert problem == {"path": str(path), "position": None, "what": "cannot be read: version is not 0: '?'"}


def test_no_directory_is_usage(tmp_path: Path) -> None:
    assert run("check", tmp_path / "no").exit_code == 2
    assert run("check").exit_code == 2


def test_a_directory_in_use_is_refused_and_the_holder_named(data_dir: Path) -> None:
    holder = DataDirectory(data_dir)
    holder.hold()
    result = run("check", data_dir)
    assert result.exit_code == 1
    assert f"process id {os.getpid()}" in str(result.exception)
    holder.release()
    assert run("check", data_dir).exit_code == 0


def test_a_copy_that_may_only_be_read(data_dir: Path) -> None:
    (data_dir / ".lock").unlink()
    before = sorted(data_dir.rglob("*"))
    assert run("check", data_dir).exit_code == 0
    assert sorted(data_dir.rglob("*")) == before


def test_dump(segment: Path) -> None:
    lines = run("dump", segment).output.splitlines()
    assert lines[0] == str(segment)
    assert lines[1].split() == [
        "POSITION",
        "SIZE",
        "OFFSETS",
        "RECORDS",
        "EPOCH",
        "CODEC",
        "PRODUCER",
        "CRC",
        "WHAT",
    ]
    assert lines[2].split()[2:] == ["0-1", "2", "4", "none", "-", "ok"]
    assert lines[3].split()[2:] == ["2-2", "1", "4", "gzip", "5/1/7", "ok"]
    assert len(lines) == 5


def dump_json(*arguments: object) -> list[Any]:
    return list(json.loads(run("dump", "--format", "json", *arguments).output))


def test_dump_for_programs(segment: Path) -> None:
    first, second, _ = dump_json(segment)
    assert (first["file"], first["position"], first["records"]) == (str(segment), 0, 2)
    assert second["position"] == first["size"]
    assert (second["codec"], second["producer_id"], second["base_sequence"]) == ("gzip", 5, 7)
    assert [first["crc_ok"], first["fault"], first["is_control"]] == [True, None, False]
    records = [record for row in dump_json("--records", segment) for record in row["records"]]
    assert [record["value"] for record in records] == ["one", "two", "one", "\\xff"]
    assert records[0]["key"] == "k"
    assert records[1]["headers"] == [["h", "x"]]


def test_dump_with_records_for_people(segment: Path) -> None:
    output = run("dump", "--records", segment).output
    assert '  {"offset": 0, "timestamp": 1000, "key": "k", "value": "one", "headers": []}' in output


def test_dump_of_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.touch()
    assert run("dump", path).output.strip() == str(path)
    assert dump_json(path) == []


def test_dump_goes_on_behind_damage(segment: Path) -> None:
    data = bytearray(segment.read_bytes())
    edges = [position for position, _ in iter_headers(bytes(data))]
    data[70] ^= 1  # a record of the first batch
    data[edges[1] + 16] = 9  # the magic of the second
    segment.write_bytes(data + b"half")
    found = [(p.position, p.crc_ok, p.fault) for p in pieces(segment)]
    assert found == [
        (0, False, ""),
        (edges[1], False, "magic is 9"),
        (edges[2], True, ""),
        (len(data), False, "header cut short"),
    ]
    lines = run("dump", "--records", segment).output.splitlines()
    assert sum("BAD" in line for line in lines) == 1
    assert sum(line.endswith("magic is 9") for line in lines) == 1
    assert [row["fault"] for row in dump_json(segment)] == [None, "magic is 9", None, "header cut short"]


def test_only_files_of_batches_are_dumped(tmp_path: Path) -> None:
    path = tmp_path / f"{0:020d}.index"
    path.touch()
    result = run("dump", path)
    assert result.exit_code == 2
    assert "holds no batches" in result.output
