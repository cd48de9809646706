"""Lanes that follow commits, where a little less would not do."""

from __future__ import annotations

import trio

from pykbroker.catalog.image import Topic
from pykbroker.delivery.headers import Nack
from pykbroker.forwarding.plan import Move, Place
from tests.delivery.following_world import ARRIVALS, LETTERS, ORDERS, REPLAYS, World

ALL = range(30)


def world() -> World:
    made = World()
    for each in (ORDERS, LETTERS):
        made.logs.fill(Place(each.topic_id, 0), ALL, 0, len(ALL))
    return made


def drain(made: World) -> None:
    trio.run(made.drain)


def test_a_commit_that_nacks_goes_back_like_any_other() -> None:
    made = world()
    made.commit("billing", ORDERS, 0, 10, '{"nack": [8]}')
    made.commit("billing", ORDERS, 0, 5, '{"nack": [3]}')
    made.commit("billing", ORDERS, 0, 10, '{"nack": [3, 8]}')
    drain(made)
    assert made.offsets(ORDERS, "billing") == [8, 3, 8]


def test_what_is_stuck_is_tried_at_once_when_the_catalog_changes() -> None:
    made = world()
    made.places.blocked.add("billing")
    made.commit("billing", ORDERS, 0, 10, '{"nack": [5]}')

    async def steps() -> None:
        while await made.step():
            pass
        made.places.blocked.clear()
        assert not await made.step(), "it is left alone for a while"
        assert made.follower is not None
        made.follower.changed(frozenset())
        assert await made.step()

    trio.run(steps)
    assert made.offsets(ORDERS, "billing") == [5]


def test_what_stood_aside_keeps_its_reason_and_its_rate_over_a_crash() -> None:
    made = world()
    made.places.blocked.add("billing")
    made.commit("billing", ORDERS, 0, 10, '{"nack": [5], "reason": "no such customer"}')
    trio.run(made.step)
    made.crash()
    made.places.blocked.clear()
    drain(made)
    (moved,) = made.moved
    assert isinstance(moved.note, Nack)
    assert moved.note.reason == "no such customer"


def test_records_go_elsewhere_in_the_order_in_which_they_were_to_go() -> None:
    made = world()
    made.commit("billing", ORDERS, 0, 10, '{"nack": [5, 6]}')
    drain(made)
    (route,) = made.steps[0].routes
    offsets = (1 << 20, 5, 6, 1 << 10)
    move = Move(
        target=Place(b"x" * 16, 0),
        offsets=offsets,
        since=0,
        base_sequence=0,
        source=route.source,
        note=route.note,
    )
    assert made.follower is not None
    (instead,) = trio.run(made.follower.refused, move, dict.fromkeys(sorted(offsets), "gone"), {}) or ()
    assert instead.offsets == offsets


def test_a_target_that_refuses_what_is_meant_for_it_is_waited_for() -> None:
    made = world()
    made.commit("billing", ORDERS, 0, 10, '{"nack": [5]}')
    made.order('{"replay": [1]}')
    drain(made)
    assert made.follower is not None
    for step in made.steps:
        for route in step.routes:
            assert route.target in (ARRIVALS, REPLAYS)
            move = Move(
                target=route.target, offsets=route.offsets, since=0, base_sequence=0, source=route.source,
                note=route.note,
            )  # fmt: skip
            refused = dict.fromkeys(route.offsets, "too large")
            assert trio.run(made.follower.refused, move, refused, {}) is None


def test_what_is_committed_for_a_topic_that_is_gone_says_nothing_of_the_one_that_took_its_name() -> None:
    made = world()
    old = Topic(name=ORDERS.name, topic_id=b"old!" * 4, partitions=ORDERS.partitions, overrides={})
    made.commit("billing", ORDERS, 0, 10, '{"nack": [5]}')
    made.commit("billing", old, 0, 10, '{"nack": [6]}')
    made.commit("billing", old, 0, 0)
    made.commit("billing", ORDERS, 0, 10, '{"nack": [5, 7]}')
    drain(made)
    assert made.offsets(ORDERS, "billing") == [5, 7]
