"""Each partitioner: where records go."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pykbroker_partitioners
import pytest
from pykbroker_partitioners import (
    ConsistentHash,
    Default,
    Header,
    KeyFirst,
    Map,
    Random,
    RoundRobin,
    Sticky,
    murmur2,
    partition_of,
)

from pykbroker import Headers, PartitionContext, Partitioner
from pykbroker.testing import check_plugin


def record(
    key: bytes | None = None,
    partitions: int = 6,
    *,
    headers: Headers = (),
    named: int | None = None,
    size: int = 100,
    available: tuple[int, ...] | None = None,
) -> PartitionContext:
    return PartitionContext(
        topic="t",
        partitions=partitions,
        available=tuple(range(partitions)) if available is None else available,
        key=key,
        headers=headers,
        named_partition=named,
        value_size=size,
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        # from the tests of Kafka's Java client (Utils.murmur2), as unsigned numbers
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_that_of_java(key: bytes, value: int) -> None:
    assert murmur2(key) == value % 2**32


def test_default_places_keys_and_sticks_without() -> None:
    partitioner = Default(random.Random(1))
    assert partitioner.choose(record(b"abc", named=1)) == 479470107 % 6
    chosen = [partitioner.choose(record(None, size=1000)) for _ in range(60)]
    runs = [one for one, other in zip(chosen, [-1, *chosen], strict=False) if one != other]
    assert len(runs) == 4  # a new one every 17 records of 1008 bytes
    assert all(one != other for one, other in itertools.pairwise(runs))


def test_an_empty_key_is_a_key() -> None:
    assert {Default().choose(record(b"")) for _ in range(50)} == {partition_of(b"", 6)}


def test_round_robin_takes_turns_among_those_with_a_leader() -> None:
    partitioner = RoundRobin()
    assert [partitioner.choose(record(b"k", 3, named=2)) for _ in range(5)] == [0, 1, 2, 0, 1]
    assert {partitioner.choose(record(b"k", 3, available=(0, 2))) for _ in range(5)} == {0, 2}
    assert {partitioner.choose(record(b"k", 3, available=())) for _ in range(5)} == {0, 1, 2}


def test_random_goes_everywhere_and_is_repeatable() -> None:
    chosen = [[Random(random.Random(7)).choose(record(b"k"))] for _ in range(2)]
    assert chosen[0] == chosen[1]
    partitioner = Random(random.Random(7))
    counts = Counter(partitioner.choose(record(b"k")) for _ in range(600))
    assert set(counts) == set(range(6))


def test_sticky_does_not_look_at_keys_and_leaves_what_has_no_leader() -> None:
    partitioner = Sticky(10_000, random.Random(3))
    chosen = {partitioner.choose(record(b"%d" % n)) for n in range(50)}
    assert len(chosen) == 1
    rest = tuple({*range(6)} - chosen)
    assert partitioner.choose(record(available=rest)) in rest


def test_sticky_with_one_partition() -> None:
    partitioner = Sticky(1)
    assert [partitioner.choose(record(partitions=1)) for _ in range(3)] == [0, 0, 0]


def test_consistent_hash_moves_keys_only_to_the_new_partition() -> None:
    partitioner = ConsistentHash()
    keys = [b"key-%d" % number for number in range(2000)]
    before = [partitioner.choose(record(key, 9)) for key in keys]
    after = [partitioner.choose(record(key, 10)) for key in keys]
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {9}
    assert 140 < len(moved) < 260
    assert max(Counter(before).values()) < 2 * min(Counter(before).values())


def test_consistent_hash_is_the_same_everywhere() -> None:
    chosen = [ConsistentHash().choose(record(b"key-%d" % n, 10)) for n in range(8)]
    assert chosen == [1, 8, 0, 6, 4, 3, 8, 1]


def test_header_decides_like_a_key() -> None:
    partitioner = Header("tenant")
    headers = (("tenant", b"x"), ("other", b"y"), ("tenant", b"abc"))
    assert partitioner.choose(record(b"k", headers=headers)) == partition_of(b"abc", 6)
    assert partitioner.choose(record(b"k")) == partition_of(b"k", 6)
    assert partitioner.choose(record(b"k", headers=(("tenant", None),))) == partition_of(b"k", 6)
    with pytest.raises(ValueError, match=r"pykbroker\.plugin\.header\.name is not set"):
        Header("")


def test_map_by_key_or_header() -> None:
    by_key = Map('{"eu": 2, "us": 9, "*": 1}')
    assert [by_key.choose(record(key)) for key in (b"eu", b"asia", None)] == [2, 1, 1]
    assert by_key.choose(record(b"us")) == partition_of(b"us", 6)  # there is no partition 9
    by_header = Map('{"eu": 2}', "region")
    assert by_header.choose(record(b"us", headers=(("region", b"eu"),))) == 2
    assert by_header.choose(record(b"eu")) == partition_of(b"eu", 6)


@pytest.mark.parametrize("table", ["eu=1", "[1]", '{"eu": "1"}', '{"eu": true}', '{"eu": -1}', "[" * 9999])
def test_map_refuses_what_is_no_table(table: str) -> None:
    with pytest.raises(ValueError, match=r"pykbroker\.plugin\.map\.table"):
        Map(table)


def test_key_first_then_the_client_then_turns() -> None:
    partitioner = KeyFirst()
    assert partitioner.choose(record(b"abc", named=1)) == partition_of(b"abc", 6)
    assert partitioner.choose(record(named=4)) == 4
    assert [partitioner.choose(record(named=named)) for named in (None, 17, None)] == [0, 1, 2]


@pytest.mark.parametrize(
    "partitioner",
    [Default(), RoundRobin(), Random(), Sticky(), ConsistentHash(), Header("h"), Map("{}"), KeyFirst()],
    ids=lambda each: type(each).__name__,
)
def test_the_answer_is_a_partition(partitioner: Partitioner) -> None:
    chance = random.Random(11)
    for _ in range(300):
        partitions = chance.randrange(1, 9)
        key = chance.choice([None, b"", chance.randbytes(chance.randrange(40))])
        available = tuple(sorted(chance.sample(range(partitions), chance.randrange(partitions + 1))))
        ctx = record(key, partitions, available=available, headers=(("h", key),), named=chance.randrange(9))
        assert 0 <= partitioner.choose(ctx) < partitions


def test_conformance() -> None:
    check_plugin(pykbroker_partitioners, settings={"header": {"name": "tenant"}})
