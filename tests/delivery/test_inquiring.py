"""What is said of letters on their way, and of those that are settled: numbers that people go by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import pytest
import trio
import trio.testing

from pykbroker.catalog.retrying import DLQ_GROUP
from pykbroker.clock import MovableClock
from pykbroker.delivery.counted import Changes, Counted, Holder
from pykbroker.delivery.follower import Follower
from pykbroker.delivery.inquiring import Inquiries
from pykbroker.delivery.reports import Aside
from pykbroker.delivery.returning import MAX_RUNS, Back, Run
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.groups.service import OFFSETS_TOPIC
from tests.delivery.following_world import LETTERS, SHARED, topic

OFFSETS = topic(OFFSETS_TOPIC, 9)


# -- runs of letters that go back


def test_letters_that_go_at_the_same_time_are_no_run() -> None:
    first = Run(1000, 100, 5)
    assert first.then(first) is None
    assert first.then(Run(1200, 100, 5)) is None
    assert first.then(Run(1500, 100, 5)) == Run(1000, 100, 10)


@pytest.mark.parametrize(("first", "then"), [((0, 100, 3), (300, 7, 3)), ((0, 7, 3), (21, 100, 3))])
def test_letters_of_another_pace_are_no_run(first: Mapping[int, int], then: Mapping[int, int]) -> None:
    assert Run(*first).then(Run(*then)) is None


def test_of_a_run_that_has_begun_the_rest_is_counted_when_more_come() -> None:
    back = Back(b"t" * 16, 0, "orders").add(Run(0, 100, 10), -1).add(Run(5000, 50, 2), 500)
    assert back.left(500) == 4 + 2
    assert back.add(Run(9000, 50, 2), 900).left(900) == 2 + 2, "what has gone is not"


def test_with_too_many_runs_none_is_forgotten() -> None:
    back = Back(b"t" * 16, 0, "orders")
    for number in range(3 * MAX_RUNS):
        back = back.add(Run(1000 * number, 7 + number, 3), -1)
    assert len(back.runs) == MAX_RUNS
    assert back.left(-1) == 9 * MAX_RUNS
    assert back.until_ms == 1000 * (3 * MAX_RUNS - 1) + 2 * (7 + 3 * MAX_RUNS - 1)


# -- asking a lane


@dataclass
class Lane:
    """A lane that follows commits, and its shard of plans."""

    is_loaded: bool = True
    has_begun: bool = True
    is_idle: bool = True
    stepped: trio.Event = field(default_factory=trio.Event)
    extras: dict[bytes, bytes] = field(default_factory=dict)
    asides: list[Aside] = field(default_factory=list)

    def is_done(self, holder: Holder) -> bool:
        return self.is_idle

    def aside(self, group: str) -> list[Aside]:
        return [each for each in self.asides if each.holder.group == group]

    def done(self) -> None:
        self.is_idle = self.has_begun = True
        self.stepped.set()
        self.stepped = trio.Event()

    def inquiries(self) -> Inquiries:
        async def loaded(_: object) -> None:
            if not self.is_loaded:
                await trio.sleep_forever()

        engine = SimpleNamespace(
            loaded=loaded, is_loaded=lambda _: self.is_loaded, extras=lambda _: self.extras
        )
        image = SimpleNamespace(topics={OFFSETS.name: OFFSETS}, names_by_id={})
        partition = SimpleNamespace(log_start_offset=2, log_end_offset=20)
        followers = dict.fromkeys(range(2), cast(Follower, self))
        return Inquiries(
            engine,  # type: ignore[arg-type]  # as much of it as is asked
            MovableClock(),
            SimpleNamespace(image=image),  # type: ignore[arg-type]
            SimpleNamespace(get_by_id=lambda *_: partition),  # type: ignore[arg-type]
            followers,
        )


def settled_letters(lane: Lane, *offsets: int) -> None:
    changes: Changes = {}
    Counted().add(Holder(DLQ_GROUP, LETTERS.topic_id, 1), [(each, each) for each in offsets], changes)
    lane.extras.update({name: value for name, value in changes.items() if value is not None})


@pytest.mark.parametrize("begun", [True, False])
async def test_whoever_asks_sees_what_was_ordered_before(begun: bool) -> None:
    lane = Lane(is_idle=False, has_begun=begun)
    found: list[object] = []

    async def ask() -> None:
        found.append(await lane.inquiries().settled(LETTERS))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        assert found == []
        settled_letters(lane, 3, 4, 7)
        lane.done()
    assert found == [{1: ((3, 4), (7, 7))}]


async def test_what_is_not_known_is_not_said_to_be_nothing(autojump_clock: trio.testing.MockClock) -> None:
    lane = Lane(is_loaded=False)
    for ask in (lane.inquiries().settled, lambda each: lane.inquiries().returning(each, ())):
        with pytest.raises(KafkaError) as caught:
            await ask(LETTERS)
        assert caught.value.code is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    with pytest.raises(KafkaError):
        await lane.inquiries().aside("billing")


async def test_only_letters_of_the_topic_that_was_asked_for_are_told_of() -> None:
    lane = Lane()
    for number, each in enumerate((LETTERS, SHARED), 1):
        back = Back(each.topic_id, 0, each.name, (Run(1 << 60, 10, number),))
        lane.extras[back.name] = back.encode()
        lane.asides.append(Aside(holder=Holder(DLQ_GROUP, each.topic_id, number), ranges=((0, 1 << 40),)))
    lane.asides.append(Aside(holder=Holder("billing", LETTERS.topic_id, 0), ranges=((3, 3),)))
    said = await lane.inquiries().returning(LETTERS, ())
    assert f'"to":"{LETTERS.name}","letters":1,' in said
    assert '"ordered":[{"partition":1,"records":18,"why":""}]' in said
    assert SHARED.name not in said
