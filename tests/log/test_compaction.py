"""Compaction on real files: of each key the last record, everything else as it was."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykbroker.log import cleaner_worker
from pykbroker.log.compaction import (
    CompactionError,
    Job,
    Outcome,
    compact,
    is_due,
    last_offsets,
)
from pykbroker.log.files import FaultyFiles
from pykbroker.log.indexes import OffsetIndex, TimeIndex
from pykbroker.log.segment import CLEANED, INDEX, LOG, TIME_INDEX, file_name
from pykbroker.records.batch import BatchHeader, crc_ok, iter_headers, read_header, write_crc
from pykbroker.records.build import RecordData, encode_batch, encode_marker
from pykbroker.records.compression import Codec
from pykbroker.records.decode import Record, iter_all_records
from pykbroker.records.producers import ProducerStates

NOW = 10_000_000
DAY = 86_400_000


class Directory:
    """Segments made of batches; compaction swaps files as a log does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.next = 0
        self.bases: list[int] = []
        self.dirty_start = 0

    def segment(self, *batches: bytes) -> int:
        """Write a closed segment whose batches get the next offsets; its base offset."""
        base = self.next
        data = bytearray()
        for batch in batches:
            placed = bytearray(batch)
            placed[:8] = self.next.to_bytes(8, "big")
            self.next = read_header(placed).next_offset
            data += placed
        (self.path / file_name(base, LOG)).write_bytes(data)
        self.bases.append(base)
        return base

    def job(self, **options: Any) -> Job:
        defaults: dict[str, Any] = {
            "directory": str(self.path),
            "segments": tuple(self.bases),
            "next_base": self.next,
            "dirty_start": self.dirty_start,
            "end": self.next,
            "now_ms": NOW,
            "delete_retention_ms": DAY,
        }
        return Job(**(defaults | options))

    def compact(self, **options: Any) -> Outcome:
        outcome = compact(self.job(**options))
        self.swap(outcome)
        return outcome

    def swap(self, outcome: Outcome) -> None:
        for base in outcome.old:
            (self.path / file_name(base, LOG)).unlink()
        for base in outcome.new:
            for suffix in (LOG, INDEX, TIME_INDEX):
                name = file_name(base, suffix)
                (self.path / (name + CLEANED)).rename(self.path / name)
        self.bases = sorted({*self.bases, *outcome.new} - (set(outcome.old) - set(outcome.new)))
        self.dirty_start = outcome.dirty_start
        assert list(self.path.glob("*" + CLEANED)) == []

    def bytes(self) -> bytes:
        return b"".join((self.path / file_name(base, LOG)).read_bytes() for base in self.bases)

    def headers(self) -> list[BatchHeader]:
        return [header for _, header in iter_headers(self.bytes())]

    def records(self) -> list[Record]:
        return [record for _, record in iter_all_records(self.bytes())]


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(tmp_path)


def batch(*pairs: tuple[bytes | None, bytes | None], **options: Any) -> bytes:
    options.setdefault("timestamp_ms", 1000)
    return encode_batch([RecordData(key, value) for key, value in pairs], **options)


def test_the_last_record_of_each_key_stays_at_its_offset(directory: Directory) -> None:
    directory.segment(batch((b"a", b"1"), (b"b", b"1"), (b"a", b"2")), batch((b"c", b"1")))
    directory.segment(batch((b"b", b"2")), batch((b"d", b"1"), (None, b"no key")))
    outcome = directory.compact()
    assert [(r.offset, r.key, r.value) for r in directory.records()] == [
        (2, b"a", b"2"), (3, b"c", b"1"), (4, b"b", b"2"), (5, b"d", b"1"),
    ]  # fmt: skip
    assert outcome == Outcome(
        dirty_start=7, old=[0, 4], new=[0], bytes_before=outcome.bytes_before,
        bytes_after=len(directory.bytes()), records_before=7, records_after=4,
    )  # fmt: skip
    assert outcome.bytes_before > outcome.bytes_after


@pytest.mark.parametrize("codec", list(Codec))
def test_headers_are_kept_whatever_goes(directory: Directory, codec: Codec) -> None:
    options: dict[str, Any] = {
        "producer_id": 5, "producer_epoch": 2, "base_sequence": 7, "leader_epoch": 3, "codec": codec,
    }  # fmt: skip
    directory.segment(batch((b"a", b"1"), (b"b", b"1"), (b"a", b"2"), **options), batch((b"b", b"2")))
    (before, _) = directory.headers()
    directory.compact()
    (after, _) = directory.headers()
    assert after == before._replace(record_count=1, batch_length=after.batch_length, crc=after.crc)
    assert after.next_offset == 3
    assert directory.records()[0] == Record(2, 1000, b"a", b"2")


