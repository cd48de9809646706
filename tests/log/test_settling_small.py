"""Small segments of which nothing is settled become one: each costs files, and is looked through again."""

from __future__ import annotations

from pathlib import Path

from tests.log.test_compaction import Directory
from tests.log.test_settling import batch, offsets_in, rewrite


def test_small_neighbours_become_one_although_nothing_goes(tmp_path: Path) -> None:
    directory = Directory(tmp_path)
    for _ in range(3):
        directory.segment(batch(0, 4))
    before = directory.bytes()
    outcome = rewrite(directory, ())
    assert (outcome.old, outcome.new) == ([0, 4, 8], [0])
    assert outcome.bytes_before == outcome.bytes_after
    assert offsets_in(directory) == [*range(12)]
    assert directory.bytes() == before
