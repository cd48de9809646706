"""Checkpoints, epochs, descriptors: the small parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from pykbroker.log import checkpoints
from pykbroker.log.descriptors import Descriptors
from pykbroker.log.epochs import LeaderEpochs
from pykbroker.log.files import Files
from pykbroker.log.holes import Hole, decode, encode, find, merge
from pykbroker.log.log import Log
from tests.log.support import Config, fill, read_values


def test_offset_checkpoints_are_kafkas(tmp_path: Path) -> None:
    path = tmp_path / checkpoints.RECOVERY_POINTS
    assert checkpoints.read_offsets(path) == {}
    checkpoints.write_offsets(path, {("a.b", 0): 5, ("a_b", 12): 0})
    assert path.read_bytes() == b"0\n2\na.b 0 5\na_b 12 0\n"
    assert checkpoints.read_offsets(path) == {("a.b", 0): 5, ("a_b", 12): 0}


@pytest.mark.parametrize(
    "content", [b"", b"1\n0\n", b"0\n2\na 0 1\n", b"0\nx\n", b"0\n1\na b\n", b"\xff\xfe"]
)
def test_a_checkpoint_that_is_none_counts_as_absent(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c"
    path.write_bytes(content)
    assert checkpoints.read_offsets(path) == {}


def test_partition_metadata(tmp_path: Path) -> None:
    assert checkpoints.read_partition_metadata(tmp_path) is None
    topic_id = bytes(range(240, 256))
    checkpoints.write_partition_metadata(tmp_path, topic_id)
    text = (tmp_path / "partition.metadata").read_text()
    assert text == "version: 0\ntopic_id: 8PHy8_T19vf4-fr7_P3-_w"
    assert checkpoints.read_partition_metadata(tmp_path) == topic_id
    (tmp_path / "partition.metadata").write_text("version: 0\ntopic_id: short")
    assert checkpoints.read_partition_metadata(tmp_path) is None


def test_the_clean_mark_is_taken_once(tmp_path: Path) -> None:
    assert not checkpoints.take_clean_mark(tmp_path)
    checkpoints.write_clean_mark(tmp_path)
    assert checkpoints.take_clean_mark(tmp_path)
    assert not checkpoints.take_clean_mark(tmp_path)


def test_meta_properties(tmp_path: Path) -> None:
    assert checkpoints.read_meta_properties(tmp_path) == {}
    checkpoints.write_meta_properties(tmp_path, {"version": "1", "node.id": "1", "cluster.id": "x=="})
    assert checkpoints.read_meta_properties(tmp_path) == {"version": "1", "node.id": "1", "cluster.id": "x=="}


def test_end_offsets_of_epochs() -> None:
    epochs = LeaderEpochs([(1, 0), (3, 10), (7, 30)])
    asked = [epochs.end_offset_for(epoch, 50) for epoch in (-1, 0, 1, 2, 3, 5, 7, 8)]
    assert asked == [(-1, -1), (0, 0), (1, 10), (1, 10), (3, 30), (3, 30), (7, 50), (-1, -1)]
    assert LeaderEpochs().end_offset_for(0, 5) == (-1, -1)
    assert [epochs.epoch_for(o) for o in (0, 9, 10, 29, 30, 99)] == [1, 1, 3, 3, 7, 7]


def test_epochs_assigned_again_replace_what_they_contradict() -> None:
    epochs = LeaderEpochs([(1, 0), (3, 10)])
    assert not epochs.assign(3, 20)
    assert epochs.assign(4, 10)
    assert epochs.entries == [(1, 0), (4, 10)]
    epochs.truncate_from_start(5)
    assert epochs.entries == [(1, 5), (4, 10)]
    epochs.truncate_from_end(10)
    assert epochs.entries == [(1, 5)]


def test_epoch_file() -> None:
    data = LeaderEpochs([(0, 0), (2, 7)]).encode()
    assert data == b"0\n2\n0 0\n2 7\n"
    assert LeaderEpochs.decode(data).entries == [(0, 0), (2, 7)]
    for wrong in (b"", b"1\n0\n", b"0\n2\n0 0\n", b"0\n2\n3 0\n2 7\n", b"0\n1\nx y\n"):
        with pytest.raises(ValueError, match=r"\w"):
            LeaderEpochs.decode(wrong)


def hole(first: int, after: int, position: int, end: int, segment: int = 0) -> Hole:
    return Hole(
        first_offset=first,
        next_offset=after,
        segment=segment,
        position=position,
        end_position=end,
        reason="a reason",
    )


def test_holes_are_kept_in_order_and_merged() -> None:
    holes = merge(merge([], hole(20, 30, 200, 300)), hole(5, 6, 50, 60))
    assert [(h.first_offset, h.next_offset) for h in holes] == [(5, 6), (20, 30)]
    assert find(holes, 4) is None
    assert find(holes, 5) == holes[0]
    assert find(holes, 6) is None
    assert find(holes, 29) == holes[1]
    assert merge(holes, hole(25, 35, 250, 350))[1] == hole(20, 35, 200, 350)
    assert decode(encode(holes)) == holes
    assert decode(b"garbage\n\xff\n1 2 3\n") == []


def test_descriptors_are_bounded_and_stay_open_for_their_users(tmp_path: Path) -> None:
    files = Files()
    pool = Descriptors(files, limit=2)
    paths = [str(tmp_path / str(i)) for i in range(4)]
    first = pool.create(paths[0])
    for path in paths[1:]:
        pool.create(path)
    assert len(pool) == 2
    assert files.pwrite(first.fd, b"x", 0) == 1
    assert pool.get(paths[0]) is not first
    assert files.pread(pool.get(paths[0]).fd, 1, 0) == b"x"


def test_many_segments_with_few_descriptors(tmp_path: Path) -> None:
    files = Files()
    pool = Descriptors(files, limit=2, entry_limit=10)
    log = Log.open(
        tmp_path / "t",
        Config(segment_bytes=500, index_interval_bytes=0),
        clean=False,
        recovery_point=0,
        log_start=0,
        now_ms=0,
        files=files,
        descriptors=pool,
    )
    fill(log, 60)
    assert len(read_values(log)[0]) == 60
    assert len(pool) == 2
    assert pool._entries <= 10
