"""Flows without a retry topic are deleted when nothing is in them; nothing that comes just then is lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import trio

from pykbroker.catalog.changes import Change
from pykbroker.catalog.draft import Draft
from pykbroker.catalog.image import Image
from pykbroker.catalog.memory import MemoryCatalog
from pykbroker.catalog.retrying import delayed_name, flow_of_role
from pykbroker.config import BrokerConfig
from pykbroker.delivery.headers import Nack, nacked_suffix
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.forwarding.copying import Source
from pykbroker.forwarding.machine import Lane
from pykbroker.forwarding.plan import LaneValue, Move, Place, Plan, Route
from pykbroker.forwarding.reading import SourceReader
from pykbroker.forwarding.work import Records, Step, Work
from pykbroker.partitions.partition import Partition
from tests.delivery.flow_world import Life, World, place, role, settled

RETRY = "orders.billing.retry"
DELAYED = delayed_name(flow_of_role(role()))
NOTE = Nack(False, "orders", 0, "billing", "").encode()


class SlowCatalog(MemoryCatalog):
    """What is proposed exists when the test says so (:meth:`sync`), or is taken back."""

    def __init__(self, config: BrokerConfig) -> None:
        super().__init__(config)
        self.slow = False
        self._pending: Image | None = None
        self._synced = trio.Event()
        self._failure: KafkaError | None = None

    @property
    def is_pending(self) -> bool:
        return self._pending is not None

    def newest(self) -> Image:
        return self.image if self._pending is None else self._pending

    async def propose(self, changes: Sequence[Change]) -> Image:
        draft = Draft(self.newest())
        for change in changes:
            draft.apply(change)
        self._pending = draft.finish()
        if not self.slow:
            self.sync()
        else:
            await self._synced.wait()
            if self._failure is not None:
                raise self._failure
        return self.image

    async def settle(self) -> None:
        await self._synced.wait()

    def sync(self, failure: KafkaError | None = None) -> None:
        """The disk has it, or could not be written."""
        pending, self._pending, self._failure = self._pending, None, failure
        if failure is None and pending is not None:
            self._publish(pending)
        self._synced.set()
        self._synced = trio.Event()


class Copying(Work):
    """Moves one record of ``orders`` to the flow when it is told to, as a lane that follows commits does."""

    def __init__(self, life: Life, source: Partition, target: Place) -> None:
        self.label = "copying"
        self.told = False
        self._life = life
        self._source = source
        self._target = target
        self._reader = SourceReader(source, 1 << 20)

    def begin_position(self) -> int:
        return 0

    async def resumed(self, lane: Lane | None, value: LaneValue) -> None:
        return

    async def step(self, position: int) -> Step | None:
        if not self.told:
            return None
        self.told = False
        route = Route(self._target, (position,), source=place(self._source), note=NOTE)
        return Step(next_position=position + 1, routes=[route])

    async def planned(self, step: Step, plan: Plan) -> None:
        return

    async def read(self, source: Place | None, offsets: Sequence[int]) -> Records:
        return await self._reader.pick(offsets)

    def suffix(self, move: Move, index: int, record: Source) -> bytes:
        return nacked_suffix(record, move.note)

    async def refused(
        self, move: Move, refused: Mapping[int, str], records: Records
    ) -> Sequence[Route] | None:
        await self._life.topics.ensure("orders", "billing")
        target = Place(self._life.catalog.image.topics[DELAYED].topic_id, move.target.partition)
        return [Route(target, move.offsets, source=move.source, note=move.note)]

    def copy(self) -> None:
        self.told = True
        self.wake()


async def emptied(life: Life, partition: int) -> Copying:
    """A flow that was used, and is empty, and has no retry topic any more; a lane that may copy to it."""
    await life.world.create("orders", 2, pykbroker_retry_policy="fixed", pykbroker_retry_delay_ms="60000")
    await life.topics.ensure("orders", "billing")
    for number in range(2):
        life.produce("orders", b"failed", partition=number)
    life.produce(RETRY, b"before", headers=[("pykbroker-source", b"orders/0/0")])
    await life.advance(60_000)
    assert life.values(RETRY) == [b"before"]
    source = life.partitions.get("orders", partition)
    lane = Copying(life, source, Place(life.catalog.image.topics[DELAYED].topic_id, partition))
    await life.forwarding.engine.start(place(source), lane)
    for _ in range(3):
        await life.flows.rest()
        await settled()
    await life.world.delete(RETRY)
    return lane


async def being_dropped(life: Life, nursery: trio.Nursery) -> SlowCatalog:
    """Have the empty flow deleted, up to where the catalog is at it."""
    catalog = life.catalog
    assert isinstance(catalog, SlowCatalog)
    catalog.slow = True
    nursery.start_soon(life.flows.rest)
    await settled()
    assert catalog.is_pending, "nothing is deleted"
    return catalog


async def again(life: Life) -> None:
    """Have what waits for another attempt have it."""
    life.clock._session_shift += 10
    await life.advance(0)


async def arrived(life: Life) -> list[list[bytes | None]]:
    """What consumers of the retry topic read, by partition, when all delays are over."""
    await again(life)
    for _ in range(2):
        await life.advance(60_000)
    return [life.values(RETRY, number) for number in range(2)]


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path / "data")
    made.catalog = SlowCatalog(made.config)
    return made


@pytest.mark.parametrize("partition", [0, 1], ids=["used before", "never used"])
async def test_a_copy_that_comes_while_the_flow_is_deleted_waits_for_the_next_one(
    world: World, partition: int
) -> None:
    async with world.running() as life, trio.open_nursery() as nursery:
        lane = await emptied(life, partition)
        catalog = await being_dropped(life, nursery)
        lane.copy()
        await settled()
        catalog.slow = False
        catalog.sync()
        expected: list[list[bytes | None]] = [[], []]
        expected[partition] = [b"failed"]
        assert await arrived(life) == expected


async def test_a_flow_that_cannot_be_deleted_takes_records_again(world: World) -> None:
    async with world.running() as life, trio.open_nursery() as nursery:
        lane = await emptied(life, 0)
        catalog = await being_dropped(life, nursery)
        delayed = life.partitions.get(DELAYED, 0)
        end = delayed.log_end_offset
        lane.copy()
        await settled()
        assert delayed.log_end_offset == end
        catalog.slow = False
        catalog.sync(KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, "the disk is full"))
        await again(life)
        assert delayed.log_end_offset == end + 1
        await life.topics.ensure("orders", "billing")
        assert await arrived(life) == [[b"failed"], []]


async def test_a_retry_topic_made_again_meanwhile_has_a_flow_of_its_own(world: World) -> None:
    async with world.running() as life, trio.open_nursery() as nursery:
        lane = await emptied(life, 0)
        catalog = await being_dropped(life, nursery)
        before = catalog.image.topics[DELAYED].topic_id
        nursery.start_soon(life.topics.ensure, "orders", "billing")
        await settled()
        lane.copy()
        await settled()
        catalog.slow = False
        catalog.sync()  # both at once
        await settled()
        assert catalog.image.topics[DELAYED].topic_id != before
        life.produce(RETRY, b"produced", headers=[("pykbroker-source", b"orders/0/0")])
        await settled()
        assert sorted((await arrived(life))[0]) == [b"failed", b"produced"]  # type: ignore[type-var]


async def test_a_flow_whose_retry_topic_is_just_being_made_is_kept(world: World) -> None:
    async with world.running() as life, trio.open_nursery() as nursery:
        lane = await emptied(life, 0)
        catalog = world.catalog
        assert isinstance(catalog, SlowCatalog)
        before = catalog.image.topics[DELAYED].topic_id
        catalog.slow = True
        nursery.start_soon(life.topics.ensure, "orders", "billing")
        await settled()
        nursery.start_soon(life.flows.rest)
        await settled()
        lane.copy()
        await settled()
        catalog.slow = False
        catalog.sync()
        await settled()
        assert catalog.image.topics[DELAYED].topic_id == before
        life.produce(RETRY, b"produced", headers=[("pykbroker-source", b"orders/0/0")])
        assert sorted((await arrived(life))[0]) == [b"failed", b"produced"]  # type: ignore[type-var]


async def test_a_flow_to_which_something_is_planned_is_kept(world: World) -> None:
    async with world.running() as life:
        lane = await emptied(life, 0)
        target = world.catalog.image.topics[DELAYED].topic_id
        life.partitions.seal([target])  # as a disk that is full
        lane.copy()
        await settled()
        await life.flows.rest()
        life.partitions.unseal([target])
        assert world.catalog.image.topics[DELAYED].topic_id == target
        await again(life)
        await life.topics.ensure("orders", "billing")
        assert await arrived(life) == [[b"failed"], []]
