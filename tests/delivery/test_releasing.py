"""What is due goes where it belongs: destinations of all kinds, sizes, damage, alarms."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import trio
import trio.testing

from pykbroker.catalog.changes import Change
from pykbroker.catalog.image import Image
from pykbroker.catalog.retrying import REPLAY_TOPIC
from pykbroker.catalog.topics import TopicAdmin
from pykbroker.delivery import releasing
from pykbroker.delivery.alarm import RECHECK_S, Alarm
from pykbroker.delivery.destinations import Destinations
from pykbroker.delivery.held import Held, Kind, batches, suffix
from pykbroker.delivery.index import MemoryIndex
from pykbroker.delivery.indexing import Indexing
from pykbroker.delivery.released import Released, Row
from pykbroker.forwarding.copying import Source, sources
from pykbroker.forwarding.machine import Lane
from pykbroker.forwarding.plan import Place, Plan
from pykbroker.forwarding.reading import SourceReader
from pykbroker.forwarding.work import Step
from pykbroker.partitions.partition import Partition
from pykbroker.records.batch import read_header
from pykbroker.records.build import RecordData, encode_batch
from pykbroker.records.decode import payload_of
from tests.delivery.flow_world import Life, StillClock, World, place, settled

RETRY = "orders.billing.retry"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def hold(partition: Partition, *held: Held, value: bytes = b"v", key: bytes | None = b"k") -> None:
    """Append held records, as whoever holds them does."""
    batch = encode_batch([RecordData(key, value)], timestamp_ms=77)
    (record,) = sources(read_header(batch), bytes(payload_of(batch)))
    buffer, headers = batches([(77, suffix(record, each)) for each in held])
    partition.append_as_leader(buffer, headers, now_ms=77, internal=True)


async def retries(life: Life, partitions: int = 1, **settings: str) -> Partition:
    """A retry topic with its flow; the held log of its first partition."""
    await life.world.create("orders", partitions, pykbroker_retry_policy="fixed", **settings)
    await life.topics.ensure("orders", "billing")
    await settled()
    return life.held(RETRY)


def letter(life: Life, name: str, partition: int = 0) -> Held:
    """A dead letter that is due."""
    return Held(life.clock.time_ms(), Kind.NAMED, partition, name)


async def test_every_destination_is_in_one_step(world: World) -> None:
    async with world.running() as life:
        held = await retries(life)
        await world.create("graves", 2)
        now_ms = life.clock.time_ms()
        hold(held, Held(now_ms), letter(life, "graves", 3), letter(life, "new.graves"), Held(now_ms + 5))
        await settled()
        assert len(life.values(RETRY)) == 1
        assert [len(life.values("graves", each)) for each in (0, 1)] == [0, 1]
        assert len(life.values("new.graves")) == 1
        await life.advance(5)
        assert len(life.values(RETRY)) == 2
        assert all(not record.headers for record in life.records(RETRY))


async def test_an_exchange_gets_letters_in_its_own_log(world: World) -> None:
    async with world.running() as life:
        held = await retries(life)
        await world.create("graves", 2, pykbroker_exchange_type="fanout")
        hold(held, letter(life, "graves", 5))
        await settled()
        assert len(life.values("graves", 1)) == 1


async def test_a_topic_with_a_partitioner_gets_them_by_its_partitioner(world: World) -> None:
    async with world.running() as life:
        held = await retries(life)
        await world.create("graves", 3, pykbroker_partitioner="round-robin")
        hold(held, *[letter(life, "graves")] * 6)
        await settled()
        assert [len(life.values("graves", each)) for each in range(3)] == [2, 2, 2]


async def test_a_topic_that_delays_delays_letters_too(world: World) -> None:
    async with world.running() as life:
        held = await retries(life)
        await world.delays("graves", delay_ms=1000)
        hold(held, letter(life, "graves"))
        await settled()
        assert life.values("graves") == []
        await life.advance(1000)
        assert life.values("graves") == [b"v"]


@pytest.mark.parametrize("name", ["__consumer_offsets", "not/possible", "x" * 300, ""])
async def test_a_name_that_no_topic_can_have_is_given_up_for_the_usual_one(world: World, name: str) -> None:
    async with world.running() as life:
        held = await retries(life)
        hold(held, letter(life, name))
        await settled()
        assert life.values("orders.billing.dlq") == [b"v"]


async def test_a_compacted_target_gives_way_to_the_usual_one_for_what_has_no_key(world: World) -> None:
    async with world.running() as life:
        held = await retries(life)
        await world.create("compact", 1, cleanup_policy="compact")
        hold(held, letter(life, "compact"))
        hold(held, letter(life, "compact"), key=None, value=b"keyless")
        await settled()
        assert life.values("compact") == [b"v"]
        assert life.values("orders.billing.dlq") == [b"keyless"]


async def again(life: Life) -> None:
    """Have what waits for another attempt have it."""
    life.clock._session_shift += 10
    await life.advance(1)


async def test_a_letter_without_key_for_a_compacted_topic_is_in_nobodys_way(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """However the topic came to be compacted: the broker's default may have changed."""
    async with world.running() as life:
        held = await retries(life, pykbroker_dead_letter_topic="graves")
        await world.alter("graves", "cleanup.policy", "compact")
        hold(held, letter(life, "graves"), key=None, value=b"keyless")
        hold(held, letter(life, "graves"), value=b"first")
        await settled()
        hold(held, letter(life, "graves"), value=b"second")
        await again(life)
        assert life.values("graves") == [b"first", b"second"]
        assert life.flows.statistics().stuck == 1
        assert "cleanup.policy" in caplog.text
    async with world.running() as life:
        hold(life.held(RETRY), letter(life, "graves"), value=b"third")
        await again(life)
        assert life.values("graves") == [b"first", b"second", b"third"]
        await world.alter("graves", "cleanup.policy", "delete")
        await again(life)
        assert life.values("graves") == [b"first", b"second", b"third", b"keyless"]
        await again(life)
        assert life.flows.statistics().stuck == 0
        assert len(life.values("graves")) == 4


