"""Probes: DescribeConfigs, IncrementalAlterConfigs, AlterConfigs."""

import pytest

from interop.conftest import Broker
from interop.messages import Answer
from interop.probing import unique, wait_until
from interop.raw import Connection

TOPIC, BROKER, GROUP = 2, 4, 32
SET, DELETE, APPEND, SUBTRACT = range(4)
SOURCE_TOPIC, SOURCE_DEFAULT, SOURCE_GROUP = 1, 5, 8
UNKNOWN_TOPIC, INVALID_CONFIG, INVALID_REQUEST = 3, 40, 42


def describe(
    connection: Connection,
    kind: int,
    name: str,
    keys: list[str] | None = None,
    *,
    version: int = 4,
    **more: bool,
) -> Answer:
    """DescribeConfigs for one resource: its part of the answer."""
    resource = {"resource_type": kind, "resource_name": name, "configuration_keys": keys}
    (result,) = connection.ask("describe_configs", version, resources=[resource], **more).results
    assert isinstance(result, Answer)
    return result


def value_of(connection: Connection, kind: int, name: str, key: str) -> tuple[str | None, int]:
    """Value and source of one config."""
    (entry,) = describe(connection, kind, name, [key]).configs
    return entry.value, entry.config_source


def alter(
    connection: Connection, kind: int, name: str, *changes: tuple[str, int, str | None], version: int = 1
) -> int:
    """IncrementalAlterConfigs for one resource: the error code."""
    configs = [{"name": key, "config_operation": how, "value": value} for key, how, value in changes]
    resource = {"resource_type": kind, "resource_name": name, "configs": configs}
    answer = connection.ask("incremental_alter_configs", version, resources=[resource])
    return int(answer.responses[0].error_code)


def becomes(connection: Connection, kind: int, name: str, key: str, expected: tuple[str, int]) -> None:
    """Waits until a config has this value and source: Apache Kafka applies changes a moment after
    answering."""
    wait_until(lambda: value_of(connection, kind, name, key) == expected)


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_topic_defaults_are_listed(connection: Connection, topic: str, version: int) -> None:
    """All of them, with their values: clients read, change and write them back."""
    result = describe(connection, TOPIC, topic, version=version)
    assert result.error_code == 0
    found = {entry.name: entry for entry in result.configs}
    assert (found["cleanup.policy"].value, found["cleanup.policy"].config_source) == (
        "delete",
        SOURCE_DEFAULT,
    )
    assert found["retention.ms"].value == "604800000"
    assert len(found) >= 33


def test_described_keys_only(connection: Connection, topic: str) -> None:
    """Those asked for; unknown ones are left out. An empty list asks for all, like null."""
    names = [e.name for e in describe(connection, TOPIC, topic, ["retention.ms", "no.such"]).configs]
    assert names == ["retention.ms"]
    assert len(describe(connection, TOPIC, topic, []).configs) >= 33


def test_types_synonyms_documentation(connection: Connection, topic: str) -> None:
    """Types from version 3 on; synonyms and documentation only when asked for."""
    plain = describe(connection, TOPIC, topic, ["retention.ms"]).configs[0]
    assert (plain.config_type, plain.synonyms, plain.documentation) == (5, [], None)
    documented = describe(connection, TOPIC, topic, ["retention.ms"], include_documentation=True).configs[0]
    assert documented.documentation
    more = describe(connection, TOPIC, topic, ["max.message.bytes"], include_synonyms=True).configs[0]
    assert [(each.name, each.source) for each in more.synonyms] == [("message.max.bytes", SOURCE_DEFAULT)]


def test_broker_configs(connection: Connection) -> None:
    """Of the broker that is asked."""
    broker_id = connection.ask("metadata", 9, topics=[]).brokers[0].node_id
    result = describe(connection, BROKER, str(broker_id))
    found = {entry.name: entry.value for entry in result.configs}
    assert result.error_code == 0
    assert (found["message.max.bytes"], found["log.segment.bytes"]) == ("1048588", "1073741824")


@pytest.mark.parametrize("name", ["4711", "x"])
def test_configs_of_another_broker(connection: Connection, name: str) -> None:
    """42 INVALID_REQUEST."""
    assert describe(connection, BROKER, name).error_code == INVALID_REQUEST


def test_configs_of_an_unknown_topic(connection: Connection) -> None:
    """3, no entries."""
    result = describe(connection, TOPIC, unique("missing"))
    assert (result.error_code, result.configs) == (UNKNOWN_TOPIC, [])
    assert alter(connection, TOPIC, unique("missing"), ("retention.ms", SET, "1")) == UNKNOWN_TOPIC


