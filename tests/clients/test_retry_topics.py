"""kafka-python finds the retry and dead-letter topics of its group, and administers them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import InvalidConfigurationError, InvalidPartitionsError, InvalidTopicError

from tests.clients.members import member, poll_until, settled

PATIENCE_S = 20.0


@pytest.fixture
def admin(bootstrap: str) -> Iterator[KafkaAdminClient]:
    with closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
        yield admin


def make(admin: KafkaAdminClient, topic: str, partitions: int = 3, **configs: str) -> None:
    settings = {"pykbroker.retry.policy": "fixed"}
    settings |= {name.replace("_", "."): value for name, value in configs.items()}
    admin.create_topics({topic: {"num_partitions": partitions, "configs": settings}})


def described(admin: KafkaAdminClient, topic: str) -> dict[str, str]:
    resource = ConfigResource(ConfigResourceType.TOPIC, topic)
    entries = admin.describe_configs([resource], config_filter="all")["topic"][topic]
    return {name: entry["value"] for name, entry in entries.items()}


def alter(admin: KafkaAdminClient, kind: ConfigResourceType, name: str, **configs: str) -> None:
    changes = {setting.replace("_", "."): value for setting, value in configs.items()}
    answer = admin.alter_configs([ConfigResource(kind, name, changes)])
    assert set(answer[kind.name.lower()].values()) == {"OK"}


def count(admin: KafkaAdminClient, topic: str) -> int:
    (found,) = admin.describe_topics([topic])
    return len(found["partitions"])


def test_a_group_with_a_policy_has_its_topics_when_it_has_joined(
    bootstrap: str, admin: KafkaAdminClient, topic: str
) -> None:
    make(admin, topic)
    retry_topic = f"{topic}.billing_team.retry"
    # It asks for the topic before it joins, when nobody knows yet that the group's id has a blank.
    with member(bootstrap, "billing team", topic, retry_topic) as reader:
        poll_until([reader], lambda: len(reader.assignment()) == 6)
        assert {partition.topic for partition in reader.assignment()} == {topic, retry_topic}
    made = {name for name in admin.list_topics() if name.startswith(topic)}
    assert made == {topic, f"{topic}.billing_team.retry", f"{topic}.billing_team.dlq"}
    retry = described(admin, f"{topic}.billing_team.retry")
    assert (retry["pykbroker.role"], retry["retention.ms"]) == (f"retry:{topic}:billing team", "-1")
    letters = described(admin, f"{topic}.billing_team.dlq")
    assert letters["pykbroker.role"] == f"dlq:{topic}:billing team"


def test_a_group_that_reads_nothing_but_the_topic_has_them_too(
    bootstrap: str, admin: KafkaAdminClient, topic: str, group: str
) -> None:
    make(admin, topic)
    with member(bootstrap, group, topic) as reader:
        poll_until([reader], settled([reader], topic, 3))
    assert {f"{topic}.{group}.retry", f"{topic}.{group}.dlq"} < set(admin.list_topics())


def test_without_a_policy_nothing_is_made(
    bootstrap: str, admin: KafkaAdminClient, topic: str, group: str
) -> None:
    make(admin, topic)
    alter(admin, ConfigResourceType.GROUP, group, pykbroker_retry_policy="none")
    with member(bootstrap, group, topic) as reader:
        poll_until([reader], settled([reader], topic, 3))
    assert {name for name in admin.list_topics() if name.startswith(topic)} == {topic}


def test_a_producer_that_asks_for_the_name_makes_both(
    bootstrap: str, admin: KafkaAdminClient, topic: str
) -> None:
    make(admin, topic)
    with closing(KafkaProducer(bootstrap_servers=bootstrap)) as producer:
        assert producer.partitions_for(f"{topic}.billing.retry") == {0, 1, 2}
    assert f"{topic}.billing.dlq" in admin.list_topics()


def test_they_grow_with_their_origin(admin: KafkaAdminClient, topic: str) -> None:
    make(admin, topic)
    retry, letters = f"{topic}.billing.retry", f"{topic}.billing.dlq"
    admin.create_topics([letters])
    assert count(admin, retry) == count(admin, letters) == 3
    admin.create_partitions({topic: 5})
    assert count(admin, retry) == count(admin, letters) == 5
    with pytest.raises(InvalidPartitionsError):
        admin.create_partitions({retry: 7})
    admin.delete_topics([topic])
    admin.delete_topics([retry])
    assert {name for name in admin.list_topics() if name.startswith(topic)} == {letters}


def test_what_cannot_be_set(admin: KafkaAdminClient, topic: str) -> None:
    make(admin, topic)
    retry = f"{topic}.billing.retry"
    admin.create_topics([retry])
    kind = ConfigResourceType.TOPIC
    for name, setting, value in (
        (topic, "pykbroker.retry.topic", "{topic}.retry"),
        (topic, "pykbroker.retry.policy", "no-such-policy"),
        (topic, "pykbroker.dead.letter.topic", topic),
        (topic, "pykbroker.dead.letter.topic", retry),
        (retry, "cleanup.policy", "compact"),
        (retry, "pykbroker.validators", "require-key"),
        (retry, "pykbroker.retry.policy", "fixed"),
    ):
        answer = admin.alter_configs([ConfigResource(kind, name, {setting: value})])
        assert "InvalidConfigurationError" in answer["topic"][name]
        assert setting in answer["topic"][name]
    answer = admin.alter_configs(
        [ConfigResource(ConfigResourceType.GROUP, "billing", {"pykbroker.retry.topic": "{group}"})]
    )
    assert "InvalidConfigurationError" in answer["group"]["billing"]
    for setting in ("pykbroker.role", "pykbroker.delay.enable"):
        with pytest.raises(ValueError, match=setting):  # read-only: the client itself says so
            admin.alter_configs([ConfigResource(kind, topic, {setting: "true"})])
    for configs in ({"pykbroker.role": f"dlq:{topic}:billing"}, {"pykbroker.delay.ms": "1"}):
        with pytest.raises(InvalidConfigurationError):
            admin.create_topics({f"{topic}-new": {"configs": configs}})


def test_a_name_that_is_too_long_says_what_to_set(admin: KafkaAdminClient, topic: str) -> None:
    make(admin, topic)
    long = "g" * (246 - len(topic))
    with pytest.raises(InvalidTopicError, match="characters"):
        admin.create_topics([f"{topic}.{long}.retry"])
    alter(
        admin,
        ConfigResourceType.GROUP,
        long,
        pykbroker_retry_topic="{topic}{group}r",
        pykbroker_dead_letter_topic=f"{topic}-dead",
    )
    admin.create_topics([f"{topic}{long}r"])
    assert described(admin, f"{topic}{long}r")["pykbroker.role"] == f"retry:{topic}:{long}"


def test_groups_settings_are_read_back(admin: KafkaAdminClient, group: str) -> None:
    alter(admin, ConfigResourceType.GROUP, group, pykbroker_retry_policy="linear")
    resource = ConfigResource(ConfigResourceType.GROUP, group)
    found = admin.describe_configs([resource], config_filter="all")["group"][group]
    assert found["pykbroker.retry.policy"]["value"] == "linear"
    assert found["pykbroker.retry.delay.ms"]["value"] is None
