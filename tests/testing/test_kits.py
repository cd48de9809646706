"""The conformance kits: what is right passes, and each thing that is wrong is caught and named."""

from __future__ import annotations

import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import cast

import click
import pytest
import trio

from pykbroker import (
    Binding,
    Component,
    ConfigPolicy,
    ConfigPolicyContext,
    ExchangeType,
    InterceptContext,
    Interceptor,
    Kind,
    Partitioner,
    PluginSetting,
    PolicyViolation,
    RecordData,
    RecordError,
    RoutingContext,
    Service,
    ServiceContext,
    TopicPolicy,
    TopicPolicyContext,
    ValidationContext,
    Validator,
    hookimpl,
)
from pykbroker.testing import (
    KitFailure,
    check_command,
    check_config_policy,
    check_exchange_type,
    check_interceptor,
    check_partitioner,
    check_plugin,
    check_service,
    check_topic_policy,
    check_validator,
)

Method = Callable[..., object]
numbers = itertools.count()


def made(**methods: object) -> Callable[[], SimpleNamespace]:
    """What makes an object with these attributes; the casts say what it is taken for."""
    return lambda: SimpleNamespace(**methods)


def raising(ctx: object) -> object:
    raise RuntimeError("out of order")


def slow(ctx: object) -> object:
    time.sleep(0.15)
    return None


async def later(ctx: object) -> object:
    return 0


# Partitioners


def partitioner(choose: Method, **more: object) -> Callable[[], Partitioner]:
    return cast("Callable[[], Partitioner]", made(choose=choose, **more))


def test_a_good_partitioner() -> None:
    check_partitioner(partitioner(lambda ctx: len(ctx.key or b"") % ctx.partitions), chooses={b"123": 3})


BAD_PARTITIONERS: dict[str, tuple[Method, dict[str, object], str]] = {
    "out of range": (lambda ctx: ctx.partitions, {}, "of 1 partitions"),
    "negative": (lambda ctx: -1, {}, "choose\\(\\) gave -1"),
    "no int": (lambda ctx: "0", {}, "which is no int"),
    "a bool": (lambda ctx: False, {}, "which is no int"),
    "none": (lambda ctx: None, {}, "which is no int"),
    "keys only": (lambda ctx: len(ctx.key) % ctx.partitions, {}, "choose\\(\\) raised TypeError"),
    "text keys only": (lambda ctx: len((ctx.key or b"").decode()) % ctx.partitions, {}, "UnicodeDecodeError"),
    "raising": (raising, {}, "RuntimeError"),
    "slow": (slow, {}, "took \\d"),
    "async": (later, {}, "must not be async"),
    "not key only": (lambda ctx: next(numbers) % ctx.partitions, {"key_only": True}, "key_only is claimed"),
}


@pytest.mark.parametrize("what", BAD_PARTITIONERS)
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_a_bad_partitioner(what: str) -> None:
    choose, more, message = BAD_PARTITIONERS[what]
    with pytest.raises(KitFailure, match=message):
        check_partitioner(partitioner(choose, **more))


def test_a_partitioner_that_chooses_another_place() -> None:
    with pytest.raises(KitFailure, match="into partition 0 of 10, not into 4"):
        check_partitioner(partitioner(lambda ctx: 0), chooses={b"k": 4})


# Exchange types


def exchange(validate: Method | None = None, compile: Method | None = None) -> Callable[[], ExchangeType]:
    def fine(binding: Binding) -> None:
        return None

    def by_key(bindings: Sequence[Binding]) -> object:
        return matching(bindings, lambda ctx: [b for b in bindings if b.key == ctx.routing_key])

    return cast("Callable[[], ExchangeType]", made(validate=validate or fine, compile=compile or by_key))


def matching(bindings: Sequence[Binding], match: Callable[[RoutingContext], object]) -> object:
    return SimpleNamespace(match=match)


