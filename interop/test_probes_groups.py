"""Probes: joining, syncing, heartbeats and leaving in classic groups."""

import struct
import time
from collections.abc import Callable

import pytest

from interop.group_member import CONSUMER, Member, state_of
from interop.messages import Answer
from interop.probing import unique
from interop.raw import Connection

ILLEGAL_GENERATION, INCONSISTENT_PROTOCOL, INVALID_GROUP, UNKNOWN_MEMBER = 22, 23, 24, 25
INVALID_SESSION_TIMEOUT, REBALANCE, NEED_ID, FENCED = 26, 27, 79, 82

MakeMember = Callable[..., Member]


@pytest.fixture
def make_member(connect: Callable[[], Connection], group: str) -> MakeMember:
    """Makes members of one group, each with a connection of its own."""

    def make(instance: str | None = None, *, group_id: str = group) -> Member:
        return Member(connect(), group_id, instance=instance)

    return make


@pytest.fixture
def leader(make_member: MakeMember) -> Member:
    """The only member of a stable group, with the assignment b"mine"."""
    return stable(make_member())


def stable(member: Member) -> Member:
    """Makes a member the leader and only member of its stable group."""
    joined = member.enter()
    assert (joined.error_code, joined.leader) == (0, member.member_id), joined
    assert member.sync({member.member_id: b"mine"}).assignment == b"mine"
    return member


def subscription(*topics: str) -> bytes:
    """What consumers send as metadata, version 0. Apache Kafka reads it, and answers -1 to some kinds of
    garbage."""
    names = b"".join(struct.pack(">h", len(name)) + name.encode() for name in topics)
    return struct.pack(">hi", 0, len(topics)) + names + struct.pack(">i", -1)


def completing(member: Member) -> Member:
    """Makes a member the leader of a group that waits for its assignments (CompletingRebalance)."""
    assert member.enter().error_code == 0
    return member


def preparing(leader: Member, second: Member) -> None:
    """A second member joins the leader's stable group, which then waits for the leader
    (PreparingRebalance)."""
    second.post_enter()
    assert second.connection.is_silent(within=0.1)


def both(leader: Member, second: Member) -> tuple[Answer, Answer]:
    """A second member joins, the leader rejoins: a generation with two members that waits for assignments."""
    pending = second.post_enter()
    assert second.connection.is_silent(within=0.1)
    rejoined = leader.join()
    return rejoined, second.collect_join(pending)


def two_stable(leader: Member, second: Member) -> None:
    """A stable group of two."""
    both(leader, second)
    waiting = second.post_sync()
    leader.sync({leader.member_id: b"first", second.member_id: b"second"})
    assert second.connection.collect(waiting).assignment == b"second"


# joining


@pytest.mark.parametrize("version", [4, 5, 9])
def test_dynamic_member_is_given_an_id_first(make_member: MakeMember, version: int) -> None:
    """79 MEMBER_ID_REQUIRED with the new id; a member with a bare id is not in the group yet."""
    member = make_member()
    first = member.join(version=version)
    assert first.error_code == NEED_ID
    assert first.member_id
    second = member.join(version=version)
    assert (second.error_code, second.member_id, second.leader) == (0, first.member_id, first.member_id)
    assert second.generation_id == 1


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_old_versions_join_at_once(make_member: MakeMember, version: int) -> None:
    """And version 0, which has no rebalance timeout on the wire, does not loop."""
    member = make_member()
    joined = member.join(version=version)
    assert (joined.error_code, joined.generation_id) == (0, 1)
    assert [row.member_id for row in joined.members] == [member.member_id]
    assert member.sync({member.member_id: b"mine"}, version=0).assignment == b"mine"
    assert member.heartbeat(version=0) == 0


def test_static_member_joins_at_once(make_member: MakeMember) -> None:
    """It is never asked to come back with its id."""
    member = make_member("one")
    joined = member.join()
    assert (joined.error_code, joined.generation_id) == (0, 1)
    assert [row.group_instance_id for row in joined.members] == ["one"]


