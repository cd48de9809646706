"""Settled records go from closed segments, offset by offset; what is not settled stays as it was."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Sequence
from contextlib import nullcontext, suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykbroker.log.compaction import Outcome
from pykbroker.log.errors import StorageError
from pykbroker.log.files import FaultyFiles, Files
from pykbroker.log.retaining import Settled
from pykbroker.log.rewriting import Writer
from pykbroker.log.settling import SettlingJob, settle
from pykbroker.records.batch import BatchError, BatchHeader, Buffer
from pykbroker.records.build import RecordData, encode_batch
from pykbroker.records.compression import Codec
from tests.log.support import Config, fill, open_log, read_values
from tests.log.test_compaction import Directory

KEY_SIZE = 40


def batch(first: int, count: int, codec: Codec = Codec.NONE, producer: int = -1) -> bytes:
    return encode_batch(
        [RecordData(b"%0*d" % (KEY_SIZE, first + number), b"v") for number in range(count)],
        timestamp_ms=1000,
        codec=codec,
        producer_id=producer,
        producer_epoch=-1 if producer < 0 else 0,
        base_sequence=-1 if producer < 0 else first,
    )


def settled(offsets: Collection[int]) -> Settled:
    def look(header: BatchHeader, payload: bytes) -> Collection[int]:
        return {offset for offset in range(header.base_offset, header.next_offset) if offset in offsets}

    return look


def rewrite(
    directory: Directory,
    offsets: Collection[int],
    *,
    segment_bytes: int = 1 << 20,
    last_offsets: Sequence[tuple[int, int]] = (),
) -> Outcome:
    job = SettlingJob(
        directory=str(directory.path),
        segments=directory.bases,
        next_base=directory.next,
        segment_bytes=segment_bytes,
        index_interval_bytes=200,
        last_offsets=last_offsets,
    )
    outcome = settle(SettlingJob.decode(job.encode()), settled(offsets))
    directory.swap(outcome)
    return outcome


def offsets_in(directory: Directory) -> list[int]:
    return [record.offset for record in directory.records()]


def test_one_that_waits_among_many_keeps_no_more_than_itself(tmp_path: Path) -> None:
    directory = Directory(tmp_path)
    for _ in range(5):
        directory.segment(*(batch(0, 32) for _ in range(3)))
    whole = len(directory.bytes())
    outcome = rewrite(directory, set(range(480)) - {7})
    # Of the last batch everything stays: a log with a damaged end is read backwards from there.
    assert offsets_in(directory) == [7, *range(448, 480)]
    assert (outcome.old, outcome.new, outcome.records_after) == ([0, 96, 192, 288, 384], [0], 33)
    assert len(directory.bytes()) < whole / 12
    assert directory.headers()[-1].next_offset == 480


def test_what_is_hardly_settled_is_left_alone_and_small_ones_become_one(tmp_path: Path) -> None:
    directory = Directory(tmp_path)
    for _ in range(4):
        directory.segment(batch(0, 32), batch(0, 32))
    size = len(directory.bytes()) // 4
    outcome = rewrite(directory, set(range(8)) | set(range(64, 192)) - {100}, segment_bytes=size)
    assert (outcome.old, outcome.new) == ([64, 128], [64]), "the first and the last one would keep most"
    assert offsets_in(directory) == [*range(64), 100, *range(160, 256)]
    again = rewrite(directory, (), segment_bytes=size)
    assert (again.old, again.new) == ([], []), "nothing that is settled, nothing to do"


def test_damage_and_what_cannot_be_told_stays_as_it_is(tmp_path: Path) -> None:
    directory = Directory(tmp_path)
    directory.segment(batch(0, 4), batch(0, 4))
    bad = directory.segment(batch(0, 4))
    directory.segment(batch(0, 4), batch(0, 4))
    path = tmp_path / f"{bad:020d}.log"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    outcome = rewrite(directory, range(20))
    assert (outcome.old, outcome.new, outcome.damaged) == ([0, 12], [0, 12], [bad])
    assert path.read_bytes() == data
    assert [(h.base_offset, h.record_count) for h in directory.headers()] == [(4, 0), (8, 4), (16, 4)]

    def puzzled(header: BatchHeader, payload: bytes) -> Collection[int]:
        raise BatchError("no idea")

    before = directory.bytes()
    job = SettlingJob(
        directory=str(tmp_path), segments=[0], next_base=8, segment_bytes=1 << 20, index_interval_bytes=200
    )
    assert settle(job, puzzled).old == []
    assert directory.bytes() == before


def test_what_must_be_known_of_a_producer_stays(tmp_path: Path) -> None:
    directory = Directory(tmp_path)
    directory.segment(batch(0, 3, producer=5), batch(3, 2, producer=5), batch(0, 1, producer=6), batch(0, 2))
    rewrite(directory, range(8), last_offsets=[(5, 4)])
    assert [(h.base_offset, h.producer_id, h.last_sequence, h.record_count) for h in directory.headers()] == [
        (3, 5, 4, 0), (6, -1, -1, 2),
    ]  # fmt: skip


def test_any_failing_operation_leaves_the_directory_as_it_was(tmp_path: Path) -> None:
    directory = Directory(tmp_path)
    directory.segment(batch(0, 4), batch(0, 4))
    directory.segment(batch(0, 4))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    job = SettlingJob(
        directory=str(tmp_path),
        segments=[0, 8],
        next_base=12,
        segment_bytes=1 << 20,
        index_interval_bytes=200,
    )
    for fail_at in range(1, 99):
        files = FaultyFiles(fail_at)
        try:
            settle(job, settled(range(7)), files)
        except OSError:
            assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
        else:
            break
    assert not files.failed
    assert 8 < fail_at < 98


class FullDisk(Files):
    """Takes new files, and nothing into them."""

    def write_all(self, fd: int, data: Buffer, position: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("killed", [False, True], ids=["fails", "is killed"])
def test_a_replacement_that_fails_and_a_second_try_that_fails_too_lose_nothing(
    tmp_path: Path, killed: bool
) -> None:
    """What the first one has left may be finished at the next start, with its own files only."""
    gone = {0, 1, 2, 3, 6, 9}
    config = Config(segment_bytes=400, index_interval_bytes=200)
    for number in count(1):
        path = tmp_path / f"{number}"
        files = FaultyFiles()
        log = open_log(path, config, files=files, sparse=True)
        fill(log, 16)
        log.flush()
        *closed, active = log.segments()
        job = SettlingJob(
            directory=str(path), segments=closed, next_base=active, segment_bytes=1000,
            index_interval_bytes=200,
        )  # fmt: skip
        outcome = settle(job, settled(gone))
        assert len(outcome.old) > 2
        files.fail_at = files.count + number
        with suppress(StorageError):
            log.replace_segments(outcome.old, outcome.new)
        failed, files.fail_at = files.failed, 0
        if failed:
            with (
                patch.object(Writer, "_discard", lambda _: None) if killed else nullcontext(),
                pytest.raises(OSError, match=r"space|finishes|No such file"),
            ):
                settle(job, settled(gone), FullDisk())
        log.close(clean=False)
        log = open_log(path, config, clean=False, recovery_point=16, sparse=True)
        values, holes = read_values(log)
        assert (values.keys() | gone, holes) == (set(range(16)), []), number
        log.close(clean=False)
        if not failed:
            break


some_segments = st.lists(
    st.lists(st.tuples(st.integers(1, 4), st.sampled_from([Codec.NONE, Codec.GZIP])), min_size=1, max_size=4),
    min_size=1,
    max_size=5,
)


@given(some_segments, st.sets(st.integers(0, 60)), st.sets(st.integers(0, 60)), st.integers(150, 800))
def test_a_log_gives_what_waits_and_says_nothing_of_the_rest(
    segments: list[list[tuple[int, Codec]]], first: set[int], second: set[int], segment_bytes: int
) -> None:
    """Twice in a row, read from every offset, opened again after a clean stop and after a kill."""
    with TemporaryDirectory() as name:
        directory = Directory(Path(name))
        for parts in segments:
            directory.segment(*(batch(directory.next + 7, count, codec) for count, codec in parts))
        before = {record.offset: record.key for record in directory.records()}
        end = directory.next
        gone: set[int] = set()
        for offsets in (first, second):
            gone |= offsets
            rewrite(directory, gone, segment_bytes=segment_bytes)
            left = {record.offset: record.key for record in directory.records()}
            assert left.keys() >= before.keys() - gone
            assert left.items() <= before.items()
            assert end - 1 in left, "the last batch is whole"
            assert sum(offset in gone for offset in left) <= max(32, 0.75 * len(left))
        config = Config(segment_bytes=segment_bytes, index_interval_bytes=200)
        directory.segment(batch(0, 1))
        for clean, point in ((False, 0), (False, end), (True, end + 1)):
            log = open_log(Path(name), config, clean=clean, recovery_point=point, sparse=True)
            values, holes = read_values(log)
            assert (set(values), holes, log.damage) == ({*left, end}, [], [])
            assert log.log_end_offset == end + 1
            for offset in range(end):
                assert log.read(offset, 1, end + 1).next_offset > offset
            log.close(clean=clean)
