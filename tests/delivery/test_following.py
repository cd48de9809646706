"""A lane that follows commits: what it moves, when, how much at a time, and what it does not wait for."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence

import pytest
import trio

from pykbroker.catalog.image import Topic
from pykbroker.delivery import commit_queue, follower, letter_steps, returning, selecting
from pykbroker.delivery.headers import Nack
from pykbroker.delivery.letters import Return
from pykbroker.delivery.nacks import Ranges
from pykbroker.forwarding.copying import Source
from pykbroker.forwarding.plan import Move, Place
from pykbroker.forwarding.reading import Chunk
from tests.delivery.following_world import (
    ARRIVALS,
    LETTERS,
    ORDERS,
    PLAIN,
    REPLAYS,
    RETRY,
    SHARED,
    Logs,
    World,
    record,
)

ORIGIN = Place(ORDERS.topic_id, 0)


def nack(*ranges: int | list[int], reason: str = "") -> str:
    return json.dumps({"nack": ranges} | ({"reason": reason} if reason else {}))


def world(end: int = 100) -> World:
    """Every topic has the offsets from 0 to below ``end``."""
    made = World()
    for topic in (ORDERS, RETRY, LETTERS, PLAIN, SHARED):
        for partition in (0, 1):
            made.logs.fill(Place(topic.topic_id, partition), range(end), 0, end)
    return made


def drain(made: World) -> None:
    trio.run(made.drain)


# What is moved


def test_a_nack_is_a_move_from_the_origin_to_the_flow() -> None:
    made = world()
    made.commit("billing", ORDERS, 0, 10, nack(5, [7, 9], reason="no"))
    drain(made)
    (step,) = made.steps
    (route,) = step.routes
    assert (route.target, route.source, route.offsets) == (ARRIVALS, ORIGIN, (5, 7, 8, 9))
    assert Nack.decode(route.note) == Nack(False, "orders", 0, "billing", "no")
    assert step.next_position == 1
    assert made.reports.nacked == 4
    assert made.held_logs == [ORIGIN], "what is planned must stay readable"


def test_commits_that_come_together_are_one_step() -> None:
    made = world()
    for offset in range(50):
        made.commit("billing", ORDERS, offset % 2, offset + 1, nack(offset))
    drain(made)
    assert len(made.steps) == 1
    assert made.offsets(ORDERS, "billing", 0) == list(range(0, 50, 2))
    assert made.offsets(ORDERS, "billing", 1) == list(range(1, 50, 2))


def test_a_failure_counts_once_until_the_group_goes_back() -> None:
    made = world()
    for metadata in (nack(5), nack(5), nack(5, 6), nack([5, 6], reason="other")):
        made.commit("billing", ORDERS, 0, 10, metadata)
        drain(made)
    assert made.offsets(ORDERS, "billing") == [5, 6]
    made.commit("billing", ORDERS, 0, 6)
    made.commit("billing", ORDERS, 0, 10, nack(5, 6))
    drain(made)
    assert made.offsets(ORDERS, "billing") == [5, 6, 6]


@pytest.mark.parametrize("offset", [None, 0])
def test_an_offset_that_is_gone_or_begins_anew_forgets(offset: int | None) -> None:
    made = world()
    made.commit("billing", ORDERS, 0, 10, nack(5))
    made.commit("billing", ORDERS, 0, offset)
    drain(made)
    assert not [name for name in made.extras if name[:1] == b"C"]
    made.commit("billing", ORDERS, 0, 10, nack(5))
    drain(made)
    assert made.offsets(ORDERS, "billing") == [5, 5]


def test_groups_and_partitions_count_by_themselves() -> None:
    made = world()
    made.commit("billing", ORDERS, 0, 10, nack(5))
    made.commit("audit", ORDERS, 0, 10, nack(5))
    made.commit("billing", ORDERS, 1, 10, nack(5))
    made.commit("audit", ORDERS, 0, 3)
    made.commit("billing", ORDERS, 0, 10, nack(5))
    drain(made)
    assert made.offsets(ORDERS, "billing", 0) == [5]
    assert made.offsets(ORDERS, "audit", 0) == [5]
    assert made.offsets(ORDERS, "billing", 1) == [5]


def test_what_counts_of_a_deleted_topic_is_forgotten() -> None:
    made = world()
    made.commit("billing", ORDERS, 0, 10, nack(5))
    drain(made)
    del made.places.topics["orders"]
    assert made.follower is not None
    made.follower.changed({ORDERS.topic_id})
    drain(made)
    assert made.extras == {}


def test_a_commit_for_a_topic_that_is_another_one_now() -> None:
    made = world()
    made.commit("billing", ORDERS, 0, 10, nack(5))
    made.places.topics["orders"] = PLAIN
    drain(made)
    assert made.moved == []


def test_in_the_retry_topic_it_is_the_next_failure() -> None:
    made = world()
    made.commit("billing", RETRY, 1, 10, nack(5, reason="again"))
    drain(made)
    (moved,) = made.moved
    assert moved.note == Nack(True, RETRY.name, 1, "billing", "again")


@pytest.mark.parametrize(("group", "topic"), [("audit", RETRY), ("billing", LETTERS)])
def test_nacks_that_count_nowhere_are_said_once(
    group: str, topic: Topic, caplog: pytest.LogCaptureFixture
) -> None:
    made = world()
    for _ in range(3):
        made.commit(group, topic, 0, 10, nack(5))
    drain(made)
    assert made.moved == []
    assert made.reports.ignored == 3
    assert [each.levelno for each in caplog.records] == [logging.WARNING]


def test_what_was_no_nack_when_it_was_committed_never_becomes_one() -> None:
    made = world()
    made.commit("billing", PLAIN, 0, 10, nack(5))
    drain(made)
    made.places.topics["plain"] = ORDERS
    made.crash()
    drain(made)
    assert made.moved == []


def test_a_nack_that_comes_to_nothing_still_goes_back(caplog: pytest.LogCaptureFixture) -> None:
    """Between a commit and its turn the policy may go: no nack is carried out, but the group did go back."""
    made = world()
    made.commit("billing", ORDERS, 0, 10, nack(5))
    drain(made)
    made.places.nowhere = True
    made.commit("billing", ORDERS, 0, 3, nack(2))
    drain(made)
    assert "no policy any more" in caplog.text
    made.places.nowhere = False
    made.commit("billing", ORDERS, 0, 10, nack(5))
    drain(made)
    assert made.offsets(ORDERS, "billing") == [5, 5]


# What is not there


def test_what_does_not_exist_is_skipped_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    made = world()
    made.logs.fill(ORIGIN, [3, 5, 8, 9], 3, 10)
    for _ in range(3):
        made.commit("billing", ORDERS, 0, 2 * 10**15, nack([0, 6], 8, [20, 10**15]))
        drain(made)
    assert made.offsets(ORDERS, "billing") == [3, 5, 8]
    gone: Ranges = ((0, 2), (4, 4), (6, 6), (20, 10**15))
    assert made.heard.gone == [("orders", 0, "billing", gone)]
    (line,) = caplog.messages
    assert "group=billing partition=orders-0 offsets=0-2,4,6,20-1000000000000000" in line
    assert made.reports.skipped == 10**15 - 20 + 1 + 5


def test_what_is_not_there_in_one_partition_is_said_of_another() -> None:
    made = world(5)
    for partition in (0, 1):
        made.commit("billing", ORDERS, partition, 20, nack(7))
    drain(made)
    assert [each[1] for each in made.heard.gone] == [0, 1]


def test_records_that_go_before_they_are_moved(caplog: pytest.LogCaptureFixture) -> None:
    made = world()
    made.commit("billing", ORDERS, 0, 10, nack(5))
    drain(made)
    assert made.follower is not None
    del made.logs.records[ORIGIN][5]
    assert trio.run(made.follower.read, ORIGIN, [5, 6]) == {6: made.logs.records[ORIGIN][6]}
    del made.logs.records[ORIGIN]
    assert trio.run(made.follower.read, ORIGIN, [5]) == {}
    assert len(caplog.messages) == 2


# How much at a time


def test_a_large_nack_takes_steps_of_a_thousand() -> None:
    made = world(3500)
    made.commit("billing", ORDERS, 0, 3500, nack([0, 3499]))
    drain(made)
    assert [len(step.routes[0].offsets) for step in made.steps] == [1000, 1000, 1000, 500]
    assert made.offsets(ORDERS, "billing") == list(range(3500))
    assert {step.next_position for step in made.steps} == {1}
    assert not [name for name in made.extras if name[:1] == b"A"], "nothing is left aside"


def test_a_step_ends_at_a_megabyte() -> None:
    made = world()
    made.logs.fill(ORIGIN, range(100), 0, 100, size=300_000)
    made.commit("billing", ORDERS, 0, 100, nack([0, 80], *range(82, 100, 2)))
    drain(made)
    sizes = [sum(len(route.offsets) for route in step.routes) for step in made.steps]
    assert max(sizes) <= selecting.PICKED
    assert sum(sizes) == 90


def test_a_range_over_nothing_is_read_at_once() -> None:
    made = world()
    made.logs.fill(ORIGIN, [0, 10**12], 0, 10**12 + 1)
    made.commit("billing", ORDERS, 0, 10**12 + 1, nack([0, 10**12]))
    drain(made)
    assert made.offsets(ORDERS, "billing") == [0, 10**12]
    assert made.logs.reads < 5


def test_a_large_nack_holds_up_nobody() -> None:
    made = world(3500)
    made.commit("billing", ORDERS, 0, 3500, nack([0, 3499]))
    made.commit("audit", ORDERS, 0, 10, nack(5))

    async def check() -> None:
        await made.step()
        await made.step()

    trio.run(check)
    assert made.offsets(ORDERS, "audit") == [5]
    assert len(made.offsets(ORDERS, "billing")) < 3500


def test_a_commit_waits_for_earlier_ones_of_its_partition() -> None:
    made = world(3500)
    made.commit("billing", ORDERS, 0, 3500, nack([0, 3499]))
    made.commit("billing", ORDERS, 0, 100)
    made.commit("billing", ORDERS, 0, 3500, nack(3000))
    drain(made)
    assert made.offsets(ORDERS, "billing") == [*range(3500), 3000]


def test_commits_that_do_not_fit_into_memory_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_queue, "MAX_QUEUED", 3)
    made = world()
    made.commit("billing", ORDERS, 0, 1, nack(0))
    drain(made)
    for offset in range(1, 20):
        made.commit("billing", ORDERS, 0, offset + 1, nack(offset))
    assert made.follower is not None
    assert made.needed_from == 1
    drain(made)
    assert made.offsets(ORDERS, "billing") == list(range(20))


# When


def test_nothing_is_decided_before_it_is_acknowledged() -> None:
    made = world()
    made.commit("billing", ORDERS, 0, 1, nack(0))
    drain(made)
    made.commits.held = True
    made.commit("billing", ORDERS, 0, 10, nack(5))
    assert trio.run(made.step) is False
    assert made.follower is not None
    assert made.follower.waits_for == 2
    assert made.needed_from == 1
    made.commits.release()
    assert trio.run(made.step) is True
    assert made.offsets(ORDERS, "billing") == [0, 5]


def test_nothing_follows_where_nobody_asks() -> None:
    made = world()
    made.commit("billing", ORDERS, 0, 10, "{}")
    made.commit("billing", ORDERS, 0, 10, "some text")
    assert made.follower is None
    assert made.needed_from == 2


def test_ordinary_commits_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "FAR", 3)
    made = world()
    made.commit("billing", ORDERS, 0, 10, nack(5))
    drain(made)
    assert made.follower is not None
    made.commit("billing", ORDERS, 0, 11)
    made.commit("audit", ORDERS, 0, 1)
    assert made.follower.pending_from is None
    assert made.needed_from == 3
    assert trio.run(made.step) is False
    for _ in range(4):
        made.commit("audit", ORDERS, 0, 1)
    drain(made)
    assert made.position == 7, "so that little is read after a start"
    assert len(made.steps) == 2


# What cannot be done now


def test_a_commit_whose_topics_cannot_be_made_stands_aside(caplog: pytest.LogCaptureFixture) -> None:
    made = world()
    made.places.blocked.add("billing")
    made.commit("billing", ORDERS, 0, 10, nack(5))
    made.commit("audit", ORDERS, 0, 10, nack(6))
    made.commit("billing", ORDERS, 0, 3)
    made.commit("billing", ORDERS, 0, 10, nack(5, 6))

    async def steps() -> None:
        while await made.step():
            pass

    trio.run(steps)
    assert made.offsets(ORDERS, "audit") == [6]
    assert made.offsets(ORDERS, "billing") == []
    assert made.needed_from == 4, "neither commits nor their compaction wait"
    assert made.follower is not None
    assert made.follower.waiting == 3
    assert len(made.later) == 1
    (line,) = caplog.messages
    assert "partition=0101-0 offsets=5" in line
    assert "the name is too long" in line
    made.crash()
    made.places.blocked.clear()
    drain(made)
    assert made.offsets(ORDERS, "billing") == [5, 5, 6]


def test_it_is_tried_less_and_less_often() -> None:
    made = world()
    made.places.blocked.add("billing")
    made.commit("billing", ORDERS, 0, 10, nack(5))

    async def steps() -> None:
        for _ in range(10):
            await made.step()
            assert made.follower is not None
            made.follower.changed(frozenset())

    now = made.clock.monotonic()
    trio.run(steps)
    assert [round(each - now) for each in made.later] == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]


def test_the_target_is_made_again() -> None:
    made = world()
    made.commit("billing", ORDERS, 0, 10, nack(5, 6))
    drain(made)
    (route,) = made.steps[0].routes
    gone = Place(b"x" * 16, 0)
    move = Move(target=gone, offsets=(5, 6), since=0, base_sequence=0, source=route.source, note=route.note)
    assert made.follower is not None
    (instead,) = trio.run(made.follower.refused, move, {6: "gone"}, {}) or ()
    assert (instead.target, instead.offsets, instead.source, instead.note) == (
        ARRIVALS, (6,), route.source, route.note,
    )  # fmt: skip
    made.places.topics.clear()
    assert trio.run(made.follower.refused, move, {6: "gone"}, {}) == (), "so is what was to be moved"


# Dead letters


def test_letters_go_back_once() -> None:
    made = world()
    for _ in range(2):
        made.order('{"replay": [1, [4, 5]]}')
        drain(made)
    made.commit("pykbroker.dlq", LETTERS, 0, None)
    made.order('{"replay": [[1, 6]]}')
    drain(made)
    assert [each.offset for each in made.moved] == [1, 4, 5, 2, 3, 6]
    (route,) = made.steps[0].routes
    assert route.target == REPLAYS
    note = made.moved[0].note
    assert isinstance(note, Return)
    assert (note.to, note.partition) == ("orders", 0)
    assert [each[:4] for each in made.heard.back[:3]] == [
        (LETTERS.name, 0, offset, "orders") for offset in (1, 4, 5)
    ]
    assert made.reports.replayed == 6


def test_a_rate_holds_over_all_partitions_and_orders() -> None:
    made = world()
    start_ms = made.clock.time_ms()
    made.order('{"replay": [0, 1, 2], "rate": 10}')
    made.order('{"replay": [0], "rate": 5}', partition=1)
    made.order('{"replay": [3]}')
    drain(made)
    made.crash()
    made.order('{"replay": [4, 5], "rate": 10}')
    drain(made)
    due = {(each[1], each[2]): round((each[4] - start_ms) / 100) for each in made.heard.back}
    assert due == {(0, 0): 0, (0, 1): 1, (0, 2): 2, (1, 0): 3, (0, 3): 0, (0, 4): 5, (0, 5): 6}


def test_no_rate_is_too_low() -> None:
    made = world()
    made.order('{"replay": [0, 1], "rate": 1e-320}')
    drain(made)
    first, second = (each[4] for each in made.heard.back)
    assert second - first == 86_400_000


def test_letters_of_a_shared_topic_go_where_they_say() -> None:
    made = world()
    place = Place(SHARED.topic_id, 0)
    origins = [b"orders/1/7", None, b"nowhere/0/1", b"plain", SHARED.name.encode()]
    for offset, origin in enumerate(origins):
        made.logs.records[place][offset] = record(offset, headers=(("pykbroker-source", origin),))
    made.order('{"replay": [[0, 4]]}', SHARED)
    drain(made)
    assert [each.offset for each in made.moved] == [0, 3]
    assert [each[3] for each in made.heard.back] == ["orders", "plain"]
    assert made.heard.gone == [(SHARED.name, 0, "pykbroker.dlq", ((1, 2), (4, 4)))]
    made.order('{"replay": [[0, 4]], "to": "orders"}', SHARED)
    drain(made)
    assert [each.offset for each in made.moved] == [0, 3, 1, 2, 4], "those are not settled"


def test_purged_letters_do_not_go_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letter_steps, "PURGED", 10)
    made = world()
    made.order('{"purge": [[0, 40], [50, 10000000]]}')
    made.order('{"replay": [[0, 99]]}')
    drain(made)
    assert [each.offset for each in made.moved] == list(range(41, 50))
    assert made.reports.purged == 91


def test_an_order_that_has_become_impossible(caplog: pytest.LogCaptureFixture) -> None:
    made = world()
    made.places.why_not = lambda topic, asked: "there is no topic orders"  # type: ignore[method-assign]
    made.order('{"replay": [1]}')
    drain(made)
    assert made.moved == []
    assert "there is no topic orders" in caplog.text


def test_nacks_of_the_reserved_group_and_orders_of_others_say_nothing() -> None:
    made = world()
    made.commit("pykbroker.dlq", ORDERS, 0, 10, nack(5))
    made.commit("billing", LETTERS, 0, 10, '{"replay": [1]}')
    made.commit("billing", ORDERS, 0, 10, '{"purge": [1]}')
    drain(made)
    assert made.moved == []
    assert made.extras == {}


# Reading


class Sparse(Logs):
    """Says what was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[tuple[int, int]] = []
        self.picked: list[list[int]] = []

    async def take(self, place: Place, first: int, end: int, records: int, size: int) -> Chunk:
        self.taken.append((first, end))
        return await super().take(place, first, end, records, size)

    async def pick(self, place: Place, offsets: Sequence[int]) -> Mapping[int, Source]:
        self.picked.append(list(offsets))
        return await super().pick(place, offsets)