def test_join_answer(make_member: MakeMember) -> None:
    """The leader learns the members' metadata for the chosen protocol; type and name come with version 7."""
    member = make_member()
    joined = member.enter(protocols={"range": b"r", "roundrobin": b"rr"})
    assert (joined.protocol_type, joined.protocol_name, joined.skip_assignment) == (CONSUMER, "range", False)
    assert [(row.member_id, row.metadata) for row in joined.members] == [(member.member_id, b"r")]


def test_unknown_member_id(make_member: MakeMember, leader: Member) -> None:
    """25, also on a group that does not exist."""
    for group in (leader.group, unique("missing")):
        assert make_member(group_id=group).join(member_id="nobody").error_code == UNKNOWN_MEMBER


def test_other_protocol_type(make_member: MakeMember, leader: Member) -> None:
    """23 INCONSISTENT_GROUP_PROTOCOL."""
    assert make_member().join(protocol_type="connect").error_code == INCONSISTENT_PROTOCOL


def test_no_common_protocol(make_member: MakeMember, leader: Member) -> None:
    """23 as well."""
    assert make_member().join(protocols={"sticky": b""}).error_code == INCONSISTENT_PROTOCOL


def test_no_protocols_or_no_type(make_member: MakeMember) -> None:
    """23 as well, even for the first one in a group."""
    assert make_member().enter(protocols={}).error_code == INCONSISTENT_PROTOCOL
    assert make_member().enter(protocol_type="").error_code == INCONSISTENT_PROTOCOL


@pytest.mark.parametrize("session_ms", [5_999, 1_800_001, 0, -1])
def test_session_timeout_out_of_range(make_member: MakeMember, session_ms: int) -> None:
    """26 outside of 6 s to 30 min."""
    assert make_member().join(session_ms=session_ms).error_code == INVALID_SESSION_TIMEOUT


def test_empty_group_id(make_member: MakeMember) -> None:
    """24 INVALID_GROUP_ID for JoinGroup, SyncGroup and Heartbeat."""
    member = make_member(group_id="")
    assert member.join().error_code == INVALID_GROUP
    assert member.sync().error_code == INVALID_GROUP
    assert member.heartbeat() == INVALID_GROUP


def test_leader_that_rejoins_makes_a_new_generation(leader: Member) -> None:
    """Even with the same metadata: that is how it asks for a new assignment."""
    assert leader.join().generation_id == 2
    assert leader.heartbeat(generation=1) == ILLEGAL_GENERATION


def test_follower_that_rejoins_unchanged_is_answered_at_once(make_member: MakeMember, leader: Member) -> None:
    """Same generation, and an empty member list since it does not lead."""
    follower = make_member()
    two_stable(leader, follower)
    again = follower.join()
    assert (again.error_code, again.generation_id, again.leader) == (0, 2, leader.member_id)
    assert again.members == []
    assert leader.heartbeat() == 0


def test_follower_with_new_metadata_makes_a_new_generation(make_member: MakeMember, leader: Member) -> None:
    """The others are told by their heartbeat."""
    follower = make_member()
    two_stable(leader, follower)
    pending = follower.post_join(protocols={"range": subscription("other")})
    assert follower.connection.is_silent(within=0.1)
    assert leader.heartbeat() == REBALANCE
    assert leader.join().generation_id == 3
    assert follower.collect_join(pending).generation_id == 3


def test_second_member(make_member: MakeMember, leader: Member) -> None:
    """The first one learns it from 27 on its heartbeat, rejoins, and both get the new generation."""
    second = make_member()
    pending = second.post_enter()
    assert second.connection.is_silent(within=0.1)
    assert leader.heartbeat() == REBALANCE
    rejoined = leader.join()
    joined = second.collect_join(pending)
    assert (rejoined.generation_id, joined.generation_id) == (2, 2)
    assert {row.member_id for row in rejoined.members} == {leader.member_id, second.member_id}
    assert (joined.members, joined.leader) == ([], leader.member_id)