async def test_a_topic_compacted_when_letters_are_on_their_way_takes_those_with_a_key(world: World) -> None:
    """Also of a partly moved plan, where the part that is refused stays exactly once."""
    async with world.running() as life:
        held = await retries(life, pykbroker_dead_letter_topic="graves")
        topic = world.catalog.image.topics["graves"]
        life.partitions.seal([topic.topic_id])  # so that they wait
        for value in (b"0", b"1", b"2"):
            hold(held, letter(life, "graves"), value=value)
            hold(held, letter(life, "graves"), key=None, value=b"keyless " + value)
            await settled()
        await world.alter("graves", "cleanup.policy", "compact")
        life.partitions.unseal([topic.topic_id])
        await again(life)
        assert life.values("graves") == [b"0", b"1", b"2"]
        assert life.flows.statistics().stuck >= 1
    async with world.running() as life:
        await world.alter("graves", "cleanup.policy", "delete")
        await again(life)
        assert life.values("graves") == [b"0", b"1", b"2", b"keyless 0", b"keyless 1", b"keyless 2"]


async def test_a_letter_without_key_for_a_compacted_topic_with_a_partitioner_is_not_dropped(
    world: World,
) -> None:
    async with world.running() as life:
        await world.create("graves", 1, pykbroker_partitioner="round-robin")
        held = await retries(life, pykbroker_dead_letter_topic="graves")
        await world.alter("graves", "cleanup.policy", "compact")
        hold(held, letter(life, "graves"), key=None, value=b"keyless")
        hold(held, letter(life, "graves"), value=b"keyed")
        await settled()
        assert life.values("graves") == [b"keyed"]
        await world.alter("graves", "cleanup.policy", "delete")
        await again(life)
        assert life.values("graves") == [b"keyed", b"keyless"]


async def test_a_letter_without_key_that_goes_back_is_in_nobodys_way(world: World) -> None:
    async with world.running() as life:
        await world.create("there", 1)
        await world.alter("there", "cleanup.policy", "compact")
        await TopicAdmin(life.catalog).ensure_internal(REPLAY_TOPIC)
        log = life.partitions.get(REPLAY_TOPIC, 0)
        now_ms = life.clock.time_ms()
        hold(log, Held(now_ms, Kind.REPLAY, 0, "there"), value=b"keyless", key=None)
        hold(log, Held(now_ms, Kind.REPLAY, 0, "there"), value=b"keyed")
        await settled()
        assert life.values("there") == [b"keyed"]
        await world.delete("there")
        await world.create("there", 1)
        await again(life)
        assert life.values("there") == [b"keyless"]


