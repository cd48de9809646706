"""Snapshots: the image comes back, and what is no snapshot is said to be none."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pykbroker.catalog import snapshot
from pykbroker.catalog.draft import Draft
from pykbroker.catalog.image import Image
from pykbroker.log.files import Files
from tests.catalog.histories import change


def some_image(changes: int = 400) -> Image:
    chance, draft = random.Random(3), Draft(Image(cluster_id="c"))
    for _ in range(changes):
        draft.apply(change(draft.view(), chance))
    return draft.finish()


def test_an_image_comes_back(tmp_path: Path) -> None:
    for image in (Image(cluster_id="c"), some_image()):
        snapshot.write(tmp_path, 12, image, now_ms=1, files=Files())
        assert snapshot.read(snapshot.path_of(tmp_path, 12), Files()) == image


def test_found_newest_first(tmp_path: Path) -> None:
    assert snapshot.found_in(tmp_path / "missing", Files()) == {}
    for offset in (5, 100, 20):
        snapshot.write(tmp_path, offset, Image(cluster_id="c"), now_ms=1, files=Files())
    (tmp_path / "00000000000000000000.log").touch()
    assert list(snapshot.found_in(tmp_path, Files())) == [100, 20, 5]


def test_damage_is_noticed_wherever_it_is(tmp_path: Path) -> None:
    snapshot.write(tmp_path, 1, some_image(30), now_ms=1, files=Files())
    path = snapshot.path_of(tmp_path, 1)
    data = path.read_bytes()
    cuts = [b"", data[:-1], data[: len(data) // 2]]
    flips = [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in range(8, len(data), 97)]
    for broken in cuts + flips:
        path.write_bytes(broken)
        with pytest.raises(snapshot.SnapshotError, match="is damaged"):
            snapshot.read(path, Files())
