"""Held logs give back what is released, however long something else in them waits."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from pykbroker.catalog.retrying import REPLAY_TOPIC
from pykbroker.catalog.topics import TopicAdmin
from pykbroker.delivery import held as form
from pykbroker.delivery import indexing, settling
from pykbroker.delivery.held import Held, Kind
from pykbroker.delivery.index import Extent, MemoryIndex
from pykbroker.delivery.released import Era, Released, Row
from pykbroker.delivery.settled import Needed, ranges_of
from pykbroker.delivery.settled_worker import COMMAND
from pykbroker.delivery.settling import is_due
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.forwarding.copying import Building, sources
from pykbroker.log.check import check_log
from pykbroker.log.compaction import CompactionError, Outcome
from pykbroker.log.settling import SettlingJob
from pykbroker.partitions.partition import Appended, Partition
from pykbroker.records.batch import BatchError, read_header
from pykbroker.records.build import RecordData, encode_batch
from pykbroker.records.compression import Codec
from pykbroker.records.decode import payload_of
from tests.delivery.flow_world import Life, World, settled
from tests.delivery.test_flows import after, until
from tests.log.test_compaction import Directory

WEEK_MS = 7 * 24 * 3600 * 1000


def held_batches(*all_held: Held) -> Iterator[bytes]:
    (record,) = sources(
        read_header(plain := encode_batch([RecordData(b"key", b"v" * 50)], timestamp_ms=1)),
        bytes(payload_of(plain)),
    )
    buffer, headers = form.batches([(1, form.suffix(record, held)) for held in all_held])
    at = 0
    for header in headers:
        yield bytes(buffer[at : at + header.size])
        at += header.size


# -- what is settled

kinds = st.sampled_from([Kind.FACE, Kind.FACE, Kind.NOTHING])
rows = st.lists(st.tuples(st.integers(0, 20), kinds), max_size=40)
keys = st.builds(Row, st.integers(-1, 21), st.integers(-1, 40))
some_released = st.builds(
    lambda end, first, start, second: Released(end, (Era(0, first), Era(start, second))),
    st.integers(0, 40), keys, st.integers(1, 30), keys,
)  # fmt: skip


@given(rows, some_released, st.sets(st.integers(0, 40)))
def test_what_is_released_and_not_being_moved_is_settled_and_so_are_marks(
    waiting: list[tuple[int, Kind]], released: Released, moving: set[int]
) -> None:
    needed = Needed(released, ranges_of([[each] for each in moving]))
    look = Needed.decode(needed.encode()).settled()
    found: set[int] = set()
    base = 0
    for batch in held_batches(*(Held(due_ms, kind) for due_ms, kind in waiting)):
        header = read_header(batch)._replace(base_offset=base)
        found |= set(look(header, bytes(payload_of(batch))))
        base = header.next_offset
    assert found == {
        offset
        for offset, (due_ms, kind) in enumerate(waiting)
        if offset not in moving and (kind is Kind.NOTHING or released.covers(Row(due_ms, offset)))
    }


def test_what_this_version_does_not_understand_is_never_settled() -> None:
    look = Needed(Released(10, (Era(0, Row(1 << 60, 0)),))).settled()
    plain = encode_batch([RecordData(b"k", b"v")], timestamp_ms=1)
    assert look(read_header(plain), bytes(payload_of(plain))) == set()
    (batch,) = held_batches(Held(5))
    with pytest.raises(BatchError):
        look(read_header(batch), bytes(payload_of(batch))[:30])


@given(st.sets(st.integers(0, 200)), st.integers(1, 5))
def test_offsets_as_few_ranges_as_asked_for(offsets: set[int], most: int) -> None:
    """With more, those between two of them count as being moved too: they go later."""
    found = ranges_of([sorted(offsets)[half::2] for half in (0, 1)], most=most)
    exact = ranges_of([offsets])
    assert len(found) <= most or found == exact
    assert {each for first, last in exact for each in range(first, last + 1)} == offsets
    assert offsets <= {each for first, last in found for each in range(first, last + 1)}
    assert found == sorted(found)
    assert {first for first, _ in found} <= offsets
    assert {last for _, last in found} <= offsets


def test_of_a_million_that_are_moved_little_is_handed_over() -> None:
    needed = Needed(Released.nothing(0), ranges_of([range(0, 2_000_000, 2)]))
    assert len(needed.encode()) < 500_000


def test_the_process_that_rewrites(tmp_path: Path) -> None:
    directory = Directory(tmp_path)
    for _ in range(3):
        directory.segment(*held_batches(*(Held(due_ms) for due_ms in range(64))))
    job = SettlingJob(
        directory=str(tmp_path), segments=directory.bases, next_base=directory.next, segment_bytes=1 << 20,
        index_interval_bytes=4096, needed=Needed(Released(160, (Era(0, Row(62, 0)),)), [(3, 4)]).encode(),
    )  # fmt: skip
    done = subprocess.run(COMMAND, input=job.encode(), capture_output=True, timeout=60, check=True)
    directory.swap(Outcome.decode(done.stdout))
    # 62 itself is released at offset 62 and not behind; the last batch is whole.
    assert [record.offset for record in directory.records()] == [3, 4, 62, 63, 126, 127, *range(160, 192)]


def test_when_it_is_worth_while() -> None:
    mega = 1 << 20
    waiting = Extent(5, 1000, 10 * mega)
    assert not is_due(19 * mega, waiting, 64 * mega)
    assert is_due(21 * mega, waiting, 64 * mega)
    nothing = Extent(None, 0, 0)
    assert not is_due(mega - 1, nothing, 64 * mega)
    assert is_due(mega, nothing, 64 * mega)
    assert is_due(1000, nothing, 4000), "small segments"
    # Ten that wait alone in their batches keep ten headers: there is nothing to gain.
    assert not is_due(10 * 141, Extent(5, 10, 10 * 80), 1000)


# -- on real logs


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(indexing, "FLOOR_S", 0.0)
    return World(tmp_path / "data")


def size_of(partition: Partition) -> int:
    return sum(path.stat().st_size for path in partition.log.directory.glob("*.log"))


def runs(life: Life) -> int:
    return life.flows._tidying.settling.runs


async def tidy(life: Life) -> None:
    """All of it, from what is released to the segments put in place."""
    await settled()
    life.held("later").log.flush()
    with trio.fail_after(20):
        await life.flows.tidy()
        await life.flows._tidying.settling.rewrite_due()
    await life.partitions.upkeep.apply_retention()


async def small_segments(world: World, life: Life) -> Partition:
    await world.delays()
    await settled()
    for name in (life.delayed("later").topic, life.held("later").topic):
        await world.alter(name, "segment.bytes", "5000")
    return life.held("later")


async def many_pass(life: Life, tag: bytes, rounds: int = 8) -> None:
    for number in range(rounds):
        life.produce("later", *(b"%s%d-%d" % (tag, number, each) for each in range(20)), headers=after(100))
        await life.advance(100)


async def test_one_that_waits_for_a_week_does_not_keep_what_passes(world: World) -> None:
    """Through a restart, and one that has lost its index."""
    expected: list[bytes | None] = []
    async with world.running() as life:
        held = await small_segments(world, life)
        life.produce("later", b"long", headers=after(WEEK_MS))
        sizes = []
        for number in range(4):
            await many_pass(life, b"%d:" % number)
            await tidy(life)
            sizes.append(size_of(held))
        assert runs(life) >= 2
        assert max(sizes) < 12_000, "of some 90,000 bytes"
        assert held.log_start_offset == 0
        expected = life.values("later")
        assert len(expected) == len(set(expected)) == 640
    for lost in (False, True):
        if lost:
            world.index = MemoryIndex()
        async with world.running() as life:
            await until(lambda: life.flows.statistics().waiting == 1)
            await many_pass(life, b"lost %d:" % lost)
            await tidy(life)
            assert size_of(life.held("later")) < 12_000
            assert life.held("later").log.damage == []
    async with world.running() as life:
        await life.advance(WEEK_MS - 10_000)
        assert b"long" not in life.values("later")
        await life.advance(10_000)
        await settled()
        values = life.values("later")
        assert values.count(b"long") == 1
        assert len(values) == len(set(values)) == 640 + 320 + 1
        directory = life.held("later").log.directory
    assert check_log(directory, clean=True).report.problems == []


async def test_after_a_restart_nothing_has_to_be_released_before_it_is_looked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.running() as life:
        await small_segments(world, life)
        life.produce("later", b"long", headers=after(WEEK_MS))
        await many_pass(life, b"x")
        life.held("later").log.flush()
        before = size_of(life.held("later"))
    async with world.running() as life:
        await tidy(life)
        assert size_of(life.held("later")) < before / 2


async def test_what_is_being_moved_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world.running() as life:
        held = await small_segments(world, life)
        face = life.partitions.get("later", 0)
        life.produce("later", b"long", headers=after(WEEK_MS))
        await many_pass(life, b"a")

        def unavailable(*_: object, **__: object) -> Appended:
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, "full")

        with monkeypatch.context() as patched:
            patched.setattr(face, "append_as_leader", unavailable)
            await many_pass(life, b"stuck ", 6)
            await tidy(life)
            assert runs(life) >= 1
            assert life.flows.statistics().stuck > 0
            assert 10_000 < size_of(held) < 30_000, "a third of it waits"
            assert len(life.values("later")) == 160
        world.clock._session_shift += 100
        await life.advance(WEEK_MS)
        values = life.values("later")
        assert len(values) == len(set(values)) == 14 * 20 + 1


async def test_where_it_is_not_known_what_is_being_moved_nothing_goes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.running() as life:
        held = await small_segments(world, life)
        life.produce("later", b"long", headers=after(WEEK_MS))
        await many_pass(life, b"a")
        before = size_of(held)
        with monkeypatch.context() as patched:
            patched.setattr(life.forwarding.engine, "lane", lambda _: None)
            await tidy(life)
        assert (runs(life), size_of(held)) == (0, before)


async def test_a_power_cut_finds_where_to_go_on(world: World) -> None:
    """It takes what was not on the disk; what was rewritten ends before the last batch that was."""
    async with world.running() as life:
        held = await small_segments(world, life)
        life.produce("later", b"long", headers=after(WEEK_MS))
        await many_pass(life, b"a")
        await tidy(life)
        durable = held.log.recovery_point
        await many_pass(life, b"b", 2)
        name = held.topic
        # Now everything up to there is released, and the last batch lies behind it.
        with trio.fail_after(20):
            await life.flows.tidy()
            await life.flows._tidying.settling.rewrite_due()
    await world.power_cut(name, durable)
    async with world.running() as life:
        await settled()
        values = life.values("later")
        await life.advance(200)
        again = life.values("later")[len(values) :]
        assert len(again) == 40, "what the disk did not have comes twice, and nothing else"
        assert all(each is not None and each.startswith(b"b") for each in again)
        await life.advance(WEEK_MS)
        assert life.values("later").count(b"long") == 1


async def test_a_process_that_fails_costs_disk_only(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.running() as life:
        held = await small_segments(world, life)

        async def fails(*_: object) -> Outcome:
            raise CompactionError("no space left")

        with monkeypatch.context() as patched:
            patched.setattr(life.partitions.upkeep.cleaner, "rewrite", fails)
            life.produce("later", b"long", headers=after(WEEK_MS))
            await many_pass(life, b"a")
            before = size_of(held)
            await tidy(life)
            assert "what is released stays on the disk" in caplog.text
            assert size_of(held) == before
        await tidy(life)
        assert runs(life) == 0, "it rests"
        monkeypatch.setattr(settling, "REST_S", 0.0)
        life.flows._tidying.settling._rests.clear()
        await many_pass(life, b"b", 1)
        await tidy(life)
        assert size_of(held) < before / 2


async def test_what_cannot_be_rewritten_is_tried_less_and_less_often(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.running() as life:
        held = await small_segments(world, life)
        life.produce("later", b"long", headers=after(WEEK_MS))
        await many_pass(life, b"a")

        async def gains_nothing(*_: object) -> Outcome:
            return Outcome(dirty_start=0)

        with monkeypatch.context() as patched:
            patched.setattr(life.partitions.upkeep.cleaner, "rewrite", gains_nothing)
            rests = life.flows._tidying.settling._rests
            (flow,) = life.flows._flows.values()
            lengths = []
            for _ in range(5):
                life.flows._tidying.released(flow)
                await tidy(life)
                lengths.append(rests[held].length)
                rests[held] = rests[held]._replace(until=0.0)
            assert lengths == [600, 1200, 2400, 3600, 3600]
            life.produce("later", *(b"%d" % each * 100 for each in range(200)), headers=after(100))
            await life.advance(100)
            life.produce("later", *(b"%d" % each * 100 for each in range(200)), headers=after(100))
            await life.advance(100)
            await tidy(life)
            assert rests[held].length == 600, "there is more now"
        rests[held] = rests[held]._replace(until=0.0)
        await many_pass(life, b"b", 1)
        await tidy(life)
        assert held not in rests


async def test_a_topic_deleted_while_its_log_is_rewritten(world: World) -> None:
    async with world.running() as life:
        await small_segments(world, life)
        life.produce("later", b"long", headers=after(WEEK_MS))
        await many_pass(life, b"a")
        life.held("later").log.flush()
        await life.flows.tidy()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(life.flows._tidying.settling.rewrite_due)
            await world.delete("later")
        await settled()


async def test_letters_that_go_back_leave_their_log_and_who_sent_them_is_still_known(world: World) -> None:
    """They come compressed, in numbered batches, without having arrived."""
    sender = 77
    (record,) = sources(
        read_header(plain := encode_batch([RecordData(b"key", b"v" * 50)], timestamp_ms=1)),
        bytes(payload_of(plain)),
    )
    async with world.running() as life:
        await world.create("there", 1)
        await TopicAdmin(life.catalog).ensure_internal(REPLAY_TOPIC)
        replay = life.partitions.get(REPLAY_TOPIC, 0)
        await world.alter(REPLAY_TOPIC, "segment.bytes", "1500")
        await settled()
        for number in range(12):
            now_ms = life.clock.time_ms()
            building = Building(Codec.GZIP)
            for each in range(20):
                due_ms = now_ms + (WEEK_MS if (number, each) == (0, 7) else each)
                building.add(1, form.suffix(record, Held(due_ms, Kind.REPLAY, 0, "there")))
            batch = building.finish(
                producer_id=sender, epoch=0, base_sequence=20 * number, append_time_ms=None, level=None
            )
            replay.append_as_leader(batch, now_ms=now_ms, internal=True)
            await life.advance(30)
        replay.log.flush()
        before = size_of(replay)
        with trio.fail_after(20):
            await life.flows.tidy()
            await life.flows._tidying.settling.rewrite_due()
        assert runs(life) == 1
        assert size_of(replay) < before / 2
        assert len(life.values("there")) == 239
        directory = replay.log.directory
    for path in directory.glob("*.snapshot"):
        path.unlink()
    world.index = MemoryIndex()
    async with world.running() as life:
        replay = life.partitions.get(REPLAY_TOPIC, 0)
        (known,) = replay.log.producers
        assert (known.producer_id, known.window[-1].last_sequence) == (sender, 239)
        await life.advance(WEEK_MS)
        assert len(life.values("there")) == 240
    assert check_log(directory, clean=True).report.problems == []
