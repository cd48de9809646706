"""Exchanges and their bindings: made, altered, refused, deleted; boundaries and what is forgotten."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence

import pytest

from pykbroker.catalog.alter import Alteration, Operation, Step, alter
from pykbroker.catalog.exchange import Exchange
from pykbroker.catalog.exchange_types import NoExchangeTypes
from pykbroker.catalog.exchanges import ALTERNATE, BINDINGS, TYPE, described_overrides, reaching
from pykbroker.catalog.image import TOPIC, Topic
from pykbroker.catalog.memory import MemoryCatalog
from pykbroker.catalog.policies import Policies
from pykbroker.catalog.topics import NewTopic, TopicAdmin
from pykbroker.components import (
    Binding,
    Component,
    ConfigPolicy,
    ConfigPolicyContext,
    PolicyViolation,
    TopicPolicy,
    TopicPolicyContext,
)
from pykbroker.config import BrokerConfig
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.hookspecs import hookimpl
from pykbroker.plugins import Plugins


class Types:
    """One exchange type, which refuses the key "bad"."""

    def names(self) -> Iterable[str]:
        return ("any", "other")

    def check(
        self, kind: str, exchange: str, settings: Mapping[str, str], bindings: Sequence[Binding]
    ) -> None:
        if any(binding.key == "bad" for binding in bindings):
            raise ValueError(f"a key of {kind} must not be bad")


class World:
    """A catalog, the ends of its exchanges' logs, and how far their forwarders are."""

    def __init__(self) -> None:
        self.catalog = MemoryCatalog(BrokerConfig())
        self.admin = TopicAdmin(self.catalog)
        self.ends: dict[str, Sequence[int]] = {}
        self.done: dict[str, Sequence[int]] = {}
        rules = self.catalog.exchange_rules
        rules.types, rules.boundaries, rules.passed = Types(), self._boundaries, self._passed

    def _boundaries(self) -> Mapping[bytes, Sequence[int]]:
        topics = self.catalog.image.topics
        return {topics[name].topic_id: ends for name, ends in self.ends.items() if name in topics}

    def _passed(self, topic_id: bytes, partition: int) -> int:
        return self.done.get(self.catalog.image.names_by_id[topic_id], {0: 0})[partition]

    def topic(self, name: str) -> Topic:
        return self.catalog.image.topics[name]

    def exchange(self, name: str) -> Exchange:
        found = self.catalog.image.exchange(name)
        assert found is not None
        return found

    def bindings(self, name: str) -> tuple[Binding, ...]:
        return self.exchange(name).bindings

    async def make(self, name: str, *, validate_only: bool = False, **settings: str) -> KafkaError | None:
        """A topic; ``settings`` are those of exchanges, without their prefix."""
        full = [(f"pykbroker.exchange.{key}", value) for key, value in settings.items()]
        new = NewTopic(name=name, overrides=full)
        (result,) = await self.admin.create([new], validate_only=validate_only)
        return result if isinstance(result, KafkaError) else None

    async def alter(self, name: str, *steps: Step, replace: bool = False) -> KafkaError | None:
        wanted = Alteration(resource_type=TOPIC, name=name, steps=steps, replace=replace)
        (result,) = await alter(self.catalog, [wanted])
        return result

    async def set(self, name: str, value: str) -> KafkaError | None:
        return await self.alter(name, Step(BINDINGS, Operation.SET, value))

    async def bind(self, name: str, *bindings: Binding) -> KafkaError | None:
        return await self.alter(name, Step(BINDINGS, Operation.APPEND, as_json(*bindings)))

    async def unbind(self, name: str, *bindings: Binding) -> KafkaError | None:
        return await self.alter(name, Step(BINDINGS, Operation.SUBTRACT, as_json(*bindings)))

    async def delete(self, *names: str) -> list[KafkaError | None]:
        results = await self.admin.delete(names)
        return [result if isinstance(result, KafkaError) else None for result in results]


