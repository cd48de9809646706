"""Commits: who may, what is kept, when it is forgotten."""

from __future__ import annotations

import pytest

from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.groups.limits import GroupLimits
from pykbroker.groups.messages import Committed, DeletedGroups, DeletedOffsets, DeleteOffsets
from pykbroker.protocol.schema import ZERO_UUID
from tests.groups.world import World

WEEK = 7 * 86_400
DAY = 86_400


def refusal(world: World, offset: int = 1, **options: object) -> ErrorCode:
    with pytest.raises(KafkaError) as info:
        world.commit(offset, **options)  # type: ignore[arg-type]
    return info.value.code


def test_what_is_committed_is_fetched_with_metadata_and_epoch() -> None:
    world = World()
    world.commit(42, metadata="m", partition=3)
    (found,) = world.machine.offsets.fetch("g", [("t", ZERO_UUID, 3)])
    assert (found.offset, found.metadata, found.leader_epoch) == (42, "m", 3)
    assert world.machine.offsets.fetch("g", None) == (found,)


def test_nothing_committed_is_minus_one() -> None:
    world = World()
    assert world.committed() == -1
    world.commit(1)
    assert world.committed(partition=9) == -1
    assert world.machine.offsets.fetch("nobody", None) == ()


def test_negative_offsets_are_taken() -> None:
    world = World()
    world.commit(-5)
    assert world.committed() == -5


def test_an_offset_of_a_topic_that_was_deleted_since_does_not_count() -> None:
    from pykbroker.groups.messages import Commit, OffsetToCommit

    world = World()
    old, new = b"1" * 16, b"2" * 16
    request = Commit(group_id="g", offsets=(OffsetToCommit("t", old, 0, 7),))
    world.ask(lambda token: world.machine.commit(request, token, 0, 0))
    assert world.machine.offsets.fetch("g", [("t", old, 0)])[0].offset == 7
    assert world.machine.offsets.fetch("g", [("t", new, 0)])[0].offset == -1
    world.ask(lambda token: world.machine.forget_topics(["g"], {"t": new}, token))
    assert world.committed() == 7
    world.ask(lambda token: world.machine.forget_topics(["g"], {"t": old}, token))
    assert world.committed() == -1


def test_metadata_too_large_costs_only_its_partition() -> None:
    world = World()
    answer = world.commit(1, metadata="x" * 4097).answer
    assert answer == Committed(errors=(ErrorCode.OFFSET_METADATA_TOO_LARGE,))
    assert world.log == []
    assert world.commit(1, metadata="x" * 4096).answer == Committed(errors=(ErrorCode.NONE,))


class TestWhoMayCommit:
    def test_members_of_this_generation(self) -> None:
        world = World()
        (member,) = world.stable()
        world.commit(5, member_id=member, generation=1)
        assert world.committed() == 5
        assert refusal(world, member_id=member, generation=0) is ErrorCode.ILLEGAL_GENERATION
        assert refusal(world, member_id="nobody", generation=1) is ErrorCode.UNKNOWN_MEMBER_ID

    def test_a_simple_consumer_only_while_there_are_no_members(self) -> None:
        world = World()
        world.commit(1)
        (member,) = world.stable()
        assert refusal(world) is ErrorCode.UNKNOWN_MEMBER_ID
        world.leave(member)
        world.commit(2)
        assert world.committed() == 2

    def test_members_flush_while_preparing_but_not_while_assigning(self) -> None:
        world = World()
        (first,) = world.stable()
        _, second = world.enter()
        world.commit(8, member_id=first, generation=1)
        world.join(first)
        assert not second.waits
        code = refusal(world, 9, member_id=first, generation=2)
        assert code is ErrorCode.REBALANCE_IN_PROGRESS
        assert world.committed() == 8

    def test_a_generation_of_an_unknown_group(self) -> None:
        world = World()
        assert refusal(world, member_id="m", generation=3) is ErrorCode.ILLEGAL_GENERATION
        code = refusal(world, member_id="m", generation=3, must_exist=True)
        assert code is ErrorCode.GROUP_ID_NOT_FOUND

    def test_the_empty_group_id_is_a_group_like_any_other(self) -> None:
        world = World()
        world.commit(1, group="")
        assert world.committed(group="") == 1


