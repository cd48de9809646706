"""Decisions about records, without a log or a broker."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pykbroker.components import PartitionContext, RoutingContext
from pykbroker.forwarding.copying import Source
from pykbroker.forwarding.deciding import STEP, Decided, Deciding, FinalTarget, Refused
from pykbroker.forwarding.plan import Place
from pykbroker.routing import Routed
from tests.forwarding.world import source


class Table:
    """Everything goes to the same targets."""

    def __init__(self, *targets: str) -> None:
        self._routed = Routed(frozenset(targets))
        self.asked: list[RoutingContext] = []

    def cached(self, entry: str, routing_key: str) -> Routed | None:
        return None

    def route(self, entry: str, ctx: RoutingContext) -> Routed:
        self.asked.append(ctx)
        return self._routed


class Topics:
    """Topics by name, whose partitioners go round."""

    def __init__(self, **partitions: int) -> None:
        self._partitions = partitions
        self.compacted: set[str] = set()
        self.contexts: list[PartitionContext] = []

    def find(self, name: str) -> FinalTarget | None:
        if name not in self._partitions:
            return None
        return FinalTarget(
            name=name,
            topic_id=name.encode().ljust(16),
            partitions=self._partitions[name],
            available=range(self._partitions[name]),
            keyless=name not in self.compacted,
            choose=self._choose,
        )

    def _choose(self, ctx: PartitionContext) -> int:
        self.contexts.append(ctx)
        return len(self.contexts) % ctx.partitions


def place(name: str, partition: int = 0) -> Place:
    return Place(name.encode().ljust(16), partition)


def exchange(
    topics: Topics, table: Table, records: Sequence[Source], dead_letter: str = ""
) -> tuple[Decided, int]:
    """What is decided, and in how many steps."""
    decided = Decided()
    steps = Deciding("ex", 0, topics.find).exchange(records, table, dead_letter, 5, decided)
    return decided, sum(1 for _ in steps)


def test_each_record_gets_a_partition_of_each_target_once() -> None:
    topics = Topics(one=1, two=2)
    decided, _ = exchange(topics, Table("one", "two"), [source(offset, key=b"k") for offset in range(4)])
    assert decided.offsets == {place("one"): [0, 1, 2, 3], place("two", 1): [0, 2], place("two", 0): [1, 3]}
    assert [(c.topic, c.key, c.value_size, c.timestamp_ms, c.now_ms) for c in topics.contexts] == [
        ("two", b"k", 1, 1000 + offset, 5) for offset in range(4)
    ]
    assert {c.named_partition for c in topics.contexts} == {None}


def test_what_matches_nothing_goes_nowhere() -> None:
    decided, _ = exchange(Topics(), Table(), [source(7, key=b"k")])
    assert (decided.unroutable, decided.offsets) == ([(7, "k")], {})


@pytest.mark.parametrize(
    ("dead_letter", "sent"), [("dead", True), ("", False), ("missing", False), ("gone", False)]
)
def test_what_a_target_refuses_is_a_dead_letter_or_dropped(dead_letter: str, sent: bool) -> None:
    topics = Topics(dead=1)
    decided, _ = exchange(topics, Table("gone"), [source(3)], dead_letter)
    assert decided.refused == [Refused(3, "gone", "there is no such topic", sent)]
    assert decided.offsets == ({place("dead"): [3]} if sent else {})


def test_a_compacted_topic_gets_records_with_keys_only_also_as_a_dead_letter_topic() -> None:
    topics = Topics(target=1, dead=1)
    topics.compacted = {"target", "dead"}
    decided, _ = exchange(topics, Table("target"), [source(0), source(1, key=b"k")], "dead")
    assert decided.offsets == {place("target"): [1]}
    assert [each.dead_letter for each in decided.refused] == [False]


def test_a_dead_letter_for_a_topic_that_has_a_copy_anyway_is_not_a_second_one() -> None:
    decided, _ = exchange(Topics(dead=1), Table("dead", "gone"), [source(0)], "dead")
    assert decided.offsets == {place("dead"): [0]}


def test_a_partitioner_is_told_which_partition_the_client_has_named() -> None:
    topics, decided = Topics(face=3), Decided()
    for _ in Deciding("face", 2, topics.find).partitioned([source(0), source(1)], 5, decided):
        pass
    assert decided.offsets == {place("face", 1): [0], place("face", 2): [1]}
    assert [c.named_partition for c in topics.contexts] == [2, 2]


def test_many_records_are_decided_about_in_steps() -> None:
    _, steps = exchange(Topics(one=1), Table("one"), [source(offset) for offset in range(3 * STEP)])
    assert steps == 3
