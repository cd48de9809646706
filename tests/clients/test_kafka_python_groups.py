"""Consumer groups with kafka-python 3: members come, go, are lost; commits stay."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, closing

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from kafka.structs import OffsetAndMetadata

from pykbroker.testing import BrokerThread
from tests.clients.members import PATIENCE_S, member, poll_records, poll_until, settled


def make_topic(bootstrap: str, topic: str, partitions: int) -> None:
    with closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
        admin.create_topics([NewTopic(topic, partitions, 1)])


def send(bootstrap: str, topic: str, partitions: int, count: int) -> None:
    """``count`` numbered records, over the partitions in turn."""
    with closing(KafkaProducer(bootstrap_servers=bootstrap)) as producer:
        for number in range(count):
            producer.send(topic, b"%d" % number, partition=number % partitions)
        producer.flush(PATIENCE_S)


def numbers(records: Sequence[object]) -> list[int]:
    return sorted(int(record.value) for record in records)  # type: ignore[attr-defined]  # untyped client


@pytest.mark.parametrize(
    "assignor",
    [
        RangePartitionAssignor,
        RoundRobinPartitionAssignor,
        StickyPartitionAssignor,
        CooperativeStickyAssignor,
    ],
)
def test_two_members_share_and_the_rest_takes_over(
    bootstrap: str, topic: str, group: str, assignor: type[AbstractPartitionAssignor]
) -> None:
    make_topic(bootstrap, topic, 4)
    strategy = [assignor]
    with member(bootstrap, group, topic, partition_assignment_strategy=strategy) as first:
        poll_until([first], settled([first], topic, 4))
        with member(bootstrap, group, topic, partition_assignment_strategy=strategy) as second:
            poll_until([first, second], settled([first, second], topic, 4))
            assert len(first.assignment()) == len(second.assignment()) == 2
            send(bootstrap, topic, 4, 20)
            assert numbers(poll_records([first, second], 20)) == list(range(20))
            first.commit()
            second.commit()
        poll_until([first], settled([first], topic, 4))
        send(bootstrap, topic, 4, 8)
        assert numbers(poll_records([first], 8)) == list(range(8))


@pytest.mark.pykbroker(settings={"num.partitions": 4})
def test_static_and_dynamic_members_that_alternate_all_get_their_share(
    pykbroker: BrokerThread, topic: str, group: str
) -> None:
    with ExitStack() as stack:
        members = [
            stack.enter_context(
                member(
                    pykbroker.bootstrap,
                    group,
                    topic,
                    group_instance_id=f"static-{number}" if number % 2 else None,
                    partition_assignment_strategy=[RangePartitionAssignor],
                )
            )
            for number in range(4)
        ]
        for joined in range(1, 5):  # one after the other
            poll_until(members[:joined], settled(members[:joined], topic, 4))
        assert sorted(len(each.assignment()) for each in members) == [1, 1, 1, 1]


def test_every_group_gets_everything(bootstrap: str, topic: str, group: str) -> None:
    make_topic(bootstrap, topic, 2)
    send(bootstrap, topic, 2, 10)
    for name in (f"{group}-a", f"{group}-b"):
        with member(bootstrap, name, topic) as reader:
            assert numbers(poll_records([reader], 10)) == list(range(10))


def test_a_killed_member_times_out_and_the_next_goes_on_from_the_commit(
    pykbroker: BrokerThread, topic: str, group: str
) -> None:
    bootstrap = pykbroker.bootstrap
    make_topic(bootstrap, topic, 1)
    send(bootstrap, topic, 1, 10)
    partition = TopicPartition(topic, 0)
    with ExitStack() as stack:
        killed = stack.enter_context(member(bootstrap, group, topic, heartbeat_interval_ms=3000))
        poll_records([killed], 10)
        killed.commit({partition: OffsetAndMetadata(4, "", -1)})
        heir = stack.enter_context(member(bootstrap, group, topic))
        # The first member is not polled again; what it would have had to answer by comes at once.
        heir.poll(timeout_ms=200)
        pykbroker.advance(400, sessions=True)
        assert numbers(poll_records([heir], 6)) == [4, 5, 6, 7, 8, 9]


def test_a_static_member_comes_back_without_a_rebalance(bootstrap: str, topic: str, group: str) -> None:
    make_topic(bootstrap, topic, 2)
    with member(bootstrap, group, topic, group_instance_id="one") as one, ExitStack() as stack:
        two = stack.enter_context(member(bootstrap, group, topic, group_instance_id="two"))
        poll_until([one, two], settled([one, two], topic, 2))
        before = two.assignment()
        generation = one.group_metadata().generation_id
        stack.close()  # a static member does not leave
        again = stack.enter_context(member(bootstrap, group, topic, group_instance_id="two"))
        poll_until([one, again], settled([one, again], topic, 2))
        assert again.assignment() == before
        assert one.group_metadata().generation_id == again.group_metadata().generation_id == generation


def test_commits_with_metadata_survive_a_restart(pykbroker: BrokerThread, topic: str, group: str) -> None:
    make_topic(pykbroker.bootstrap, topic, 1)
    send(pykbroker.bootstrap, topic, 1, 5)
    partition = TopicPartition(topic, 0)
    with member(pykbroker.bootstrap, group, topic) as reader:
        poll_records([reader], 5)
        reader.commit({partition: OffsetAndMetadata(3, "größe", -1)})
    pykbroker.restart()
    with member(pykbroker.bootstrap, group, topic) as reader:
        committed = reader.committed(partition, metadata=True)
        assert (committed.offset, committed.metadata) == (3, "größe")
        assert numbers(poll_records([reader], 2)) == [3, 4]


def test_members_outlive_a_restart_of_the_broker(pykbroker: BrokerThread, topic: str, group: str) -> None:
    bootstrap = pykbroker.bootstrap
    make_topic(bootstrap, topic, 2)
    options = {"reconnect_backoff_ms": 20, "reconnect_backoff_max_ms": 100}
    with member(bootstrap, group, topic, **options) as one, member(bootstrap, group, topic, **options) as two:
        poll_until([one, two], settled([one, two], topic, 2))
        pykbroker.restart()
        send(bootstrap, topic, 2, 6)
        assert numbers(poll_records([one, two], 6)) == list(range(6))


def test_a_pattern_subscription_finds_topics_that_come_later(bootstrap: str, topic: str, group: str) -> None:
    make_topic(bootstrap, f"{topic}-a", 1)
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        metadata_max_age_ms=300,
        heartbeat_interval_ms=200,
        session_timeout_ms=6000,
    )
    with closing(consumer):
        consumer.subscribe(pattern=f"^{topic}-.*")
        poll_until([consumer], lambda: len(consumer.assignment()) == 1)
        make_topic(bootstrap, f"{topic}-b", 1)
        poll_until([consumer], lambda: len(consumer.assignment()) == 2)


def test_auto_commit(bootstrap: str, topic: str, group: str) -> None:
    make_topic(bootstrap, topic, 1)
    send(bootstrap, topic, 1, 7)
    partition = TopicPartition(topic, 0)
    options = {"enable_auto_commit": True, "auto_commit_interval_ms": 100}
    with member(bootstrap, group, topic, **options) as reader:
        poll_records([reader], 7)
        deadline = time.monotonic() + PATIENCE_S
        while reader.committed(partition) != 7:
            assert time.monotonic() < deadline
            reader.poll(timeout_ms=50)
