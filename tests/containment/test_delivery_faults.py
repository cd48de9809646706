"""Failed deliveries where something is broken: policies, topics, settings.  Nothing is lost, nothing
loops, nothing is in the way of the next record, and the broker goes on serving."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import pytest

from pykbroker import Component, DeadLetter, Retry, RetryContext
from tests.containment import plugins
from tests.containment.failures import Failures, failing

RETRY = "orders.billing.retry"
LETTERS = "orders.billing.dlq"
Decide = Callable[[RetryContext], object]


def policy(decide: Decide, name: str = "harm") -> object:
    """A plugin with one retry policy."""

    def register() -> Sequence[Component[object]]:
        return [Component(name, lambda build: SimpleNamespace(decide=decide))]

    return plugins.plugin("harmful", pykbroker_register_retry_policies=register)


NONSENSE: list[object] = [
    None,
    7,
    Retry,
    Retry(-5),
    Retry("soon"),  # type: ignore[arg-type]  # that is the point
    Retry(None),  # type: ignore[arg-type]  # as above
    Retry(float("nan")),  # type: ignore[arg-type]  # as above
    DeadLetter(topic=7),  # type: ignore[arg-type]  # as above
    DeadLetter(headers=(1,)),  # type: ignore[arg-type]  # as above
    DeadLetter(headers=(("why", "no"),)),  # type: ignore[arg-type]  # as above
]


TARGETS = ["no/topic", "", "orders", RETRY, "__consumer_offsets", "x" * 300, "é"]


def fail_as_fixed(failures: Failures, count: int) -> None:
    """As many records: once more after ``retry.delay.ms``, then dead letters; others are not held up."""
    values = [b"%d" % number for number in range(count)]
    failures.policy("orders", retry_policy="harm", retry_max_attempts="1")
    failures.put("orders", *values, b"fine")
    assert failures.nack("billing", "orders", [0, count - 1], upto=count + 1) == 0
    failures.later(30, decided=count)
    failures.only(RETRY, 0)
    failures.later(30, decided=count)
    again = failures.eventually(RETRY, count)
    assert [each.value for each in again] == values
    assert {each.text("pykbroker-attempt") for each in again} == {"1"}
    assert failures.nack("billing", RETRY, [0, count - 1]) == 0
    letters = failures.eventually(LETTERS, count)
    assert [each.value for each in letters] == values
    assert {each.text("pykbroker-attempt") for each in letters} == {"2"}
    failures.later(3600, decided=2 * count)
    failures.only(RETRY, count)
    assert len(failures.letters("orders")) == count + 1


@pytest.mark.parametrize("harm", [plugins.raising, plugins.ending, plugins.hanging])
def test_a_policy_that_raises(harm: Decide, caplog: pytest.LogCaptureFixture) -> None:
    with failing(policy(harm)) as failures:
        fail_as_fixed(failures, 1)
    assert "plugin=harmful" in caplog.text


@pytest.mark.parametrize("answers", [NONSENSE, [DeadLetter(topic=target) for target in TARGETS]])
def test_a_policy_that_answers_nonsense(answers: list[object], caplog: pytest.LogCaptureFixture) -> None:
    """No answer at all, or a dead-letter topic that cannot be one."""
    with failing(policy(lambda ctx: answers[int(ctx.record.value or b"")])) as failures:
        fail_as_fixed(failures, len(answers))
    assert "plugin=harmful" in caplog.text


def test_a_delay_beyond_the_bound_counts_as_the_bound() -> None:
    with failing(policy(lambda ctx: Retry(10**30))) as failures:
        failures.policy("orders", retry_policy="harm", retry_max_delay_ms="90000")
        failures.put("orders", b"v")
        assert failures.nack("billing", "orders", 0) == 0
        failures.later(60, decided=1)
        failures.only(RETRY, 0)
        failures.later(30, decided=1)
        failures.eventually(RETRY, 1)


def test_a_policy_that_names_a_topic_that_is_not_there() -> None:
    with failing(policy(lambda ctx: DeadLetter(topic="graveyard"))) as failures:
        failures.policy("orders", retry_policy="harm")
        failures.put("orders", b"v")
        assert failures.nack("billing", "orders", 0) == 0
        assert failures.eventually("graveyard", 1)[0].value == b"v"


def test_a_policy_that_always_says_again_comes_to_an_end() -> None:
    with failing(policy(lambda ctx: Retry(0))) as failures:
        failures.policy("orders", retry_policy="harm", retry_max_attempts="3")
        failures.put("orders", b"v")
        assert failures.nack("billing", "orders", 0) == 0
        for number in range(3):
            assert failures.eventually(RETRY, number + 1)[-1].text("pykbroker-attempt") == str(number + 1)
            assert failures.nack("billing", RETRY, number) == 0
        assert failures.eventually(LETTERS, 1)[0].text("__dlq.errors.delivery.count") == "4"
        failures.only(RETRY, 3)


def test_a_policy_that_slows_the_broker_down_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with failing(policy(plugins.blocking(lambda: "plugin=harmful" in caplog.text))) as failures:
        fail_as_fixed(failures, 1)
    assert "plugin=harmful" in caplog.text


@pytest.mark.parametrize("blocked", [True, False])
def test_a_policy_that_is_gone_at_the_next_start(blocked: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Blocked, or not installed any more: what comes is treated as by ``fixed``, and the log says so."""
    with failing(policy(lambda ctx: Retry(0))) as failures:
        failures.policy("orders", retry_policy="harm", retry_max_attempts="1")
        failures.put("orders", b"early")
        assert failures.nack("billing", "orders", 0) == 0
        failures.eventually(RETRY, 1)
        if blocked:
            failures.broker.settings["pykbroker.plugins.block"] = "harmful"
        else:
            failures.broker.plugins = ()
        failures.restart()
        failures.put("orders", b"late")
        assert failures.nack("billing", "orders", 1) == 0
        failures.later(30, decided=2)
        failures.only(RETRY, 1)
        failures.later(30, decided=2)
        assert failures.eventually(RETRY, 2)[1].value == b"late"
    assert "harm" in caplog.text


