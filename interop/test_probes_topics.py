"""Probes: Metadata, and topics created, grown and deleted."""

import time
import uuid
from typing import Any

import pytest

from interop.conftest import Broker
from interop.messages import Answer
from interop.probing import create_topic, produce, unique, wait_for_coordinator, wait_until
from interop.raw import Connection

UNKNOWN_TOPIC, INVALID_TOPIC, UNKNOWN_TOPIC_ID = 3, 17, 100
EXISTS, INVALID_PARTITIONS, INVALID_REPLICATION, INVALID_ASSIGNMENT, INVALID_CONFIG = 36, 37, 38, 39, 40
INVALID_REQUEST = 42


@pytest.mark.parametrize("version", range(14))
def test_metadata_in_every_version(connection: Connection, topic: str, version: int) -> None:
    """One topic by name: its partition, its leader, and the leader among the brokers."""
    answer = connection.ask("metadata", version, topics=[{"name": topic}])
    (found,) = answer.topics
    assert (found.error_code, found.name, len(found.partitions)) == (0, topic, 1)
    (partition,) = found.partitions
    assert partition.error_code == 0
    assert partition.leader_id in [broker.node_id for broker in answer.brokers]
    assert list(partition.replica_nodes) == list(partition.isr_nodes) == [partition.leader_id]
    if version >= 1:
        assert found.is_internal is False
        assert answer.controller_id in [broker.node_id for broker in answer.brokers]
    if version >= 2:
        assert answer.cluster_id
    if version >= 7:
        assert partition.leader_epoch == 0
    if version >= 10:
        assert isinstance(found.topic_id, uuid.UUID)


@pytest.mark.parametrize("version", [1, 9, 12])
def test_metadata_null_is_all_and_empty_is_none(connection: Connection, topic: str, version: int) -> None:
    """From version 1 on."""
    assert topic in [each.name for each in connection.ask("metadata", version, topics=None).topics]
    assert connection.ask("metadata", version, topics=[]).topics == []


def test_metadata_v0_empty_is_all(connection: Connection, topic: str) -> None:
    """There is no null in version 0."""
    assert topic in [each.name for each in connection.ask("metadata", 0, topics=[]).topics]


def ask_metadata(connection: Connection, name: str, *, create: bool, version: int = 9) -> Answer:
    """One topic's part of a Metadata answer."""
    answer = connection.ask("metadata", version, topics=[{"name": name}], allow_auto_topic_creation=create)
    (topic,) = answer.topics
    assert isinstance(topic, Answer)
    return topic


def test_auto_creation(connection: Connection) -> None:
    """First 3 (5 LEADER_NOT_AVAILABLE from older brokers; a broker that is quick may say 0), soon usable."""
    name = unique("auto")
    assert ask_metadata(connection, name, create=True).error_code in (0, UNKNOWN_TOPIC)
    wait_until(lambda: bool(ask_metadata(connection, name, create=True).error_code == 0))
    wait_until(lambda: bool(produce(connection, name).error_code == 0))


def test_no_auto_creation_when_the_request_forbids_it(connection: Connection) -> None:
    """3, and it stays so."""
    name = unique("never")
    for _ in range(2):
        assert ask_metadata(connection, name, create=False).error_code == UNKNOWN_TOPIC
        time.sleep(0.1)


def test_auto_creation_is_implicit_below_version_4(connection: Connection) -> None:
    """The old versions have no field for it."""
    name = unique("auto")

    def code() -> int:
        return int(connection.ask("metadata", 3, topics=[{"name": name}]).topics[0].error_code)

    assert code() in (0, UNKNOWN_TOPIC)
    wait_until(lambda: code() == 0)


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "é", "x" * 250])
def test_invalid_names(connection: Connection, name: str) -> None:
    """17 INVALID_TOPIC_EXCEPTION, never created."""
    assert ask_metadata(connection, name, create=True).error_code == INVALID_TOPIC
    assert create(connection, name=name).error_code == INVALID_TOPIC