class TestExpiry:
    def test_a_simple_group_counts_from_the_commit(self) -> None:
        world = World()
        world.commit(1)
        world.advance(DAY)
        world.commit(1, partition=1)
        world.advance(WEEK - DAY)
        world.expire()
        assert (world.committed(), world.committed(partition=1)) == (-1, 1)
        world.advance(DAY)
        world.expire()
        assert world.machine.groups == {}
        assert world.replayed().groups == {}

    def test_a_group_counts_from_when_it_became_empty(self) -> None:
        world = World()
        (member,) = world.stable()
        world.commit(1, member_id=member, generation=1)
        for _ in range(10):
            world.advance(9)
            world.heartbeat(member, 1)
        world.now += WEEK  # a live group, however old the commit
        world.heartbeat(member, 1)
        world.expire()
        assert world.committed() == 1
        world.leave(member)
        world.advance(WEEK - 1)
        world.expire()
        assert world.committed() == 1
        world.restart()
        world.advance(1)
        world.expire()
        assert world.committed() == -1
        assert world.machine.groups == {}

    def test_a_topic_no_longer_subscribed_expires_under_a_live_group(self) -> None:
        world = World()
        world.commit(1, topic="old")
        world.commit(1, topic="t")
        (member,) = world.stable()
        world.now += WEEK
        world.heartbeat(member, 1)
        world.expire()
        assert (world.committed(topic="old"), world.committed(topic="t")) == (-1, 1)

    def test_old_clients_set_their_own_retention(self) -> None:
        world = World()
        world.commit(1, retention_ms=60_000)
        world.commit(1, partition=1)
        world.restart()
        world.advance(60)
        world.expire()
        assert (world.committed(), world.committed(partition=1)) == (-1, 1)

    def test_an_empty_group_without_offsets_goes_at_once(self) -> None:
        world = World()
        (member,) = world.stable()
        world.leave(member)
        world.expire()
        assert world.machine.groups == {}

    def test_retention_is_a_setting(self) -> None:
        world = World(GroupLimits(offsets_retention_ms=1000))
        world.commit(1)
        world.advance(1)
        world.expire()
        assert world.committed() == -1


class TestDeletion:
    def delete(self, world: World, *ids: str) -> tuple[ErrorCode, ...]:
        answer = world.ask(lambda token: world.machine.delete_groups(ids, token)).answer
        assert isinstance(answer, DeletedGroups)
        return answer.errors

    def forget(self, world: World, *places: tuple[str, int]) -> tuple[ErrorCode, ...]:
        request = DeleteOffsets(group_id="g", partitions=places)
        answer = world.ask(lambda token: world.machine.delete_offsets(request, token)).answer
        assert isinstance(answer, DeletedOffsets)
        return answer.errors

    def test_groups(self) -> None:
        world = World()
        world.stable(group="live")
        world.commit(1, group="simple")
        errors = self.delete(world, "live", "simple", "nobody", "simple")
        assert errors == (
            ErrorCode.NON_EMPTY_GROUP,
            ErrorCode.NONE,
            ErrorCode.GROUP_ID_NOT_FOUND,
            ErrorCode.NONE,
        )
        assert len(world.batches[-1]) == 2  # one batch: the offset and the group
        assert set(world.replayed().groups) == {"live"}

    def test_offsets_of_topics_that_are_read_stay(self) -> None:
        world = World()
        world.commit(1, topic="t")
        world.commit(1, topic="old")
        world.stable()
        errors = self.forget(world, ("t", 0), ("old", 0), ("old", 1))
        assert errors == (ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC, ErrorCode.NONE, ErrorCode.NONE)
        assert (world.committed(topic="t"), world.committed(topic="old")) == (1, -1)

    def test_offsets_of_groups_that_cannot_be_judged_stay(self) -> None:
        world = World()
        with pytest.raises(KafkaError) as info:
            self.forget(world, ("t", 0))
        assert info.value.code is ErrorCode.GROUP_ID_NOT_FOUND
        world.join(version=3, protocol_type="connect")
        with pytest.raises(KafkaError) as info:
            self.forget(world, ("t", 0))
        assert info.value.code is ErrorCode.NON_EMPTY_GROUP
