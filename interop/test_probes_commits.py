"""Probes: committed offsets of classic groups, and groups of the newer kinds beside them."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from interop.conftest import Broker
from interop.group_member import CONSUMER, Member, fetch_offset, state_of
from interop.messages import Answer
from interop.probing import create_topic, unique
from interop.raw import Connection

UNKNOWN_TOPIC, METADATA_TOO_LARGE, ILLEGAL_GENERATION, UNKNOWN_MEMBER, REBALANCE = 3, 12, 22, 25, 27


@pytest.fixture
def simple(connect: Callable[[], Connection], group: str) -> Member:
    """A consumer outside of any membership: generation -1, no member id."""
    return Member(connect(), group)


@pytest.fixture
def leader(connect: Callable[[], Connection], group: str) -> Member:
    """The only member of a stable group."""
    member = Member(connect(), group)
    assert member.enter().error_code == 0
    assert member.sync({member.member_id: b"mine"}).error_code == 0
    return member


# OffsetCommit


@pytest.mark.parametrize("version", range(2, 10))
def test_commit_round_trip(simple: Member, topic: str, version: int) -> None:
    """Offset and metadata come back as they went in, in every version."""
    assert simple.commit(topic, 17, metadata="hello €", version=version) == 0
    assert fetch_offset(simple.connection, simple.group, topic) == (0, 17, "hello €")


def test_commit_by_topic_id(connection: Connection, group: str) -> None:
    """Version 10 takes ids; 100 for one that does not exist."""
    name = unique("by-id")
    topic_id = create_topic(connection, name)
    parts = [{"partition_index": 0, "committed_offset": 3, "committed_metadata": ""}]

    def commit(of: uuid.UUID) -> int:
        topics = [{"topic_id": of, "partitions": parts}]
        answer = connection.ask(
            "offset_commit", 10, group_id=group, generation_id_or_member_epoch=-1, topics=topics
        )
        return int(answer.topics[0].partitions[0].error_code)

    assert (commit(topic_id), commit(uuid.UUID(int=5))) == (0, 100)
    assert fetch_offset(connection, group, name)[1] == 3


def test_commit_makes_an_empty_group(simple: Member, topic: str) -> None:
    """Without members and without a protocol type."""
    simple.commit(topic)
    assert state_of(simple.connection, simple.group) == (0, "Empty")


def test_commit_by_a_member(leader: Member, topic: str) -> None:
    """0; 22 with another generation; 25 with another member id; a simple consumer is refused with 25."""
    assert leader.commit(topic) == 0
    assert leader.commit(topic, generation=leader.generation + 1) == ILLEGAL_GENERATION
    assert leader.commit(topic, member_id="nobody") == UNKNOWN_MEMBER
    assert leader.commit(topic, member_id="", generation=-1) == UNKNOWN_MEMBER


def test_commit_in_preparing_rebalance(connect: Callable[[], Connection], leader: Member, topic: str) -> None:
    """0: members flush what they did before they rejoin."""
    second = Member(connect(), leader.group)
    second.post_enter()
    assert second.connection.is_silent(within=0.1)
    assert leader.commit(topic, 8) == 0
    assert fetch_offset(leader.connection, leader.group, topic)[1] == 8


def test_commit_in_completing_rebalance(simple: Member, topic: str) -> None:
    """27: the generation has no assignment yet."""
    assert simple.enter().error_code == 0
    assert simple.commit(topic) == REBALANCE


def test_commit_with_a_generation_but_no_group(simple: Member, topic: str) -> None:
    """22 ILLEGAL_GENERATION."""
    assert simple.commit(topic, generation=3, member_id="someone") == ILLEGAL_GENERATION


def test_simple_commit_after_the_members_left(leader: Member, topic: str) -> None:
    """An empty group takes it."""
    leader.leave()
    assert leader.commit(topic, generation=-1, member_id="") == 0


def test_commit_to_what_does_not_exist(simple: Member, topic: str) -> None:
    """3 for topic and partition."""
    assert simple.commit(unique("missing")) == UNKNOWN_TOPIC
    assert simple.commit(topic, partition=7) == UNKNOWN_TOPIC


@pytest.mark.parametrize(("size", "expected"), [(4096, 0), (4097, METADATA_TOO_LARGE)])
def test_size_of_metadata(simple: Member, topic: str, size: int, expected: int) -> None:
    """offset.metadata.max.bytes."""
    assert simple.commit(topic, metadata="x" * size) == expected


def test_size_of_metadata_in_characters(simple: Member, topic: str) -> None:
    """Apache Kafka counts characters (of UTF-16), whatever the name of the setting says."""
    assert simple.commit(topic, metadata="é" * 4096) == 0
    assert simple.commit(topic, metadata="é" * 4097) == METADATA_TOO_LARGE


def test_null_metadata(simple: Member, topic: str) -> None:
    """Comes back as the empty string."""
    assert simple.commit(topic, metadata=None) == 0
    assert fetch_offset(simple.connection, simple.group, topic) == (0, 5, "")


@pytest.mark.parametrize("offset", [0, -1, -5, 2**62])
def test_any_offset(simple: Member, topic: str, offset: int) -> None:
    """Nobody compares it with the log; negative ones are accepted too."""
    assert simple.commit(topic, offset) == 0
    assert fetch_offset(simple.connection, simple.group, topic)[1] == offset


def test_empty_group_id(connect: Callable[[], Connection], simple: Member, topic: str) -> None:
    """Commits and FindCoordinator accept it."""
    nameless = Member(connect(), "")
    assert nameless.connection.ask("find_coordinator", 3, key="", key_type=0).error_code == 0
    assert nameless.commit(topic) == 0
    assert fetch_offset(nameless.connection, "", topic)[1] == 5


def test_leader_epoch_round_trip(connection: Connection, group: str, topic: str) -> None:
    """From version 6 on, it is kept."""
    part = {
        "partition_index": 0,
        "committed_offset": 1,
        "committed_leader_epoch": 4,
        "committed_metadata": "",
    }
    topics = [{"name": topic, "partitions": [part]}]
    connection.ask("offset_commit", 8, group_id=group, generation_id_or_member_epoch=-1, topics=topics)
    answer = connection.ask(
        "offset_fetch", 7, group_id=group, topics=[{"name": topic, "partition_indexes": [0]}]
    )
    assert answer.topics[0].partitions[0].committed_leader_epoch == 4


# OffsetFetch


@pytest.mark.parametrize("version", range(1, 8))
def test_fetch_offsets_in_every_version(simple: Member, topic: str, version: int) -> None:
    """What is not committed, and what does not exist, is -1 without error."""
    simple.commit(topic, 4)
    wanted = [{"name": topic, "partition_indexes": [0, 9]}, {"name": "no-such", "partition_indexes": [0]}]
    answer = simple.connection.ask("offset_fetch", version, group_id=simple.group, topics=wanted)
    rows = {
        (each.name, part.partition_index): (part.error_code, part.committed_offset, part.metadata)
        for each in answer.topics
        for part in each.partitions
    }
    assert rows == {(topic, 0): (0, 4, ""), (topic, 9): (0, -1, ""), ("no-such", 0): (0, -1, "")}
    if version >= 2:
        assert answer.error_code == 0


def test_fetch_offsets_of_several_groups(simple: Member, topic: str) -> None:
    """Versions 8 and 9; a group that does not exist has no offsets and no error."""
    simple.commit(topic, 4)
    wanted = [{"name": topic, "partition_indexes": [0]}]
    groups = [{"group_id": name, "topics": wanted} for name in (simple.group, unique("missing"))]
    for version in (8, 9):
        answer = simple.connection.ask("offset_fetch", version, groups=groups)
        assert [part.error_code for part in answer.groups] == [0, 0]
        assert [part.topics[0].partitions[0].committed_offset for part in answer.groups] == [4, -1]


@pytest.mark.parametrize("version", [2, 5, 7])
def test_fetch_all_offsets(simple: Member, topic: str, version: int) -> None:
    """A null topic list means everything that was committed; an empty one nothing."""
    ask = simple.connection.ask
    assert ask("offset_fetch", version, group_id=simple.group, topics=None).topics == []
    simple.commit(topic, 4)
    answer = ask("offset_fetch", version, group_id=simple.group, topics=None)
    assert [(each.name, each.partitions[0].committed_offset) for each in answer.topics] == [(topic, 4)]
    assert ask("offset_fetch", version, group_id=simple.group, topics=[]).topics == []


# FindCoordinator


@pytest.mark.parametrize("version", range(7))
def test_find_coordinator_in_every_version(connection: Connection, group: str, version: int) -> None:
    """The only broker; several keys at once from version 4 on."""
    if version >= 4:
        answer = connection.ask("find_coordinator", version, key_type=0, coordinator_keys=[group, "other"])
        assert [row.key for row in answer.coordinators] == [group, "other"]
        rows = answer.coordinators
    else:
        key_type = {"key_type": 0} if version >= 1 else {}
        rows = [connection.ask("find_coordinator", version, key=group, **key_type)]
    for row in rows:
        assert row.error_code == 0
        assert row.port > 0


def test_find_coordinator_of_an_unknown_kind(connection: Connection) -> None:
    """42 INVALID_REQUEST."""
    assert connection.ask("find_coordinator", 3, key="x", key_type=9).error_code == 42


# OffsetDelete


def delete_offset(connection: Connection, group: str, topic: str) -> tuple[int, list[int]]:
    """OffsetDelete of partition 0: the error at the top and those of the partitions."""
    topics = [{"name": topic, "partitions": [{"partition_index": 0}]}]
    answer = connection.ask("offset_delete", 0, group_id=group, topics=topics)
    return answer.error_code, [part.error_code for row in answer.topics for part in row.partitions]


def test_delete_offsets(simple: Member, topic: str) -> None:
    """Gone afterwards, and deleting what is not there is fine; 69 for an unknown group; 3 for an unknown
    topic."""
    simple.commit(topic)
    assert delete_offset(simple.connection, simple.group, unique("missing")) == (0, [UNKNOWN_TOPIC])
    assert delete_offset(simple.connection, simple.group, topic) == (0, [0])
    assert fetch_offset(simple.connection, simple.group, topic)[1] == -1
    assert delete_offset(simple.connection, unique("missing"), topic) == (69, [])


def test_delete_offsets_of_a_subscribed_topic(
    connect: Callable[[], Connection], group: str, topic: str
) -> None:
    """86 GROUP_SUBSCRIBED_TO_TOPIC."""
    import struct

    name = topic.encode()
    subscription = struct.pack(">hih", 0, 1, len(name)) + name + struct.pack(">i", -1)
    member = Member(connect(), group)
    member.enter(protocols={"range": subscription})
    member.sync({member.member_id: b""})
    assert member.commit(topic) == 0
    assert delete_offset(member.connection, group, topic) == (0, [86])


# consumer and share groups (KIP-848, KIP-932)


@pytest.fixture
def kip_848(broker: Broker, connection: Connection) -> None:
    """Skips on a broker that does not serve ConsumerGroupHeartbeat, as ApiVersions says."""
    served = {row.api_key for row in connection.ask("api_versions", 0).api_keys}
    if not {68, 76} <= served:
        pytest.skip(f"{broker.name} serves no consumer or share groups yet")


def consumer_heartbeat(connection: Connection, group: str, member: str, epoch: int, **more: Any) -> Answer:
    """One ConsumerGroupHeartbeat."""
    values = {"group_id": group, "member_id": member, "member_epoch": epoch, "rebalance_timeout": 10_000}
    return connection.ask("consumer_group_heartbeat", 1, **values | more)


@pytest.mark.usefixtures("kip_848")
def test_consumer_group_member(connection: Connection, group: str, topic: str) -> None:
    """A stale epoch is 110 in a heartbeat and 113 in OffsetCommit v9 (35 in v7) and OffsetFetch v9; 112 for
    an unknown assignor."""
    who = str(uuid.uuid4())
    subscribed = {"subscribed_topic_names": [topic], "topic_partitions": []}
    joined = consumer_heartbeat(connection, group, who, 0, **subscribed)
    assert joined.error_code == 0, joined
    stale = joined.member_epoch + 7
    assert consumer_heartbeat(connection, group, who, stale).error_code == 110
    member = Member(connection, group)
    member.member_id = who
    assert member.commit(topic, version=9, generation=stale) == 113
    assert member.commit(topic, version=7, generation=stale) == 35
    asked = [{"group_id": group, "member_id": who, "member_epoch": stale, "topics": None}]
    assert connection.ask("offset_fetch", 9, groups=asked).groups[0].error_code == 113
    other = consumer_heartbeat(connection, unique("group"), who, 0, server_assignor="no-such", **subscribed)
    assert other.error_code == 112


@pytest.mark.usefixtures("kip_848")
def test_joining_a_share_group_the_classic_way(connection: Connection, group: str, topic: str) -> None:
    """23 INCONSISTENT_GROUP_PROTOCOL."""
    values = {"group_id": group, "member_id": str(uuid.uuid4()), "member_epoch": 0}
    joined = connection.ask("share_group_heartbeat", 1, **values, subscribed_topic_names=[topic])
    assert joined.error_code == 0, joined
    assert Member(connection, group).join(protocol_type=CONSUMER).error_code == 23