def test_a_batch_that_loses_nothing_stays_byte_for_byte(directory: Directory) -> None:
    directory.segment(batch((b"a", b"1"), (b"b", b"1"), codec=Codec.GZIP), batch((b"c", b"1")))
    before = directory.bytes()
    outcome = directory.compact()
    assert (outcome.old, outcome.new, outcome.dirty_start) == ([], [], 3)
    assert directory.bytes() == before


def test_records_at_and_behind_the_end_are_not_touched(directory: Directory) -> None:
    directory.segment(batch((b"a", b"1")), batch((b"a", b"2")))
    directory.segment(batch((b"a", b"3")), batch((b"a", b"4")))
    outcome = directory.compact(end=3)
    assert outcome.dirty_start == 2
    assert [r.offset for r in directory.records()] == [1, 2, 3]
    assert directory.compact(end=1).old == []


def test_young_segments_wait_for_the_lag(directory: Directory) -> None:
    directory.segment(batch((b"a", b"1"), timestamp_ms=NOW - 100), batch((b"a", b"2"), timestamp_ms=1))
    directory.segment(batch((b"a", b"3"), timestamp_ms=NOW - 10))
    directory.segment(batch((b"a", b"4"), timestamp_ms=NOW - 100))
    assert directory.compact(min_compaction_lag_ms=50).dirty_start == 2
    assert [r.value for r in directory.records()] == [b"2", b"3", b"4"]
    assert directory.compact(min_compaction_lag_ms=5, now_ms=NOW).dirty_start == 4
    assert [r.value for r in directory.records()] == [b"4"]


def test_a_tombstone_goes_after_its_retention_counted_from_the_first_compaction(
    directory: Directory,
) -> None:
    directory.segment(batch((b"a", b"1"), (b"b", b"1")))
    directory.segment(batch((b"a", None), (b"c", b"1"), (b"d", b"1"), timestamp_ms=777))
    directory.segment(batch((b"d", b"2")))
    directory.compact()
    marked = directory.headers()[1]
    assert marked.delete_horizon_ms == NOW + DAY
    assert marked.attributes & 0x40
    assert (marked.base_offset, marked.last_offset, marked.max_timestamp) == (2, 4, 777)
    kept = [Record(1, 1000, b"b", b"1"), Record(2, 777, b"a", None), Record(3, 777, b"c", b"1")]
    assert directory.records()[:3] == kept

    directory.segment(batch((b"x", b"1")))
    directory.compact(now_ms=NOW + DAY - 1)
    assert directory.records()[:3] == kept, "another pass does not move the horizon"
    directory.segment(batch((b"x", b"2")))
    directory.compact(now_ms=NOW + DAY)
    assert [r.key for r in directory.records()] == [b"b", b"c", b"d", b"x"]
    assert directory.records()[1].timestamp == 777


def test_append_time_batches_keep_their_time(directory: Directory) -> None:
    directory.segment(batch((b"a", None), (b"b", b"1"), timestamp_ms=55, log_append=True))
    directory.segment(batch((b"b", b"2")))
    directory.compact()
    assert directory.records()[0] == Record(0, 55, b"a", None)
    assert directory.headers()[0].log_append


def test_the_last_batch_of_a_live_producer_keeps_its_header(directory: Directory) -> None:
    states = ProducerStates()
    for pid, sequence in ((1, 0), (1, 1), (2, 0)):
        data = batch((b"a", b"%d" % pid), producer_id=pid, producer_epoch=0, base_sequence=sequence)
        directory.segment(data)
        states.update(directory.headers()[-1], NOW)
    directory.segment(batch((b"a", b"last")))
    assert last_offsets(states) == [(1, 1), (2, 2)]
    directory.compact(last_offsets=[(1, 1)])
    first, last = directory.headers()
    assert (first.producer_id, first.base_sequence, first.last_sequence, first.record_count) == (1, 1, 1, 0)
    assert (first.base_offset, first.base_timestamp, first.max_timestamp) == (1, -1, 1000)
    assert last.base_offset == 3
    directory.segment(batch((b"b", b"1")))
    directory.compact()
    assert [h.base_offset for h in directory.headers()] == [3, 4], "the producer has expired"