def test_group_configs(connection: Connection) -> None:
    """A group need not exist to have configs."""
    name = unique("group")
    result = describe(connection, GROUP, name)
    assert result.error_code == 0
    assert "consumer.session.timeout.ms" in {entry.name for entry in result.configs}
    assert alter(connection, GROUP, name, ("consumer.session.timeout.ms", SET, "50000")) == 0
    becomes(connection, GROUP, name, "consumer.session.timeout.ms", ("50000", SOURCE_GROUP))


@pytest.mark.parametrize("kind", [0, 1, 99])
def test_unknown_resource_type(connection: Connection, kind: int) -> None:
    """42 when describing and when altering."""
    assert describe(connection, kind, "x").error_code == INVALID_REQUEST
    assert alter(connection, kind, "x", ("a", SET, "b")) == INVALID_REQUEST


@pytest.mark.parametrize("version", [0, 1])
def test_set_and_delete(connection: Connection, topic: str, version: int) -> None:
    """A set value has source 1; a deleted one is the default again."""
    assert alter(connection, TOPIC, topic, ("retention.ms", SET, "1000"), version=version) == 0
    becomes(connection, TOPIC, topic, "retention.ms", ("1000", SOURCE_TOPIC))
    assert alter(connection, TOPIC, topic, ("retention.ms", DELETE, None), version=version) == 0
    becomes(connection, TOPIC, topic, "retention.ms", ("604800000", SOURCE_DEFAULT))


def test_synonyms_of_a_set_value(connection: Connection, topic: str) -> None:
    """The topic's own value comes first."""
    alter(connection, TOPIC, topic, ("retention.ms", SET, "1000"))
    becomes(connection, TOPIC, topic, "retention.ms", ("1000", SOURCE_TOPIC))
    (entry,) = describe(connection, TOPIC, topic, ["retention.ms"], include_synonyms=True).configs
    first = entry.synonyms[0]
    assert (first.name, first.value, first.source) == ("retention.ms", "1000", SOURCE_TOPIC)


def test_append_and_subtract(connection: Connection, topic: str) -> None:
    """On lists."""
    assert alter(connection, TOPIC, topic, ("cleanup.policy", APPEND, "compact")) == 0
    becomes(connection, TOPIC, topic, "cleanup.policy", ("delete,compact", SOURCE_TOPIC))
    assert alter(connection, TOPIC, topic, ("cleanup.policy", SUBTRACT, "delete")) == 0
    becomes(connection, TOPIC, topic, "cleanup.policy", ("compact", SOURCE_TOPIC))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(("retention.ms", APPEND, "1"), id="append-to-a-number"),
        pytest.param(("retention.ms", SUBTRACT, "1"), id="subtract-from-a-number"),
        pytest.param(("no.such", SET, "1"), id="unknown-name"),
        pytest.param(("retention.ms", SET, "soon"), id="malformed"),
        pytest.param(("cleanup.policy", SET, "burn"), id="bad-choice"),
    ],
)
def test_refused_changes(connection: Connection, topic: str, change: tuple[str, int, str | None]) -> None:
    """40 INVALID_CONFIG, and nothing changes."""
    assert alter(connection, TOPIC, topic, change) == INVALID_CONFIG
    assert value_of(connection, TOPIC, topic, "retention.ms") == ("604800000", SOURCE_DEFAULT)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param([("retention.ms", SET, None)], id="null-value"),
        pytest.param([("retention.ms", SET, "1"), ("retention.ms", SET, "2")], id="twice"),
    ],
)
def test_malformed_changes(
    connection: Connection, topic: str, changes: list[tuple[str, int, str | None]]
) -> None:
    """42 INVALID_REQUEST."""
    assert alter(connection, TOPIC, topic, *changes) == INVALID_REQUEST


def test_unknown_operation(broker: Broker, connection: Connection, topic: str) -> None:
    """An escaped exception in Apache Kafka (-1); 42 INVALID_REQUEST says what is wrong."""
    expected = broker.expect(apache_kafka=-1, pykbroker=INVALID_REQUEST)
    assert alter(connection, TOPIC, topic, ("retention.ms", 9, "1")) == expected


def test_one_bad_change_spoils_the_resource(connection: Connection, topic: str) -> None:
    """All or nothing within one resource."""
    changes: list[tuple[str, int, str | None]] = [("segment.ms", SET, "5000"), ("no.such", SET, "1")]
    assert alter(connection, TOPIC, topic, *changes) == INVALID_CONFIG
    assert value_of(connection, TOPIC, topic, "segment.ms")[1] == SOURCE_DEFAULT