def test_ranges_are_read_through_and_single_offsets_looked_up() -> None:
    logs = Sparse()
    logs.fill(ORIGIN, range(1000), 0, 1000)
    wanted = [(0, 0), (5, 6), (100, 299), (400, 400)]

    async def select() -> selecting.Selection:
        return await selecting.select(logs, ORIGIN, iter(wanted), 1000, 1 << 20)

    taken = trio.run(select)
    assert list(taken.records) == [0, 5, 6, *range(100, 300), 400]
    assert logs.taken == [(100, 300)]
    assert logs.picked == [[0, 5, 6], [400]]
    assert taken.rest is None


@pytest.mark.parametrize(("limit", "rest"), [(1, 5), (3, 100), (10, 107), (203, 400), (204, None)])
def test_a_selection_ends_anywhere(limit: int, rest: int | None) -> None:
    logs = Logs()
    logs.fill(ORIGIN, range(1000), 0, 1000)
    wanted = [(0, 0), (5, 6), (100, 299), (400, 400)]

    async def select() -> selecting.Selection:
        return await selecting.select(logs, ORIGIN, iter(wanted), limit, 1 << 20)

    taken = trio.run(select)
    assert len(taken.records) == limit
    assert taken.rest == rest


def test_what_stands_aside_says_why() -> None:
    made = world()
    made.places.blocked.add("billing")
    made.commit("billing", ORDERS, 0, 6, '{"nack": [1, [4, 5]]}')
    made.commit("billing", ORDERS, 0, 7, '{"nack": [6]}')
    made.commit("audit", ORDERS, 1, 3, '{"nack": [2]}')
    drain(made)
    assert made.follower is not None
    (aside,) = made.follower.aside("billing")
    assert (aside.holder.partition, aside.offsets, aside.why) == (0, 4, "the name is too long")
    assert made.follower.aside("audit") == []
    made.places.blocked.clear()
    drain(made)
    assert made.follower.aside("billing") == []


def test_letters_that_go_back_at_a_rate_are_noted() -> None:
    made = world()
    made.order('{"replay": [1, [4, 5]], "to": "plain", "rate": 2}')
    drain(made)
    made.crash()
    drain(made)
    (back,) = returning.read(made.extras, LETTERS.topic_id)
    now_ms = made.clock.time_ms()
    assert (back.partition, back.to, back.left(now_ms), back.left(now_ms + 500)) == (0, "plain", 2, 1)