def test_the_last_header_stays_so_that_the_log_has_no_gap_at_its_end(directory: Directory) -> None:
    directory.segment(batch((b"a", b"1")))
    directory.segment(batch((None, b"1"), (None, b"2")))
    directory.compact()
    assert [(h.base_offset, h.next_offset, h.record_count) for h in directory.headers()] == [
        (0, 1, 1),
        (1, 3, 0),
    ]
    only = Directory(directory.path / "only")
    only.path.mkdir()
    only.segment(batch((None, b"1")))
    assert only.compact().new == [0]
    assert only.headers()[0].next_offset == 1


def test_aborted_records_go_and_hide_nothing(directory: Directory) -> None:
    def data(pid: int, *pairs: tuple[bytes, bytes], sequence: int = 0) -> bytes:
        return batch(*pairs, producer_id=pid, producer_epoch=0, base_sequence=sequence, transactional=True)

    def marker(pid: int, commit: bool) -> bytes:
        return encode_marker(commit=commit, producer_id=pid, producer_epoch=0, timestamp_ms=5)

    directory.segment(batch((b"a", b"plain"), (b"b", b"plain")), data(1, (b"a", b"aborted")))
    directory.segment(data(2, (b"b", b"committed")), marker(1, False), marker(2, True))
    directory.segment(batch((b"z", b"1")))
    directory.compact()
    assert [(r.offset, r.value) for h, r in iter_all_records(directory.bytes()) if not h.is_control] == [
        (0, b"plain"), (3, b"committed"), (6, b"1"),
    ]  # fmt: skip
    markers = [h for h in directory.headers() if h.is_control]
    assert [(h.base_offset, h.delete_horizon_ms) for h in markers] == [(4, None), (5, None)]

    directory.segment(batch((b"z", b"2")))
    directory.compact()
    markers = [h for h in directory.headers() if h.is_control]
    assert [(h.base_offset, h.delete_horizon_ms) for h in markers] == [(4, NOW + DAY), (5, None)]

    directory.segment(batch((b"z", b"3")))
    directory.compact(now_ms=NOW + DAY)
    assert [h.base_offset for h in directory.headers() if h.is_control] == [5]


def test_the_marker_that_holds_a_live_producers_epoch_stays(directory: Directory) -> None:
    states = ProducerStates()
    directory.segment(encode_marker(commit=True, producer_id=1, producer_epoch=6, timestamp_ms=5))
    states.update(directory.headers()[0], NOW)
    directory.segment(batch((b"z", b"1")))
    live = last_offsets(states)
    assert live == [(1, -7)]
    directory.compact(last_offsets=live)
    directory.segment(batch((b"z", b"2")))
    directory.compact(last_offsets=live, now_ms=NOW + DAY)
    assert [(h.base_offset, h.record_count) for h in directory.headers()] == [(0, 0), (2, 1)]


def test_a_small_map_gets_there_in_several_rounds(directory: Directory) -> None:
    for index in range(6):
        directory.segment(batch((b"k%d" % (index % 3), b"%d" % index)), batch((b"x%d" % index, b"")))
    starts = []
    while directory.dirty_start < directory.next:
        directory.compact(map_bytes=3 * 200)
        starts.append(directory.dirty_start)
    assert len(starts) > 2
    assert starts == sorted(set(starts))
    values = {r.key: r.value for r in directory.records()}
    assert len(values) == len(directory.records()) == 9
    assert [values[b"k%d" % i] for i in range(3)] == [b"3", b"4", b"5"]


def test_output_is_cut_at_the_segment_size_and_indexed(directory: Directory) -> None:
    for number in range(40):
        directory.segment(
            batch((b"%d" % number, bytes(900)), timestamp_ms=number), batch((b"same", bytes(900)))
        )
    outcome = directory.compact(segment_bytes=10_000, index_interval_bytes=1000)
    assert len(outcome.new) == 5
    for base in outcome.new:
        data = (directory.path / file_name(base, LOG)).read_bytes()
        assert len(data) <= 10_000
        index = OffsetIndex.decode((directory.path / file_name(base, INDEX)).read_bytes(), len(data))
        times = TimeIndex.decode((directory.path / file_name(base, TIME_INDEX)).read_bytes())
        assert index is not None
        assert times is not None
        by_position = {pos: h.last_offset - base for pos, h in iter_headers(data)}
        assert len(index) >= len(by_position) // 2 - 1
        assert [by_position[pos] for pos in index.positions] == list(index.offsets)
        assert times.timestamps[-1] == max(h.max_timestamp for _, h in iter_headers(data))


