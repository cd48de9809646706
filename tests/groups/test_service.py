"""The coordinator on real partitions: restarts, deadlines, expiry, lost partitions, stopping."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from pykbroker.catalog.memory import MemoryCatalog
from pykbroker.catalog.topics import NewTopic, TopicAdmin
from pykbroker.config import BrokerConfig
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.groups.messages import Commit, Heartbeat, Join, Joined, OffsetToCommit, Protocol, Sync
from pykbroker.groups.service import OFFSETS_TOPIC, GroupCoordinator
from pykbroker.protocol.schema import ZERO_UUID
from tests.groups.home import at_home
from tests.groups.world import subscription


def a_join(group: str = "g", member_id: str = "") -> Join:
    return Join(
        group_id=group,
        member_id=member_id,
        session_timeout_ms=6000,
        rebalance_timeout_ms=60_000,
        protocol_type="consumer",
        protocols=(Protocol("range", subscription("t")),),
        must_know_id=False,
    )


async def stable(groups: GroupCoordinator, group: str = "g") -> str:
    await groups.find(group)
    joined = await groups.join(a_join(group))
    assert joined.error is ErrorCode.NONE
    member_id = joined.member_id
    await groups.sync(
        Sync(
            group_id=group,
            member_id=member_id,
            generation=joined.generation,
            assignments=((member_id, b"a"),),
        )
    )
    return member_id


def a_commit(offset: int, group: str = "g", topic: str = "t") -> Commit:
    return Commit(group_id=group, offsets=(OffsetToCommit(topic, ZERO_UUID, 0, offset),))


async def committed(groups: GroupCoordinator, group: str = "g", topic: str = "t") -> int:
    (found,) = await groups.fetch(group, [(topic, ZERO_UUID, 0)])
    return found.offset


def catalog() -> MemoryCatalog:
    return MemoryCatalog(BrokerConfig.load(sets=("offsets.topic.num.partitions=3",)))


async def test_a_group_survives_a_restart_with_a_fresh_session(tmp_path: Path) -> None:
    known = catalog()
    async with at_home(tmp_path, known) as home:
        member = await stable(home.services.groups)
        await home.services.groups.commit(a_commit(7, group="other"))
    async with at_home(tmp_path, known) as home:
        groups = home.services.groups
        beat = Heartbeat(group_id="g", member_id=member, generation=1)
        await trio.testing.wait_all_tasks_blocked()
        assert await groups.heartbeat(beat) is ErrorCode.NONE
        assert await committed(groups, "other") == 7
        assert {g.group_id for g in await groups.list()} == {"g", "other"}
        home.clock.advance(6, sessions=True)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(KafkaError):
            await groups.heartbeat(beat)


async def test_groups_are_listed_after_a_restart_though_a_partition_is_empty(
    tmp_path: Path,
) -> None:
    known = catalog()
    async with at_home(tmp_path, known) as home:
        await stable(home.services.groups)
        for number in range(9):  # asking opens the partition of a group that is not there
            await home.services.groups.find(f"nobody-{number}")
            await home.services.groups.describe(f"nobody-{number}")
    async with at_home(tmp_path, known) as home:
        await trio.testing.wait_all_tasks_blocked()
        assert [group.group_id for group in await home.services.groups.list()] == ["g"]


async def test_before_the_topic_exists_nobody_coordinates(tmp_path: Path) -> None:
    async with at_home(tmp_path) as home:
        groups = home.services.groups
        with pytest.raises(KafkaError) as info:
            await groups.commit(a_commit(1))
        assert info.value.code is ErrorCode.NOT_COORDINATOR
        assert await groups.list() == ()
        assert await groups.find("g") == home.services.config.node_id
        await groups.commit(a_commit(1))
        assert len([p for p in home.services.partitions if p.topic == OFFSETS_TOPIC]) == 1


async def test_a_member_that_falls_silent_frees_the_others(tmp_path: Path) -> None:
    async with at_home(tmp_path) as home:
        groups = home.services.groups
        await stable(groups)
        found: list[Joined] = []

        async def join() -> None:
            found.append(await groups.join(a_join()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(join)
            await trio.testing.wait_all_tasks_blocked()
            assert found == []
            home.clock.advance(6, sessions=True)
        assert found[0].generation == 2


async def test_a_client_that_is_gone_while_it_waits_is_taken_in_and_times_out(tmp_path: Path) -> None:
    async with at_home(tmp_path) as home:
        groups = home.services.groups
        member = await stable(groups)
        with trio.CancelScope() as gone:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(groups.join, a_join())
                await trio.testing.wait_all_tasks_blocked()
                gone.cancel()
        joined = await groups.join(a_join(member_id=member))
        assert joined.generation == 2
        assert len(joined.members) == 2
        home.clock.advance(5, sessions=True)
        await groups.heartbeat(Heartbeat(group_id="g", member_id=member, generation=2))
        home.clock.advance(2, sessions=True)
        await trio.testing.wait_all_tasks_blocked()
        joined = await groups.join(a_join(member_id=member))
        assert (joined.generation, len(joined.members)) == (3, 1)


async def test_a_client_that_is_gone_while_it_waits_for_its_assignment_times_out(tmp_path: Path) -> None:
    async with at_home(tmp_path) as home:
        groups = home.services.groups
        leader = await stable(groups)
        joined: list[Joined] = []

        async def join(member_id: str) -> None:
            joined.append(await groups.join(a_join(member_id=member_id)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(join, "")
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(join, leader)
        follower = next(j.member_id for j in joined if j.member_id != leader)
        with trio.CancelScope() as gone:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(groups.sync, Sync(group_id="g", member_id=follower, generation=2))
                await trio.testing.wait_all_tasks_blocked()
                gone.cancel()
        await groups.sync(Sync(group_id="g", member_id=leader, generation=2, assignments=((leader, b"a"),)))
        beat = Heartbeat(group_id="g", member_id=leader, generation=2)
        home.clock.advance(5, sessions=True)
        assert await groups.heartbeat(beat) is ErrorCode.NONE
        home.clock.advance(2, sessions=True)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(KafkaError) as info:
            await groups.heartbeat(Heartbeat(group_id="g", member_id=follower, generation=2))
        assert info.value.code is ErrorCode.UNKNOWN_MEMBER_ID
        assert len((await groups.join(a_join(member_id=leader))).members) == 1


async def test_offsets_expire_with_the_wall_clock(tmp_path: Path) -> None:
    async with at_home(tmp_path) as home:
        groups = home.services.groups
        await groups.find("g")
        await groups.commit(a_commit(1))
        home.clock.advance(8 * 86_400)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert await committed(groups) == -1
        assert await groups.list() == ()


async def test_offsets_of_a_deleted_topic_go(tmp_path: Path) -> None:
    async with at_home(tmp_path) as home:
        groups = home.services.groups
        topic_id = await home.topic("gone")
        await groups.find("g")
        await groups.commit(
            Commit(
                group_id="g",
                offsets=(OffsetToCommit("gone", topic_id, 0, 5), OffsetToCommit("t", ZERO_UUID, 0, 6)),
            )
        )
        await home.services.topics.delete(["gone"])
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert (await committed(groups, topic="gone"), await committed(groups)) == (-1, 6)


async def test_offsets_of_topics_that_were_deleted_meanwhile_go_at_the_next_start(tmp_path: Path) -> None:
    """Also when a topic of that name exists again."""
    known = catalog()
    async with at_home(tmp_path, known) as home:
        groups = home.services.groups
        ids = [await home.topic(name) for name in ("gone", "again", "kept")]
        await groups.find("g")
        places = zip(("gone", "again", "kept"), ids, strict=True)
        offsets = [OffsetToCommit(name, topic_id, 0, 5) for name, topic_id in places]
        await groups.commit(Commit(group_id="g", offsets=(*offsets, OffsetToCommit("t", ZERO_UUID, 0, 6))))
    await TopicAdmin(known).delete(["gone", "again"])
    await TopicAdmin(known).create([NewTopic(name="again", partitions=1)])
    async with at_home(tmp_path, known) as home:
        await trio.testing.wait_all_tasks_blocked(0.05)
        found = await home.services.groups.fetch("g", None)
        assert {at.topic: at.offset for at in found} == {"kept": 5, "t": 6}


async def test_stopping_tells_who_waits(tmp_path: Path) -> None:
    async with at_home(tmp_path) as home:
        groups = home.services.groups
        await stable(groups)
        codes: list[ErrorCode] = []

        async def join() -> None:
            with pytest.raises(KafkaError) as info:
                await groups.join(a_join())
            codes.append(info.value.code)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(join)
            await trio.testing.wait_all_tasks_blocked()
            await groups.shutdown()
        await join()
        assert codes == [ErrorCode.NOT_COORDINATOR] * 2