def as_json(*bindings: Binding) -> str:
    return json.dumps([{"to": b.to, "key": b.key, "arguments": dict(b.arguments)} for b in bindings])


A, B, C = Binding("a"), Binding("b", "k"), Binding("c", "", {"x": None})


@pytest.fixture(name="world")
async def _world() -> World:
    world = World()
    for name in "abc":
        assert await world.make(name) is None
    assert await world.make("entry", type="any", bindings=as_json(A, B, A)) is None
    return world


async def test_an_exchange_is_made_with_its_bindings_at_once(world: World) -> None:
    exchange = world.exchange("entry")
    assert (exchange.kind, exchange.bindings, exchange.version) == ("any", (A, B), 1)
    assert dict(world.topic("entry").overrides) == {TYPE: "any"}
    assert json.loads(described_overrides(world.catalog.image, world.topic("entry"))[BINDINGS]) == [
        {"to": "a"},
        {"to": "b", "key": "k"},
    ]


async def test_a_single_object_and_itself_may_be_bound(world: World) -> None:
    assert await world.make("loop", type="any", bindings='{"to": "loop"}') is None
    assert world.bindings("loop") == (Binding("loop"),)
    assert await world.delete("loop") == [None]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"type": "nope"}, "no exchange type 'nope'; there are: any, other"),
        ({"type": "any", "bindings": "to a"}, "pykbroker.exchange.bindings: not JSON"),
        ({"type": "any", "bindings": "@2"}, "there already"),
        ({"type": "any", "bindings": '{"to": "z"}'}, "no topic or exchange 'z'"),
        ({"type": "any", "bindings": '{"to": "a", "key": "bad"}'}, "a key of any must not be bad"),
        ({"type": "any", "alternate": "z"}, "'z' is not an exchange"),
        ({"type": "any", "alternate": "a"}, "'a' is not an exchange; an exchange of type fanout"),
        ({"bindings": '{"to": "a"}'}, "exchange"),
        ({"alternate": "entry"}, "exchange"),
    ],
)
@pytest.mark.parametrize("validate_only", [False, True])
async def test_refused_at_creation(
    world: World, settings: dict[str, str], why: str, validate_only: bool
) -> None:
    before = world.catalog.image
    error = await world.make("new", validate_only=validate_only, **settings)
    assert error is not None
    assert error.code is ErrorCode.INVALID_CONFIG
    assert why in str(error)
    assert world.catalog.image is before


@pytest.mark.parametrize(
    ("setting", "value", "why"),
    [
        ("pykbroker.partitioner", "default", "exchange"),
        ("cleanup.policy", "compact", "cannot be compacted"),
        ("cleanup.policy", "delete,compact", "cannot be compacted"),
    ],
)
async def test_what_an_exchange_cannot_have(world: World, setting: str, value: str, why: str) -> None:
    new = NewTopic(name="new", overrides=[(TYPE, "any"), (setting, value)])
    (result,) = await world.admin.create([new])
    assert isinstance(result, KafkaError)
    assert result.code is ErrorCode.INVALID_CONFIG
    assert why in str(result)
    error = await world.alter("entry", Step(setting, Operation.SET, value))
    assert error is not None
    assert error.code is ErrorCode.INVALID_CONFIG


async def test_internal_topics_cannot_be_bound(world: World) -> None:
    await world.admin.ensure_internal("__consumer_offsets")
    error = await world.bind("entry", Binding("__consumer_offsets"))
    assert error is not None
    assert "belongs to the broker" in str(error)


async def test_bind_and_unbind_change_exactly_those_given(world: World) -> None:
    assert await world.bind("entry", C, A) is None
    assert world.bindings("entry") == (A, B, C)
    assert await world.unbind("entry", Binding("b"), A) is None
    assert world.bindings("entry") == (B, C)
    assert await world.set("entry", as_json(A, C)) is None
    assert world.bindings("entry") == (A, C)
    assert await world.alter("entry", Step(BINDINGS, Operation.DELETE, None)) is None
    assert world.bindings("entry") == ()
    assert world.topic("entry").config_version == 0