def test_protocol_that_all_support(make_member: MakeMember) -> None:
    """The one that most members prefer among those that all have."""
    first = make_member()
    assert first.enter(protocols={"a": b"", "b": b""}).protocol_name == "a"
    first.sync({first.member_id: b""}, protocol_name="a")
    second = make_member()
    pending = second.post_enter(protocols={"b": b"", "c": b""})
    assert second.connection.is_silent(within=0.1)
    assert first.join(protocols={"a": b"", "b": b""}).protocol_name == "b"
    assert second.collect_join(pending).protocol_name == "b"


# heartbeats


def test_heartbeat_in_stable(leader: Member) -> None:
    """0; 22 for another generation; 25 for another member or group."""
    assert leader.heartbeat() == 0
    assert leader.heartbeat(generation=leader.generation + 1) == ILLEGAL_GENERATION
    assert leader.heartbeat(generation=0) == ILLEGAL_GENERATION
    assert leader.heartbeat(member_id="nobody") == UNKNOWN_MEMBER
    assert leader.heartbeat(member_id="") == UNKNOWN_MEMBER


def test_heartbeat_in_a_missing_group(make_member: MakeMember) -> None:
    """25."""
    assert make_member().heartbeat(member_id="nobody", generation=1) == UNKNOWN_MEMBER


def test_heartbeat_in_preparing_rebalance(make_member: MakeMember, leader: Member) -> None:
    """27 REBALANCE_IN_PROGRESS."""
    preparing(leader, make_member())
    assert state_of(leader.connection, leader.group) == (0, "PreparingRebalance")
    assert leader.heartbeat() == REBALANCE


def test_heartbeat_in_completing_rebalance(make_member: MakeMember) -> None:
    """0: the member is alive, and waiting for its assignment."""
    member = completing(make_member())
    assert state_of(member.connection, member.group) == (0, "CompletingRebalance")
    assert member.heartbeat() == 0


def test_heartbeat_with_a_pending_member_id(make_member: MakeMember) -> None:
    """A member that was only given an id is not in the group."""
    member = make_member()
    assert member.join().error_code == NEED_ID
    assert member.heartbeat(generation=-1) in (ILLEGAL_GENERATION, UNKNOWN_MEMBER)


# syncing


def test_sync_in_stable_answers_again(make_member: MakeMember, leader: Member) -> None:
    """The stored assignment, whatever is sent."""
    assert leader.sync().assignment == b"mine"
    assert leader.sync({leader.member_id: b"other"}).assignment == b"mine"


def test_sync_errors(leader: Member) -> None:
    """22 for another generation, 25 for another member, 23 for another protocol."""
    assert leader.sync(generation=9).error_code == ILLEGAL_GENERATION
    assert leader.sync(member_id="nobody").error_code == UNKNOWN_MEMBER
    assert leader.sync(protocol_name="sticky").error_code == INCONSISTENT_PROTOCOL
    assert leader.sync(protocol_type="connect").error_code == INCONSISTENT_PROTOCOL
    assert leader.sync(protocol_type=None, protocol_name=None, version=4).error_code == 0


def test_sync_in_preparing_rebalance(make_member: MakeMember, leader: Member) -> None:
    """27."""
    preparing(leader, make_member())
    assert leader.sync().error_code == REBALANCE


def test_followers_wait_for_the_leaders_assignments(make_member: MakeMember, leader: Member) -> None:
    """A member that is not mentioned gets an empty assignment."""
    second = make_member()
    both(leader, second)
    pending = second.post_sync()
    assert second.connection.is_silent(within=0.2)
    assert leader.sync({leader.member_id: b"all"}).assignment == b"all"
    answer = second.connection.collect(pending)
    assert (answer.error_code, answer.assignment) == (0, b"")
    assert (answer.protocol_type, answer.protocol_name) == (CONSUMER, "range")
    assert state_of(leader.connection, leader.group) == (0, "Stable")


# leaving


