"""Retry and dead-letter topics: made, named, grown, deleted; as administrators and groups see it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from types import SimpleNamespace
from typing import cast

import pytest
import trio

from pykbroker.catalog.alter import Alteration, Step, alter
from pykbroker.catalog.changes import Change
from pykbroker.catalog.growth import MorePartitions
from pykbroker.catalog.image import BROKER, GROUP, TOPIC, Image, Topic
from pykbroker.catalog.memory import MemoryCatalog
from pykbroker.catalog.policies import Policies
from pykbroker.catalog.retrying import (
    REPLAY_TOPIC,
    Role,
    RoleKind,
    delayed_name,
    flow_of,
    flow_of_role,
    held_name,
    role_of,
)
from pykbroker.catalog.topics import NewTopic, TopicAdmin
from pykbroker.config import BrokerConfig
from pykbroker.delivery.topics import DeliveryTopics
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.partitions.manager import Partitions

POLICY = "pykbroker.retry.policy"
RETRY_TOPIC = "pykbroker.retry.topic"
DEAD = "pykbroker.dead.letter.topic"
RETRY = Role(RoleKind.RETRY, "orders", "billing")
LETTERS = Role(RoleKind.DEAD_LETTER, "orders", "billing")


class CountingCatalog(MemoryCatalog):
    """Knows how many proposals there were."""

    proposals = 0

    async def propose(self, changes: Sequence[Change]) -> Image:
        self.proposals += 1
        await trio.lowlevel.checkpoint()
        return await super().propose(changes)


class World:
    """A catalog, its topics, and the groups that are known."""

    def __init__(self, *sets: str) -> None:
        self.catalog = CountingCatalog(BrokerConfig.load(sets=sets))
        self.admin = TopicAdmin(self.catalog)
        self.known: list[str] = []
        self.topics = DeliveryTopics(self.catalog, self.admin, self._groups)

    async def _groups(self) -> Collection[str]:
        return self.known

    @property
    def names(self) -> set[str]:
        return set(self.catalog.image.topics)

    def topic(self, name: str) -> Topic:
        return self.catalog.image.topics[name]

    def sizes(self, *names: str) -> list[int]:
        return [len(self.topic(name).partitions) for name in names]

    async def asked(self, name: str) -> Topic:
        """The topic that a client gets who asks for its metadata, and may create it."""
        known = await self.topics.groups_for([name])
        error = (await self.admin.auto_create([name], known_groups=known))[name]
        if error is not None:
            raise error
        return self.topic(name)

    async def create(self, name: str, partitions: int = 1, **overrides: str) -> Topic:
        new = NewTopic(
            name=name,
            partitions=partitions,
            overrides=[(key.replace("__", "-").replace("_", "."), value) for key, value in overrides.items()],
        )
        (result,) = await self.admin.create([new], known_groups=await self.topics.groups_for([name]))
        if isinstance(result, KafkaError):
            raise result
        return result

    async def set(self, kind: int, name: str, values: Mapping[str, str]) -> None:
        steps = [Step(key, 0, value) for key, value in values.items()]
        (error,) = await alter(self.catalog, [Alteration(resource_type=kind, name=name, steps=steps)])
        if error is not None:
            raise error

    async def delete(self, name: str) -> None:
        (result,) = await self.admin.delete([name])
        assert isinstance(result, Topic)


def flow_names(role: Role = RETRY) -> tuple[str, str]:
    flow = flow_of_role(role)
    return delayed_name(flow), held_name(flow)


@pytest.fixture
async def world() -> World:
    """One topic with a policy and three partitions."""
    world = World()
    await world.create("orders", 3, pykbroker_retry_policy="fixed", flush_messages="1")
    return world


async def test_both_topics_and_the_flow_are_one_proposal(world: World) -> None:
    before = world.catalog.proposals
    found = await world.topics.ensure("orders", "billing")
    assert world.catalog.proposals == before + 1
    assert (found.retry.name, found.dead_letter.name) == ("orders.billing.retry", "orders.billing.dlq")
    assert (role_of(found.retry), role_of(found.dead_letter)) == (RETRY, LETTERS)
    assert world.names == {"orders", found.retry.name, found.dead_letter.name, *flow_names()}
    assert set(world.sizes(*world.names)) == {3}
    for name in world.names - {"orders"}:
        config = world.catalog.topic_config(world.topic(name))
        assert (config.retention_ms, config.retention_bytes, config.compacted) == (-1, -1, False)
        assert config.flush_messages == 1  # what an acknowledgement promises is the origin's
        assert config.max_message_bytes == 2**31 - 1
    assert found.retry.overrides["retention.ms"] == "-1"
    again = await world.topics.ensure("orders", "billing")
    assert again.retry is found.retry
    assert world.catalog.proposals == before + 1


async def test_many_who_want_the_same(world: World) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(world.topics.ensure, "orders", "billing")
            nursery.start_soon(world.asked, "orders.billing.dlq")
    assert len(world.names) == 5


async def test_without_a_policy_there_is_nothing_to_make(world: World) -> None:
    await world.create("plain")
    for origin in ("plain", "gone"):
        with pytest.raises(KafkaError, match=r"pykbroker\.retry\.policy") as caught:
            await world.topics.ensure(origin, "billing")
        assert caught.value.code is ErrorCode.INVALID_CONFIG


async def test_a_group_finds_its_topics_when_it_joins(world: World, caplog: pytest.LogCaptureFixture) -> None:
    await world.topics.prepare("billing", ["orders", "orders.billing.retry", "gone", "__consumer_offsets"])
    assert {"orders.billing.retry", "orders.billing.dlq"} < world.names
    count = world.catalog.proposals
    await world.topics.prepare("billing", ["orders", "orders.billing.retry", "orders.billing.dlq"])
    await world.topics.prepare("pykbroker.dlq", ["orders", "orders.billing.dlq"])
    assert world.catalog.proposals == count
    with caplog.at_level(logging.WARNING):
        await world.topics.prepare("x" * 250, ["orders"])
        await world.topics.prepare("x" * 250, ["orders"])
    (message,) = caplog.messages
    assert "pykbroker.retry.topic" in message


@pytest.mark.parametrize(
    ("group", "name", "why"),
    [
        ("g" * 250, "", "has 263 characters"),
        ("taken", "orders.taken.retry", "is there already"),
        ("a_b", "orders_a.b.retry", "collides"),
    ],
)
async def test_names_that_cannot_be_had(world: World, group: str, name: str, why: str) -> None:
    await world.set(TOPIC, "orders", {POLICY: "none"})
    if name:
        await world.create(name)
    await world.set(TOPIC, "orders", {POLICY: "fixed"})
    before = world.names
    with pytest.raises(KafkaError, match=r"pykbroker\.retry\.topic") as caught:
        await world.topics.ensure("orders", group)
    assert caught.value.code is ErrorCode.INVALID_TOPIC_EXCEPTION
    assert why in str(caught.value)
    assert world.names == before
    await world.set(GROUP, group, {RETRY_TOPIC: "r.{topic}.{group}"})
    if len(group) < 200:
        assert (await world.topics.ensure("orders", group)).retry.name == f"r.orders.{group}"


async def test_the_dead_letter_topic_is_named_where_it_is_the_one(world: World) -> None:
    await world.set(TOPIC, "orders", {POLICY: "none"})
    await world.create("orders.billing.dlq")
    await world.set(TOPIC, "orders", {POLICY: "fixed"})
    with pytest.raises(KafkaError, match=r"pykbroker\.dead\.letter\.topic"):
        await world.topics.ensure("orders", "billing")
    assert "orders.billing.retry" not in world.names


async def test_a_name_that_another_group_has(world: World) -> None:
    """Templates without anything between topic and group give one name to several pairs."""
    await world.topics.ensure("orders", "billing")
    await world.set(GROUP, "same", {RETRY_TOPIC: "{topic}.{group}.dlq"})
    await world.set(GROUP, "retry", {RETRY_TOPIC: "{topic}.billing.{group}"})
    for group, why in (
        (
            "same",
            "the retry topic of group 'same' on orders is there already; set pykbroker.dead",
        ),
        ("retry", "the retry topic of group 'billing' on orders is there already; set pykbroker.retry"),
    ):
        with pytest.raises(KafkaError) as caught:
            await world.topics.ensure("orders", group)
        assert why in str(caught.value)


async def test_names_of_the_broker_are_not_made(world: World) -> None:
    await world.set(TOPIC, "orders", {RETRY_TOPIC: "__{topic}.{group}"})
    with pytest.raises(KafkaError, match="belong to the broker"):
        await world.topics.ensure("orders", "billing")


async def test_two_groups_of_one_name(world: World) -> None:
    world.known = ["a b", "a_b"]
    for group in world.known:
        with pytest.raises(KafkaError, match=r"'a.b' and 'a.b'"):
            await world.topics.ensure("orders", group)
    with pytest.raises(KafkaError, match=r"'a b' and 'a_b'"):
        await world.asked("orders.a_b.retry")
    await world.set(GROUP, "a_b", {RETRY_TOPIC: "{topic}.{group}.r", DEAD: "{topic}.{group}.d"})
    assert (await world.topics.ensure("orders", "a b")).retry.name == "orders.a_b.retry"
    assert (await world.topics.ensure("orders", "a_b")).retry.name == "orders.a_b.r"
    await world.set(GROUP, "a/b", {POLICY: "linear"})
    with pytest.raises(KafkaError, match="'a/b' and 'a b'"):
        await world.topics.ensure("orders", "a/b")
    world.known = []
    with pytest.raises(KafkaError, match="is there already"):
        await world.topics.ensure("orders", "a/b")


async def test_a_name_that_was_asked_for_before_the_group_was_known(world: World) -> None:
    """The consumer of "a b" asks for orders.a_b.retry, and then joins."""
    guessed = await world.asked("orders.a_b.retry")
    assert role_of(guessed) == Role(RoleKind.RETRY, "orders", "a_b")
    with pytest.raises(KafkaError, match="is there already"):
        await world.topics.ensure("orders", "a b")  # it cannot be told that nobody used it
    used: set[str] = {held_name(flow_of_role(Role(RoleKind.RETRY, "orders", "a_b")))}

    class Fake:
        def get(self, name: str, index: int) -> object:
            return SimpleNamespace(log_end_offset=int(name in used and index == 2))

    topics = DeliveryTopics(world.catalog, world.admin, world._groups, cast(Partitions, Fake()))
    with pytest.raises(KafkaError, match="is there already"):
        await topics.ensure("orders", "a b")
    used.clear()
    world.known = ["a_b"]
    with pytest.raises(KafkaError, match="'a b' and 'a_b'"):
        await topics.ensure("orders", "a b")
    world.known = []
    found = await topics.ensure("orders", "a b")
    assert role_of(found.retry) == Role(RoleKind.RETRY, "orders", "a b")
    assert role_of(found.dead_letter) == Role(RoleKind.DEAD_LETTER, "orders", "a b")
    assert found.retry.topic_id == guessed.topic_id  # to clients it is what it was
    hidden = {name for name in world.names if name.startswith("__")}
    assert hidden == set(flow_names(Role(RoleKind.RETRY, "orders", "a b")))
    assert len(world.names) == 5


async def test_a_shared_dead_letter_topic(world: World) -> None:
    await world.set(TOPIC, "orders", {DEAD: "dead"})
    found = await world.topics.ensure("orders", "billing")
    assert (found.dead_letter.name, role_of(found.dead_letter)) == ("dead", None)
    assert found.dead_letter.overrides == {"retention.ms": "-1", "cleanup.policy": "delete"}
    other = await world.topics.ensure("orders", "shipping")
    assert other.dead_letter is found.dead_letter
    await world.topics.prepare("reader", ["dead"])
    assert "dead.reader.retry" not in world.names
    for change in ({"cleanup.policy": "compact"}, {"cleanup.policy": "delete,compact"}):
        with pytest.raises(KafkaError, match=r"cleanup\.policy.*dead letters") as caught:
            await world.set(TOPIC, "dead", change)
        assert caught.value.code is ErrorCode.INVALID_CONFIG


async def test_an_exchange_may_get_dead_letters() -> None:
    world = World(f"{POLICY}=fixed", f"{DEAD}=failures")
    await world.create("orders")
    config = BrokerConfig.from_texts({})
    assert config.pykbroker_dead_letter_topic == "{topic}.{group}.dlq"
    await world.create("failures")
    assert (await world.topics.ensure("orders", "billing")).dead_letter.name == "failures"


@pytest.mark.parametrize("kind", [TOPIC, GROUP, BROKER])
async def test_where_dead_letters_cannot_go(world: World, kind: int) -> None:
    await world.topics.ensure("orders", "billing")
    await world.create("compacted", cleanup_policy="compact")
    name = {TOPIC: "orders", GROUP: "billing", BROKER: ""}[kind]
    for target in ("compacted", "orders.billing.retry", "__consumer_offsets"):
        with pytest.raises(KafkaError, match=r"pykbroker\.dead\.letter\.topic") as caught:
            await world.set(kind, name, {DEAD: target})
        assert caught.value.code is ErrorCode.INVALID_CONFIG
    await world.set(kind, name, {DEAD: "anything"})
    with pytest.raises(KafkaError) as caught:
        await world.create("anything", cleanup_policy="compact")
    assert caught.value.code is ErrorCode.INVALID_CONFIG
    if kind == TOPIC:
        with pytest.raises(KafkaError, match="the topic itself"):
            await world.set(kind, name, {DEAD: "orders"})


async def test_bad_values_are_invalid_configs_in_every_scope(world: World) -> None:
    for kind, name in ((TOPIC, "orders"), (GROUP, "billing"), (BROKER, "")):
        for key, value in ((RETRY_TOPIC, "x"), ("pykbroker.retry.max.attempts", "-1"), (DEAD, "{x}")):
            with pytest.raises(KafkaError, match=key) as caught:
                await world.set(kind, name, {key: value})
            assert caught.value.code is ErrorCode.INVALID_CONFIG


async def test_asking_for_a_name_makes_both(world: World) -> None:
    assert role_of(await world.asked("nobody.billing.retry")) is None
    assert role_of(await world.asked("orders.billing.dlq")) == LETTERS
    assert "orders.billing.retry" in world.names


async def test_creating_a_name_makes_both(world: World) -> None:
    world.known = ["bil/ling"]
    made = await world.create("orders.bil_ling.retry", 1, segment_bytes="1000")
    assert (role_of(made), len(made.partitions)) == (Role(RoleKind.RETRY, "orders", "bil/ling"), 3)
    assert made.overrides["segment.bytes"] == "1000"
    assert "segment.bytes" not in world.topic("orders.bil_ling.dlq").overrides
    with pytest.raises(KafkaError) as caught:
        await world.create("orders.bil_ling.dlq")
    assert caught.value.code is ErrorCode.TOPIC_ALREADY_EXISTS
    for name, value in (
        ("cleanup.policy", "compact"),
        ("pykbroker.role", "retry:orders:x"),
        (POLICY, "fixed"),
    ):
        (error,) = await world.admin.create([NewTopic(name="orders.x.retry", overrides=[(name, value)])])
        assert isinstance(error, KafkaError)
        assert error.code is ErrorCode.INVALID_CONFIG
        assert name in str(error)
    before = world.names
    (result,) = await world.admin.create([NewTopic(name="orders.x.retry")], validate_only=True)
    assert isinstance(result, Topic)
    assert len(result.partitions) == 3
    assert world.names == before


async def test_an_origin_and_its_retry_topic_in_one_request() -> None:
    world = World(f"{POLICY}=fixed", "num.partitions=2")
    found = await world.admin.auto_create(["a.g.retry", "a"])
    assert found == {"a.g.retry": None, "a": None}
    assert role_of(world.topic("a.g.retry")) == Role(RoleKind.RETRY, "a", "g")
    assert world.sizes("a", "a.g.retry", "a.g.dlq") == [2, 2, 2]
    new = [NewTopic(name="b.g.dlq"), NewTopic(name="b"), NewTopic(name="c")]
    results = await world.admin.create(new)
    assert [result.name for result in results if isinstance(result, Topic)] == ["b.g.dlq", "b", "c"]
    assert role_of(world.topic("b.g.dlq")) == Role(RoleKind.DEAD_LETTER, "b", "g")


@pytest.mark.parametrize("validate_only", [True, False])
async def test_both_names_in_one_request(world: World, validate_only: bool) -> None:
    """Whoever creates what a group needs is told that it was created, not that half of it was there."""
    new = [
        NewTopic(name="orders.g.retry", overrides=[("segment.bytes", "1000")]),
        NewTopic(name="orders.g.dlq", overrides=[("retention.ms", "5")]),
    ]
    before = world.names
    for _ in range(2 if validate_only else 1):
        results = await world.admin.create(new, validate_only=validate_only)
        assert [result.name for result in results if isinstance(result, Topic)] == [each.name for each in new]
    if validate_only:
        assert world.names == before
        return
    assert world.topic("orders.g.retry").overrides["segment.bytes"] == "1000"
    assert world.topic("orders.g.dlq").overrides["retention.ms"] == "5"
    for error in await world.admin.create(new):
        assert isinstance(error, KafkaError)
        assert error.code is ErrorCode.TOPIC_ALREADY_EXISTS
    bad = NewTopic(name="orders.h.retry", overrides=[("cleanup.policy", "compact")])
    refused, made = await world.admin.create([bad, NewTopic(name="orders.h.dlq")])
    assert isinstance(refused, KafkaError)
    assert isinstance(made, Topic)


async def test_everything_grows_with_the_origin(world: World) -> None:
    await world.topics.ensure("orders", "billing")
    await world.topics.ensure("orders", "other")
    await world.delete("orders.other.retry")
    before = world.catalog.proposals
    await world.admin.create_partitions([MorePartitions(name="orders", count=5)])
    assert world.catalog.proposals == before + 1
    assert set(world.sizes(*world.names)) == {5}
    for name in ("orders.billing.retry", "orders.billing.dlq"):
        (error,) = await world.admin.create_partitions([MorePartitions(name=name, count=9)])
        assert isinstance(error, KafkaError)
        assert error.code is ErrorCode.INVALID_PARTITIONS
        assert "orders" in str(error)


async def test_what_waits_outlives_the_retry_topic(world: World) -> None:
    await world.topics.ensure("orders", "billing")
    ids = [world.topic(name).topic_id for name in flow_names()]
    await world.delete("orders.billing.retry")
    assert await world.topics.ensure_topic(RETRY)
    assert [world.topic(name).topic_id for name in flow_names()] == ids
    assert not await world.topics.drop_flow(flow_of_role(RETRY), ids)
    await world.delete("orders")
    assert len(world.names) == 4
    await world.delete("orders.billing.retry")
    await world.delete("orders.billing.dlq")
    assert await world.topics.ensure_topic(RETRY) is await world.topics.ensure_topic(RETRY)
    ids = [world.topic(name).topic_id for name in flow_names()]
    letters = await world.topics.ensure_topic(LETTERS)
    assert (letters.name, len(letters.partitions)) == ("orders.billing.dlq", 3)
    await world.delete("orders.billing.retry")
    assert await world.topics.drop_flow(flow_of_role(RETRY), ids)
    assert world.names == {"orders.billing.dlq"}
    assert len((await world.topics.ensure_topic(RETRY)).partitions) == 1
    await world.create("orders", 4, pykbroker_retry_policy="fixed")
    await world.topics.ensure("orders", "billing")
    assert set(world.sizes(*world.names)) == {4}


async def test_places_for_dead_letters_by_name(world: World) -> None:
    own = await world.topics.ensure_dead_letter("orders.billing.dlq", LETTERS, 3)
    assert role_of(own) == LETTERS
    custom = await world.topics.ensure_dead_letter("poison", LETTERS, 2)
    assert (role_of(custom), len(custom.partitions)) == (None, 2)
    assert await world.topics.ensure_dead_letter("poison", RETRY, 2) is custom
    await world.create("compacted", cleanup_policy="compact")
    for name in ("compacted", "orders", "__x", "a b"):
        with pytest.raises(KafkaError):
            await world.topics.ensure_dead_letter(name, LETTERS, 2)


async def test_topics_that_delay_have_their_flow_from_the_start() -> None:
    world = World()
    topic = await world.create("later", 2, pykbroker_delay_enable="true", flush_messages="7")
    flow = flow_of(topic)
    assert flow == topic.topic_id
    hidden = (delayed_name(flow), held_name(flow))
    assert world.names == {"later", *hidden}
    assert world.sizes(*hidden) == [2, 2]
    assert world.catalog.topic_config(world.topic(hidden[0])).flush_messages == 7
    await world.admin.create_partitions([MorePartitions(name="later", count=4)])
    assert world.sizes(*hidden) == [4, 4]
    await world.set(TOPIC, "later", {"pykbroker.delay.ms": "5"})
    await world.delete("later")
    assert not world.names


async def test_roles_are_not_altered(world: World) -> None:
    await world.topics.ensure("orders", "billing")
    for topic, value in (("orders.billing.retry", RETRY.text), ("orders", RETRY.text)):
        with pytest.raises(KafkaError, match=r"pykbroker\.role") as caught:
            await world.set(TOPIC, topic, {"pykbroker.role": value})
        assert caught.value.code is ErrorCode.INVALID_CONFIG
    replaced = Alteration(
        resource_type=TOPIC,
        name="orders.billing.retry",
        steps=[Step("segment.bytes", 0, "1000")],
        replace=True,
    )
    assert await alter(world.catalog, [replaced]) == [None]
    retry = world.topic("orders.billing.retry")
    assert role_of(retry) == RETRY
    assert world.catalog.topic_config(retry).retention_ms == -1
    assert world.catalog.topic_config(retry).segment_bytes == 1000


async def test_no_policy_of_a_plugin_is_asked_about_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise KafkaError(ErrorCode.POLICY_VIOLATION, "no")

    world = World(f"{POLICY}=fixed")
    await world.create("orders")
    for method in ("check_creation", "check_growth"):
        monkeypatch.setattr(Policies, method, refuse)
    admin = TopicAdmin(world.catalog, Policies.__new__(Policies))
    refused, made = await admin.create([NewTopic(name="x"), NewTopic(name="orders.g.retry")])
    assert isinstance(refused, KafkaError)
    assert isinstance(made, Topic)


async def test_the_log_of_replays() -> None:
    world = World("pykbroker.forward.num.partitions=3")
    topic = await world.admin.ensure_internal(REPLAY_TOPIC)
    config = world.catalog.topic_config(topic)
    assert (len(topic.partitions), topic.hidden) == (3, True)
    assert (config.compacted, config.retention_ms) == (False, -1)


async def test_groups_are_asked_for_only_where_it_matters(world: World) -> None:
    world.known = ["g"]
    assert await world.topics.groups_for(["orders.x.retry"]) == {"g"}
    assert await world.topics.groups_for(["new", "new.x.retry"]) == {"g"}
    for names in (["orders"], ["other"], ["orders.x.other"], ["new.x.retry", "orders"]):
        assert list(await world.topics.groups_for(names)) == []
    await world.set(GROUP, "g", {"pykbroker.retry.topic": "again-{group}-{topic}"})
    assert await world.topics.groups_for(["again-g-orders"]) == {"g"}
    assert list(await world.topics.groups_for(["again-h-orders"])) == []
    await world.set(GROUP, "g", {})
    await world.set(TOPIC, "orders", {POLICY: "none"})
    assert list(await world.topics.groups_for(["orders.x.retry"])) == []
