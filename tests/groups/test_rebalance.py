"""Members come and go: the stories of a rebalance, event by event."""

from __future__ import annotations

import pytest

from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.groups.limits import GroupLimits
from pykbroker.groups.messages import Left
from pykbroker.groups.states import GroupState
from tests.groups.world import World


def test_a_first_member_leads_the_first_generation() -> None:
    world = World()
    member, ticket = world.enter()
    joined = ticket.joined
    assert (joined.error, joined.generation, joined.leader, joined.protocol) == (0, 1, member, "range")
    assert joined.protocol_type == "consumer"
    assert [m.member_id for m in joined.members] == [member]
    assert world.log == []  # nothing is durable before the assignment

    synced = world.sync(member, 1, {member: b"all"}).synced
    assert (synced.error, synced.assignment, synced.protocol) == (0, b"all", "range")
    assert world.machine.groups["g"].state is GroupState.STABLE
    assert len(world.log) == 1
    assert world.heartbeat(member, 1) is ErrorCode.NONE


def test_two_members_share() -> None:
    world = World()
    (first,) = world.stable()
    second, ticket = world.enter()
    assert ticket.waits
    assert world.heartbeat(first, 1) is ErrorCode.REBALANCE_IN_PROGRESS

    again = world.join(first)
    assert ticket.joined.generation == again.joined.generation == 2
    assert [m.member_id for m in again.joined.members] == [first, second]
    assert ticket.joined.members == ()
    assert ticket.joined.leader == first

    waiting = world.sync(second, 2)
    assert waiting.waits
    world.sync(first, 2, {first: b"1", second: b"2"})
    assert waiting.synced.assignment == b"2"


def test_a_member_that_the_leader_forgot_gets_nothing() -> None:
    world = World()
    first, second = world.stable(2)
    world.join(first)
    world.join(second)
    world.sync(first, world.machine.groups["g"].generation, {first: b"1", "stranger": b"?"})
    generation = world.machine.groups["g"].generation
    assert world.sync(second, generation).synced.assignment == b""


def test_the_initial_delay_gathers_members() -> None:
    world = World(GroupLimits(initial_rebalance_delay_ms=3000))
    _, first = world.enter()
    world.advance(2)
    _, second = world.enter()
    world.advance(1)  # the first delay is over, but somebody came meanwhile
    assert first.waits
    assert second.waits
    world.advance(2.9)
    assert first.waits
    world.advance(0.2)
    assert first.joined.generation == second.joined.generation == 1


def test_the_initial_delay_ends_when_the_rebalance_timeout_is_used_up() -> None:
    world = World(GroupLimits(initial_rebalance_delay_ms=3000))
    _, first = world.enter(rebalance_ms=7000)
    for _ in range(3):
        world.advance(2.5)
        world.enter(rebalance_ms=7000)
    assert not first.waits


def test_all_leave_during_the_initial_delay() -> None:
    world = World(GroupLimits(initial_rebalance_delay_ms=3000))
    member, ticket = world.enter()
    world.leave(member)
    assert ticket.joined.error is ErrorCode.UNKNOWN_MEMBER_ID
    world.advance(3)
    group = world.machine.groups["g"]
    assert (group.state, group.generation, group.protocol_type) == (GroupState.EMPTY, 1, "consumer")
    assert world.replayed().groups["g"].state is GroupState.EMPTY


def test_who_does_not_rejoin_in_time_is_out() -> None:
    world = World()
    first, second = world.stable(2)
    _, third = world.enter()
    again = world.join(second)
    for _ in range(8):
        world.advance(7.4)
        world.heartbeat(first, 2)  # alive, but it never rejoins
    assert again.waits
    world.advance(2)
    assert again.joined.generation == 3
    assert again.joined.leader == second  # the leader did not come back
    assert next(m.member_id for m in again.joined.members) == second
    assert third.joined.generation == 3
    with pytest.raises(KafkaError) as info:
        world.heartbeat(first, 2)
    assert info.value.code is ErrorCode.UNKNOWN_MEMBER_ID


def test_a_session_that_ends_starts_a_rebalance() -> None:
    world = World()
    first, second = world.stable(2)
    generation = world.machine.groups["g"].generation
    world.advance(6)
    assert world.heartbeat(first, generation) is ErrorCode.NONE
    world.advance(6)
    assert second not in world.machine.groups["g"].members
    assert world.heartbeat(first, generation) is ErrorCode.REBALANCE_IN_PROGRESS
    assert world.join(first).joined.generation == generation + 1


def test_a_commit_is_a_sign_of_life() -> None:
    world = World()
    (member,) = world.stable()
    for _ in range(3):
        world.advance(9)
        world.commit(1, member_id=member, generation=1)
    assert world.heartbeat(member, 1) is ErrorCode.NONE


def test_waiting_for_an_answer_is_a_sign_of_life_but_not_for_a_new_member() -> None:
    world = World()
    first, second = world.stable(2)
    again = world.join(first)  # waits for the second, longer than its own session
    world.advance(5)
    world.heartbeat(second, 2)
    world.advance(8)
    assert again.waits
    _, new = world.enter()
    for _ in range(38):
        world.advance(7.9)
        if second in world.machine.groups["g"].members:
            world.heartbeat(second, world.machine.groups["g"].generation)
    assert not again.waits
    assert not new.waits