async def test_letters_that_go_back_wait_for_their_topic(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.running() as life:
        await world.create("there", 2)
        await TopicAdmin(life.catalog).ensure_internal(REPLAY_TOPIC)
        log = life.partitions.get(REPLAY_TOPIC, 0)
        now_ms = life.clock.time_ms()
        hold(log, Held(now_ms, Kind.REPLAY, 0, "missing"), value=b"waits")
        hold(log, Held(now_ms + 10, Kind.REPLAY, 3, "there"), value=b"goes")
        await life.advance(10)
        assert life.values("there", 1) == [b"goes"]
        assert "create the topic" in caplog.text
        await world.create("missing")
        world.clock._session_shift += 10
        await life.advance(1)
        assert life.values("missing") == [b"waits"]
        for _ in range(2):
            await life.flows.rest()
            await settled()
        assert life.flows.statistics().lanes == 0


async def test_a_target_deleted_while_records_are_on_their_way_is_made_again(world: World) -> None:
    async with world.running() as life:
        held = await retries(life)
        await world.create("graves")
        hold(held, letter(life, "graves"), letter(life, "graves"))
        await world.delete("graves")
        await settled()
        assert life.values("graves") == [b"v", b"v"]


async def test_what_is_moved_at_once_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releasing, "STEP_RECORDS", 7)
    monkeypatch.setattr(releasing, "STEP_BYTES", 2000)
    steps: list[int] = []
    planned = releasing.ReleaseWork.planned

    async def counted(self: releasing.ReleaseWork, step: Step, plan: Plan) -> None:
        steps.append(sum(len(route.offsets) for route in step.routes))
        await planned(self, step, plan)

    monkeypatch.setattr(releasing.ReleaseWork, "planned", counted)
    async with world.running() as life:
        held = await retries(life)
        due = life.clock.time_ms() + 10
        hold(held, *[Held(due)] * 20)
        hold(held, *[Held(due + 1)] * 5, value=bytes(900))
        hold(held, Held(due + 2), value=bytes(5000))
        await life.advance(20)
        assert len(life.values(RETRY)) == 26
    assert steps == [7, 7, 6 + 1, 2, 2, 1]


async def test_damage_loses_what_is_damaged_and_no_more(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    async with world.running() as life:
        held = await retries(life)
        due = life.clock.time_ms() + 10
        for number in range(5):
            hold(held, Held(due), value=b"%d" % number * 40)
        await settled()
        (path,) = held.log.directory.glob("*.log")
        content = bytearray(path.read_bytes())
        at = content.index(b"2" * 40)
        content[at] ^= 0xFF
        path.write_bytes(content)
        await life.advance(10)
        assert [value[:1] for value in filter(None, life.values(RETRY))] == [b"0", b"1", b"3", b"4"]
        assert "held records are lost to damage" in caplog.text


async def test_records_that_are_not_held_ones_are_passed_over(world: World) -> None:
    async with world.running() as life:
        held = await retries(life)
        batch = encode_batch([RecordData(b"k", b"strange")], timestamp_ms=7)
        held.append_as_leader(bytearray(batch), now_ms=7, internal=True)
        hold(held, Held(life.clock.time_ms()))
        await settled()
        assert life.values(RETRY) == [b"v"]


async def rings(clock: StillClock, alarm: Alarm, moves: Sequence[float]) -> None:
    for seconds in moves:
        clock.advance(seconds)
        await settled()


async def test_an_alarm_rings_at_the_time_that_was_set_last() -> None:
    clock, rung = StillClock(0), [0]

    def ring() -> None:
        rung[0] += 1

    alarm = Alarm(clock, ring)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alarm.run)
        alarm.set(5000)
        await settled()
        alarm.set(2000)
        await rings(clock, alarm, [1.0])
        assert rung == [0]
        await rings(clock, alarm, [1.0])
        assert (rung, alarm.due_ms) == ([1], None)
        await rings(clock, alarm, [100.0])
        assert rung == [1]
        alarm.set(200_000)
        await settled()
        alarm.set(None)
        await rings(clock, alarm, [200.0])
        assert rung == [1]
        nursery.cancel_scope.cancel()


class Jumping(StillClock):
    """As the machine's clock does it: whoever sleeps does not notice when it is set."""

    async def wait_until_ms(self, deadline_ms: int) -> None:
        await trio.sleep((deadline_ms - self.now_ms) / 1000)


async def test_a_clock_that_is_set_forward_is_noticed_soon(
    autojump_clock: trio.testing.MockClock,
) -> None:
    clock, rung = Jumping(0), trio.Event()
    alarm = Alarm(clock, rung.set)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alarm.run)
        alarm.set(3_600_000)
        await settled()
        clock.now_ms = 3_700_000
        with trio.fail_after(2 * RECHECK_S):
            await rung.wait()
        nursery.cancel_scope.cancel()


