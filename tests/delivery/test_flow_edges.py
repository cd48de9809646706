"""Flows, where a little less would not do: what is lost, moved twice, or in the wrong order then."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
import trio

from pykbroker.catalog.topics import TopicAdmin
from pykbroker.delivery.flow_lane import FlowPartition
from pykbroker.delivery.index import Extent, MemoryIndex
from pykbroker.delivery.released import Row
from pykbroker.delivery.settling import Moment, Rest, Settling, moment
from pykbroker.delivery.tidying import Tidying
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.log.compaction import CompactionError
from pykbroker.partitions.partition import Appended
from pykbroker.records.build import RecordData, encode_batch, encode_marker
from tests.delivery.flow_world import Life, World, place, settled
from tests.delivery.test_arriving import Home
from tests.delivery.test_flows import after
from tests.delivery.test_releasing import hold, letter, retries
from tests.delivery.test_settling import (
    WEEK_MS,
    many_pass,
    runs,
    small_segments,
    tidy,
    world,
)
from tests.partitions.conftest import bench
from tests.partitions.kit import Bench

__all__ = ["bench", "world"]


def flow_of(life: Life) -> FlowPartition:
    (flow,) = (each for each in life.flows._flows.values() if each.work is not None)
    return flow


# -- arriving


async def test_what_a_transaction_wrote_arrives_when_it_has_ended(bench: Bench) -> None:
    home = Home(bench)
    async with home.running() as lane:
        home.arrive(b"a")
        for number, key in enumerate((b"b", b"c")):
            batch = encode_batch(
                [RecordData(key, b"v")], timestamp_ms=7, producer_id=1, producer_epoch=0,
                base_sequence=number, transactional=True,
            )  # fmt: skip
            home.delayed.append_as_leader(bytearray(batch), now_ms=7)
        home.arrive(b"d")
        await settled()
        assert (home.decider.asked, lane.position, lane.is_idle) == ([0], 1, False)
        marker = encode_marker(commit=True, producer_id=1, producer_epoch=0, timestamp_ms=7)
        home.delayed.append_as_leader(bytearray(marker), now_ms=7, internal=True)
        await settled()
        assert (home.decider.asked, lane.position, lane.is_idle) == ([0, 1, 2, 3], 5, True)
    assert [each.ingress_offset for each in await home.holds()] == [0, 1, 2, 3]


# -- releasing


async def test_what_comes_in_place_of_what_a_power_cut_took_is_not_taken_for_released(world: World) -> None:
    """Neither offsets nor times tell the new records from those that were lost."""
    async with world.running() as life:
        await world.delays()
        for value in (b"a", b"b", b"c"):
            life.produce("later", value)
            await settled()
        assert life.values("later") == [b"a", b"b", b"c"]
        held = life.held("later").topic
    await world.power_cut(held, 1)
    async with world.running() as life:
        await settled()
        assert life.held("later").log_end_offset == 3
        assert sorted(filter(None, life.values("later"))) == [b"a", b"b", b"b", b"c", b"c"]


async def test_late_arrivals_come_in_the_order_of_their_times(world: World) -> None:
    async with world.running() as life:
        await world.delays()
        life.produce("later", b"before")
        await settled()
        world.clock.now_ms -= 900
        life.produce("later", b"second", headers=after(200))
        life.produce("later", b"first", headers=after(100))
        await life.advance(200)
        assert life.values("later") == [b"before", b"first", b"second"]


async def test_letters_of_several_partitions_that_are_due_together_keep_theirs(world: World) -> None:
    async with world.running() as life:
        held = await retries(life)
        await world.create("graves", 3)
        due = life.clock.time_ms() + 10
        hold(held, *(letter(life, "graves", number)._replace(due_ms=due) for number in (4, 0, 2, 1)))
        await life.advance(10)
        assert [len(life.values("graves", each)) for each in range(3)] == [1, 2, 1]


@pytest.mark.parametrize("name", ["__consumer_offsets", "__pykbroker_forward"])
async def test_no_letter_goes_to_a_log_of_the_broker(world: World, name: str) -> None:
    """It is there, and a policy or an old record names it."""
    async with world.running() as life:
        held = await retries(life)
        await TopicAdmin(life.catalog).ensure_internal(name)
        hold(held, letter(life, name))
        await settled()
        assert life.values("orders.billing.dlq") == [b"v"]
        assert b"v" not in life.values(name)


async def test_letters_that_would_fail_again_by_now_go_to_the_usual_place(world: World) -> None:
    """The exchange was bound to their origin since they were decided about."""
    async with world.running() as life:
        held = await retries(life)
        hold(held, letter(life, "graves")._replace(due_ms=life.clock.time_ms() + 10))
        bindings = json.dumps([{"to": "orders"}])
        await world.create(
            "graves", 1, pykbroker_exchange_type="fanout", pykbroker_exchange_bindings=bindings
        )
        await life.advance(10)
        assert life.values("orders") == life.values("graves") == []
        assert life.values("orders.billing.dlq") == [b"v"]


# -- what of the held log is needed


async def test_what_is_on_its_way_is_kept_though_nothing_waits_behind_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*_: object, **__: object) -> Appended:
        raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, "full")

    async with world.running() as life:
        held = await small_segments(world, life)
        face = life.partitions.get("later", 0)
        with monkeypatch.context() as patched:
            patched.setattr(face, "append_as_leader", unavailable)
            await many_pass(life, b"x")
            assert flow_of(life).work is not None
            await tidy(life)
            assert len(held.log.segments()) > 1
            assert held.log_start_offset == 0
        world.clock._session_shift += 100
        await life.advance(100)
        assert len(life.values("later")) == 160
        await tidy(life)
        assert held.log_start_offset > 0


# -- giving back the disk


async def test_only_what_is_on_the_disk_is_rewritten(world: World) -> None:
    async with world.running() as life:
        held = await small_segments(world, life)
        life.produce("later", b"long", headers=after(WEEK_MS))
        await many_pass(life, b"a")
        engine, flow = life.forwarding.engine, flow_of(life)
        then = moment(flow, engine)
        assert then is not None
        assert held.log.recovery_point == 0
        assert (then.closed, then.below) == ({}, 0)
        held.log.flush()
        then = moment(flow, engine)
        assert then is not None
        assert then.closed.keys() == set(list(held.log.segments())[:-1])
        assert then.below == max(held.log.segments())


async def test_what_is_released_while_plans_are_flushed_stays_in_the_index_and_in_the_log(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk does not know of it: after a power cut it would be in neither."""
    flushed = Tidying._flush_plans
    considered: list[Moment] = []
    async with world.running() as life:
        held = await small_segments(world, life)
        life.produce("later", b"long", headers=after(WEEK_MS))
        await many_pass(life, b"a")
        due = life.clock.time_ms() + 100
        life.produce("later", b"meanwhile", headers=after(100))
        held.log.flush()
        await settled()
        offset = held.log_end_offset - 1

        async def meanwhile(self: Tidying, shard: int) -> bool:
            done = await flushed(self, shard)
            await life.advance(100)
            return done

        def consider(self: Settling, then: Moment, extent: Extent) -> float | None:
            considered.append(then)
            return None

        monkeypatch.setattr(Tidying, "_flush_plans", meanwhile)
        monkeypatch.setattr(Settling, "consider", consider)
        with trio.fail_after(20):
            await life.flows.tidy()
        assert b"meanwhile" in life.values("later")
        assert isinstance(world.index, MemoryIndex)
        assert Row(due, offset) in world.index.rows[place(held)]
        assert [then.released.covers(Row(due, offset)) for then in considered] == [False]


