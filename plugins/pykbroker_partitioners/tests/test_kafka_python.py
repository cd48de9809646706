"""Partitioners inside kafka-python: the installed version 3, and the calls that version 2 makes."""

from __future__ import annotations

import random
import subprocess
import sys
import warnings

import pytest
from pykbroker_partitioners import (
    ConsistentHash,
    Default,
    Header,
    KeyFirst,
    Map,
    RoundRobin,
    for_kafka_python,
)
from pykbroker_partitioners.murmur2 import murmur2

from pykbroker import Partitioner

kafka = pytest.importorskip("kafka")


class Cluster:
    """As much of kafka-python's ClusterMetadata as partitioners ask for."""

    def __init__(self, available: set[int]) -> None:
        self._available = available

    def topics(self) -> set[str]:
        return {"t"}

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return {0, 1, 2, 3, 4} if topic == "t" else None

    def available_partitions_for_topic(self, topic: str) -> set[int] | None:
        return self._available if topic == "t" else None


def test_murmur2_is_byte_for_byte_that_of_kafka_python() -> None:
    from kafka.partitioner.default import murmur2 as theirs

    chance = random.Random(3)
    for size in range(70):
        for _ in range(5):
            key = chance.randbytes(size)
            assert murmur2(key) == theirs(key) % 2**32, key


def test_default_places_keys_where_kafka_python_does() -> None:
    from kafka.partitioner import DefaultPartitioner

    ours, theirs, cluster = for_kafka_python(Default()), DefaultPartitioner(), Cluster({0, 1, 2, 3, 4})
    for number in range(100):
        key = b"key-%d" % number
        if hasattr(theirs, "partition"):
            wanted = theirs.partition("t", None, key, None, None, cluster)
        else:
            wanted = theirs(key, [0, 1, 2, 3, 4], [0, 1, 2, 3, 4])
        assert ours.partition("t", None, key, None, b"value", cluster) == wanted
        assert ours(key, [4, 2, 0, 1, 3], [0, 1]) == wanted


def test_kafka_python_3_takes_it_for_one_of_its_own() -> None:
    abc = pytest.importorskip("kafka.partitioner", reason="kafka-python 2 has no base class")
    if not hasattr(abc, "Partitioner"):
        pytest.skip("kafka-python 2 has no base class")
    adapted = for_kafka_python(ConsistentHash())
    assert isinstance(adapted, abc.Partitioner)
    producer = kafka.KafkaProducer.__new__(kafka.KafkaProducer)  # what asks the partitioner, and no socket
    producer.config = {"partitioner": adapted}
    producer._metadata = Cluster({1, 2})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        chosen = {producer._partition("t", None, None, None, b"k%d" % n, b"v") for n in range(50)}
    assert chosen == {0, 1, 2, 3, 4}
    assert caught == []


def test_without_a_key_only_those_with_a_leader() -> None:
    adapted = for_kafka_python(RoundRobin())
    cluster = Cluster({1, 3})
    assert {adapted.partition("t", None, None, None, b"", cluster) for _ in range(9)} == {1, 3}
    assert {adapted(None, [0, 1, 2], [0, 2]) for _ in range(9)} == {0, 2}


def test_an_unknown_topic_is_an_error_as_in_kafka_python() -> None:
    with pytest.raises(ValueError, match="not found in ClusterMetadata"):
        for_kafka_python(Default()).partition("x", None, b"k", None, None, Cluster(set()))


@pytest.mark.parametrize(
    "partitioner", [Header("h"), Map("{}", "h"), KeyFirst()], ids=lambda p: type(p).__name__
)
def test_those_that_need_more_than_the_key_are_refused(partitioner: Partitioner) -> None:
    with pytest.raises(ValueError, match="needs more than the key"):
        for_kafka_python(partitioner)


def test_kafka_python_is_not_imported() -> None:
    code = "import sys, pykbroker_partitioners as p; p.for_kafka_python(p.Default())"
    code += "; sys.exit('kafka' in sys.modules)"
    path = [*sys.path]
    done = subprocess.run([sys.executable, "-c", f"import sys; sys.path[:] = {path!r}; {code}"], check=False)
    assert done.returncode == 0