def test_longest_name(connection: Connection) -> None:
    """249 characters."""
    name = unique("x" * 220).ljust(249, "y")
    assert create(connection, name=name).error_code == 0


def test_metadata_of_an_unknown_id(connection: Connection) -> None:
    """100 with a null name."""
    answer = connection.ask("metadata", 12, topics=[{"topic_id": uuid.UUID(int=99), "name": None}])
    (topic,) = answer.topics
    assert (topic.error_code, topic.name) == (UNKNOWN_TOPIC_ID, None)


def test_metadata_by_id(connection: Connection) -> None:
    """From version 12 on, the name comes with it."""
    name = unique("by-id")
    topic_id = create_topic(connection, name)
    (topic,) = connection.ask("metadata", 12, topics=[{"topic_id": topic_id, "name": None}]).topics
    assert (topic.error_code, topic.name, topic.topic_id) == (0, name, topic_id)


def test_internal_topics_are_marked(connection: Connection) -> None:
    """The offsets topic is internal and has 50 partitions by default."""
    wait_for_coordinator(connection, unique("group"))
    topic = ask_metadata(connection, "__consumer_offsets", create=False)
    assert (topic.error_code, topic.is_internal, len(topic.partitions)) == (0, True, 50)


def create(connection: Connection, *, version: int = 7, validate_only: bool = False, **topic: Any) -> Answer:
    """CreateTopics for one topic of one partition, unless said otherwise: its part of the answer."""
    wanted = {"num_partitions": 1, "replication_factor": 1} | topic
    answer = connection.ask(
        "create_topics", version, topics=[wanted], timeout=10_000, validate_only=validate_only
    )
    (part,) = answer.topics
    assert isinstance(part, Answer)
    return part


@pytest.mark.parametrize("version", range(2, 8))
def test_create_in_every_version(connection: Connection, version: int) -> None:
    """From v5 on the answer tells partitions, replication and configs (an array, not null); from v7 on the
    id."""
    part = create(connection, version=version, name=unique("new"))
    assert part.error_code == 0
    if version >= 5:
        assert (part.num_partitions, part.replication_factor) == (1, 1)
        assert "retention.ms" in {config.name for config in part.configs}
    if version >= 7:
        assert part.topic_id


def test_create_with_defaults(connection: Connection) -> None:
    """-1 and -1 become real numbers in the answer."""
    part = create(connection, name=unique("new"), num_partitions=-1, replication_factor=-1)
    assert (part.error_code, part.num_partitions, part.replication_factor) == (0, 1, 1)


def test_create_answers_with_the_configs(connection: Connection) -> None:
    """Those given with source 1, the others as defaults; Apache Kafka has 33."""
    configs = [{"name": "retention.ms", "value": "1234"}]
    part = create(connection, name=unique("new"), configs=configs)
    found = {config.name: config for config in part.configs}
    assert (found["retention.ms"].value, found["retention.ms"].config_source) == ("1234", 1)
    assert (found["max.message.bytes"].value, found["max.message.bytes"].config_source) == ("1048588", 5)
    assert len(found) >= 33


@pytest.mark.parametrize("validate_only", [False, True])
def test_create_what_exists(connection: Connection, topic: str, validate_only: bool) -> None:
    """36, also when only validating."""
    part = create(connection, name=topic, validate_only=validate_only)
    assert part.error_code == EXISTS
    assert part.error_message


