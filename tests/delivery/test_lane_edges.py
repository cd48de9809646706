"""What lanes that follow commits go by, where a little less would not do."""

from __future__ import annotations

from pykbroker.catalog.image import TOPIC, Topic
from pykbroker.catalog.retrying import Role, RoleKind, delayed_name, flow_of_role
from pykbroker.delivery.counted import CHUNK, Changes, Counted, Holder
from pykbroker.delivery.places import Arrivals, LocalPlaces
from pykbroker.delivery.selecting import LocalLogs
from pykbroker.forwarding.plan import Place
from pykbroker.partitions.partition import Partition
from pykbroker.protocol.schema import ZERO_UUID
from pykbroker.records.build import RecordData, encode_batch
from tests.delivery.test_topics import POLICY, RETRY, World
from tests.partitions.conftest import bench
from tests.partitions.kit import Bench

__all__ = ["bench"]

HOLDER = Holder("billing", b"a" * 16, 0)


def test_of_what_reaches_over_a_piece_nothing_stays_in_it_when_the_group_goes_back() -> None:
    counted = Counted()
    counted.add(HOLDER, [(CHUNK - 2, CHUNK + 5)], {})
    counted.rewind(HOLDER, CHUNK, {})
    assert counted.ranges(HOLDER) == ((CHUNK - 2, CHUNK - 1),)
    assert counted.top(HOLDER) == CHUNK - 1
    changes: Changes = {}
    counted.add(HOLDER, [(CHUNK, CHUNK)], changes)
    assert len(changes) == 1


def test_the_highest_that_counts() -> None:
    """Commits at or below it are what a group going back looks like: with less, they would be missed."""
    counted = Counted()
    assert counted.top(HOLDER) == -1
    counted.add(HOLDER, [(3, 7), (CHUNK + 9, CHUNK + 9)], {})
    assert counted.top(HOLDER) == CHUNK + 9
    counted.rewind(HOLDER, CHUNK, {})
    assert counted.top(HOLDER) == 7


def fill(partition: Partition, tag: bytes) -> None:
    for number in range(10):
        batch = encode_batch([RecordData(b"k", b"%s%d" % (tag, number))], timestamp_ms=7)
        partition.append_as_leader(bytearray(batch), now_ms=7)


async def test_records_are_those_of_the_log_that_was_asked_for(bench: Bench) -> None:
    """However what was read before lies to it."""
    names = ("one", "other")
    partitions = [bench.topic(name) for name in names]
    for name, partition in zip(names, partitions, strict=True):
        fill(partition, name.encode())
    one, other = (Place(each.topic_id, each.index) for each in partitions)
    logs = LocalLogs(bench.partitions, 1 << 20)

    async def taken(place: Place, first: int) -> list[bool]:
        chunk = await logs.take(place, first, first + 2, 10, 1 << 20)
        assert [record.offset for record in chunk.records] == [first, first + 1]
        return [name.encode() in bytes(record.body) for record in chunk.records for name in names]

    async def picked(place: Place, offset: int) -> list[bool]:
        (record,) = (await logs.pick(place, [offset])).values()
        return [name.encode() in bytes(record.body) for name in names]

    assert await taken(one, 0) == [True, False] * 2
    assert await picked(other, 1) == [False, True]
    assert await taken(other, 2) == [False, True] * 2
    assert await taken(one, 4) == [True, False] * 2
    assert await picked(one, 6) == [True, False]
    assert await taken(one, 7) == [True, False] * 2


async def orders(world: World) -> Topic:
    return await world.create("orders", 3, pykbroker_retry_policy="fixed")


def places(world: World) -> LocalPlaces:
    return LocalPlaces(world.catalog, world.admin, world.topics)


async def test_what_was_nacked_goes_to_its_flow_though_the_policy_is_gone() -> None:
    """The commit was made when there was one."""
    world = World()
    topic = await orders(world)
    await world.topics.ensure("orders", "billing")
    await world.set(TOPIC, "orders", {POLICY: "none"})
    delayed = world.topic(delayed_name(flow_of_role(RETRY)))
    found = await places(world).arrivals(world.topic("orders"), 2, "billing")
    assert found == Arrivals(Place(delayed.topic_id, 2), returned=False)
    assert await places(world).arrivals(world.topic("orders"), 2, "audit") is None
    assert delayed_name(flow_of_role(Role(RoleKind.RETRY, "orders", "audit"))) not in world.names
    assert topic.topic_id == world.topic("orders").topic_id


async def test_a_commit_for_a_topic_of_that_name_before_is_none_for_this_one() -> None:
    world = World()
    old = await orders(world)
    await world.delete("orders")
    assert places(world).topic_id("orders", None) is None
    new = await orders(world)
    assert places(world).topic_id("orders", old.topic_id) is None
    for committed_for in (None, ZERO_UUID, new.topic_id):
        assert places(world).topic_id("orders", committed_for) == new.topic_id