def test_alter_configs_replaces_everything(connection: Connection, topic: str) -> None:
    """The old AlterConfigs: what it does not name goes back to the default."""
    alter(connection, TOPIC, topic, ("retention.ms", SET, "1000"))
    becomes(connection, TOPIC, topic, "retention.ms", ("1000", SOURCE_TOPIC))
    configs = [{"name": "segment.ms", "value": "5000"}]
    resource = {"resource_type": TOPIC, "resource_name": topic, "configs": configs}
    answer = connection.ask("alter_configs", 2, resources=[resource])
    assert answer.responses[0].error_code == 0
    becomes(connection, TOPIC, topic, "segment.ms", ("5000", SOURCE_TOPIC))
    becomes(connection, TOPIC, topic, "retention.ms", ("604800000", SOURCE_DEFAULT))


def test_validate_only_changes_nothing(connection: Connection, topic: str) -> None:
    """But it refuses what is wrong."""

    def code(value: str) -> int:
        configs = [{"name": "retention.ms", "config_operation": SET, "value": value}]
        resource = {"resource_type": TOPIC, "resource_name": topic, "configs": configs}
        answer = connection.ask("incremental_alter_configs", 1, resources=[resource], validate_only=True)
        return int(answer.responses[0].error_code)

    assert (code("1000"), code("soon")) == (0, INVALID_CONFIG)
    assert value_of(connection, TOPIC, topic, "retention.ms") == ("604800000", SOURCE_DEFAULT)


VALUES = {
    "cleanup.policy": {
        "compact,delete": True,
        "": True,
        "delete,delete": True,
        "none": False,
        "Delete": False,
    },
    "compression.gzip.level": {"-1": True, "0": False, "1": True, "9": True, "10": False},
    "compression.type": {"zstd": True, "uncompressed": True, "producer": True, "zip": False, "Gzip": False},
    "delete.retention.ms": {"-1": False, "0": True},
    "file.delete.delay.ms": {"-1": False, "0": True},
    "flush.messages": {"0": False, "1": True},
    "index.interval.bytes": {"-1": False, "0": True},
    "max.compaction.lag.ms": {"0": False, "1": True},
    "max.message.bytes": {"-1": False, "0": True, "2147483648": False},
    "message.downconversion.enable": {"true": False},
    "message.format.version": {"2.8": False},
    "message.timestamp.after.max.ms": {"-1": False, "0": True},
    "message.timestamp.type": {"LogAppendTime": True, "logappendtime": False},
    "min.cleanable.dirty.ratio": {"-0.1": False, "0": True, "1": True, "1.1": False},
    "min.compaction.lag.ms": {"-1": False, "0": True},
    "min.insync.replicas": {"0": False, "1": True},
    "preallocate": {"TRUE": True, "yes": False},
    "retention.bytes": {"-2": True, "-1": True, "0": True},
    "retention.ms": {"-2": False, "-1": True, "0": True, "1.5": False},
    "segment.bytes": {"0": False, "1048576": True},
    "segment.index.bytes": {"3": False, "4": True},
    "segment.jitter.ms": {"-1": False, "0": True},
    "segment.ms": {"0": False, "1": True},
    "unclean.leader.election.enable": {"true": True, "maybe": False},
}


@pytest.mark.parametrize("name", VALUES)
def test_values_that_a_topic_config_may_have(connection: Connection, name: str) -> None:
    """The limits of numbers; names of choices are spelled exactly, booleans in any case."""

    def is_accepted(value: str) -> bool:
        config = {"name": name, "value": value}
        wanted = {"name": unique("v"), "num_partitions": 1, "replication_factor": 1, "configs": [config]}
        (part,) = connection.ask("create_topics", 7, topics=[wanted], timeout=5000, validate_only=True).topics
        assert part.error_code in (0, INVALID_CONFIG)
        return bool(part.error_code == 0)

    assert {value: is_accepted(value) for value in VALUES[name]} == VALUES[name]


def test_small_segments(broker: Broker, connection: Connection) -> None:
    """Apache Kafka refuses less than 1 MiB; pykbroker allows it, so that tests can roll often."""
    config = {"name": "segment.bytes", "value": "1048575"}
    wanted = {"name": unique("v"), "num_partitions": 1, "replication_factor": 1, "configs": [config]}
    (part,) = connection.ask("create_topics", 7, topics=[wanted], timeout=5000, validate_only=True).topics
    assert part.error_code == broker.expect(apache_kafka=INVALID_CONFIG, pykbroker=0)
