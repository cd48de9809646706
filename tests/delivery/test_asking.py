"""Retry policies that answer, raise, answer nonsense, or are not there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest

from pykbroker import (
    BuildContext,
    Component,
    DeadLetter,
    Discard,
    Kind,
    PluginSetting,
    Retry,
    RetryContext,
    RetryDecision,
)
from pykbroker.catalog.image import Image, Topic
from pykbroker.catalog.retrying import ROLE as ROLE_SETTING
from pykbroker.catalog.retrying import RetrySettings, Role, RoleKind
from pykbroker.components import RETRY_POLICY
from pykbroker.config import BrokerConfig, ConfigError
from pykbroker.delivery import asking
from pykbroker.delivery.asking import Policies
from pykbroker.plugins import Plugins
from pykbroker.testing import retry_context
from tests.delivery.test_deciding import ROLE, SETTINGS
from tests.plugins.support import loaded, messages, plugin

MINE = replace(SETTINGS, policy="mine")


def policies(*components: object) -> object:
    """A plugin that offers these as retry policies."""
    return plugin("mine", pykbroker_register_retry_policies=lambda: list(components))


def image() -> Image:
    """A catalog with the retry topic of another group."""
    other = Topic(
        name="other.retry", topic_id=bytes(16), partitions=(), overrides={ROLE_SETTING: "retry:o:g"}
    )
    letters = Topic(name="letters", topic_id=bytes(16), partitions=(), overrides={ROLE_SETTING: "dlq:o:g"})
    return Image(cluster_id="c", topics={topic.name: topic for topic in (other, letters)})


@dataclass
class Desk:
    """Something to ask."""

    plugins: Plugins
    policies: Policies

    def ask(self, role: Role = ROLE, settings: RetrySettings = MINE) -> RetryDecision | None:
        return self.policies.ask(role, settings)(retry_context(topic=role.origin))


@contextmanager
def desk(*components: object) -> Iterator[Desk]:
    with loaded(policies(*components)) as plugins:
        assert messages(plugins) == []
        yield Desk(plugins, Policies(plugins, image))


def answering(decide: Callable[[RetryContext], object]) -> Component[object]:
    return Component("mine", lambda build: SimpleNamespace(decide=decide))


@pytest.mark.parametrize(
    "answer",
    [
        Retry(0),
        Retry(2**80),
        Discard(),
        DeadLetter(),
        DeadLetter("letters"),
        DeadLetter("not-there-yet", (("a", None), ("a", b"1"))),
    ],
)
def test_answers_that_are_taken(answer: RetryDecision, caplog: pytest.LogCaptureFixture) -> None:
    with desk(answering(lambda ctx: answer)) as asked:
        assert asked.ask() == answer
        assert not asked.plugins.faults()
    assert caplog.text == ""


def test_headers_may_come_lazily() -> None:
    with desk(answering(lambda ctx: DeadLetter(None, (pair for pair in [("a", b"1")])))) as asked:  # type: ignore[arg-type]
        assert asked.ask() == DeadLetter(None, (("a", b"1"),))


NONSENSE: dict[str, object] = {
    "none": None,
    "a number": 1000,
    "a class": Retry,
    "true": Retry(True),
    "a fraction": Retry(1.5),  # type: ignore[arg-type]  # that is the point, here and below
    "negative": Retry(-1),
    "text": Retry("soon"),  # type: ignore[arg-type]
    "no topic": DeadLetter(""),
    "a bad topic": DeadLetter("no/topic"),
    "a long topic": DeadLetter("x" * 250),
    "bytes": DeadLetter(b"letters"),  # type: ignore[arg-type]
    "the broker's own topic": DeadLetter("__consumer_offsets"),
    "a hidden topic": DeadLetter("__pykbroker_held_x"),
    "the origin": DeadLetter("orders"),
    "the retry topic": DeadLetter("orders.billing.retry"),
    "a retry topic": DeadLetter("other.retry"),
    "headers that are none": DeadLetter(headers=7),  # type: ignore[arg-type]
    "a header that is none": DeadLetter(headers=("a",)),  # type: ignore[arg-type]
    "a header with text": DeadLetter(headers=(("a", "1"),)),  # type: ignore[arg-type]
    "a header without name": DeadLetter(headers=((None, b"1"),)),  # type: ignore[arg-type]
    "a name that is no text": DeadLetter(headers=(("\ud800", b"1"),)),
    "a header of ours": DeadLetter(headers=(("pykbroker-attempt", b"1"),)),
    "a header of Kafka's": DeadLetter(headers=(("__dlq.errors.topic", b"1"),)),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_is_named_and_counted(what: str, caplog: pytest.LogCaptureFixture) -> None:
    with desk(answering(lambda ctx: NONSENSE[what])) as asked:
        assert asked.ask() is None
        assert asked.plugins.faults() == {("mine", "retry policy mine"): 1}
    assert "plugin=mine in=retry policy mine topic=orders" in caplog.text


def raising(ctx: object) -> object:
    raise RuntimeError("out of order")


def ending(ctx: object) -> object:
    raise SystemExit(3)


async def waiting(ctx: object) -> object:
    return Retry(0)


def half(ctx: object) -> object:
    return DeadLetter(headers=(1 // 0 for _ in range(1)))  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize("harm", [raising, ending, waiting, half])
def test_raising_is_named_and_counted(
    harm: Callable[[object], object], caplog: pytest.LogCaptureFixture
) -> None:
    with desk(answering(harm)) as asked:
        for _ in range(5):
            assert asked.ask() is None
        assert asked.plugins.faults() == {("mine", "retry policy mine"): 5}
    (line,) = caplog.messages
    assert "plugin=mine in=retry policy mine topic=orders" in line


def test_a_policy_that_is_not_there(caplog: pytest.LogCaptureFixture) -> None:
    with desk() as asked:
        for _ in range(5):
            assert asked.ask() is None
    (line,) = caplog.messages
    assert "topic=orders" in line
    assert "'mine'" in line
    assert "group=billing" in line


def test_a_policy_that_cannot_be_made(caplog: pytest.LogCaptureFixture) -> None:
    with desk(Component("mine", raising)) as asked:
        assert asked.ask() is None
    assert "out of order" in caplog.text


def test_without_a_policy_a_record_becomes_a_dead_letter(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([100.0, 101.0, 111.0, 111.0])
    monkeypatch.setattr(asking, "monotonic", lambda: next(times))
    with desk() as asked:
        for _ in range(3):
            assert asked.ask(settings=replace(SETTINGS, policy="none")) == DeadLetter()
        asked.ask(Role(RoleKind.RETRY, "other", "billing"), replace(SETTINGS, policy="none"))
        assert not asked.plugins.faults()
    assert ["topic=orders group=billing" in line for line in caplog.messages] == [True, True, False]


FACTOR = PluginSetting(
    key="factor", kind=Kind.INT, default=1, doc="F.", scopes=frozenset({"broker", "topic", "group"})
)


class Times:
    """A policy with a setting; it knows for whom it was made."""

    def __init__(self, build: BuildContext) -> None:
        self.build = build

    def decide(self, ctx: RetryContext) -> RetryDecision:
        assert (ctx.topic, ctx.group) == (self.build.topic, "kit-group")
        return Retry(self.build.settings.integer("factor"))


def test_built_once_per_topic_group_and_settings() -> None:
    made: list[tuple[str | None, str | None]] = []

    def factory(build: BuildContext) -> Times:
        made.append((build.topic, build.group))
        return Times(build)

    mine = "pykbroker.plugin.mine.factor"
    with desk(Component("mine", factory, settings=[FACTOR])) as asked:
        assert asked.ask() == Retry(1)
        assert asked.ask() == Retry(1)
        other = Role(RoleKind.RETRY, "orders", "shipping")
        assert asked.ask(other, replace(MINE, overrides={mine: "7"})) == Retry(7)
        assert asked.ask() == Retry(1)
        assert made == [("orders", "billing"), ("orders", "shipping")]
        asked.plugins.reconfigure(asked.plugins.config.with_dynamic({mine: "3"}, {}))
        assert asked.ask() == Retry(3)


def test_the_names_of_policies_are_those_of_the_setting() -> None:
    with loaded(policies(answering(raising))) as plugins:
        added = plugins.config.extensions
        assert added is not None
        known = added.names["pykbroker.retry.policy"]
        assert known == {"none", "immediate", "fixed", "linear", "exponential", "mine"}
        assert known - set(plugins.components(RETRY_POLICY)) == {"none"}


def test_no_policy_is_called_none() -> None:
    with loaded(policies(Component("none", raising))) as plugins:
        (message,) = messages(plugins)
        assert "'none' in pykbroker.retry.policy says that there is no retry policy" in message


def test_a_broker_does_not_start_with_a_policy_that_is_not_there() -> None:
    config = BrokerConfig.from_texts({"pykbroker.retry.policy": "expnential"})
    with pytest.raises(ConfigError, match="no plugin offers 'expnential'"), loaded(config=config):
        pass


def test_nonsense_that_cannot_even_be_shown_is_contained() -> None:
    class Unspeakable:
        def __repr__(self) -> str:
            raise RuntimeError("no name")

    for answer in (Unspeakable(), Retry(Unspeakable()), DeadLetter(headers=(Unspeakable(),))):  # type: ignore[arg-type]
        with desk(answering(lambda ctx, answer=answer: answer)) as it:  # type: ignore[misc]
            assert it.ask() is None
