"""Following commits against a model: whatever is committed, however often the broker dies, each failure
counts once, in order, until the group goes back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from unittest import mock

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from pykbroker.catalog.image import Topic
from pykbroker.delivery import commit_queue, counted, draft, follower, letter_steps, selecting
from pykbroker.delivery.nacks import Range, merged
from pykbroker.forwarding.plan import Place
from tests.delivery.following_world import LETTERS, ORDERS, PLAIN, RETRY, World

END = 40

RANGES = st.lists(
    st.tuples(st.integers(0, END - 1), st.sampled_from([0, 0, 1, 3, 30])).map(
        lambda each: (each[0], each[0] + each[1])
    ),
    max_size=4,
)
GROUPS = st.sampled_from(["billing", "billing", "audit"])
TOPICS = st.sampled_from([ORDERS, ORDERS, ORDERS, RETRY, PLAIN])
OFFSETS = st.one_of(st.integers(0, END + 5), st.just(END))
OPERATION = st.one_of(
    st.tuples(st.just("commit"), GROUPS, TOPICS, OFFSETS, st.none()),
    st.tuples(st.just("commit"), GROUPS, TOPICS, OFFSETS, RANGES),
    st.tuples(st.just("commit"), GROUPS, TOPICS, OFFSETS, RANGES),
    st.tuples(st.just("forget"), GROUPS, TOPICS),
    st.tuples(st.just("purge"), RANGES),
    st.tuples(st.just("replay"), RANGES),
    st.tuples(st.just("block"), GROUPS),
    st.tuples(st.just("unblock"), GROUPS),
    st.tuples(
        st.sampled_from(
            ["step", "step", "step", "die", "die compacted", "crash", "hold", "release", "compact", "tick"]
        )
    ),
    st.tuples(st.just("retention"), st.integers(0, END)),
)
SOME = st.sets(st.integers(0, END - 1))
THERE = st.one_of(SOME, SOME.map(lambda gone: set(range(END)) - gone))
"""Which records logs have: few, or nearly all."""
ROUND = st.tuples(st.lists(OPERATION, max_size=10), st.booleans())
"""What happens, and whether everything comes to rest then, and is looked at."""


class Model:
    """What should be moved of each holder, and what counts."""

    def __init__(self, there: set[int]) -> None:
        self.there = there
        self.start = 0
        self.counts: dict[tuple[str, str], set[int]] = {}
        self.moved: dict[tuple[str, str], list[int]] = {}

    def commit(self, group: str, topic: Topic, offset: int, ranges: list[Range] | None) -> None:
        counts = self.counts.setdefault((group, topic.name), set())
        counts -= {each for each in counts if each >= offset}
        if ranges is not None and (topic is ORDERS or (topic is RETRY and group == "billing")):
            self._take(group, topic, [(first, min(last, offset - 1)) for first, last in ranges], counts)

    def letters(self, ranges: list[Range], *, moved: bool) -> None:
        counts = self.counts.setdefault(("dlq", LETTERS.name), set())
        self._take("dlq" if moved else "purged", LETTERS, ranges, counts, self.there if moved else None)

    def forget(self, group: str, topic: Topic) -> None:
        self.counts.pop((group, topic.name), None)

    def _take(
        self,
        who: str,
        topic: Topic,
        ranges: list[Range],
        counts: set[int],
        there: set[int] | None = None,
    ) -> None:
        there = set(range(END)) if who == "purged" else self.there
        for first, last in merged(each for each in ranges if each[0] <= each[1]):
            for offset in range(max(first, self.start), last + 1):
                if offset in there and offset not in counts:
                    counts.add(offset)
                    self.moved.setdefault((who, topic.name), []).append(offset)


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """Limits that a short history reaches."""
    with (
        mock.patch.multiple(draft, PLAN_RECORDS=4, PLAN_SKIPPED=3),
        mock.patch.multiple(letter_steps, PLAN_RECORDS=4, PURGED=10),
        mock.patch.multiple(commit_queue, MAX_QUEUED=3, READ_BYTES=300),
        mock.patch.object(follower, "FAR", 5),
        mock.patch.multiple(selecting, LONG=3, NEAR=2, PICKED=2, MAX_SKIPPED=2),
        mock.patch.object(counted, "CHUNK", 16),
        mock.patch.object(counted, "_FULL", (1 << 16) - 1),
    ):
        yield


def nacked(ranges: list[Range] | None) -> str:
    return "" if ranges is None else json.dumps({"nack": ranges, "reason": "no"})


@settings(max_examples=150)
@given(THERE, st.booleans(), st.lists(ROUND, max_size=8))
def test_each_failure_counts_once(
    there: set[int], near: bool, rounds: list[tuple[list[tuple[object, ...]], bool]]
) -> None:
    trio.run(check, there, near, rounds)


async def check(there: set[int], near: bool, rounds: list[tuple[list[tuple[object, ...]], bool]]) -> None:
    world, model = World(), Model(there)
    world.logs.near = near
    places = [Place(each.topic_id, 0) for each in (ORDERS, RETRY, PLAIN, LETTERS)]
    for place in places:
        world.logs.fill(place, sorted(there), 0, END)
    for operations, drains in rounds:
        for operation in operations:
            if operation[0] == "retention":
                await drain(world, model)
                (start,) = operation[1:]
                assert isinstance(start, int)
                model.start = max(model.start, start)
                for place in places:
                    world.logs.fill(place, sorted(there), model.start, END)
            else:
                await happen(world, model, operation)
        if drains:
            await drain(world, model)
    await drain(world, model)


async def happen(world: World, model: Model, operation: tuple[object, ...]) -> None:
    match operation:
        case "commit", str(group), Topic() as topic, int(offset), (list() | None) as ranges:
            world.commit(group, topic, 0, offset, nacked(ranges))
            model.commit(group, topic, offset, ranges)
        case "forget", str(group), Topic() as topic:
            world.commit(group, topic, 0, None)
            model.forget(group, topic)
        case ("purge" | "replay") as what, list(ranges):
            world.order(json.dumps({what: ranges}))
            model.letters(ranges, moved=what == "replay")
        case "block", str(group):
            world.places.blocked.add(group)
        case "unblock", str(group):
            world.places.blocked.discard(group)
        case "step", *_:
            await world.step()
        case "die", *_:
            await world.step(dies=True)
        case "die compacted", *_:
            await world.step(dies=True, compacted=True)
        case "crash", *_:
            world.crash()
        case "hold", *_:
            world.commits.held = True
        case "release", *_:
            world.commits.held = False
            world.commits.release()
        case "compact", *_:
            world.compact()
        case "tick", *_:
            world.clock.advance(100)
        case _:
            raise AssertionError(operation)


async def drain(world: World, model: Model) -> None:
    """Let everything come to rest, and compare."""
    world.places.blocked.clear()
    await world.drain()
    for (who, name), offsets in model.moved.items():
        topic = world.places.topics[name]
        if who == "purged":
            continue
        found = (
            world.offsets(topic, who)
            if who != "dlq"
            else [each.offset for each in world.moved if each.source.topic_id == topic.topic_id]
        )
        assert found == offsets, (who, name)
    assert len(world.moved) == sum(len(each) for (who, _), each in model.moved.items() if who != "purged")
    assert world.follower is None or world.follower.pending_from is None
    assert all(name[:1] in (b"C", b"R", b"B") for name in world.extras), "nothing stands aside"
    assert counts_of(world, model.start) == {
        holder: wanted
        for holder, offsets in model.counts.items()
        if (wanted := {each for each in offsets if each >= model.start})
    }


def counts_of(world: World, start: int) -> dict[tuple[str, str], set[int]]:
    """What counts, as far as it is there still."""
    held = counted.Counted(world.extras)
    found: dict[tuple[str, str], set[int]] = {}
    for holder in held.holders():
        topic = world.places.topic(holder.topic_id)
        assert topic is not None
        who = "dlq" if topic is LETTERS else holder.group
        counts = {
            each for first, last in held.ranges(holder) for each in range(first, last + 1) if each >= start
        }
        if counts:
            found[who, topic.name] = counts
    return found