async def test_what_changes_nothing_is_no_change(world: World) -> None:
    before = world.catalog.image
    for value in (as_json(B, A), "@2", "@77"):
        assert await world.set("entry", value) is None
    assert await world.bind("entry", A) is None
    assert await world.unbind("entry", C) is None
    assert world.catalog.image is before


@pytest.mark.parametrize("operation", [Operation.SET, Operation.APPEND])
@pytest.mark.parametrize(
    "value", ["nonsense", '{"to": "z"}', '[{"to": "a"}, {"to": "a", "key": "bad"}]', '{"too": "a"}']
)
async def test_refused_alterations_leave_everything_as_it_was(
    world: World, operation: Operation, value: str
) -> None:
    before = world.catalog.image
    steps = [Step("retention.ms", Operation.SET, "5"), Step(BINDINGS, operation, value)]
    error = await world.alter("entry", *steps)
    assert error is not None
    assert error.code is ErrorCode.INVALID_CONFIG
    assert world.catalog.image is before


@pytest.mark.parametrize("operation", [Operation.APPEND, Operation.SUBTRACT])
async def test_a_number_names_no_bindings(world: World, operation: Operation) -> None:
    error = await world.alter("entry", Step(BINDINGS, operation, "@2"))
    assert error is not None
    assert error.code is ErrorCode.INVALID_CONFIG


async def test_unbinding_what_is_not_there_needs_no_target(world: World) -> None:
    assert await world.unbind("entry", Binding("never was")) is None


async def test_unbinding_needs_no_type(world: World) -> None:
    """Its plugin may be gone."""
    world.catalog.exchange_rules.types = NoExchangeTypes()
    assert await world.unbind("entry", A) is None
    assert await world.alter("entry", Step("retention.ms", Operation.SET, "5")) is None
    error = await world.bind("entry", A)
    assert error is not None
    assert error.code is ErrorCode.POLICY_VIOLATION


async def test_settings_and_bindings_change_together(world: World) -> None:
    steps = [Step("retention.ms", Operation.SET, "5"), Step(BINDINGS, Operation.SET, as_json(C))]
    assert await world.alter("entry", *steps) is None
    assert dict(world.topic("entry").overrides) == {TYPE: "any", "retention.ms": "5"}
    assert world.bindings("entry") == (C,)


async def test_alter_configs_replaces_all_but_what_is_fixed(world: World) -> None:
    assert await world.alter("entry", Step("retention.ms", Operation.SET, "5"), replace=True) is None
    assert dict(world.topic("entry").overrides) == {TYPE: "any", "retention.ms": "5"}
    assert world.bindings("entry") == ()
    steps = [Step(TYPE, Operation.SET, "any"), Step(BINDINGS, Operation.SET, as_json(A))]
    assert await world.alter("entry", *steps, replace=True) is None
    assert dict(world.topic("entry").overrides) == {TYPE: "any"}
    assert world.bindings("entry") == (A,)
    assert await world.alter("entry", Step(BINDINGS, Operation.SET, "@1"), replace=True) is None
    assert world.bindings("entry") == (A,)


@pytest.mark.parametrize(
    ("topic", "step"),
    [
        ("entry", Step(TYPE, Operation.SET, "other")),
        ("entry", Step(TYPE, Operation.DELETE, None)),
        ("a", Step(TYPE, Operation.SET, "any")),
        ("a", Step("pykbroker.partitioner", Operation.SET, "default")),
        ("a", Step(BINDINGS, Operation.SET, '{"to": "b"}')),
        ("a", Step(BINDINGS, Operation.APPEND, '{"to": "b"}')),
        ("a", Step(ALTERNATE, Operation.SET, "entry")),
        ("entry", Step(ALTERNATE, Operation.SET, "a")),
    ],
)
async def test_refused_with_invalid_config(world: World, topic: str, step: Step) -> None:
    before = world.catalog.image
    error = await world.alter(topic, step)
    assert error is not None
    assert error.code is ErrorCode.INVALID_CONFIG
    assert world.catalog.image is before