def test_a_good_exchange_type() -> None:
    ctx = RoutingContext(exchange="e", routing_key="a")

    def validate(binding: Binding) -> None:
        if binding.arguments:
            raise ValueError("this type takes no arguments")

    check_exchange_type(
        exchange(validate),
        valid=[Binding("q", "a")],
        invalid=[Binding("q", "a", {"x": "1"})],
        matches=[(Binding("q", "a"), ctx)],
        differs=[(Binding("q", "b"), ctx)],
    )


def wordless(binding: Binding) -> None:
    raise ValueError


def moody(binding: Binding) -> None:
    if next(numbers) % 2:
        raise ValueError("not now")


def strange(bindings: Sequence[Binding]) -> object:
    return matching(bindings, lambda ctx: [Binding("a stranger")])


def first_only(bindings: Sequence[Binding]) -> object:
    return matching(bindings, lambda ctx: bindings[:1])


def by_turns(bindings: Sequence[Binding]) -> object:
    return matching(bindings, lambda ctx: bindings if next(numbers) % 2 else [])


def claiming(bindings: Sequence[Binding]) -> object:
    return SimpleNamespace(key_only=True, match=lambda ctx: bindings if ctx.headers else [])


def decoding(bindings: Sequence[Binding]) -> object:
    return matching(bindings, lambda ctx: [b for b in bindings if b.key == (ctx.key or b"").decode()])


BAD_EXCHANGES: dict[str, tuple[Method | None, Method | None, str]] = {
    "refusing without a word": (wordless, None, "without a word"),
    "refusing now and then": (moody, None, "and then refuses it"),
    "validate raises": (raising, None, "validate\\(\\) raised RuntimeError"),
    "compile raises": (None, raising, "compile\\(\\) raised RuntimeError"),
    "match raises": (None, lambda bindings: matching(bindings, raising), "match\\(\\) raised RuntimeError"),
    "match gives none": (None, lambda bindings: matching(bindings, lambda ctx: None), "no iterable"),
    "matching a stranger": (None, strange, "a stranger"),
    "depending on the order": (None, first_only, "order of bindings"),
    "another answer": (None, by_turns, "without bindings matches|second time|order of bindings"),
    "not key only": (None, claiming, "key_only is claimed"),
    "keys that are text": (None, decoding, "UnicodeDecodeError"),
}


@pytest.mark.parametrize("what", BAD_EXCHANGES)
def test_a_bad_exchange_type(what: str) -> None:
    validate, compile_, message = BAD_EXCHANGES[what]
    with pytest.raises(KitFailure, match=message):
        check_exchange_type(exchange(validate, compile_))


def test_an_exchange_type_against_its_examples() -> None:
    binding, ctx = Binding("q", "a"), RoutingContext(exchange="e", routing_key="a")
    with pytest.raises(KitFailure, match=r"took .* not valid"):
        check_exchange_type(exchange(), invalid=[binding])
    with pytest.raises(KitFailure, match="matches"):
        check_exchange_type(exchange(), differs=[(binding, ctx)])
    with pytest.raises(KitFailure, match="does not match"):
        check_exchange_type(exchange(), matches=[(Binding("q", "b"), ctx)])


# Validators


def validator(check: Method) -> Callable[[], Validator]:
    return cast("Callable[[], Validator]", made(check=check))


def needs_key(ctx: ValidationContext) -> Sequence[RecordError]:
    return [RecordError(i, "no key") for i, record in enumerate(ctx.batch.records) if record.key is None]


def test_a_good_validator() -> None:
    check_validator(
        validator(needs_key), accepts=[RecordData(b"k")], refuses=[RecordData(None), RecordData(None, b"v")]
    )


async def needs_key_later(ctx: ValidationContext) -> Sequence[RecordError]:
    await trio.lowlevel.checkpoint()
    return needs_key(ctx)


def test_a_validator_may_wait() -> None:
    check_validator(validator(needs_key_later), refuses=[RecordData(None)])