def test_validate_only_creates_nothing(connection: Connection) -> None:
    """Success, and then it is unknown."""
    name = unique("validated")
    part = create(connection, name=name, validate_only=True)
    assert (part.error_code, part.num_partitions) == (0, 1)
    assert ask_metadata(connection, name, create=False).error_code == UNKNOWN_TOPIC


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        pytest.param({"replication_factor": 2}, INVALID_REPLICATION, id="too-many-replicas"),
        pytest.param({"replication_factor": 0}, INVALID_REPLICATION, id="no-replicas"),
        pytest.param({"replication_factor": -2}, INVALID_REPLICATION, id="negative-replicas"),
        pytest.param({"num_partitions": 0}, INVALID_PARTITIONS, id="no-partitions"),
        pytest.param({"num_partitions": -2}, INVALID_PARTITIONS, id="negative-partitions"),
        pytest.param({"configs": [{"name": "no.such", "value": "1"}]}, INVALID_CONFIG, id="unknown-config"),
        pytest.param({"configs": [{"name": "retention.ms", "value": "x"}]}, INVALID_CONFIG, id="malformed"),
        pytest.param(
            {"configs": [{"name": "retention.ms", "value": None}]}, INVALID_CONFIG, id="null-config"
        ),
        pytest.param(
            {"configs": [{"name": "cleanup.policy", "value": "burn"}]}, INVALID_CONFIG, id="bad-policy"
        ),
        pytest.param({"configs": [{"name": "segment.bytes", "value": "1"}]}, INVALID_CONFIG, id="too-small"),
        pytest.param(
            {"assignments": [{"partition_index": 0, "broker_ids": [1]}]}, INVALID_REQUEST, id="both"
        ),
        pytest.param(
            {
                "num_partitions": -1,
                "replication_factor": -1,
                "assignments": [{"partition_index": 0, "broker_ids": [4711]}],
            },
            INVALID_ASSIGNMENT,
            id="unknown-broker",
        ),
        pytest.param(
            {
                "num_partitions": -1,
                "replication_factor": -1,
                "assignments": [{"partition_index": 1, "broker_ids": [1]}],
            },
            INVALID_ASSIGNMENT,
            id="assignment-with-a-gap",
        ),
    ],
)
def test_create_refused(connection: Connection, wanted: dict[str, Any], expected: int) -> None:
    """One reason each; nothing is created."""
    name = unique("refused")
    part = create(connection, name=name, **wanted)
    assert part.error_code == expected
    assert part.error_message
    assert ask_metadata(connection, name, create=False).error_code == UNKNOWN_TOPIC


def test_create_with_an_assignment(connection: Connection) -> None:
    """By hand: two partitions on the only broker."""
    (broker_id,) = [broker.node_id for broker in connection.ask("metadata", 9, topics=[]).brokers]
    assignments = [{"partition_index": index, "broker_ids": [broker_id]} for index in range(2)]
    part = create(
        connection, name=unique("new"), num_partitions=-1, replication_factor=-1, assignments=assignments
    )
    assert (part.error_code, part.num_partitions, part.replication_factor) == (0, 2, 1)


def test_create_a_name_twice_in_one_request(connection: Connection) -> None:
    """42, one row, nothing created; the others in the request are not affected."""
    twice, once = unique("twice"), unique("once")
    wanted = [{"name": name, "num_partitions": 1, "replication_factor": 1} for name in (twice, once, twice)]
    answer = connection.ask("create_topics", 7, topics=wanted, timeout=10_000)
    assert {part.name: part.error_code for part in answer.topics} == {twice: INVALID_REQUEST, once: 0}
    assert len(answer.topics) == 2
    assert ask_metadata(connection, twice, create=False).error_code == UNKNOWN_TOPIC


def test_dot_and_underscore_collide(connection: Connection) -> None:
    """Their metric names would be the same: 17."""
    name = unique("with")
    assert create(connection, name=f"{name}.dot").error_code == 0
    assert create(connection, name=f"{name}_dot").error_code == INVALID_TOPIC


def grow(connection: Connection, name: str, count: int, **more: Any) -> Answer:
    """CreatePartitions for one topic: its part of the answer."""
    wanted = {"name": name, "count": count, "assignments": None} | more
    answer = connection.ask("create_partitions", 3, topics=[wanted], timeout=10_000)
    (part,) = answer.results
    assert isinstance(part, Answer)
    return part


