"""Dead letters that would fail for ever, over however many topics, are refused where that is set."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from pykbroker.catalog.alter import Alteration, Step, alter
from pykbroker.catalog.exchange_types import ExchangeTypes
from pykbroker.catalog.image import BROKER, GROUP, TOPIC
from pykbroker.catalog.loops import loops, way_back
from pykbroker.catalog.memory import MemoryCatalog
from pykbroker.catalog.topics import NewTopic, TopicAdmin
from pykbroker.config import BrokerConfig
from pykbroker.delivery.topics import DeliveryTopics
from pykbroker.errors import ErrorCode, KafkaError

POLICY = "pykbroker.retry.policy"
DEAD = "pykbroker.dead.letter.topic"
BINDINGS = "pykbroker.exchange.bindings"
ALTERNATE = "pykbroker.exchange.alternate"


class Fanout(ExchangeTypes):
    """One exchange type, of which nothing is asked."""

    def names(self) -> frozenset[str]:
        return frozenset({"fanout"})

    def check(self, *args: object) -> None:
        """Every binding will do."""


class World:
    """A catalog, and who makes topics in it."""

    def __init__(self) -> None:
        self.catalog = MemoryCatalog(BrokerConfig.load())
        self.catalog.exchange_rules.types = Fanout()
        self.admin = TopicAdmin(self.catalog)
        self.topics = DeliveryTopics(self.catalog, self.admin, self._groups)

    async def _groups(self) -> list[str]:
        return []

    async def create(self, name: str, values: Mapping[str, str] | None = None) -> None:
        new = NewTopic(name=name, partitions=1, overrides=list((values or {}).items()))
        (result,) = await self.admin.create([new])
        if isinstance(result, KafkaError):
            raise result

    async def exchange(self, name: str, *targets: str) -> None:
        await self.create(name, {"pykbroker.exchange.type": "fanout", BINDINGS: bound(*targets)})

    async def flow(self, name: str, dead_letters: str) -> None:
        """A topic of whose failures there is a flow."""
        await self.create(name, {POLICY: "fixed", DEAD: dead_letters})
        await self.topics.ensure(name, "billing")

    async def set(self, kind: int, name: str, values: Mapping[str, str]) -> None:
        steps = [Step(key, 0, value) for key, value in values.items()]
        (error,) = await alter(self.catalog, [Alteration(resource_type=kind, name=name, steps=steps)])
        if error is not None:
            raise error


def bound(*targets: str) -> str:
    return json.dumps([{"to": target} for target in targets])


@pytest.fixture(name="world")
async def _world() -> World:
    """Failures of orders go to e1 and to bills; those of bills to e2, and that leads to nothing yet."""
    world = World()
    await world.exchange("e2")
    await world.flow("bills", "e2")
    await world.exchange("e1", "bills")
    await world.flow("orders", "e1")
    return world


@contextmanager
def refused(setting: str) -> Iterator[pytest.ExceptionInfo[KafkaError]]:
    """INVALID_CONFIG that begins with the name of a setting."""
    with pytest.raises(KafkaError, match=f"^{setting}: ") as caught:
        yield caught
    assert caught.value.code is ErrorCode.INVALID_CONFIG


async def test_a_binding_that_closes_a_loop_over_two_origins(world: World) -> None:
    with refused(BINDINGS) as caught:
        await world.set(TOPIC, "e2", {BINDINGS: bound("orders")})
    assert "bills > e2 > orders > e1 > bills" in str(caught.value)
    assert DEAD in str(caught.value), "the other setting that would help"
    await world.create("seen")
    await world.set(TOPIC, "e2", {BINDINGS: bound("seen")})


async def test_a_binding_of_the_groups_own_exchange_to_the_origin(world: World) -> None:
    with refused(BINDINGS):
        await world.set(TOPIC, "e1", {BINDINGS: bound("orders")})
    with refused(BINDINGS):
        await world.set(TOPIC, "e1", {BINDINGS: bound("bills", "orders.billing.retry")})


async def test_an_alternate_that_closes_a_loop(world: World) -> None:
    await world.exchange("back", "orders")
    with refused(ALTERNATE):
        await world.set(TOPIC, "e2", {ALTERNATE: "back"})


async def test_an_exchange_made_under_the_name_of_a_target(world: World) -> None:
    await world.create("mails", {POLICY: "fixed", DEAD: "later"})
    with refused(BINDINGS):
        await world.exchange("later", "mails")
    await world.exchange("later", "orders")


async def test_a_dead_letter_topic_that_closes_a_loop(world: World) -> None:
    await world.exchange("back", "orders")
    for kind, name in ((TOPIC, "bills"), (GROUP, "billing")):
        with refused(DEAD):
            await world.set(kind, name, {DEAD: "back"})
    await world.set(TOPIC, "bills", {DEAD: "{topic}.{group}.dlq"})
    await world.set(TOPIC, "e2", {BINDINGS: bound("orders")})  # nothing goes there any more


async def test_the_brokers_dead_letter_topic(world: World) -> None:
    await world.create("mails", {POLICY: "fixed"})
    await world.exchange("back", "mails")
    with refused(DEAD):
        await world.set(BROKER, "", {DEAD: "back"})


async def test_a_policy_that_closes_a_loop(world: World) -> None:
    await world.create("mails")
    await world.exchange("to-mails", "mails")
    await world.exchange("to-news")
    await world.create("news", {POLICY: "fixed", DEAD: "to-mails"})
    await world.set(TOPIC, "mails", {DEAD: "to-news"})
    await world.set(TOPIC, "to-news", {BINDINGS: bound("news")})  # nothing of mails is retried
    with refused(POLICY):
        await world.set(TOPIC, "mails", {POLICY: "fixed"})


async def test_what_fails_itself_is_no_place_for_dead_letters(world: World) -> None:
    """Its own failures would not be retried any more, and nobody would know."""
    for kind, name in ((TOPIC, "orders"), (GROUP, "shipping"), (BROKER, "")):
        with refused(DEAD) as caught:
            await world.set(kind, name, {DEAD: "bills"})
        assert POLICY in str(caught.value)
    with refused(POLICY):
        await world.create("dead")
        await world.set(TOPIC, "orders", {DEAD: "dead"})
        await world.set(TOPIC, "dead", {POLICY: "fixed"})


async def test_a_default_policy_or_a_groups_does_not_hold_where_dead_letters_lie(world: World) -> None:
    """They are not meant for that topic alone: whoever names it is not refused, whatever came first."""
    await world.set(BROKER, "", {POLICY: "fixed"})
    await world.create("failed")
    await world.topics.ensure("failed", "alerts")
    for kind, name in ((TOPIC, "orders"), (GROUP, "shipping"), (BROKER, "")):
        await world.set(kind, name, {DEAD: "failed"})
    assert world.catalog.retrying.settings("failed", "alerts").policy == "none"
    assert world.catalog.retrying.settings("bills", "alerts").policy == "fixed"


@pytest.mark.parametrize("settings_first", [True, False])
@pytest.mark.parametrize("kind", [BROKER, GROUP])
async def test_what_is_set_for_all_topics_is_not_refused(kind: int, settings_first: bool) -> None:
    """A policy and a dead-letter exchange that sorts by reason into queues, for all that a group or everybody
    reads: in whatever order.  Of a queue there is no flow, or its dead letters would come back."""
    world = World()
    name = "" if kind == BROKER else "billing"
    await world.create("invalid")
    await world.exchange("letters", *(() if settings_first else ("invalid",)))
    await world.create("orders")
    await world.set(kind, name, {POLICY: "fixed", DEAD: "letters"})
    await world.topics.ensure("orders", "billing")
    await world.set(TOPIC, "letters", {BINDINGS: bound("invalid")})
    await world.create("mails")
    await world.topics.ensure("mails", "billing")
    with refused(DEAD):
        await world.topics.ensure("invalid", "billing")
    await world.set(TOPIC, "invalid", {DEAD: "{topic}.{group}.dlq"})
    if kind == BROKER:  # a group's setting wins
        await world.topics.ensure("invalid", "billing")
    assert not loops(world.catalog.retrying)


@pytest.mark.parametrize("dead", ["failed", "{topic}.failed", "failed-{group}", "letters"])
async def test_one_place_for_the_dead_letters_of_many_topics(dead: str) -> None:
    world = World()
    await world.set(BROKER, "", {POLICY: "fixed"})
    await world.create("queue")
    await world.exchange("letters", "queue")
    for number in range(3):
        await world.create(f"t{number}", {POLICY: "fixed", DEAD: dead})
        for group in ("g", "h"):
            made = await world.topics.ensure(f"t{number}", group)
            assert made.dead_letter.name == dead.format(topic=f"t{number}", group=group)
    await world.topics.ensure("queue", "g")  # by the broker's default; its dead letters lie elsewhere
    steps = [Step(POLICY, 0, "linear"), Step(DEAD, 0, dead)]
    for wanted in (
        Alteration(resource_type=TOPIC, name="t0", steps=steps, replace=True),
        Alteration(resource_type=TOPIC, name="t1", steps=steps),
    ):
        assert await alter(world.catalog, [wanted]) == [None]
    with pytest.raises(KafkaError, match=POLICY):
        await world.topics.ensure(made.dead_letter.name, "g")


async def test_a_target_whose_own_dead_letters_would_have_come_back(world: World) -> None:
    await world.exchange("back", "orders")
    await world.set(GROUP, "alerts", {POLICY: "fixed", DEAD: "back"})
    await world.create("failed")
    await world.topics.ensure("failed", "alerts")
    await world.set(TOPIC, "orders", {DEAD: "failed"})
    assert not loops(world.catalog.retrying)


async def test_resources_of_one_request_are_decided_one_after_the_other(world: World) -> None:
    """Two that are harmless alone close a circle together."""
    await world.exchange("e3")
    await world.create("mails", {POLICY: "fixed"})
    binding = Alteration(resource_type=TOPIC, name="e3", steps=[Step(BINDINGS, 0, bound("mails", "orders"))])
    for kind, name in ((TOPIC, "mails"), (BROKER, "")):
        dead_letters = Alteration(resource_type=kind, name=name, steps=[Step(DEAD, 0, "e3")])
        for wanted in ([dead_letters, binding], [binding, dead_letters]):
            first, second = await alter(world.catalog, wanted, validate_only=True)
            assert first is None
            assert second is not None
            assert second.code is ErrorCode.INVALID_CONFIG
    first, second = await alter(world.catalog, [dead_letters, binding])
    assert (first, second and second.code) == (None, ErrorCode.INVALID_CONFIG)
    assert not loops(world.catalog.retrying)


async def test_settings_that_do_not_change_are_not_looked_at_again(world: World) -> None:
    """Whoever lists all that a topic or a group has, to alter one of them, is not refused."""
    await world.exchange("e3")
    await world.set(GROUP, "audit", {POLICY: "fixed", DEAD: "e3"})
    await world.set(TOPIC, "e3", {BINDINGS: bound("orders.billing.retry")})
    await world.set(GROUP, "audit", {POLICY: "linear"})
    steps = [Step(POLICY, 0, "linear"), Step(DEAD, 0, "e1")]
    wanted = Alteration(resource_type=TOPIC, name="orders", steps=steps, replace=True)
    assert await alter(world.catalog, [wanted]) == [None]


async def test_what_was_a_loop_before_is_in_nobodys_way(world: World) -> None:
    """A group may have come to be meanwhile."""
    await world.set(GROUP, "audit", {POLICY: "fixed", DEAD: "e3"})
    await world.create("plain")
    await world.exchange("e3", "plain")
    with pytest.raises(KafkaError, match=DEAD):
        await world.topics.ensure("plain", "audit")
    await world.set(TOPIC, "e3", {BINDINGS: bound("plain", "orders")})


async def test_a_chain_is_no_loop(world: World) -> None:
    rules = world.catalog.retrying
    assert way_back(rules, "orders", "e1") is None
    assert way_back(rules, "bills", "e1") == ("bills", "e1", "bills")
    assert way_back(rules, "orders", "orders.billing.dlq") is None
    assert way_back(rules, "orders", "nowhere") is None