async def test_a_wrong_due_time_in_the_index_releases_nothing_early(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    index = world.index
    assert isinstance(index, MemoryIndex)
    async with world.running() as life:
        held = await retries(life)
        now_ms = life.clock.time_ms()
        hold(held, Held(now_ms + 50_000), Held(now_ms + 60_000))
        await settled()
    index.rows[place(held)] = {Row(now_ms + 5, 0), Row(now_ms + 70_000, 1)}
    async with world.running() as life:
        await life.advance(5)
        assert life.values(RETRY) == []
        assert "index is wrong" in caplog.text
        await life.advance(50_000)
        assert len(life.values(RETRY)) == 1
        await life.advance(10_000)
        assert len(life.values(RETRY)) == 2


@pytest.mark.parametrize("value", [{}, {releasing.RELEASED: b"\x63"}])
async def test_what_waits_is_not_taken_for_released_when_that_is_not_known(
    world: World, value: dict[bytes, bytes]
) -> None:
    async with world.running() as life:
        held = await retries(life)
        now_ms = life.clock.time_ms()
        hold(held, Held(now_ms + 50_000), Held(now_ms + 5))
        await life.advance(10)
        assert len(life.values(RETRY)) == 1
        await life.flows.tidy()
    async with world.running() as life:
        lane = life.forwarding.engine.lane(place(held))
        assert lane is not None
        assert lane.value.position == 2
        work = releasing.ReleaseWork(
            life.held(RETRY), Destinations(held.topic, life.catalog, life.topics, lambda: 0.0), world.index,
            world.clock, 1 << 20, label="retry",
        )  # fmt: skip
        await work.resumed(Lane(lane.value, extras=value), lane.value)
        assert not work.durable.covers(Row(now_ms + 50_000, 0))
        world.clock.now_ms += 50_000
        step = await work.step(lane.value.position)
        assert step is not None
        assert [route.offsets for route in step.routes] == [(0,)]


async def test_an_index_that_is_lost_while_it_is_tidied_does_not_say_what_is_needed(world: World) -> None:
    class Losing(MemoryIndex):
        async def purge(self, lane: Place, released: Released) -> int:
            await self.forget({lane.topic_id})
            await indexing.begin(nothing, 10)
            return 0

    index = Losing()
    async with world.running() as life:
        held = await retries(life)
        due = life.clock.time_ms() + 50_000
        hold(held, Held(due), Held(due))
        held.log.roll(life.clock.time_ms())
        hold(held, Held(due))
        indexing = Indexing(held, index, world.clock, 1 << 20, "retry")
        nothing = Released.nothing(0)
        plan = await indexing.begin(nothing, 10)
        while await indexing.more(plan, nothing):
            pass
        indexing.before_flush(2)
        await indexing.tidy(plan, nothing)
        assert indexing.floor == 0


async def test_large_records_are_not_all_read_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releasing, "STEP_BYTES", 100_000)
    read: list[int] = []
    pick = SourceReader.pick

    async def counted(self: SourceReader, offsets: Sequence[int]) -> dict[int, Source]:
        found = await pick(self, offsets)
        read.append(sum(record.size for record in found.values()))
        return found

    monkeypatch.setattr(SourceReader, "pick", counted)
    async with world.running() as life:
        held = await retries(life)
        due = life.clock.time_ms() + 10
        for _ in range(30):
            hold(held, *[Held(due)] * 10, value=bytes(20_000))
        await life.advance(20)
        assert len(life.values(RETRY)) == 300
    assert max(read) < 200_000


async def test_a_destination_that_is_deleted_as_soon_as_it_is_made_is_made_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.running() as life:
        held = await retries(life)
        await world.delete(RETRY)
        before = life.catalog.image
        update = life.topics._update

        async def deleted_at_once(decide: Callable[[Image], Sequence[Change]]) -> Image:
            return before

        monkeypatch.setattr(life.topics, "_update", deleted_at_once)
        hold(held, Held(life.clock.time_ms()), letter(life, "new.graves"))
        await settled()
        monkeypatch.setattr(life.topics, "_update", update)
        with trio.fail_after(5):
            while not life.catalog.image.topics.keys() >= {RETRY, "new.graves"}:  # noqa: ASYNC110
                await trio.sleep(0.01)
        await settled()
        assert len(life.values(RETRY)) == len(life.values("new.graves")) == 1
