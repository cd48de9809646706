"""kafka-python 3's admin client: topics, settings, groups, offsets, records, the cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import AlterConfigOp, ConfigResource, ConfigResourceType, OffsetSpec
from kafka.errors import (
    GroupIdNotFoundError,
    InvalidConfigurationError,
    InvalidPartitionsError,
    InvalidReplicationFactorError,
    InvalidTopicError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)
from kafka.structs import OffsetAndMetadata

from tests.clients.members import member, poll_until, settled

PATIENCE_S = 20.0


@pytest.fixture
def admin(bootstrap: str) -> Iterator[KafkaAdminClient]:
    with closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
        yield admin


def send(bootstrap: str, topic: str, count: int) -> None:
    with closing(KafkaProducer(bootstrap_servers=bootstrap)) as producer:
        for number in range(count):
            producer.send(topic, b"%d" % number, partition=0)
        producer.flush(PATIENCE_S)


def test_create_describe_grow_and_delete_topics(admin: KafkaAdminClient, topic: str) -> None:
    admin.create_topics({topic: {"num_partitions": 2, "replication_factor": 1}})
    (described,) = admin.describe_topics([topic])
    assert (described["name"], len(described["partitions"]), described["error_code"]) == (topic, 2, 0)
    admin.create_partitions({topic: 5})
    (described,) = admin.describe_topics([topic])
    assert sorted(each["partition_index"] for each in described["partitions"]) == [0, 1, 2, 3, 4]
    admin.delete_topics([topic])
    assert topic not in admin.list_topics()


def test_what_is_wrong_with_a_topic_is_said(admin: KafkaAdminClient, topic: str) -> None:
    admin.create_topics([topic])
    with pytest.raises(TopicAlreadyExistsError):
        admin.create_topics([topic])
    with pytest.raises(InvalidTopicError):
        admin.create_topics(["not a name"])
    with pytest.raises(InvalidPartitionsError):
        admin.create_topics({f"{topic}-0": {"num_partitions": 0}})
    with pytest.raises(InvalidReplicationFactorError):
        admin.create_topics({f"{topic}-3": {"replication_factor": 3}})
    with pytest.raises(InvalidConfigurationError):
        admin.create_topics({f"{topic}-c": {"configs": {"no.such.setting": "1"}}})
    with pytest.raises(InvalidPartitionsError):
        admin.create_partitions({topic: 1})
    with pytest.raises(UnknownTopicOrPartitionError):
        admin.delete_topics([f"{topic}-missing"])


def test_validate_only_makes_nothing(admin: KafkaAdminClient, topic: str) -> None:
    admin.create_topics([topic], validate_only=True)
    assert topic not in admin.list_topics()


def test_settings_of_a_topic(admin: KafkaAdminClient, topic: str) -> None:
    admin.create_topics({topic: {"configs": {"retention.ms": "1000"}}})
    resource = ConfigResource(ConfigResourceType.TOPIC, topic)
    everything = admin.describe_configs([resource], config_filter="all")["topic"][topic]
    assert everything["retention.ms"]["value"] == "1000"
    assert everything["segment.bytes"]["value"] == "1073741824"
    assert len(everything) >= 33
    changes = {
        "cleanup.policy": (AlterConfigOp.APPEND, "compact"),
        "retention.ms": (AlterConfigOp.DELETE, None),
    }
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, changes)])
    altered = admin.describe_configs([resource], config_filter="all")["topic"][topic]
    assert sorted(altered["cleanup.policy"]["value"].split(",")) == ["compact", "delete"]
    assert altered["retention.ms"]["value"] == "604800000"


def test_settings_of_the_broker(admin: KafkaAdminClient) -> None:
    (broker,) = admin.describe_cluster()["brokers"]
    name = str(broker["broker_id"])
    configs = admin.describe_configs([ConfigResource(ConfigResourceType.BROKER, name)], config_filter="all")
    assert configs["broker"][name]["message.max.bytes"]["value"] == "1048588"


def test_the_cluster(admin: KafkaAdminClient, bootstrap: str) -> None:
    cluster = admin.describe_cluster()
    (broker,) = cluster["brokers"]
    assert f"{broker['host']}:{broker['port']}" == bootstrap
    assert cluster["controller_id"] == broker["broker_id"]
    assert len(cluster["cluster_id"]) == 22


def test_a_group_is_described_listed_and_deleted(
    admin: KafkaAdminClient, bootstrap: str, topic: str, group: str
) -> None:
    admin.create_topics({topic: {"num_partitions": 2, "replication_factor": 1}})
    partition = TopicPartition(topic, 0)
    with member(bootstrap, group, topic, client_id="the-member") as reader:
        poll_until([reader], settled([reader], topic, 2))
        reader.commit({partition: OffsetAndMetadata(0, "note", -1)})
        described = admin.describe_groups([group])[group]
        assert (described["group_state"], described["protocol_type"]) == ("Stable", "consumer")
        (one,) = described["members"]
        assert one["client_id"] == "the-member"
        assert group in {each["group_id"] for each in admin.list_groups()}
        assert admin.list_group_offsets({group: None})[group][partition].metadata == "note"
        assert admin.delete_groups([group])[group] != "OK"
    admin.delete_groups([group])
    assert group not in {each["group_id"] for each in admin.list_groups()}


def test_offsets_of_an_empty_group_are_altered_and_forgotten(
    admin: KafkaAdminClient, bootstrap: str, topic: str, group: str
) -> None:
    send(bootstrap, topic, 5)
    partition = TopicPartition(topic, 0)
    admin.alter_group_offsets(group, {partition: OffsetAndMetadata(3, "", -1)})
    assert admin.list_group_offsets({group: [partition]})[group][partition].offset == 3
    admin.delete_group_offsets(group, [partition])
    assert admin.list_group_offsets({group: [partition]})[group][partition].offset == -1


def test_a_missing_group_is_dead(admin: KafkaAdminClient, group: str) -> None:
    try:
        described = admin.describe_groups([group])[group]
    except GroupIdNotFoundError:
        return
    assert described["group_state"] == "Dead"


def test_records_are_deleted_up_to_an_offset(admin: KafkaAdminClient, bootstrap: str, topic: str) -> None:
    send(bootstrap, topic, 10)
    partition = TopicPartition(topic, 0)
    admin.delete_records({partition: 4})
    found = admin.list_partition_offsets({partition: OffsetSpec.EARLIEST})
    assert found[partition].offset == 4
    assert admin.list_partition_offsets({partition: OffsetSpec.LATEST})[partition].offset == 10