def test_offsets_too_far_apart_for_one_segment(directory: Directory) -> None:
    directory.segment(batch((b"a", b"1")))
    directory.next = 2**31
    directory.segment(batch((b"b", b"1")), batch((b"b", b"2")))
    assert directory.compact().new == [0, 2**31 + 1]


def test_batches_larger_than_a_read(directory: Directory) -> None:
    large = bytes(1_300_000)
    directory.segment(batch((b"a", large)), batch((b"b", b"1")), batch((b"a", large), (b"b", b"2")))
    directory.compact()
    assert [r.offset for r in directory.records()] == [2, 3]


@pytest.mark.parametrize("damage", ["bit", "length", "torn", "offset"])
def test_a_damaged_segment_stays_and_the_others_are_compacted(directory: Directory, damage: str) -> None:
    directory.segment(batch((b"a", b"1"), (b"b", b"1")), batch((b"a", b"2")))
    bad = directory.segment(batch((b"b", b"2")), batch((b"c", b"1")))
    directory.segment(batch((b"a", b"3")), batch((b"c", b"2")), batch((b"c", b"3")))
    path = directory.path / file_name(bad, LOG)
    data = bytearray(path.read_bytes())
    match damage:
        case "bit":
            data[-1] ^= 1
        case "length":
            data[8] = 0x40
        case "torn":
            del data[-9:]
        case "offset":
            data[7] = 0
    path.write_bytes(data)
    outcome = directory.compact()
    assert (outcome.damaged, outcome.old, outcome.new) == ([bad], [0, 5], [0, 5])
    assert path.read_bytes() == data
    first = list(iter_headers((directory.path / file_name(0, LOG)).read_bytes()))
    assert [(h.base_offset, h.last_offset, h.record_count) for _, h in first] == [(0, 1, 1), (2, 2, 0)]
    last = (directory.path / file_name(5, LOG)).read_bytes()
    assert [r.value for _, r in iter_all_records(last)] == [b"3", b"3"]


def test_a_batch_whose_records_are_none_stays_as_it_is(directory: Directory) -> None:
    odd = bytearray(batch((b"key", b"value")))
    odd[66] = 0x7F  # the key's length passes the record's end
    write_crc(odd)
    directory.segment(batch((b"a", b"1")), bytes(odd), batch((b"a", b"2")))
    directory.compact()
    assert [h.base_offset for h in directory.headers()] == [1, 2]
    assert odd[61:] in directory.bytes()


def test_compaction_needs_enough_dirt() -> None:
    sizes = {0: 100, 10: 100, 20: 100, 30: 50}

    def due(dirty_start: int, end: int = 99, ratio: float = 0.5, **more: bool) -> bool:
        return is_due(sizes, dirty_start=dirty_start, end=end, min_cleanable_dirty_ratio=ratio, **more)

    assert due(0)
    assert due(10)
    assert not due(20)
    assert due(20, ratio=0.3)
    assert due(20, overdue=True)
    assert not due(30, overdue=True), "the segment being written is not compacted"
    assert not due(20, end=29, overdue=True)
    assert not due(0, end=9)


def test_any_failing_operation_leaves_the_directory_as_it_was(directory: Directory) -> None:
    directory.segment(batch((b"a", b"1")), batch((b"a", b"2")))
    directory.segment(batch((b"a", b"3")))
    before = {path.name: path.read_bytes() for path in directory.path.iterdir()}
    for fail_at in range(1, 99):
        files = FaultyFiles(fail_at)
        try:
            compact(directory.job(), files)
        except OSError as e:
            code = e.errno
        else:
            assert not files.failed
            break
        assert code == errno.ENOSPC
        assert {path.name: path.read_bytes() for path in directory.path.iterdir()} == before
    assert 8 < fail_at < 98