def test_leave_answers_per_member(make_member: MakeMember, leader: Member) -> None:
    """From version 3 on; the others are told by their heartbeat."""
    second = make_member()
    two_stable(leader, second)
    gone = {"member_id": second.member_id, "group_instance_id": None}
    nobody = {"member_id": "nobody", "group_instance_id": None}
    answer = leader.connection.ask("leave_group", 4, group_id=leader.group, members=[gone, nobody])
    assert answer.error_code == 0
    codes = [(row.member_id, row.error_code) for row in answer.members]
    assert codes == [(second.member_id, 0), ("nobody", UNKNOWN_MEMBER)]
    assert leader.heartbeat() == REBALANCE
    assert second.heartbeat() == UNKNOWN_MEMBER


def test_the_last_one_out(leader: Member) -> None:
    """The group is Empty and keeps its protocol type."""
    assert leader.leave().members[0].error_code == 0
    (described,) = leader.connection.ask("describe_groups", 5, groups=[leader.group]).groups
    assert (described.error_code, described.group_state, described.protocol_type) == (0, "Empty", CONSUMER)
    assert described.members == []


@pytest.mark.parametrize("version", [0, 1, 2])
def test_leave_in_old_versions(leader: Member, version: int) -> None:
    """One member, one error code."""
    ask = leader.connection.ask
    assert ask("leave_group", version, group_id=leader.group, member_id="nobody").error_code == UNKNOWN_MEMBER
    assert ask("leave_group", version, group_id=leader.group, member_id=leader.member_id).error_code == 0


def test_leave_a_missing_group(make_member: MakeMember) -> None:
    """25 for the member."""
    answer = make_member().leave(member_id="nobody")
    assert (answer.error_code, [row.error_code for row in answer.members]) == (0, [UNKNOWN_MEMBER])


def test_a_joining_member_may_leave(make_member: MakeMember, leader: Member) -> None:
    """While it waits for the rebalance: the rebalance goes on without it."""
    second = make_member()
    preparing(leader, second)
    assert make_member().leave(member_id=second.member_id).members[0].error_code == 0
    assert len(leader.join().members) == 1


# static members


def test_static_leader_restarts(make_member: MakeMember) -> None:
    """Same instance id, no member id: a new member id at once and the same generation. From version 9 on it
    is told that it leads and may skip the assignment."""
    old = stable(make_member("one"))
    new = make_member("one")
    joined = new.join()
    assert (joined.error_code, joined.generation_id, joined.skip_assignment) == (0, 1, True)
    assert new.member_id != old.member_id
    assert joined.leader == new.member_id
    assert [row.group_instance_id for row in joined.members] == ["one"]
    assert new.sync().assignment == b"mine"


def test_static_leader_restarts_in_version_8(make_member: MakeMember) -> None:
    """The leader field keeps the old id, so that the client does not act as leader."""
    old = stable(make_member("one"))
    new = make_member("one")
    joined = new.join(version=8)
    assert (joined.error_code, joined.generation_id, joined.leader) == (0, 1, old.member_id)
    assert joined.members == []


def test_the_old_id_of_a_static_member_is_fenced(make_member: MakeMember, topic: str) -> None:
    """82 everywhere when it says its instance id, 25 when it does not."""
    old = stable(make_member("one"))
    make_member("one").join()
    assert old.heartbeat() == FENCED
    assert old.sync().error_code == FENCED
    assert old.join().error_code == FENCED
    assert old.commit(topic) == FENCED
    assert old.leave(instance="one").members[0].error_code == FENCED
    old.instance = None
    assert old.heartbeat() == UNKNOWN_MEMBER


def test_static_member_restarts_with_new_metadata(make_member: MakeMember) -> None:
    """Still the same generation as long as the same protocol is chosen; the leader sees the new metadata and
    decides."""
    stable(make_member("one"))
    joined = make_member("one").join(protocols={"range": subscription("other")})
    assert (joined.generation_id, joined.skip_assignment) == (1, True)
    assert [row.metadata for row in joined.members] == [subscription("other")]


