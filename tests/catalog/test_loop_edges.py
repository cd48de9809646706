"""Dead letters that would fail again: nothing is refused that is not at fault, nor the way out of it."""

from __future__ import annotations

import pytest

from pykbroker.catalog.changes import SetTopicConfig
from pykbroker.catalog.image import GROUP, TOPIC
from pykbroker.catalog.loops import loops
from tests.catalog.test_loops import BINDINGS, DEAD, POLICY, World, bound, refused


@pytest.fixture(name="world")
async def _world() -> World:
    world = World()
    await world.create("orders", {POLICY: "fixed"})
    await world.create("bills", {POLICY: "fixed"})
    await world.exchange("back", "orders")
    return world


async def overridden(world: World, name: str, key: str, value: str) -> None:
    """As it may have come to be before there were rules."""
    topic = world.catalog.image.topics[name]
    await world.catalog.propose(
        [SetTopicConfig(name=name, version=topic.config_version, overrides={**topic.overrides, key: value})]
    )


async def test_where_there_is_a_loop_another_is_refused_and_nothing_else(world: World) -> None:
    await overridden(world, "orders", DEAD, "back")
    assert loops(world.catalog.retrying)
    await world.set(TOPIC, "bills", {POLICY: "linear"})
    await world.set(GROUP, "billing", {POLICY: "fixed"})
    await world.create("mails", {POLICY: "fixed"})
    await world.set(TOPIC, "back", {BINDINGS: bound("orders", "bills")})
    with refused(DEAD):
        await world.set(TOPIC, "bills", {DEAD: "back"})
    await world.set(TOPIC, "back", {BINDINGS: bound("mails")})
    assert not loops(world.catalog.retrying)


async def test_what_gets_dead_letters_and_has_a_policy_may_be_altered_and_rid_of_it(world: World) -> None:
    await overridden(world, "orders", DEAD, "bills")
    await world.set(TOPIC, "bills", {"retention.ms": "5"})
    with refused(POLICY):
        await world.set(TOPIC, "bills", {POLICY: "linear"})
    await world.set(TOPIC, "bills", {POLICY: "none"})
    await world.set(TOPIC, "bills", {POLICY: " none "})


async def test_what_gets_dead_letters_already_may_get_more_whatever_its_policy(world: World) -> None:
    """Of its failures nothing is retried as it is."""
    await overridden(world, "orders", DEAD, "bills")
    await world.create("mails", {POLICY: "fixed", DEAD: "bills"})
    assert world.catalog.retrying.settings("bills", "billing").policy == "none"
