"""One bit flipped anywhere in a batch: what is lost is that batch, and it is reported."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pykbroker.log.errors import CorruptRange
from pykbroker.log.log import Log
from pykbroker.records.batch import crc_ok, iter_headers
from pykbroker.records.decode import iter_records
from tests.log.support import (
    Config,
    append,
    data_of,
    fill,
    make_batch,
    open_log,
    placed,
    read_all,
    read_values,
    value_for,
)
from tests.scale import scaled

FIELDS = {
    "base_offset": (0, 8),
    "batch_length": (8, 4),
    "leader_epoch": (12, 4),
    "magic": (16, 1),
    "crc": (17, 4),
    "attributes": (21, 2),
    "last_offset_delta": (23, 4),
    "base_timestamp": (27, 8),
    "max_timestamp": (35, 8),
    "producer_id": (43, 8),
    "producer_epoch": (51, 2),
    "base_sequence": (53, 4),
    "record_count": (57, 4),
    "records": (61, 20),
}
UNCOVERED = ("base_offset", "batch_length", "leader_epoch", "magic")
"""Fields that the walk of a read checks; the others are left to the client's CRC."""

HIT = 7
"""The batch that is hit, of :data:`COUNT`."""
COUNT = 16
PER_BATCH = 3


def edges(path: Path) -> list[int]:
    return [pos for pos, _header in iter_headers(path.read_bytes())]


def flip(path: Path, position: int, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ (1 << bit)]))


def bits(field: str) -> list[tuple[int, int]]:
    start, size = FIELDS[field]
    every = [(start + i, bit) for i in range(size) for bit in range(8)]
    return random.Random(field).sample(every, min(len(every), scaled(5, 1000)))


def expected_values(*, without: int | None) -> dict[int, bytes | None]:
    lost = range(0) if without is None else range(without * PER_BATCH, (without + 1) * PER_BATCH)
    return {o: value_for(o) for o in range(COUNT * PER_BATCH) if o not in lost}


def three_epochs(log: Log, *, epochs: tuple[int, int, int] = (2, 5, 9)) -> None:
    """COUNT batches; the middle ones, HIT among them, of the second epoch."""
    fill(log, 5, per_batch=PER_BATCH, epoch=epochs[0])
    fill(log, 6, per_batch=PER_BATCH, epoch=epochs[1])
    fill(log, COUNT - 11, per_batch=PER_BATCH, epoch=epochs[2])


def intact(log: Log, max_bytes: int) -> dict[int, bytes | None]:
    """Values of all batches whose CRC verifies, at the offsets that the batches claim."""
    values: dict[int, bytes | None] = {}
    offset = log.log_start_offset
    while offset < log.log_end_offset:
        try:
            answer = log.read(offset, max_bytes, log.log_end_offset)
        except CorruptRange as e:
            offset = e.hole.next_offset
            continue
        data = data_of(answer.records)
        for pos, _header in iter_headers(data):
            if crc_ok(data, pos):
                values |= {r.offset: r.value for r in iter_records(data, pos)}
        offset = answer.next_offset
    return values


@pytest.mark.parametrize("interval", [150, 1 << 20], ids=["indexed", "unindexed"])
@pytest.mark.parametrize("hit", [0, HIT, 4, 5, COUNT - 1], ids=lambda i: f"batch{i}")
@pytest.mark.parametrize("field", FIELDS)
def test_a_flipped_bit_found_after_an_unclean_stop(
    tmp_path: Path, field: str, hit: int, interval: int
) -> None:
    config = Config(index_interval_bytes=interval)
    log = open_log(tmp_path / "t", config)
    three_epochs(log)
    log.flush()
    log.close(clean=False)
    path = tmp_path / "t" / f"{0:020d}.log"
    original = path.read_bytes()
    start = edges(path)[hit]
    kept = {p.name: p.read_bytes() for p in (tmp_path / "t").iterdir()}
    for at, bit in bits(field):
        flip(path, start + at, bit)
        log = open_log(tmp_path / "t", config, clean=False)
        values, holes = read_values(log)
        where = f"{field} byte {at} bit {bit}"
        if hit == COUNT - 1:  # nothing behind it: a torn tail
            assert values == expected_values(without=hit), where
            assert log.log_end_offset == (COUNT - 1) * PER_BATCH, where
        else:
            assert values == expected_values(without=hit), where
            assert [(h.first_offset, h.next_offset) for h in holes] == [
                (hit * PER_BATCH, (hit + 1) * PER_BATCH)
            ], where
            assert log.damage == holes
            log.close(clean=True)
            log = open_log(tmp_path / "t", config)
            assert log.damage == holes
            assert read_values(log) == (values, holes)
            fill(log, 1)
            assert read_values(log)[1] == holes
        log.close(clean=False)
        for old in (tmp_path / "t").iterdir():
            old.unlink()
        for name, data in kept.items():
            (tmp_path / "t" / name).write_bytes(data)
        assert path.read_bytes() == original