async def rewritten(life: Life, tag: bytes, rests: Mapping[str, float] | None = None) -> int:
    """How often the log of a flow, of which something has just been released, is rewritten then."""
    settling, before = life.flows._tidying.settling, runs(life)
    await many_pass(life, tag, 2)
    held = life.held("later")
    if rests is not None:
        settling._rests[held] = Rest(trio.current_time() + rests["seconds"], rests["bytes"], 600)
    await tidy(life)
    return runs(life) - before


async def test_a_log_that_could_not_be_rewritten_rests_for_a_time(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.running() as life:
        await small_segments(world, life)
        life.produce("later", b"long", headers=after(WEEK_MS))
        await many_pass(life, b"a")

        async def fails(*_: object) -> None:
            raise CompactionError("no space left")

        with monkeypatch.context() as patched:
            patched.setattr(life.partitions.upkeep.cleaner, "rewrite", fails)
            await tidy(life)
        assert "what is released stays on the disk" in caplog.text
        assert await rewritten(life, b"b") == 0
        assert await rewritten(life, b"c", {"seconds": -1, "bytes": 1 << 40}) == 1, "the time is over"


async def test_a_log_of_which_little_went_rests_until_it_has_grown(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.running() as life:
        await small_segments(world, life)
        life.produce("later", b"long", headers=after(WEEK_MS))
        await many_pass(life, b"a")

        async def nothing(*_: object) -> None:
            pass

        with monkeypatch.context() as patched:
            patched.setattr(life.partitions.upkeep.cleaner, "rewrite", nothing)
            await tidy(life)
            assert runs(life) == 1
            assert await rewritten(life, b"b") == 0
        assert await rewritten(life, b"c", {"seconds": 1000, "bytes": 1}) == 1, "it has grown"
