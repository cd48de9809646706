"""Who may join, and what a join that brings nothing new is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.groups.messages import Protocol
from pykbroker.groups.states import GroupState
from tests.groups.world import RANGE, World, subscription

OTHER = (Protocol("range", subscription("t", "u")),)


Refused = tuple[tuple[Callable[[], object], ErrorCode], ...]


def refusal(world: World, *args: str, **options: object) -> ErrorCode:
    with pytest.raises(KafkaError) as info:
        world.join(*args, **options)  # type: ignore[arg-type]
    return info.value.code


def test_below_version_4_a_new_member_joins_at_once() -> None:
    world = World()
    assert world.join(version=3).joined.generation == 1


def test_a_static_member_is_not_asked_to_come_back() -> None:
    world = World()
    joined = world.join(instance="i").joined
    assert (joined.error, joined.generation) == (ErrorCode.NONE, 1)
    assert joined.member_id.startswith("i-")


@pytest.mark.parametrize("known_group", [False, True])
def test_unknown_member(known_group: bool) -> None:
    world = World()
    if known_group:
        world.stable()
    assert refusal(world, "nobody") is ErrorCode.UNKNOWN_MEMBER_ID


@pytest.mark.parametrize(
    "options",
    [
        {"protocol_type": "connect"},
        {"protocols": (Protocol("sticky", b""),)},
        {"protocols": ()},
    ],
)
def test_nothing_in_common(options: dict[str, object]) -> None:
    world = World()
    world.stable()
    assert refusal(world, **options) is ErrorCode.INCONSISTENT_GROUP_PROTOCOL


@pytest.mark.parametrize("options", [{"protocol_type": ""}, {"protocols": ()}])
def test_a_first_member_must_offer_something(options: dict[str, object]) -> None:
    world = World()
    assert refusal(world, **options) is ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert world.machine.groups == {}


@pytest.mark.parametrize("session_ms", [5_999, 1_800_001])
def test_session_timeout_out_of_range(session_ms: int) -> None:
    assert refusal(World(), session_ms=session_ms) is ErrorCode.INVALID_SESSION_TIMEOUT


def test_a_group_must_have_a_name() -> None:
    assert refusal(World(), group="") is ErrorCode.INVALID_GROUP_ID


def test_a_leader_that_rejoins_stable_starts_a_generation() -> None:
    world = World()
    (member,) = world.stable()
    assert world.join(member).joined.generation == 2


def test_a_follower_that_rejoins_stable_is_told_the_generation() -> None:
    world = World()
    leader, follower = world.stable(2)
    joined = world.join(follower).joined
    assert (joined.generation, joined.leader, joined.members) == (2, leader, ())
    assert world.machine.groups["g"].state is GroupState.STABLE


def test_a_follower_with_other_metadata_starts_a_rebalance() -> None:
    world = World()
    leader, follower = world.stable(2)
    assert world.join(follower, protocols=OTHER).waits
    assert world.heartbeat(leader, 2) is ErrorCode.REBALANCE_IN_PROGRESS


def test_a_repeated_join_is_told_the_generation_that_is_being_assigned() -> None:
    world = World()
    member, ticket = world.enter()
    again = world.join(member).joined
    assert again == ticket.joined
    assert again.members


def test_other_metadata_while_assigning_starts_over() -> None:
    world = World()
    first, second = world.stable(2)
    world.join(first)
    world.join(second)
    waiting = world.sync(second, 3)
    again = world.join(first, protocols=OTHER)
    assert waiting.synced.error is ErrorCode.REBALANCE_IN_PROGRESS
    assert again.waits


def test_members_vote_for_a_protocol_all_have() -> None:
    world = World()
    a, b, c = (Protocol(name, b"") for name in "abc")
    world.join(version=3, protocols=(a, b, c))
    first = next(iter(world.machine.groups["g"].members))
    world.join(version=3, protocols=(c, b))
    world.join(version=3, protocols=(c, a, b))
    joined = world.join(first, protocols=(a, b, c)).joined
    assert joined.protocol == "c"  # two votes of three


class TestSync:
    def test_what_is_refused(self) -> None:
        world = World()
        member, _ = world.enter()
        cases: Refused = (
            (lambda: world.sync(member, 2), ErrorCode.ILLEGAL_GENERATION),
            (lambda: world.sync("nobody", 1), ErrorCode.UNKNOWN_MEMBER_ID),
            (lambda: world.sync(member, 1, group="other"), ErrorCode.UNKNOWN_MEMBER_ID),
            (lambda: world.sync(member, 1, group=""), ErrorCode.INVALID_GROUP_ID),
            (lambda: world.sync(member, 1, protocol="sticky"), ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
        )
        for ask, code in cases:
            with pytest.raises(KafkaError) as info:
                ask()
            assert info.value.code is code

    def test_while_preparing(self) -> None:
        world = World()
        (member,) = world.stable()
        world.enter()
        with pytest.raises(KafkaError) as info:
            world.sync(member, 1)
        assert info.value.code is ErrorCode.REBALANCE_IN_PROGRESS

    def test_stable_tells_the_assignment_again(self) -> None:
        world = World()
        (member,) = world.stable()
        assert world.sync(member, 1).synced.assignment == member.encode()

    def test_after_all_have_left(self) -> None:
        world = World()
        (member,) = world.stable()
        world.leave(member)
        with pytest.raises(KafkaError) as info:
            world.sync(member, 2)
        assert info.value.code is ErrorCode.UNKNOWN_MEMBER_ID


class TestHeartbeat:
    def test_while_assigning_all_is_well(self) -> None:
        world = World()
        member, _ = world.enter()
        assert world.heartbeat(member, 1) is ErrorCode.NONE

    def test_what_is_refused(self) -> None:
        world = World()
        (member,) = world.stable()
        cases: Refused = (
            (lambda: world.heartbeat(member, 7), ErrorCode.ILLEGAL_GENERATION),
            (lambda: world.heartbeat("nobody", 1), ErrorCode.UNKNOWN_MEMBER_ID),
            (lambda: world.heartbeat(member, 1, group="other"), ErrorCode.UNKNOWN_MEMBER_ID),
            (lambda: world.heartbeat(member, 1, group=""), ErrorCode.INVALID_GROUP_ID),
        )
        for ask, code in cases:
            with pytest.raises(KafkaError) as info:
                ask()
            assert info.value.code is code


class TestStatic:
    def start(self) -> tuple[World, str, str]:
        """A stable group of a static leader and a dynamic follower."""
        world = World()
        leader = world.join(instance="i").joined.member_id
        follower, _ = world.enter()
        world.join(leader, instance="i")
        world.sync(follower, 2)
        world.sync(leader, 2, {leader: b"L", follower: b"F"}, instance="i")
        assert world.machine.groups["g"].state is GroupState.STABLE
        return world, leader, follower

    def test_a_restart_keeps_generation_and_assignment(self) -> None:
        world, old, follower = self.start()
        joined = world.join(instance="i").joined
        assert (joined.error, joined.generation, joined.skip_assignment) == (ErrorCode.NONE, 2, True)
        assert joined.member_id not in (old, "")
        assert joined.leader == joined.member_id
        assert {m.member_id for m in joined.members} == {joined.member_id, follower}
        assert world.sync(joined.member_id, 2, instance="i").synced.assignment == b"L"
        assert world.heartbeat(follower, 2) is ErrorCode.NONE

    @pytest.mark.parametrize("version", [5, 8])
    def test_older_clients_must_not_think_that_they_lead(self, version: int) -> None:
        world, old, _ = self.start()
        joined = world.join(instance="i", version=version).joined
        assert (joined.generation, joined.leader, joined.skip_assignment) == (2, old, False)
        assert joined.members == ()
        assert joined.member_id != old

    def test_the_old_id_is_fenced(self) -> None:
        world, old, _ = self.start()
        world.join(instance="i")
        cases: Refused = (
            (lambda: world.heartbeat(old, 2, instance="i"), ErrorCode.FENCED_INSTANCE_ID),
            (lambda: world.heartbeat(old, 2), ErrorCode.UNKNOWN_MEMBER_ID),
            (lambda: world.sync(old, 2, instance="i"), ErrorCode.FENCED_INSTANCE_ID),
            (lambda: world.join(old, instance="i"), ErrorCode.FENCED_INSTANCE_ID),
            (
                lambda: world.commit(1, member_id=old, generation=2, instance="i"),
                ErrorCode.FENCED_INSTANCE_ID,
            ),
        )
        for ask, code in cases:
            with pytest.raises(KafkaError) as info:
                ask()
            assert info.value.code is code

    def test_the_swap_is_durable(self) -> None:
        world, _, _ = self.start()
        new = world.join(instance="i").joined.member_id
        world.restart()
        assert world.heartbeat(new, 2, instance="i") is ErrorCode.NONE

    def test_a_swap_that_cannot_be_written_does_not_happen(self) -> None:
        world, old, _ = self.start()
        world.failing = ErrorCode.KAFKA_STORAGE_ERROR
        with pytest.raises(KafkaError):
            world.join(instance="i")
        assert world.heartbeat(old, 2, instance="i") is ErrorCode.NONE

    def test_a_restart_with_another_choice_of_protocol_rebalances(self) -> None:
        world = World()
        a, b = Protocol("a", b""), Protocol("b", b"")
        member = world.join(instance="i", protocols=(a, b)).joined.member_id
        world.sync(member, 1, {member: b"x"}, protocol="a", instance="i")
        joined = world.join(instance="i", protocols=(b,)).joined
        assert (joined.generation, joined.protocol) == (2, "b")

    def test_a_restart_while_assigning_rebalances(self) -> None:
        world, leader, follower = self.start()
        world.join(leader, instance="i")
        world.join(follower)
        waiting = world.sync(follower, 3)
        again = world.join(instance="i")
        assert waiting.synced.error is ErrorCode.REBALANCE_IN_PROGRESS
        assert again.waits
        assert world.join(follower).joined.generation == again.joined.generation == 4

    def test_a_duplicate_that_waits_is_fenced(self) -> None:
        world, leader, _ = self.start()
        waiting = world.join(leader, instance="i")
        world.join(instance="i")
        assert waiting.joined.error is ErrorCode.FENCED_INSTANCE_ID

    def test_a_static_member_keeps_its_place_while_it_is_away(self) -> None:
        world, leader, follower = self.start()
        again = world.join(follower, protocols=OTHER)
        for _ in range(8):
            world.advance(7.5)
            if again.waits:
                world.heartbeat(leader, 2, instance="i")
        assert again.joined.generation == 3
        assert leader in world.machine.groups["g"].members

    def test_an_admin_removes_it_by_instance(self) -> None:
        from pykbroker.groups.messages import Leaver, Left

        world, leader, _ = self.start()
        left = world.leave(Leaver("", "i"), Leaver("", "j"))
        assert left.answer == Left(errors=(ErrorCode.NONE, ErrorCode.UNKNOWN_MEMBER_ID))
        assert leader not in world.machine.groups["g"].members


def test_states_refuse_what_the_table_does_not_have() -> None:
    from pykbroker.groups.group import Group
    from pykbroker.groups.states import IllegalTransition

    group = Group(group_id="g")
    with pytest.raises(IllegalTransition):
        group.moved(GroupState.STABLE, 0)
    assert RANGE[0].name == "range"