def test_static_follower_restarts(make_member: MakeMember) -> None:
    """Like the leader: new id, same generation; nobody else notices."""
    leader, follower = stable(make_member("one")), make_member("two")
    pending = follower.post_join()
    assert follower.connection.is_silent(within=0.1)
    leader.join()
    follower.collect_join(pending)
    waiting = follower.post_sync()
    leader.sync({leader.member_id: b"first", follower.member_id: b"second"})
    follower.connection.collect(waiting)
    restarted = make_member("two")
    joined = restarted.join()
    assert (joined.error_code, joined.generation_id, joined.leader) == (0, 2, leader.member_id)
    assert (joined.members, joined.skip_assignment) == ([], False)
    assert restarted.member_id != follower.member_id
    assert restarted.sync().assignment == b"second"
    assert leader.heartbeat() == 0


def test_unknown_instance_id(make_member: MakeMember, leader: Member) -> None:
    """A known member id with an instance id that nobody has: 25."""
    leader.instance = "nobody"
    assert leader.heartbeat() == UNKNOWN_MEMBER


def test_static_member_is_removed_by_its_instance_id(make_member: MakeMember) -> None:
    """An administrator needs no member id."""
    member = stable(make_member("one"))
    answer = make_member().leave(member_id="", instance="one")
    assert [(row.group_instance_id, row.error_code) for row in answer.members] == [("one", 0)]
    assert state_of(member.connection, member.group) == (0, "Empty")


# describing, listing, deleting


@pytest.mark.parametrize(("version", "expected"), [(0, 0), (5, 0), (6, 69)])
def test_describe_a_missing_group(connection: Connection, group: str, version: int, expected: int) -> None:
    """State Dead without error; 69 GROUP_ID_NOT_FOUND from version 6 on."""
    (part,) = connection.ask("describe_groups", version, groups=[group]).groups
    assert (part.error_code, part.group_state, part.members) == (expected, "Dead", [])


def test_describe_a_stable_group(leader: Member) -> None:
    """Members with client id, host, metadata and assignment."""
    (part,) = leader.connection.ask("describe_groups", 5, groups=[leader.group]).groups
    assert (part.group_state, part.protocol_type, part.protocol_data) == ("Stable", CONSUMER, "range")
    (row,) = part.members
    assert (row.member_id, row.client_id, row.member_assignment) == (leader.member_id, "probe", b"mine")
    assert row.client_host.startswith("/")


def test_list_groups(leader: Member) -> None:
    """By state and, in version 5, by type."""

    def listed(**filters: list[str]) -> list[tuple[str, str, str]]:
        answer = leader.connection.ask("list_groups", 5, **filters)
        rows = [(row.group_id, row.group_state, row.group_type) for row in answer.groups]
        return [row for row in rows if row[0] == leader.group]

    assert listed() == [(leader.group, "Stable", "classic")]
    assert listed(states_filter=["stable"]) == listed(types_filter=["Classic"]) == listed()
    assert listed(states_filter=["Empty"]) == []


def test_delete_groups(make_member: MakeMember, leader: Member) -> None:
    """68 with members, 69 for an unknown one, 0 when empty, and then it is unknown."""

    def delete(group: str) -> int:
        answer = leader.connection.ask("delete_groups", 2, groups_names=[group])
        return int(answer.results[0].error_code)

    assert delete(leader.group) == 68
    assert delete(unique("missing")) == 69
    leader.leave()
    assert delete(leader.group) == 0
    assert delete(leader.group) == 69
    assert state_of(leader.connection, leader.group) == (0, "Dead")


# sessions


def test_silent_members_are_removed(make_member: MakeMember, connect: Callable[[], Connection]) -> None:
    """After the session timeout: a member, and a member id that was given out and never used. The next in
    line is told."""
    other_group = unique("pending")
    pending = Member(connect(), other_group)
    assert pending.join(session_ms=6000).error_code == NEED_ID
    silent, alive = make_member(), make_member()
    assert silent.enter(session_ms=6000).error_code == 0
    started = time.monotonic()
    assert silent.sync({silent.member_id: b"mine"}).error_code == 0
    waiting = alive.post_enter(session_ms=30_000)
    joined = alive.collect_join(waiting)
    assert 4 < time.monotonic() - started < 25
    assert [row.member_id for row in joined.members] == [alive.member_id]
    assert silent.heartbeat() == UNKNOWN_MEMBER
    assert pending.join().error_code == UNKNOWN_MEMBER
