"""The policies, by their kit and on a broker."""

from __future__ import annotations

from collections.abc import Iterable

import pykbroker_policies
import pytest
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, NewPartitions, NewTopic
from kafka.errors import PolicyViolationError

from pykbroker import Component, ConfigPolicy, ConfigPolicyContext, TopicPolicy, TopicPolicyContext
from pykbroker.testing import BrokerThread, check_config_policy, check_plugin, check_topic_policy


def topic_policy(name: str) -> Component[TopicPolicy]:
    found: Iterable[Component[TopicPolicy]] = pykbroker_policies.pykbroker_register_topic_policies()
    return next(each for each in found if each.name == name)


def config_policy() -> Component[ConfigPolicy]:
    (found,) = pykbroker_policies.pykbroker_register_config_policies()
    policy: Component[ConfigPolicy] = found
    return policy


def topic(
    name: str = "orders", partitions: int = 1, *, created: bool = True, **own: str
) -> TopicPolicyContext:
    settings = {key.replace("_", "."): value for key, value in own.items()}
    return TopicPolicyContext(
        topic=name, partitions=partitions, replication_factor=1, settings=settings, created=created
    )


def altered(before: str | None, after: str | None, resource: str = "topic") -> ConfigPolicyContext:
    return ConfigPolicyContext(
        resource=resource,
        name="orders",
        before={} if before is None else {"retention.ms": before},
        after={} if after is None else {"retention.ms": after},
    )


def test_conformance() -> None:
    check_plugin(pykbroker_policies)


def test_topic_name() -> None:
    check_topic_policy(
        topic_policy("topic-name"),
        settings={"pattern": "[a-z]+"},
        allows=(topic("orders"), topic("Orders", created=False)),
        refuses=(topic("Orders"), topic("orders-2")),
    )
    check_topic_policy(topic_policy("topic-name"), allows=(topic("Anything.goes"),))


def test_partition_limit() -> None:
    check_topic_policy(
        topic_policy("partition-limit"),
        settings={"max": 3},
        allows=(topic(partitions=3),),
        refuses=(topic(partitions=4), topic(partitions=4, created=False)),
    )
    check_topic_policy(topic_policy("partition-limit"), allows=(topic(partitions=10_000),))


def test_retention_floor() -> None:
    check_topic_policy(
        topic_policy("retention-floor"),
        settings={"ms": 1000},
        allows=(
            topic(),
            topic(retention_ms="1000"),
            topic(retention_ms="-1"),
            topic(created=False, retention_ms="1"),
        ),
        refuses=(topic(retention_ms="999"), topic(retention_ms="0")),
    )
    check_config_policy(
        config_policy(),
        settings={"ms": 1000},
        allows=(altered("1", "1"), altered("1", None), altered(None, "-1"), altered(None, "1", "broker")),
        refuses=(altered("1", "2"), altered(None, "999")),
    )


@pytest.mark.pykbroker(
    settings={
        "pykbroker.plugin.topic-name.pattern": "[a-z.]+",
        "pykbroker.plugin.partition-limit.max": 3,
        "pykbroker.plugin.retention-floor.ms": 1000,
    }
)
def test_an_admin_is_told(pykbroker: BrokerThread) -> None:
    admin = KafkaAdminClient(bootstrap_servers=pykbroker.bootstrap)
    with pytest.raises(PolicyViolationError, match="does not match"):
        admin.create_topics([NewTopic("Orders", 1, 1)])
    admin.create_topics([NewTopic("orders", 1, 1)])
    with pytest.raises(PolicyViolationError, match="4 partitions, allowed are 3"):
        admin.create_partitions({"orders": NewPartitions(4)})
    short = ConfigResource(ConfigResourceType.TOPIC, "orders", configs={"retention.ms": "5"})
    answer = admin.alter_configs([short])
    assert "the least is 1000" in str(answer)
    admin.close()