async def test_what_is_bound_cannot_be_deleted(world: World) -> None:
    assert await world.make("other", type="any", alternate="entry") is None
    for name, why in [("a", "a is bound to exchange entry"), ("entry", "alternate of exchange other")]:
        (error,) = await world.delete(name)
        assert error is not None
        assert error.code is ErrorCode.POLICY_VIOLATION
        assert why in str(error)
    assert await world.delete("other", "entry", "a") == [None, None, None]
    assert world.catalog.image.exchanges == {}


async def test_a_request_may_make_targets_and_exchange_together(world: World) -> None:
    wanted = [
        NewTopic(name="new"),
        NewTopic(name="ex", overrides=[(TYPE, "any"), (BINDINGS, '{"to": "new"}')]),
    ]
    results = await world.admin.create(wanted)
    assert [type(result) for result in results] == [Topic, Topic]
    assert world.bindings("ex") == (Binding("new"),)


async def test_an_exchange_has_a_size_limit(world: World) -> None:
    many = as_json(*(Binding("a", f"{number:0100d}") for number in range(10_000)))
    error = await world.set("entry", many)
    assert error is not None
    assert error.code is ErrorCode.INVALID_CONFIG
    assert "1000000" in str(error)
    # nor step by step
    for first in range(0, 8000, 1000):
        await world.bind("entry", *(Binding("a", f"{number:0100d}") for number in range(first, first + 1000)))
    error = await world.bind("entry", *(Binding("a", f"{number:0100d}") for number in range(8000, 10_000)))
    assert error is not None
    assert len(world.bindings("entry")) == 8002


# History


async def test_a_version_holds_from_where_the_logs_end(world: World) -> None:
    world.ends = {"entry": [10, 20]}
    assert await world.bind("entry", C) is None
    exchange, topic_id = world.exchange("entry"), world.topic("entry").topic_id
    assert exchange.current.boundaries == {topic_id: (10, 20)}
    assert exchange.bindings_at(topic_id, 0, 9) == (A, B)
    assert exchange.bindings_at(topic_id, 0, 10) == (A, B, C)
    assert exchange.bindings_at(topic_id, 1, 19) == (A, B)
    assert exchange.bindings_at(topic_id, 2, 0) == (A, B, C)


async def test_it_names_every_log_from_which_a_record_can_come(world: World) -> None:
    for name in ("far", "near", "stranger"):
        assert await world.make(name, type="any") is None
    assert await world.bind("far", Binding("near")) is None
    assert await world.bind("near", Binding("entry")) is None
    assert reaching(world.catalog.image, "entry") == {"far", "near", "entry"}
    world.ends = {"far": [1], "near": [2], "entry": [3], "stranger": [4]}
    assert await world.unbind("near", Binding("entry")) is None
    # a record that was sent to "far" or "near" before may still be on its way
    assert await world.bind("entry", C) is None
    ids = {name: world.topic(name).topic_id for name in world.ends}
    assert world.exchange("entry").current.boundaries == {
        ids["far"]: (1,), ids["near"]: (2,), ids["entry"]: (3,),
    }  # fmt: skip


async def test_versions_that_all_have_passed_are_forgotten_with_the_next_change(world: World) -> None:
    world.ends, world.done = {"entry": [10]}, {"entry": [0]}
    assert await world.bind("entry", C) is None
    world.ends = {"entry": [20]}
    assert await world.unbind("entry", A) is None
    assert [version.number for version in world.exchange("entry").versions] == [1, 2, 3]
    world.done, world.ends = {"entry": [15]}, {"entry": [30]}
    assert await world.bind("entry", A) is None
    assert [version.number for version in world.exchange("entry").versions] == [2, 3, 4]
    world.done = {"entry": [30]}
    assert await world.unbind("entry", A) is None
    assert [version.number for version in world.exchange("entry").versions] == [4, 5]


