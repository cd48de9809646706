"""Who holds a data directory."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pykbroker._datadir import DataDirectory, StartError


def test_the_second_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    holder = DataDirectory(tmp_path)
    holder.hold()
    holder.publish({"pid": os.getpid(), "listeners": ["localhost:9092"]})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(StartError) as refused:
        DataDirectory(tmp_path).hold()
    assert f"process id {os.getpid()}" in str(refused.value)
    assert "localhost:9092" in str(refused.value)
    assert "--data-dir" in refused.value.hint
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    holder.release()


def test_released_it_is_free(tmp_path: Path) -> None:
    for _ in range(2):
        directory = DataDirectory(tmp_path / "made" / "by it")
        directory.hold()
        directory.release()
        directory.release()  # nothing to do


def test_what_a_killed_broker_left_is_gone_when_the_next_holds(tmp_path: Path) -> None:
    (tmp_path / "pykbroker.json").write_text("{}")
    (tmp_path / ".lock").write_text('{"pid": 1, "listeners": ["a:1", "b:2"]} and more')
    directory = DataDirectory(tmp_path)
    directory.hold()
    assert not (tmp_path / "pykbroker.json").exists()
    assert json.loads((tmp_path / ".lock").read_text()) == {"pid": os.getpid()}
    directory.release()


def test_published_to_both_files_in_one_piece(tmp_path: Path) -> None:
    (tmp_path / "ready").write_text("of a broker that was killed")
    directory = DataDirectory(tmp_path / "data", tmp_path / "ready")
    directory.hold()
    assert not (tmp_path / "ready").exists()
    directory.publish({"pid": 1, "listeners": ["h:1"]})
    published = (tmp_path / "data" / "pykbroker.json").read_text()
    assert json.loads(published) == {"pid": 1, "listeners": ["h:1"]}
    assert (tmp_path / "ready").read_text() == published
    assert not list(tmp_path.rglob("*.tmp"))
    directory.release()
    assert not (tmp_path / "data" / "pykbroker.json").exists()


def test_a_holder_that_cannot_be_named(tmp_path: Path) -> None:
    holder = DataDirectory(tmp_path)
    holder.hold()
    (tmp_path / ".lock").write_bytes(b"\xff not json")
    with pytest.raises(StartError, match="in use by another broker"):
        DataDirectory(tmp_path).hold()
    holder.release()


def test_a_place_that_cannot_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="cannot be used") as refused:
        DataDirectory(tmp_path / "file").hold()
    assert "--data-dir" in refused.value.hint


def test_a_ready_file_nowhere_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="ready file"):
        DataDirectory(tmp_path / "data", tmp_path / "missing" / "ready").hold()
    assert not (tmp_path / "data").exists()