BAD_VALIDATORS: dict[str, tuple[Method, str]] = {
    "raising": (raising, "RuntimeError"),
    "nonsense": (lambda ctx: 7, "gave int"),
    "texts": (lambda ctx: ["no"], "in place of a RecordError"),
    "a record that is not there": (lambda ctx: [RecordError(1000, "no")], "has none such"),
    "text only": (lambda ctx: [r.value.decode() for r in ctx.batch.records] and (), "AttributeError"),
    "another answer": (lambda ctx: [RecordError(0, "no")] if next(numbers) % 2 else [], "second time"),
}


@pytest.mark.parametrize("what", BAD_VALIDATORS)
def test_a_bad_validator(what: str) -> None:
    check, message = BAD_VALIDATORS[what]
    with pytest.raises(KitFailure, match=message):
        check_validator(validator(check))


def test_a_validator_against_its_examples() -> None:
    with pytest.raises(KitFailure, match="refuses"):
        check_validator(validator(needs_key), accepts=[RecordData(None)])
    with pytest.raises(KitFailure, match="lets in"):
        check_validator(validator(needs_key), refuses=[RecordData(b"k")])
    first = validator(lambda ctx: [RecordError(0, "no")] if ctx.batch.records[-1].key is None else [])
    with pytest.raises(KitFailure, match=r"names records \[0\] of a batch, not \[1\]"):
        check_validator(first, accepts=[RecordData(b"k")], refuses=[RecordData(None)])


# Interceptors


def interceptor(intercept: Method) -> Callable[[], Interceptor]:
    return cast("Callable[[], Interceptor]", made(intercept=intercept))


def test_a_good_interceptor() -> None:
    check_interceptor(
        interceptor(lambda ctx: [r._replace(key=b"k") for r in ctx.records]),
        turns=[(RecordData(None, b"v"), RecordData(b"k", b"v"))],
    )
    check_interceptor(interceptor(lambda ctx: None), turns=[(RecordData(b"k"), RecordData(b"k"))])


BAD_INTERCEPTORS: dict[str, tuple[Method, str]] = {
    "raising": (raising, "RuntimeError"),
    "dropping": (lambda ctx: [r for r in ctx.records if r.value], "records in place of"),
    "adding": (lambda ctx: [*ctx.records, RecordData()], "records in place of"),
    "a generator": (lambda ctx: (r for r in ctx.records), "in place of a sequence"),
    "text": (lambda ctx: [r._replace(value="text") for r in ctx.records], "is not bytes"),
    "values that are text": (
        lambda ctx: [r._replace(value=r.value.upper()) for r in ctx.records],
        "Attribute",
    ),
}


@pytest.mark.parametrize("what", BAD_INTERCEPTORS)
def test_a_bad_interceptor(what: str) -> None:
    intercept, message = BAD_INTERCEPTORS[what]
    with pytest.raises(KitFailure, match=message):
        check_interceptor(interceptor(intercept))


def test_an_interceptor_against_its_examples() -> None:
    def same(ctx: InterceptContext) -> None:
        return None

    with pytest.raises(KitFailure, match=r"made .* not"):
        check_interceptor(interceptor(same), turns=[(RecordData(b"a"), RecordData(b"b"))])


# Policies


def policy(check: Method) -> Callable[[], TopicPolicy]:
    return cast("Callable[[], TopicPolicy]", made(check=check))


def config_policy(check: Method) -> Callable[[], ConfigPolicy]:
    return cast("Callable[[], ConfigPolicy]", made(check=check))


def refusing(ctx: object) -> None:
    raise PolicyViolation("no")


def silent(ctx: object) -> None:
    raise PolicyViolation