async def test_a_deleted_exchange_stays_until_nothing_needs_it(world: World) -> None:
    assert await world.make("front", type="any", bindings='{"to": "entry"}') is None
    world.ends, world.done = {"front": [7], "entry": [0]}, {"front": [0], "entry": [0]}
    assert await world.unbind("front", Binding("entry")) is None
    assert await world.delete("entry") == [None]
    front = world.topic("front").topic_id
    assert world.catalog.image.exchange("entry") is None
    kept = world.catalog.image.exchanges["entry"]
    assert kept.at(front, 0, 6).bindings == (A, B)
    assert kept.at(front, 0, 7).kind is None
    # what was bound to it may be deleted meanwhile, and an exchange of that name made
    assert await world.delete("a") == [None]
    assert await world.make("entry", type="other", bindings=as_json(B)) is None
    again = world.catalog.image.exchanges["entry"]
    assert [version.kind for version in again.versions] == ["any", None, "other"]
    assert again.at(front, 0, 6).bindings == (A, B)
    assert await world.delete("entry") == [None]
    world.done = {"front": [7]}
    assert await world.bind("front", B) is None
    assert set(world.catalog.image.exchanges) == {"front"}


async def test_subscribers_hear_of_what_was_rebound(world: World) -> None:
    heard: list[tuple[str, ...]] = []
    world.catalog.subscribe(lambda delta: heard.append(delta.exchanges))
    await world.bind("entry", C)
    await world.alter("entry", Step("retention.ms", Operation.SET, "5"))
    await world.delete("entry")
    assert heard == [("entry",), (), ("entry",)]


class OnlyToA:
    """A config policy, and a topic policy: nothing but "a" may be bound; remembers what it was shown."""

    def __init__(self) -> None:
        self.shown: list[tuple[Mapping[str, str], Mapping[str, str]]] = []

    def check(self, ctx: ConfigPolicyContext | TopicPolicyContext) -> None:
        after = ctx.settings if isinstance(ctx, TopicPolicyContext) else ctx.after
        if isinstance(ctx, ConfigPolicyContext):
            self.shown.append((ctx.before, ctx.after))
        if any(each["to"] != "a" for each in json.loads(after.get(BINDINGS, "[]"))):
            raise PolicyViolation("only a")

    @hookimpl
    def pykbroker_register_config_policies(self) -> Sequence[Component[ConfigPolicy]]:
        return [Component("only-a", lambda build: self)]

    @hookimpl
    def pykbroker_register_topic_policies(self) -> Sequence[Component[TopicPolicy]]:
        return [Component("only-a", lambda build: self)]


async def test_policies_see_bindings(world: World) -> None:
    policy = OnlyToA()
    plugins = Plugins.load(BrokerConfig(), extra=[policy])
    try:
        policies = Policies(plugins)
        world.admin = TopicAdmin(world.catalog, policies)
        error = await world.make("new", type="any", bindings=as_json(B))
        assert error is not None
        assert (error.code, str(error)) == (ErrorCode.POLICY_VIOLATION, "only a")
        assert await world.make("new", type="any", bindings=as_json(A)) is None
        for step, refused in [
            (Step(BINDINGS, Operation.APPEND, as_json(B)), True),
            (Step(BINDINGS, Operation.SUBTRACT, as_json(A)), False),
            (Step(ALTERNATE, Operation.SET, "entry"), False),
        ]:
            wanted = Alteration(resource_type=TOPIC, name="new", steps=[step])
            (result,) = await alter(world.catalog, [wanted], policies=policies)
            assert (result is not None) is refused
    finally:
        plugins.close()
    bound, unbound = {TYPE: "any", BINDINGS: '[{"to":"a"}]'}, {TYPE: "any", BINDINGS: "[]"}
    # a decision to change nothing is made again on what is durable, so the first comes twice
    assert [each for each, _ in itertools.groupby(policy.shown)] == [
        (bound, {TYPE: "any", BINDINGS: '[{"to":"a"},{"to":"b","key":"k"}]'}),
        (bound, unbound),
        ({TYPE: "any"}, {TYPE: "any", ALTERNATE: "entry"}),
    ]