def test_more_partitions(connection: Connection, topic: str) -> None:
    """The answer lists the topic, and the new partitions soon lead."""
    part = grow(connection, topic, 3)
    assert (part.name, part.error_code) == (topic, 0)
    wait_until(lambda: len(ask_metadata(connection, topic, create=False).partitions) == 3)
    wait_until(lambda: bool(produce(connection, topic, partition=2).error_code == 0))


@pytest.mark.parametrize("count", [1, 0, -1])
def test_not_more_partitions(connection: Connection, topic: str, count: int) -> None:
    """37, for the same number too."""
    assert grow(connection, topic, count).error_code == INVALID_PARTITIONS


def test_more_partitions_of_an_unknown_topic(connection: Connection) -> None:
    """3."""
    assert grow(connection, unique("missing"), 5).error_code == UNKNOWN_TOPIC


def test_more_partitions_with_the_wrong_number_of_assignments(connection: Connection, topic: str) -> None:
    """39: one assignment for two new partitions."""
    assert grow(connection, topic, 3, assignments=[{"broker_ids": [1]}]).error_code == INVALID_ASSIGNMENT


def test_validate_only_adds_no_partitions(connection: Connection, topic: str) -> None:
    """Success and nothing happens."""
    wanted = {"name": topic, "count": 3, "assignments": None}
    answer = connection.ask("create_partitions", 3, topics=[wanted], timeout=10_000, validate_only=True)
    assert answer.results[0].error_code == 0
    assert len(ask_metadata(connection, topic, create=False).partitions) == 1


@pytest.mark.parametrize("version", range(1, 6))
def test_delete_by_name(connection: Connection, topic: str, version: int) -> None:
    """Gone for Metadata and Produce."""
    answer = connection.ask("delete_topics", version, topic_names=[topic], timeout=10_000)
    assert [(part.name, part.error_code) for part in answer.responses] == [(topic, 0)]
    wait_until(lambda: bool(ask_metadata(connection, topic, create=False).error_code == UNKNOWN_TOPIC))
    wait_until(lambda: bool(produce(connection, topic).error_code == UNKNOWN_TOPIC))


def test_delete_by_id(connection: Connection) -> None:
    """From version 6 on; the answer has name and id."""
    name = unique("delete")
    topic_id = create_topic(connection, name)
    wanted = [{"name": None, "topic_id": topic_id}]
    (part,) = connection.ask("delete_topics", 6, topics=wanted, timeout=10_000).responses
    assert (part.error_code, part.name, part.topic_id) == (0, name, topic_id)


def test_delete_the_unknown(connection: Connection) -> None:
    """3 for a name, 100 for an id."""
    wanted = [{"name": unique("missing")}, {"name": None, "topic_id": uuid.UUID(int=77)}]
    answer = connection.ask("delete_topics", 6, topics=wanted, timeout=10_000)
    assert sorted(part.error_code for part in answer.responses) == [UNKNOWN_TOPIC, UNKNOWN_TOPIC_ID]


def test_a_deleted_topic_comes_back_empty_with_another_id(connection: Connection) -> None:
    """Same name, nothing of the old one."""
    name = unique("again")
    old = create_topic(connection, name)
    produce(connection, name)
    connection.ask("delete_topics", 6, topics=[{"name": name}], timeout=10_000)
    wait_until(lambda: bool(ask_metadata(connection, name, create=False).error_code == UNKNOWN_TOPIC))
    new = create_topic(connection, name)
    assert new != old
    assert produce(connection, name).base_offset == 0


def test_internal_topics_are_not_deleted(pykbroker_broker: Broker) -> None:
    """Apache Kafka 4.3.1 happily deletes the offsets topic with all groups in it, so it is not asked to."""
    with Connection(pykbroker_broker.bootstrap) as connection:
        wait_for_coordinator(connection, unique("group"))
        wanted = [{"name": "__consumer_offsets"}]
        (part,) = connection.ask("delete_topics", 6, topics=wanted, timeout=10_000).responses
        assert part.error_code != 0
        assert ask_metadata(connection, "__consumer_offsets", create=False).error_code == 0