def test_good_policies() -> None:
    topic = TopicPolicyContext(topic="t", partitions=1, replication_factor=1, settings={})
    altered = ConfigPolicyContext(resource="topic", name="t", before={}, after={})
    check_topic_policy(policy(lambda ctx: None), allows=(topic,))
    check_topic_policy(policy(refusing), refuses=(topic,))
    check_config_policy(config_policy(lambda ctx: None), allows=(altered,))
    check_config_policy(config_policy(refusing), refuses=(altered,))
    with pytest.raises(KitFailure, match="refuses"):
        check_topic_policy(policy(refusing), allows=(topic,))
    with pytest.raises(KitFailure, match="lets pass"):
        check_config_policy(config_policy(lambda ctx: None), refuses=(altered,))


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (raising, "RuntimeError"),
        (lambda ctx: False, "refuses by raising"),
        (silent, "without a word"),
        (
            lambda ctx: int(ctx.settings["retention.ms"]) if hasattr(ctx, "settings") else 1,
            "KeyError|raising",
        ),
    ],
)
def test_bad_policies(check: Method, message: str) -> None:
    with pytest.raises(KitFailure, match=message):
        check_topic_policy(policy(check))
    with pytest.raises(KitFailure, match=message):
        check_config_policy(config_policy(check))


# Services and commands


def service(run: Callable[[ServiceContext], Awaitable[None]]) -> Callable[[], Service]:
    return cast("Callable[[], Service]", made(run=run))


async def forever(ctx: ServiceContext) -> None:
    await trio.sleep_forever()


async def failing(ctx: ServiceContext) -> None:
    raise RuntimeError("out of order")


async def stubborn(ctx: ServiceContext) -> None:
    with trio.CancelScope(shield=True):
        await trio.sleep(0.3)


def test_services(monkeypatch: pytest.MonkeyPatch) -> None:
    check_service(service(forever))
    with pytest.raises(KitFailure, match="RuntimeError"):
        check_service(service(failing))
    monkeypatch.setattr("pykbroker.testing.kits._others.ENDS_S", 0.1)
    with pytest.raises(KitFailure, match="after it was cancelled"):
        check_service(service(stubborn), run_s=0.01)


def test_commands() -> None:
    check_command(lambda: click.Command("good", help="Does good."))
    with pytest.raises(KitFailure, match="no help"):
        check_command(lambda: click.Command("silent"))
    with pytest.raises(KitFailure, match=r"no click\.Command"):
        check_command(cast("Callable[[], click.Command]", lambda: "text"))


# Plugins and components


def plugin(*components: object) -> object:
    return SimpleNamespace(pykbroker_register_partitioners=hookimpl(lambda: list(components)))


class First:
    """A partitioner."""

    def choose(self, ctx: object) -> int:
        return 0


def test_a_plugin() -> None:
    limit = PluginSetting(key="limit", kind=Kind.INT, default=0, doc="A limit.", minimum=0)

    def build(ctx: object) -> First:
        assert ctx.settings.integer("limit") == 3  # type: ignore[attr-defined]  # a BuildContext
        return First()

    whole = plugin(Component("first", build, settings=[limit]))
    check_plugin(whole, settings={"first": {"limit": 3}})
    with pytest.raises(KitFailure, match="factory of first raised"):
        check_plugin(whole)
    with pytest.raises(KitFailure, match="does not take its setting"):
        check_plugin(whole, settings={"first": {"limit": -1}})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (SimpleNamespace(), "no function that is marked"),
        (SimpleNamespace(pykbroker_register_partitoners=hookimpl(lambda: ())), "did you mean"),
        (plugin(First()), "must return Components"),
        (plugin(Component("first", lambda ctx: First(), api=9)), "api 9"),
        (plugin(Component("no name", lambda ctx: First())), "no name for a component"),
        (plugin(Component("first", lambda ctx: None)), "which has no choose"),
        (plugin(*[Component("first", lambda ctx: First())] * 2), "registered twice"),
        (SimpleNamespace(pykbroker_register_partitioners=hookimpl(lambda: 7)), "must return a list"),
    ],
)
def test_what_is_no_plugin(wrong: object, message: str) -> None:
    with pytest.raises(KitFailure, match=message):
        check_plugin(wrong)


def test_a_setting_that_is_not_declared() -> None:
    component: Component[Partitioner] = Component("first", lambda ctx: First())
    with pytest.raises(KitFailure, match="declares no setting 'limit'"):
        check_partitioner(component, settings={"limit": 1})
