"""Producer snapshots: Kafka's layout with a block behind it that Kafka does not look at."""

from __future__ import annotations

import struct

import crc32c
import pytest

from pykbroker.records.batch import BatchHeader
from pykbroker.records.producers import ProducerEntry, ProducerStates
from pykbroker.records.snapshot import SnapshotError, decode_snapshot, encode_snapshot


def some_states() -> ProducerStates:
    """Two producers with data, one of them in a transaction, and one with an epoch only."""
    states = ProducerStates([ProducerEntry(producer_id=3, epoch=2, last_timestamp_ms=5, seen_ms=5)])
    for offset in range(0, 14, 2):
        states.update(BatchHeader(offset, 49, 0, 2, 0, 0, 1, 70, 70, 11, 4, offset, 2), 1000 + offset)
    states.update(BatchHeader(14, 49, 0, 2, 0, 0x10, 0, 71, 71, 12, 0, 0, 1), 2000)
    return states


def same(one: ProducerStates, two: ProducerStates) -> bool:
    return list(one) == list(two) and one.next_offset == two.next_offset


def test_everything_comes_back_the_window_of_five_and_the_time_of_the_append_too() -> None:
    states = some_states()
    again = decode_snapshot(encode_snapshot(states), states.next_offset)
    assert same(again, states)
    entry = again.get(11)
    assert entry is not None
    assert (len(entry.window), entry.seen_ms, entry.last_timestamp_ms) == (5, 1012, 70)
    assert again.first_unstable_offset(20) == 14
    assert same(decode_snapshot(encode_snapshot(ProducerStates()), 0), ProducerStates())


def test_kafkas_part_byte_for_byte() -> None:
    data = encode_snapshot(some_states())
    version, crc, count = struct.unpack_from(">hIi", data)
    assert (version, crc, count) == (1, crc32c.crc32c(data[6:]), 3)
    entries = [struct.unpack_from(">qhiqiqiq", data, 10 + 46 * i) for i in range(3)]
    assert entries == [
        (3, 2, -1, -1, 0, 5, -1, -1),
        (11, 4, 13, 13, 1, 70, -1, -1),
        (12, 0, 0, 14, 0, 71, -1, 14),
    ]


def kafkas(entries: int) -> bytes:
    """A file as Kafka writes it: no block behind the entries."""
    body = struct.pack(">i", entries) + b"".join(
        struct.pack(">qhiqiqiq", pid, 0, 4, 9, 2, 777, 1, -1) for pid in range(entries)
    )
    return struct.pack(">hI", 1, crc32c.crc32c(body)) + body


def test_a_file_of_kafka_gives_the_last_batch_only() -> None:
    states = decode_snapshot(kafkas(2), 10)
    entry = states.get(1)
    assert entry is not None
    assert [(s.first_sequence, s.last_sequence, s.base_offset) for s in entry.window] == [(2, 4, 7)]
    assert (entry.seen_ms, entry.coordinator_epoch, entry.open_since) == (777, 1, None)


def test_any_damage_is_seen() -> None:
    good = encode_snapshot(some_states())
    for position in range(len(good)):
        broken = bytearray(good)
        broken[position] ^= 0x04
        with pytest.raises(SnapshotError):
            decode_snapshot(broken, 0)
        with pytest.raises(SnapshotError):
            decode_snapshot(good[:position], 0)


def test_counts_that_lie_under_a_good_crc() -> None:
    for count in (5, 2**31 - 1):
        body = struct.pack(">i", count) + bytes(46)
        with pytest.raises(SnapshotError):
            decode_snapshot(struct.pack(">hI", 1, crc32c.crc32c(body)) + body, 0)


def test_blocks_of_others_are_left_alone() -> None:
    body = kafkas(1)[6:] + b"something that a later version appends"
    assert len(decode_snapshot(struct.pack(">hI", 1, crc32c.crc32c(body)) + body, 0)) == 1