def test_a_policy_that_names_a_compacted_topic() -> None:
    """What has no key goes to the group's own dead-letter topic."""
    with failing(policy(lambda ctx: DeadLetter(topic="graveyard"))) as failures:
        assert failures.create("graveyard", {"cleanup.policy": "compact"}) == 0
        failures.policy("orders", retry_policy="harm")
        failures.put("orders", b"no key", key=None)
        failures.put("orders", b"with key")
        assert failures.nack("billing", "orders", [0, 1]) == 0
        assert failures.eventually(LETTERS, 1)[0].value == b"no key"
        assert failures.eventually("graveyard", 1)[0].value == b"with key"


@pytest.mark.parametrize("back", ["orders", RETRY])
def test_a_policy_that_names_an_exchange_that_leads_back(back: str) -> None:
    """Its letters go to the group's own dead-letter topic."""
    bindings = f'[{{"to": "{back}"}}]'
    exchange = {"pykbroker.exchange.type": "fanout", "pykbroker.exchange.bindings": bindings}
    with failing(policy(lambda ctx: DeadLetter(topic="circle"))) as failures:
        failures.policy("orders", retry_policy="harm")
        assert failures.ask_for(RETRY) == 0
        assert failures.create("circle", exchange) == 0
        failures.put("orders", b"v")
        assert failures.nack("billing", "orders", 0) == 0
        failures.eventually(LETTERS, 1)
        failures.only("orders", 1)
        failures.only(RETRY, 0)


def test_policies_that_send_dead_letters_round_in_a_circle(caplog: pytest.LogCaptureFixture) -> None:
    """From orders to bills is a chain, and may be; from there back to orders would be for ever."""
    others = {"orders": "bills", "bills": "orders"}
    with failing(policy(lambda ctx: DeadLetter(topic=others[ctx.topic]))) as failures:
        for topic in ("orders", "bills"):
            failures.policy(topic, retry_policy="harm")
        failures.put("orders", b"v")
        assert failures.nack("billing", "orders", 0) == 0
        assert failures.eventually("bills", 1)[0].value == b"v"
        assert failures.nack("billing", "bills", 0) == 0
        assert failures.eventually("bills.billing.dlq", 1)[0].value == b"v"
        failures.only("orders", 1)
    assert "bills > orders > bills" in caplog.text


def test_listeners_that_raise_are_in_nobodys_way(caplog: pytest.LogCaptureFixture) -> None:
    hooks = ("pykbroker_record_retried", "pykbroker_record_dead_lettered", "pykbroker_nack_skipped")
    listener = plugins.plugin("harmful", **{hook: lambda event: plugins.raising(event) for hook in hooks})
    with failing(listener) as failures:
        failures.policy("orders", retry_max_attempts="1", retry_delay_ms="0")
        failures.put("orders", b"v")
        assert failures.nack("billing", "orders", [0, 4]) == 0
        failures.eventually(RETRY, 1)
        assert failures.nack("billing", RETRY, 0) == 0
        failures.eventually(LETTERS, 1)
    for hook in hooks:
        assert f"plugin=harmful in={hook}" in caplog.text