def run_worker(job: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(cleaner_worker.COMMAND, input=job, capture_output=True, timeout=60)


def test_the_worker_process(directory: Directory) -> None:
    directory.segment(batch((b"a", b"1")), batch((b"a", b"2")))
    job = directory.job(last_offsets=[(1, 5)])
    assert compact(Job.decode(job.encode())).new == [0]
    done = run_worker(job.encode())
    assert done.returncode == 0, done.stderr
    directory.swap(Outcome.decode(done.stdout))
    assert [r.value for r in directory.records()] == [b"2"]

    failed = run_worker(directory.job(directory="/nowhere").encode())
    assert failed.returncode == 1
    with pytest.raises(CompactionError, match="No such file"):
        Outcome.decode(failed.stdout)
    with pytest.raises(CompactionError, match="died"):
        Outcome.decode(run_worker(b"not a job").stdout)


def test_the_worker_does_not_import_the_broker() -> None:
    code = "import sys, pykbroker.log.cleaner_worker; print('trio' in sys.modules, 'click' in sys.modules)"
    done = subprocess.run(
        [cleaner_worker.COMMAND[0], "-c", code], capture_output=True, timeout=60, check=True
    )
    assert done.stdout.split() == [b"False", b"False"]


class Written(NamedTuple):
    """A batch of the property test."""

    pairs: list[tuple[bytes | None, bytes | None]]
    codec: Codec
    producer: int
    closes_segment: bool


some_batches = st.lists(
    st.builds(
        Written,
        st.lists(
            st.tuples(
                st.sampled_from([b"a", b"b", b"c", b"d", bytes(30)]), st.none() | st.binary(max_size=4)
            ),
            min_size=1,
            max_size=5,
        ),
        st.sampled_from([Codec.NONE, Codec.NONE, Codec.GZIP, Codec.LZ4]),
        st.integers(-1, 1),
        st.booleans(),
    ),
    min_size=1,
    max_size=25,
)


@given(some_batches, st.lists(st.integers(0, DAY), min_size=1, max_size=4), st.integers(1, 10), st.data())
def test_a_reader_sees_the_last_value_of_each_key_in_offset_order(
    tmp_path_factory: pytest.TempPathFactory,
    batches: Sequence[Written],
    waits: list[int],
    map_entries: int,
    data: st.DataObject,
) -> None:
    directory = Directory(tmp_path_factory.mktemp("compacted"))
    states = ProducerStates()
    sequences = {0: 0, 1: 0}
    now_ms, open_batches = NOW, list[bytes]()
    rounds = iter(waits)
    for written in batches:
        options: dict[str, Any] = {}
        if written.producer >= 0:
            options = {
                "producer_id": written.producer,
                "producer_epoch": 0,
                "base_sequence": sequences[written.producer],
            }
            sequences[written.producer] += len(written.pairs)
        open_batches.append(batch(*written.pairs, codec=written.codec, **options))
        if not written.closes_segment:
            continue
        directory.segment(*open_batches)
        open_batches.clear()
        for header in directory.headers():
            if header.base_offset >= states.next_offset:
                states.update(header, now_ms)
        if (wait := next(rounds, None)) is not None:
            now_ms += wait
            check_round(directory, states, now_ms, map_entries, data.draw(st.integers(0, directory.next)))


def check_round(directory: Directory, states: ProducerStates, now_ms: int, entries: int, end: int) -> None:
    before, headers = directory.records(), {h.base_offset: h for h in directory.headers()}
    outcome = directory.compact(
        end=end, now_ms=now_ms, map_bytes=entries * 200, last_offsets=last_offsets(states),
        segment_bytes=300,
    )  # fmt: skip
    after = directory.records()
    by_offset = {record.offset: record for record in before}
    offsets = [record.offset for record in after]
    assert offsets == sorted(set(offsets))
    assert all(by_offset[record.offset] == record for record in after), "what stays is what was there"
    final_before = {record.key: record for record in before}
    final_after = {record.key: record for record in after}
    for key, record in final_before.items():
        tombstone_gone = record.value is None and key not in final_after
        assert tombstone_gone or final_after[key] == record
    assert set(final_after) <= set(final_before)
    clean = [record.key for record in after if record.offset < outcome.dirty_start]
    assert len(clean) == len(set(clean)), "one record of each key in the clean part"
    assert [r for r in after if r.offset >= outcome.dirty_start] == [
        r for r in before if r.offset >= outcome.dirty_start
    ]
    data = directory.bytes()
    for position, header in iter_headers(data):
        assert crc_ok(data, position)
        old = headers[header.base_offset]
        assert header.last_offset == old.last_offset
        assert (header.producer_id, header.base_sequence) == (old.producer_id, old.base_sequence)
    assert all(one.next_offset <= two.base_offset for one, two in pairwise(directory.headers()))
    replayed = ProducerStates()
    for header in directory.headers():
        replayed.update(header, now_ms)
    assert replayed.next_offset == states.next_offset == directory.next
    for entry in states:
        again = replayed.get(entry.producer_id)
        assert again is not None
        assert again.window[-1] == entry.window[-1], "idempotence survives a replay"
