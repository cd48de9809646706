"""What waits: how it is counted, and how it is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from pykbroker.catalog.image import Topic
from pykbroker.delivery.index import IndexUnavailable, MemoryIndex
from pykbroker.delivery.sqlite_index import SqliteIndex
from pykbroker.delivery.waiting import NOTHING, UNKNOWN, Stuck, Waiting, described, waiting_in
from pykbroker.errors import ErrorCode, KafkaError
from tests.delivery.flow_world import Life, World, settled
from tests.delivery.test_flows import LETTERS, RETRY, after, retries, trusted


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "data")


async def asked(life: Life, name: str = "later") -> Waiting:
    """All partitions together, when everything has happened."""
    await settled()
    found = await life.flows.waiting(life.catalog.image.topics[name])
    assert found is not None
    return Waiting.together(found.values())


async def test_it_is_counted_before_and_after_its_time_and_after_a_restart(world: World) -> None:
    begun = world.clock.time_ms()
    async with world.running() as life:
        await world.delays(partitions=2)
        assert await asked(life) == NOTHING
        life.produce("later", b"a", b"b", headers=after(500))
        life.produce("later", b"c", headers=after(200), partition=1)
        assert await asked(life) == Waiting(waiting=3, next_due_ms=begun + 200)
        await life.advance(200)
        assert await asked(life) == Waiting(waiting=2, next_due_ms=begun + 500)
        found = await life.flows.waiting(life.catalog.image.topics["later"])
        assert found == {0: Waiting(waiting=2, next_due_ms=begun + 500), 1: NOTHING}
    async with world.running() as life:
        assert await asked(life) == Waiting(waiting=2, next_due_ms=begun + 500)
    world.index = MemoryIndex()
    async with world.running() as life:
        assert await asked(life) == Waiting(waiting=2, next_due_ms=begun + 500)
        await life.advance(300)
        assert await asked(life) == NOTHING
        await life.flows.rest()
        await settled()
        await life.flows.rest()
        await settled()
        assert life.flows.statistics().lanes == 0, "at rest"
        assert await asked(life) == NOTHING


async def test_only_topics_with_a_flow_have_something_waiting(world: World) -> None:
    async with world.running() as life:
        await retries(life)
        for name in ("orders", LETTERS):
            assert await life.flows.waiting(life.catalog.image.topics[name]) is None
        assert await asked(life, RETRY) == NOTHING


async def test_a_clock_that_was_set_back_spoils_no_count(world: World) -> None:
    async with world.running() as life:
        await world.delays()
        life.produce("later", b"now")
        life.produce("later", b"a", headers=after(5000))
        await settled()
        world.clock.now_ms -= 60_000
        life.produce("later", b"b", headers=after(10_000))
        life.produce("later", b"c", headers=after(20_000))
        assert (await asked(life)).waiting == 3
    async with world.running() as life:
        assert await asked(life) == Waiting(waiting=3, next_due_ms=world.clock.now_ms + 10_000)
        await life.advance(10_000)
        assert (await asked(life)).waiting == 2
        await life.advance(10_000)
        assert (await asked(life)).waiting == 1


async def test_what_has_no_destination_is_stuck(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world.running() as life:
        await retries(life, max_attempts="1")
        await world.delete(LETTERS)

        async def refuse(*_: object) -> Topic:
            raise KafkaError(ErrorCode.POLICY_VIOLATION, "no more topics")

        with monkeypatch.context() as patch:
            patch.setattr(life.topics, "ensure_dead_letter", refuse)
            life.produce(RETRY, b"dead", b"also", headers=[*trusted(0), ("pykbroker-attempt", b"1")])
            life.produce(RETRY, b"alive")
            found = await asked(life, RETRY)
            (why,) = found.reasons
            assert (why.to, why.records) == (LETTERS, 2)
            assert "no more topics" in why.why
            assert "pykbroker.dead.letter.topic" in why.help, "the setting that would help"
            numbers = Waiting(waiting=1, next_due_ms=world.clock.now_ms + 60_000, stuck=2)
            assert replace(found, reasons=()) == numbers
        world.clock._session_shift += 10
        world.clock.advance(1)
        assert (await asked(life, RETRY)).stuck == 0


class Unavailable(MemoryIndex):
    """Cannot be used for a while."""

    async def indexed(self, lane: object) -> None:
        """How far."""
        raise IndexUnavailable("no room")


async def test_without_an_index_it_is_said_that_the_numbers_are_not_known(world: World) -> None:
    async with world.running() as life:
        await world.delays()
        life.produce("later", b"a", headers=after(500))
        assert (await asked(life)).waiting == 1
    world.index, kept = Unavailable(), world.index
    async with world.running() as life:
        assert await asked(life) == UNKNOWN
    world.index = kept
    async with world.running() as life:
        assert (await asked(life)).waiting == 1


async def test_what_has_arrived_counts_before_it_is_indexed(world: World) -> None:
    async with world.running() as life:
        await world.delays(delay_ms=1000)
        life.produce("later", b"a")
        assert (await asked(life)).waiting == 1
        life.produce("later", b"b", b"c")
        (flow,) = life.flows._flows.values()
        found = await waiting_in(flow, life.forwarding.engine, world.index)
        assert (found.waiting, found.indexing) == (3, True)
        assert await asked(life) == Waiting(waiting=3, next_due_ms=world.clock.now_ms + 1000)


async def test_on_disk_it_is_the_same(world: World) -> None:
    world.index = SqliteIndex(world.path)
    async with world.running() as life:
        await world.delays()
        life.produce("later", *[b"v"] * 100, headers=after(500))
        while (found := await asked(life)).indexing:
            pass
        assert found == Waiting(waiting=100, next_due_ms=world.clock.now_ms + 500)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("produce"), st.lists(st.integers(0, 5000), min_size=1, max_size=4)),
        st.tuples(st.just("advance"), st.lists(st.integers(-3000, 4000), min_size=1, max_size=1)),
        st.tuples(st.sampled_from(["tidy", "restart", "lose the index"]), st.just([])),
    ),
    min_size=3,
    max_size=12,
)


@given(STEPS)
def test_whatever_happens_the_count_is_what_was_not_delivered(steps: list[tuple[str, list[int]]]) -> None:
    async def story() -> None:
        with TemporaryDirectory() as directory:
            world = World(Path(directory) / "data")
            await world.delays()
            produced, left = 0, iter(steps)
            while (step := next(left, None)) is not None:
                async with world.running() as life:
                    while step is not None:
                        action, numbers = step
                        if action == "produce":
                            for number in numbers:
                                life.produce("later", b"v", headers=after(number))
                            produced += len(numbers)
                        elif action == "advance":
                            await life.advance(numbers[0])
                        elif action == "tidy":
                            await life.flows.tidy()
                        else:
                            break
                        found = await asked(life)
                        assert found.waiting == produced - len(life.records("later")), step
                        assert (found.next_due_ms is None) == (not found.waiting)
                        step = next(left, None)
                    if step is not None and step[0] == "lose the index":
                        world.index = MemoryIndex()

    trio.run(story)


def test_how_it_is_said() -> None:
    parts = {0: Waiting(waiting=12, next_due_ms=99, stuck=1), 1: NOTHING, 2: UNKNOWN}
    assert json.loads(described(parts)) == {
        "waiting": 12,
        "next_due_ms": 99,
        "stuck": 1,
        "indexing": True,
        "by_partition": {
            "0": {"waiting": 12, "next_due_ms": 99, "stuck": 1},
            "2": {"waiting": 0, "next_due_ms": None, "stuck": 0, "indexing": True},
        },
    }
    reason = Stuck(to="graves", records=2, why="it is gone", help="make it")
    said = json.loads(described({0: Waiting(reasons=(reason,)), 1: Waiting(reasons=(reason,))}))
    assert said["reasons"] == [{"to": "graves", "records": 4, "why": "it is gone", "help": "make it"}]
    many = dict.fromkeys(range(2000), Waiting(waiting=1, next_due_ms=5))
    assert json.loads(described(many)) == {"waiting": 2000, "next_due_ms": 5, "stuck": 0}
    assert json.loads(described({})) == {"waiting": 0, "next_due_ms": None, "stuck": 0, "by_partition": {}}