@pytest.mark.parametrize("max_bytes", [1, 600, 1 << 20])
@pytest.mark.parametrize("hit", [0, HIT, 4, 5, COUNT - 1], ids=lambda i: f"batch{i}")
@pytest.mark.parametrize("field", FIELDS)
def test_a_flipped_bit_found_while_running(tmp_path: Path, field: str, hit: int, max_bytes: int) -> None:
    log = open_log(tmp_path / "t", Config(index_interval_bytes=900))
    three_epochs(log)
    path = tmp_path / "t" / f"{0:020d}.log"
    start = edges(path)[hit]
    for at, bit in bits(field):
        flip(path, start + at, bit)
        assert intact(log, max_bytes) == expected_values(without=hit), f"{field} byte {at} bit {bit}"
        if field in UNCOVERED:
            assert [(h.first_offset, h.next_offset) for h in log.damage] == [
                (hit * PER_BATCH, (hit + 1) * PER_BATCH)
            ], f"{field} byte {at} bit {bit}"
        flip(path, start + at, bit)
        log.damage = []
        for segment in log._segments:
            segment.holes = []
        log._hints.clear()


def test_live_damage_survives_a_restart_and_appends_go_on(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t")
    fill(log, COUNT, per_batch=PER_BATCH)
    path = tmp_path / "t" / f"{0:020d}.log"
    flip(path, edges(path)[-1] + 5, 3)  # the last batch: live, it is a hole and not a tail
    values, holes = read_values(log)
    assert values == expected_values(without=COUNT - 1)
    fill(log, 1)
    log.close(clean=True)
    for clean in (True, False):
        log = open_log(tmp_path / "t", clean=clean)
        assert log.log_end_offset == COUNT * PER_BATCH + 1
        assert read_values(log) == ({**values, COUNT * PER_BATCH: value_for(COUNT * PER_BATCH)}, holes)
        log.close(clean=clean)


@pytest.mark.parametrize("field", UNCOVERED)
def test_damage_in_the_last_batch_after_a_clean_stop_is_a_hole(tmp_path: Path, field: str) -> None:
    log = open_log(tmp_path / "t")
    fill(log, COUNT, per_batch=PER_BATCH)
    end = log.log_end_offset
    log.close(clean=True)
    path = tmp_path / "t" / f"{0:020d}.log"
    flip(path, edges(path)[-1] + FIELDS[field][0], 0)
    log = open_log(tmp_path / "t", recovery_point=end)
    values, holes = read_values(log)
    assert log.log_end_offset == end
    assert values == expected_values(without=COUNT - 1)
    assert [(h.first_offset, h.next_offset) for h in holes] == [(end - PER_BATCH, end)]


def test_a_file_that_got_shorter_after_a_clean_stop(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t")
    fill(log, 10)
    log.close(clean=True)
    path = tmp_path / "t" / f"{0:020d}.log"
    path.write_bytes(path.read_bytes()[: edges(path)[7]])
    for clean in (True, False, True):
        log = open_log(tmp_path / "t", recovery_point=10, clean=clean)
        values, holes = read_values(log)
        assert [(h.first_offset, h.next_offset) for h in holes] == [(7, 10)]
        assert values == {o: value_for(o) for o in range(7)}
        assert log.log_end_offset == 10
        log.close(clean=clean)
    log = open_log(tmp_path / "t", recovery_point=10)
    fill(log, 2)
    for clean in (True, False):
        log.close(clean=clean)
        log = open_log(tmp_path / "t", recovery_point=12, clean=clean)
        values, again = read_values(log)
        assert (again, sorted(values)) == (holes, [*range(7), 10, 11])


def nested(base: int, count: int, epoch: int = 0) -> bytes:
    """Batches that look as if they belonged at ``base``, to hide in a record's value."""
    return bytes(placed([make_batch([b"fake"])] * count, base, epoch)[0])


@pytest.mark.parametrize("fakes", [1, 3])
@pytest.mark.parametrize("indexed", [True, False])
def test_batches_inside_a_value_are_never_taken_for_batches(
    tmp_path: Path, fakes: int, indexed: bool
) -> None:
    config = Config(index_interval_bytes=100 if indexed else 1 << 20)
    log = open_log(tmp_path / "t", config)
    fill(log, 3)
    append(log, make_batch([b"before" + nested(3, fakes)]))
    fill(log, 3)
    log.close(clean=False)
    path = tmp_path / "t" / f"{0:020d}.log"
    original = path.read_bytes()
    start = edges(path)[3]
    truth = {o: value_for(o) for o in (0, 1, 2, 4, 5, 6)}
    for field in FIELDS:
        for at, bit in bits(field):
            path.write_bytes(original)
            flip(path, start + at, bit)
            log = open_log(tmp_path / "t", config, clean=False)
            assert read_values(log)[0] == truth, f"{field} byte {at} bit {bit}"
            log.close(clean=False)
            (tmp_path / "t" / "damage-checkpoint").unlink()


@pytest.mark.parametrize("fakes", [1, 3])
def test_a_torn_batch_that_holds_batches_is_cut_whole(tmp_path: Path, fakes: int) -> None:
    log = open_log(tmp_path / "t")
    fill(log, 3)
    append(log, make_batch([b"before" + nested(3, fakes) + b"behind"]))
    log.close(clean=False)
    path = tmp_path / "t" / f"{0:020d}.log"
    original = path.read_bytes()
    start = edges(path)[3]
    for size in range(start, len(original)):
        path.write_bytes(original[:size])
        log = open_log(tmp_path / "t", clean=False)
        assert read_values(log) == ({o: value_for(o) for o in range(3)}, []), size
        assert path.stat().st_size == start
        assert log.log_end_offset == 3
        log.close(clean=False)


@pytest.mark.parametrize(
    "tail", [b"\0" * 1000, b"\xff" * 1000, b"\x02" * 500, random.Random(1).randbytes(3000)]
)
def test_garbage_behind_the_last_batch_is_cut(tmp_path: Path, tail: bytes) -> None:
    log = open_log(tmp_path / "t")
    fill(log, 5)
    log.close(clean=False)
    path = tmp_path / "t" / f"{0:020d}.log"
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(tail)
    log = open_log(tmp_path / "t", clean=False)
    assert read_values(log) == ({o: value_for(o) for o in range(5)}, [])
    assert path.stat().st_size == size


@pytest.mark.parametrize("seed", range(scaled(6, 300)))
def test_several_damaged_batches_and_a_torn_tail(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    log = open_log(tmp_path / "t", Config(index_interval_bytes=rng.choice([200, 1 << 20])))
    fill(log, 40)
    log.close(clean=False)
    path = tmp_path / "t" / f"{0:020d}.log"
    starts = edges(path)
    hits = set(rng.sample(range(1, 35), rng.choice([2, 5, 12])))
    for hit in hits:
        field = rng.choice(list(FIELDS))
        flip(path, starts[hit] + rng.choice(bits(field))[0], rng.randrange(8))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - rng.randrange(1, 150))
    log = open_log(tmp_path / "t", clean=False)
    values, holes = read_values(log)
    assert values == {o: value_for(o) for o in range(39) if o not in hits}
    assert {o for hole in holes for o in range(hole.first_offset, hole.next_offset)} == hits


def test_a_sector_of_noise_costs_what_it_covers(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t")
    fill(log, 100)
    log.close(clean=False)
    path = tmp_path / "t" / f"{0:020d}.log"
    starts = edges(path)
    with path.open("r+b") as file:
        file.seek(starts[40] + 7)
        file.write(random.Random(3).randbytes(starts[44] - starts[40]))
    log = open_log(tmp_path / "t", clean=False)
    values, holes = read_values(log)
    assert values == {o: value_for(o) for o in range(100) if not 40 <= o <= 44}
    assert [(h.first_offset, h.next_offset) for h in holes] == [(40, 45)]


def test_damage_at_the_end_of_a_finished_segment_reaches_to_the_next(tmp_path: Path) -> None:
    config = Config(segment_bytes=1500)
    log = open_log(tmp_path / "t", config)
    fill(log, 30)
    first, second = list(log.segments())[:2]
    log.close(clean=False)
    path = tmp_path / "t" / f"{first:020d}.log"
    path.write_bytes(path.read_bytes()[:-30])
    log = open_log(tmp_path / "t", config, clean=False)
    values, holes = read_values(log)
    assert [(h.first_offset, h.next_offset) for h in holes] == [(second - 1, second)]
    assert values == {o: value_for(o) for o in range(30) if o != second - 1}


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t")
    three_epochs(log)
    data = read_all(log)
    assert all(crc_ok(data, pos) for pos, _header in iter_headers(data))
