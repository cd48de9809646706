"""Whole flows on real logs: what is produced to a topic that delays, or to a retry topic, and what then."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import trio

from pykbroker.catalog.image import Topic
from pykbroker.catalog.ingress import FORWARD_TOPIC
from pykbroker.catalog.retrying import ROLE, held_name
from pykbroker.delivery.index import IndexClosed, Indexed, IndexLost, IndexUnavailable, MemoryIndex
from pykbroker.delivery.released import Released, Row
from pykbroker.delivery.sqlite_index import SqliteIndex
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.forwarding.plan import Place
from pykbroker.log.errors import StorageError
from pykbroker.log.log import Log
from pykbroker.records.build import RecordData, encode_batch
from pykbroker.records.compression import Codec
from tests.delivery.flow_world import Life, World, role, settled

RETRY, LETTERS = "orders.billing.retry", "orders.billing.dlq"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "data")


def after(ms: int) -> list[tuple[str, bytes | None]]:
    """The header of a record that is to wait."""
    return [("pykbroker-delay-ms", b"%d" % ms)]


def trusted(partition: int) -> list[tuple[str, bytes | None]]:
    """Headers that the broker believes."""
    return [("pykbroker-source", b"orders/%d/7" % partition), ("pykbroker-group", b"billing")]


async def retries(life: Life, partitions: int = 1, **settings: str) -> None:
    """A topic whose failures are retried after a minute, and the topics for that."""
    given = {"policy": "fixed", "delay_ms": "60000", "max_attempts": "2", **settings}
    named = {f"pykbroker_retry_{name.replace('_', '.')}": value for name, value in given.items()}
    await life.world.create("orders", partitions, **named)
    await life.topics.ensure("orders", "billing")
    await settled()


async def test_a_record_is_read_when_its_delay_is_over(world: World) -> None:
    async with world.running() as life:
        await world.delays()
        life.produce("later", b"a", headers=after(500))
        life.produce("later", b"b", headers=after(200))
        life.produce("later", b"c")
        await settled()
        assert life.values("later") == [b"c"]
        await life.advance(199)
        assert life.values("later") == [b"c"]
        await life.advance(1)
        assert life.values("later") == [b"c", b"b"]
        await life.advance(10_000)
        assert life.values("later") == [b"c", b"b", b"a"]
        statistics = life.flows.statistics()
        assert (statistics.arrived, statistics.released, statistics.waiting) == (3, 3, 0)
        assert statistics.next_due_ms is None


async def test_what_is_delivered_is_what_was_produced(world: World) -> None:
    async with world.running() as life:
        await world.delays(partitions=2)
        headers = [*after(5), ("same", b"1"), ("same", None), ("pykbroker-routed-from", b"x/0/1")]
        life.produce("later", b"v" * 5000, partition=1, headers=headers, codec=Codec.GZIP)
        produced_ms = world.clock.time_ms()
        await life.advance(5)
        assert life.records("later", 0) == []
        (found,) = life.records("later", 1)
        assert (found.key, found.value, found.timestamp) == (b"key", b"v" * 5000, produced_ms)
        assert list(found.headers) == headers
        target = life.partitions.get("later", 1)
        assert target.log.size < 1000, "as compressed as it came"


async def test_the_delay_of_a_topic_may_be_altered(world: World) -> None:
    async with world.running() as life:
        await world.delays(delay_ms=1000)
        life.produce("later", b"a")
        life.produce("later", b"b", headers=[("pykbroker-delay-ms", b"soon")])
        await settled()
        await world.alter("later", "pykbroker.delay.ms", "50")
        life.produce("later", b"c", headers=[("pykbroker-delay-ms", b"-1")])
        await settled()
        await life.advance(50)
        assert life.values("later") == [b"c"]
        await life.advance(950)
        assert life.values("later") == [b"c", b"a", b"b"]


@pytest.mark.parametrize("kept", [True, False])
async def test_what_waits_survives_a_restart(world: World, kept: bool) -> None:
    async with world.running() as life:
        await world.delays()
        for number in range(50):
            life.produce("later", b"%d" % number, headers=after(1000 - number % 7 * 100))
        await settled()
        await life.advance(500)
        before = life.values("later")
        assert len(before) == 14
    if not kept:
        world.index = MemoryIndex()
    async with world.running() as life:
        assert life.values("later") == before
        await life.advance(500)
        found = life.values("later")
        assert found[:14] == before
        assert Counter(found) == Counter(b"%d" % number for number in range(50))


async def test_what_is_due_during_a_stop_comes_at_once_in_order(world: World) -> None:
    async with world.running() as life:
        await world.delays()
        life.produce("later", b"a", headers=after(500))
        life.produce("later", b"b", headers=after(200))
        await settled()
    world.clock.advance(1)
    async with world.running() as life:
        assert life.values("later") == [b"b", b"a"]


async def test_a_kill_at_any_time_loses_and_doubles_nothing(world: World, tmp_path: Path) -> None:
    copies: list[Path] = []
    indexes: list[MemoryIndex] = []

    def copy() -> None:
        copies.append(tmp_path / f"copy{len(copies)}")
        shutil.copytree(world.path, copies[-1])
        index, original = MemoryIndex(), world.index
        assert isinstance(original, MemoryIndex)
        index.rows = {lane: set(rows) for lane, rows in original.rows.items()}
        index.ends = dict(original.ends)
        indexes.append(index)

    produced = []
    async with world.running() as life:
        await world.delays()
        for number in range(6):
            produced.append(b"%d" % number)
            life.produce("later", produced[-1], headers=after(300 - 100 * (number % 3)))
            copy()
            await settled()
            copy()
            await life.advance(50)
            copy()
    ends = [number // 3 + 1 for number in range(len(copies))]
    for path, index, count in zip(copies, indexes, ends, strict=True):
        again = World(path)
        again.catalog, again.index = world.catalog, index
        again.clock.now_ms = world.clock.now_ms + 1000
        async with again.running() as life:
            await life.advance(1000)
            assert sorted(filter(None, life.values("later"))) == produced[:count]


async def test_failures_come_back_after_the_delay_and_are_dead_letters_in_the_end(world: World) -> None:
    async with world.running() as life:
        await retries(life)
        life.produce(RETRY, b"v", headers=[("mine", b"1"), ("pykbroker-reason", b"boom")])
        await settled()
        assert life.values(RETRY) == []
        await life.advance(60_000)
        (first,) = life.records(RETRY)
        assert dict(first.headers)["pykbroker-attempt"] == b"1"
        life.produce(RETRY, b"v", headers=list(first.headers))
        await life.advance(60_000)
        second = life.records(RETRY)[1]
        assert dict(second.headers)["pykbroker-attempt"] == b"2"
        life.produce(RETRY, b"v", headers=list(second.headers))
        await settled()
        (letter,) = life.records(LETTERS)
        headers = dict(letter.headers)
        assert (letter.key, letter.value, headers["mine"]) == (b"key", b"v", b"1")
        assert headers["__dlq.errors.delivery.count"] == b"3"
        assert headers["__dlq.errors.message"] == b"boom"
        assert len(life.records(RETRY)) == 2


async def test_a_retry_topic_that_was_deleted_is_made_again(world: World) -> None:
    async with world.running() as life:
        await retries(life, 2)
        life.produce(RETRY, b"v", partition=1)
        await settled()
        await world.delete(RETRY)
        await settled()
        await life.advance(60_000)
        assert life.values(RETRY, 1) == [b"v"]
        assert life.catalog.image.topics[RETRY].overrides[ROLE] == role().text


async def test_a_dead_letter_topic_that_is_missing_is_made(world: World) -> None:
    async with world.running() as life:
        await retries(life, 3, max_attempts="1")
        await world.delete(LETTERS)
        life.produce(RETRY, b"v", partition=2, headers=[*trusted(2), ("pykbroker-attempt", b"1")])
        await settled()
        assert life.values(LETTERS, 2) == [b"v"]


async def test_the_partition_of_a_dead_letter_is_the_number_modulo_the_count(world: World) -> None:
    async with world.running() as life:
        await world.create("graves", 2)
        await retries(life, 3, max_attempts="1")
        await world.alter("orders", "pykbroker.dead.letter.topic", "graves")
        life.produce(RETRY, b"v", partition=2, headers=[*trusted(2), ("pykbroker-attempt", b"1")])
        await settled()
        assert [life.values("graves", number) for number in (0, 1)] == [[b"v"], []]


async def test_topics_that_cannot_be_made_hold_up_only_their_own_records(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.running() as life:
        await retries(life, max_attempts="1")
        await world.delete(LETTERS)
        refusal = KafkaError(ErrorCode.POLICY_VIOLATION, "no more topics")

        async def refuse(*_: object) -> Topic:
            raise refusal

        with monkeypatch.context() as patch:
            patch.setattr(life.topics, "ensure_dead_letter", refuse)
            life.produce(RETRY, b"dead", headers=[*trusted(0), ("pykbroker-attempt", b"1")])
            life.produce(RETRY, b"alive")
            await life.advance(60_000)
            assert life.values(RETRY) == [b"alive"]
            assert life.flows.statistics().stuck == 1
            assert "pykbroker.dead.letter.topic" in caplog.text
            assert "no more topics" in caplog.text
        world.clock._session_shift += 10
        world.clock.advance(1)
        await settled()
        assert life.values(LETTERS) == [b"dead"]


async def test_a_delay_topic_takes_with_it_what_waits(world: World) -> None:
    async with world.running() as life:
        topic = await world.delays()
        life.produce("later", b"v", headers=after(100))
        await settled()
        await world.delete("later")
        assert held_name(topic.topic_id) not in life.catalog.image.topics
        assert life.flows.statistics().lanes == 0
        await life.flows.tidy()
        assert await world.index.lanes() == []
        await world.delays()
        await life.advance(1000)
        assert life.values("later") == []


class Failing(MemoryIndex):
    """An index that fails as it is told."""

    error: Exception | None = None

    async def add(
        self, lane: Place, rows: Sequence[Row], upto: Indexed, sizes: Sequence[int] | None = None
    ) -> None:
        error, self.error = self.error, None
        if isinstance(error, IndexLost):
            self.rows.clear()
            self.ends.clear()
        if error is not None:
            raise error
        await super().add(lane, rows, upto, sizes)


@pytest.mark.parametrize("error", [IndexLost("torn"), IndexUnavailable("full")])
async def test_an_index_that_fails_makes_records_wait_and_that_is_all(
    world: World, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    index = world.index = Failing()
    async with world.running() as life:
        await world.delays()
        life.produce("later", b"a", headers=after(3000))
        life.produce("later", b"b", headers=after(100))
        await life.advance(100)
        index.error = error
        life.produce("later", b"c", headers=after(100))
        await settled()
        await life.advance(1000)
        assert life.values("later") == [b"b", b"c"]
        await life.advance(3000)
        assert life.values("later") == [b"b", b"c", b"a"]
    assert ("cannot be used" in caplog.text) == isinstance(error, IndexUnavailable)


async def test_a_lane_that_still_looks_when_the_broker_stops_says_nothing(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    index = world.index = Failing()
    async with world.running() as life:
        await world.delays()
        life.produce("later", b"a", headers=after(3000))
        await life.advance(100)
        index.error = IndexClosed("the broker stops")
        life.produce("later", b"b", headers=after(100))
        await life.advance(1000)
    assert caplog.messages == []


async def test_a_clock_that_is_set_back_holds_up_nothing_that_is_new(world: World) -> None:
    async with world.running() as life:
        await world.delays()
        life.produce("later", b"far", headers=after(86_400_000))
        await settled()
        await life.advance(86_400_000)
        assert life.values("later") == [b"far"]
        world.clock.now_ms -= 86_400_000
        life.produce("later", b"long", headers=after(3_600_000))
        life.produce("later", b"short", headers=after(100))
        await settled()
        await life.advance(99)
        assert life.values("later") == [b"far"]
        await life.advance(1)
        assert life.values("later") == [b"far", b"short"]
    async with world.running() as life:
        await life.advance(3_600_000)
        assert life.values("later") == [b"far", b"short", b"long"]


async def test_what_nothing_is_in_has_no_task_and_starts_with_none(world: World) -> None:
    async with world.running() as life:
        await world.delays()
        life.produce("later", b"a", headers=after(100))
        await life.advance(100)
        assert life.flows.statistics().lanes == 1
        await life.flows.rest()
        await settled()
        assert life.flows.statistics().lanes == 1
        await life.flows.rest()
        await settled()
        assert life.flows.statistics().lanes == 0
        life.produce("later", b"b", headers=after(100))
        await life.advance(100)
        assert life.values("later") == [b"a", b"b"]
        for _ in range(2):
            await life.flows.rest()
            await settled()
    async with world.running() as life:
        assert life.flows.statistics().lanes == 0
        assert life.values("later") == [b"a", b"b"]
        life.produce("later", b"c")
        await settled()
        assert life.values("later") == [b"a", b"b", b"c"]


async def test_an_empty_flow_without_a_retry_topic_is_deleted(world: World) -> None:
    async with world.running() as life:
        await retries(life)
        life.produce(RETRY, b"v")
        await settled()
        await world.delete(RETRY)
        held = life.catalog.image.topics
        hidden = [name for name in held if name.startswith("__pykbroker_held_")]
        for _ in range(3):
            await life.flows.rest()
            await settled()
        assert [name for name in life.catalog.image.topics if name in hidden] == hidden, "something waits"
        await life.advance(60_000)
        assert life.values(RETRY) == [b"v"]
        await world.delete(RETRY)
        for _ in range(3):
            await life.flows.rest()
            await settled()
        assert not [name for name in life.catalog.image.topics if name.startswith("__pykbroker_held_")]


async def test_a_held_log_that_lost_its_end_is_filled_again(world: World) -> None:
    async with world.running() as life:
        await world.delays()
        for number in range(5):
            life.produce("later", b"%d" % number, headers=after(100 + number))
            await settled()
        await life.advance(101)
        assert life.values("later") == [b"0", b"1"]
        held = life.held("later").topic
    await world.power_cut(held, 3)
    async with world.running() as life:
        assert life.held("later").log_end_offset == 5
        await life.advance(1000)
        assert life.values("later") == [b"0", b"1", b"2", b"3", b"4"]


async def test_a_flow_whose_logs_cannot_be_opened_is_not_deleted_for_being_empty(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.running() as life:
        await retries(life)
        life.produce(RETRY, b"a", headers=trusted(0))
        await settled()
        delayed, held = life.delayed(RETRY), life.held(RETRY)
    await world.delete(RETRY)
    open_log = Log.open

    def fails(directory: Path, *rest: object, **more: object) -> Log:
        if directory.name in (delayed.label, held.label):
            raise StorageError("no such device")
        return open_log(directory, *rest, **more)  # type: ignore[arg-type]  # passed on

    with monkeypatch.context() as patched:
        patched.setattr(Log, "open", fails)
        async with world.running() as life:
            await life.flows.rest()
            await settled()
    async with world.running() as life:
        await life.advance(60_000)
        assert life.values(RETRY) == [b"a"]


async def test_what_a_power_cut_took_after_it_was_released_comes_twice_rather_than_not(world: World) -> None:
    async with world.running() as life:
        await world.delays()
        for number in range(5):
            life.produce("later", b"%d" % number, headers=after(100))
        await life.advance(100)
        held = life.held("later").topic
    await world.power_cut(held, 0)
    async with world.running() as life:
        await life.advance(1000)
        found = Counter(life.values("later"))
        assert found == Counter({b"%d" % number: 2 for number in range(5)})


async def test_a_delayed_log_that_lost_its_end_goes_on_with_what_comes(world: World) -> None:
    async with world.running() as life:
        await world.delays()
        for number in range(5):
            life.produce("later", b"%d" % number, headers=after(100))
        await settled()
        delayed = life.delayed("later").topic
    await world.power_cut(delayed, 2)
    async with world.running() as life:
        life.produce("later", b"new")
        await settled()
        assert life.values("later") == [b"new"]
        await life.advance(1000)
        assert sorted(filter(None, life.values("later"))) == [b"0", b"1", b"2", b"3", b"4", b"new"]


async def test_what_arrived_is_let_go_while_more_comes(world: World) -> None:
    """What the disk has of the held log counts, whatever was held since; asking changes nothing."""
    async with world.running() as life:
        await world.delays()
        await settled()
        delayed, held = life.delayed("later"), life.held("later")
        await world.alter(delayed.topic, "segment.bytes", "1000")
        starts = []
        for number in range(4):
            for each in range(10):
                life.produce("later", b"%d-%d" % (number, each) * 50)
                await settled()
            await life.partitions.upkeep.apply_retention()
            starts.append(delayed.log_start_offset)
            held.log.flush()
        assert starts[0] == 0, "the disk may not have anything of the held log"
        assert 0 < starts[2] <= 20, "and not what came after it was flushed"
        assert starts[2] < starts[3] <= 30
        assert len({delayed.deletable_end for _ in range(3)}) == 1
        life.produce("later", b"more")
        await settled()
        assert delayed.deletable_end == delayed.deletable_end >= starts[3]


async def test_logs_let_go_of_what_is_done(world: World) -> None:
    async with world.running() as life:
        await world.delays()
        await settled()
        for name in (life.delayed("later").topic, life.held("later").topic):
            await world.alter(name, "segment.bytes", "1000")
        life.produce("later", b"waits", headers=after(100_000))
        await settled()
        for number in range(20):
            life.produce("later", b"%d" % number * 100)
            await settled()
        delayed, held = life.delayed("later"), life.held("later")
        delayed.log.flush()
        held.log.flush()
        await life.partitions.upkeep.apply_retention()
        assert delayed.log_start_offset > 10
        await life.flows.tidy()
        await life.partitions.upkeep.apply_retention()
        assert held.log_start_offset == 0, "something in it waits"
        await life.advance(100_000)
        world.clock._session_shift += 100
        await life.flows.tidy()
        held.log.flush()
        await life.partitions.upkeep.apply_retention()
        assert held.log_start_offset > 10
        assert held.log_start_offset < held.log_end_offset, "the last batch says where to go on"
        assert len(life.values("later")) == 21
    world.index = MemoryIndex()
    async with world.running() as life:
        life.produce("later", b"more")
        await settled()
        assert len(life.values("later")) == 22


async def test_the_delayed_log_is_kept_until_the_held_one_is_on_the_disk(world: World) -> None:
    async with world.running() as life:
        await world.delays()
        life.produce("later", b"v")
        await settled()
        delayed, held = life.delayed("later"), life.held("later")
        assert held.log.recovery_point == 0
        assert delayed.needed_from is not None
        assert delayed.needed_from() == 0
        held.log.flush()
        assert delayed.needed_from() == 1


async def test_the_file_of_the_index_is_there_when_something_waits_and_not_before(world: World) -> None:
    world.index = SqliteIndex(world.path)
    async with world.running() as life:
        await world.delays()
        await settled()
        assert not list(world.path.glob("*.sqlite*"))
        life.produce("later", b"a")
        life.produce("later", b"b", headers=after(60_000))
        await until(lambda: life.flows.statistics().released == life.flows.statistics().waiting == 1)
        await life.flows.tidy()
    world.index = SqliteIndex(world.path)
    async with world.running() as life:
        await until(lambda: life.flows.statistics().waiting == 1)
        life.clock.advance(60)
        await until(lambda: len(life.values("later")) == 2)


async def until(holds: Callable[[], bool]) -> None:
    """Wait for threads."""
    for _ in range(10_000):
        if holds():
            return
        await trio.sleep(0.001)
    raise AssertionError("not in ten seconds")


def test_nothing_of_sqlite_is_loaded_before_something_waits() -> None:
    look = "import sys, pykbroker.broker; print('sqlite3' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


async def test_a_log_of_plans_that_cannot_be_flushed_leaves_the_index_as_it_is(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.running() as life:
        await world.delays()
        life.produce("later", b"v")
        await settled()
        lane = Place(life.held("later").topic_id, 0)
        (shard,) = (each for each in life.partitions if each.topic == FORWARD_TOPIC)
        with monkeypatch.context() as patch:

            def refuse() -> int:
                raise StorageError("full")

            patch.setattr(shard._flush_target, "flush", refuse)
            await life.flows.tidy()
        assert await world.index.waiting(lane, Released.nothing(0)) == 1
        assert "not tidied" in caplog.text
        life.produce("later", b"v")
        await settled()
        await life.flows.tidy()
        assert shard.log.recovery_point == shard.log.log_end_offset
        assert await world.index.waiting(lane, Released.nothing(0)) == 0


async def test_times_that_clients_made_up_end_nothing(world: World) -> None:
    async with world.running() as life:
        await world.delays()
        now_ms = life.clock.time_ms()
        for time in (-(2**63), now_ms, 2**63 - 1, -1):
            for delay in (5, 10):
                record = RecordData(b"k", b"%d" % time, headers=after(delay))
                batch = bytearray(encode_batch([record], timestamp_ms=time))
                life.delayed("later").append_as_leader(batch, now_ms=now_ms)
        await life.advance(5)
        await life.advance(5)
        records = life.records("later")
        low = -(2**63)
        beyond = [RecordData(b"k", b"", low, after(20)), RecordData(b"k", b"", low - 5, after(10))]
        batch = bytearray(encode_batch(beyond, timestamp_ms=low))
        life.delayed("later").append_as_leader(batch, now_ms=now_ms)
        await life.advance(10)
        await life.advance(10)
        assert [record.timestamp for record in life.records("later")[8:]] == [2**63 - 5, low]
        assert [b"%d" % record.timestamp for record in records] == [record.value for record in records]
        assert len(records) == 8