def test_a_new_member_that_waits_five_minutes_is_given_up() -> None:
    world = World()
    (first,) = world.stable()
    # The old member's rebalance timeout is longer than that.
    world.join(first, rebalance_ms=900_000)
    world.sync(first, 2, {first: b""})
    _, new = world.enter()
    for _ in range(43):
        world.advance(7)
        world.heartbeat(first, 2)
    assert new.joined.error is ErrorCode.UNKNOWN_MEMBER_ID


def test_who_joins_but_does_not_sync_in_time_is_out() -> None:
    world = World()
    first, second = world.stable(2)
    world.join(first)
    world.join(second)
    generation = world.machine.groups["g"].generation
    synced = world.sync(first, generation, {first: b"1", second: b"2"})
    assert not synced.waits
    for _ in range(7):
        world.advance(9)
        for member in (first, second):
            if member in world.machine.groups["g"].members:
                world.heartbeat(member, generation)
    group = world.machine.groups["g"]
    assert set(group.members) == {first}
    assert group.state is GroupState.PREPARING


def test_a_leader_that_does_not_sync_is_out_and_the_others_rejoin() -> None:
    world = World()
    first, second = world.stable(2)
    world.join(first)
    world.join(second)
    generation = world.machine.groups["g"].generation
    waiting = world.sync(second, generation)
    world.advance(10)  # the leader's session ends
    assert waiting.synced.error is ErrorCode.REBALANCE_IN_PROGRESS
    assert world.join(second).joined.leader == second


def test_the_last_one_out_leaves_an_empty_group() -> None:
    world = World()
    first, second = world.stable(2)
    world.commit(5, member_id=first, generation=2)
    left = world.leave(first, second, "nobody")
    assert left.answer == Left(errors=(ErrorCode.NONE, ErrorCode.NONE, ErrorCode.UNKNOWN_MEMBER_ID))
    group = world.machine.groups["g"]
    assert (group.state, group.protocol_type, group.protocol) == (GroupState.EMPTY, "consumer", None)
    assert (group.leader, group.generation) == (None, 3)
    assert world.committed() == 5


def test_leaving_during_a_rebalance_completes_it() -> None:
    world = World()
    first, second = world.stable(2)
    again = world.join(first)
    assert again.waits
    world.leave(second)
    assert again.joined.generation == 3


def test_a_pending_member_holds_a_rebalance_up_until_its_id_expires() -> None:
    world = World()
    (first,) = world.stable()
    assert world.join(session_ms=6000).joined.error is ErrorCode.MEMBER_ID_REQUIRED
    again = world.join(first)
    assert again.waits
    world.advance(6)
    assert again.joined.generation == 2


def test_an_id_that_is_never_used_leaves_nothing_behind() -> None:
    world = World()
    world.join()
    assert "g" in world.machine.groups
    world.advance(10)
    assert world.machine.groups == {}
    assert world.log == []


def test_ids_handed_out_are_bounded() -> None:
    world = World(GroupLimits(max_pending=3))
    ids = [world.join().joined.member_id for _ in range(5)]
    assert world.machine.groups["g"].pending == tuple(ids[2:])
    with pytest.raises(KafkaError) as info:
        world.join(ids[0])
    assert info.value.code is ErrorCode.UNKNOWN_MEMBER_ID


def test_a_full_group_turns_new_members_away() -> None:
    world = World(GroupLimits(max_size=2))
    first, second = world.stable(2)
    world.join()  # an id costs nothing yet... but the group is full
    refused = world.join()
    assert refused.joined.error is ErrorCode.GROUP_MAX_SIZE_REACHED
    assert set(world.machine.groups["g"].members) == {first, second}


def test_metadata_of_a_group_is_bounded() -> None:
    from pykbroker.groups.messages import Protocol

    world = World(GroupLimits(max_metadata_bytes=1000))
    refused = world.join(protocols=(Protocol("range", b"x" * 1001),))
    assert refused.joined.error is ErrorCode.GROUP_MAX_SIZE_REACHED
    assert world.machine.groups == {}


def test_an_append_that_fails_changes_nothing() -> None:
    world = World()
    member, _ = world.enter()
    world.failing = ErrorCode.KAFKA_STORAGE_ERROR
    before = world.machine.groups["g"]
    with pytest.raises(KafkaError):
        world.sync(member, 1, {member: b"all"})
    assert world.machine.groups["g"] is before
    world.failing = None
    assert world.sync(member, 1, {member: b"all"}).synced.assignment == b"all"


def test_a_retried_join_answers_the_first_one_too() -> None:
    world = World()
    first, second = world.stable(2)
    lost = world.join(first)
    again = world.join(first)
    assert lost.joined.error is ErrorCode.REBALANCE_IN_PROGRESS
    assert again.waits
    world.join(second)
    assert again.joined.generation == 3
