"""Failed deliveries where something is broken: policies, topics, settings.  Nothing is lost, nothing
loops, nothing is in the way of the next record, and the broker goes on serving."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import pytest

from pykbroker import Component, DeadLetter, Retry, RetryContext
from pykbroker.errors import ErrorCode
from tests.containment import plugins
from tests.containment.failures import Failures, failing, wait

RETRY = "orders.billing.retry"
LETTERS = "orders.billing.dlq"
Decide = Callable[[RetryContext], object]


def policy(decide: Decide, name: str = "harm") -> object:
    """A plugin with one retry policy."""

    def register() -> Sequence[Component[object]]:
        return [Component(name, lambda build: SimpleNamespace(decide=decide))]

    return plugins.plugin("harmful", pykbroker_register_retry_policies=register)


NONSENSE: dict[str, object] = {
    "nothing": None,
    "a number": 7,
    "a class": Retry,
    "a delay that is negative": Retry(-5),
    "a delay that is text": Retry("soon"),  # type: ignore[arg-type]  # that is the point
    "a delay that is none": Retry(None),  # type: ignore[arg-type]  # as above
    "a delay that is no number": Retry(float("nan")),  # type: ignore[arg-type]  # as above
    "a topic that is a number": DeadLetter(topic=7),  # type: ignore[arg-type]  # as above
    "headers that are none": DeadLetter(headers=(1,)),  # type: ignore[arg-type]  # as above
    "a header that is text": DeadLetter(headers=(("why", "no"),)),  # type: ignore[arg-type]  # as above
}


def fails_as_fixed(failures: Failures) -> None:
    """Once more after ``retry.delay.ms``, then a dead letter, and the next record is not held up."""
    failures.put("orders", b"poison", b"fine")
    assert failures.nack("billing", "orders", 0, upto=2) == 0
    failures.decided(1)
    assert failures.letters(RETRY) == []
    failures.later(60, decided=1)
    (again,) = failures.eventually(RETRY, 1)
    assert (again.value, again.text("pykbroker-attempt")) == (b"poison", "1")
    assert failures.nack("billing", RETRY, 0) == 0
    (letter,) = failures.eventually(LETTERS, 1)
    assert (letter.value, letter.text("pykbroker-attempt")) == (b"poison", "2")
    failures.later(3600, decided=2)
    failures.only(RETRY, 1)


@pytest.mark.parametrize("harm", [plugins.raising, plugins.ending, plugins.hanging])
def test_a_policy_that_raises(harm: Decide, caplog: pytest.LogCaptureFixture) -> None:
    with failing(policy(harm)) as failures:
        failures.policy("orders", retry_policy="harm", retry_max_attempts="1")
        fails_as_fixed(failures)
    assert "plugin=harmful" in caplog.text


@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE.keys())
def test_a_policy_that_answers_nonsense(answer: object, caplog: pytest.LogCaptureFixture) -> None:
    with failing(policy(lambda ctx: answer)) as failures:
        failures.policy("orders", retry_policy="harm", retry_max_attempts="1")
        fails_as_fixed(failures)
    assert "plugin=harmful" in caplog.text


def test_a_delay_beyond_the_bound_counts_as_the_bound() -> None:
    with failing(policy(lambda ctx: Retry(10**30))) as failures:
        failures.policy("orders", retry_policy="harm", retry_max_delay_ms="90000")
        failures.put("orders", b"v")
        assert failures.nack("billing", "orders", 0) == 0
        failures.later(89, decided=1)
        failures.only(RETRY, 0)
        failures.later(1, decided=1)
        failures.eventually(RETRY, 1)


@pytest.mark.parametrize("target", ["no/topic", "", "orders", RETRY, "__consumer_offsets", "x" * 300, "é"])
def test_a_policy_that_names_a_topic_that_cannot_be_a_target(
    target: str, caplog: pytest.LogCaptureFixture
) -> None:
    with failing(policy(lambda ctx: DeadLetter(topic=target))) as failures:
        failures.policy("orders", retry_policy="harm", retry_max_attempts="1")
        fails_as_fixed(failures)
        assert len(failures.letters("orders")) == 2
    assert "plugin=harmful" in caplog.text


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
    with failing(policy(plugins.blocking(0.3))) as failures:
        failures.policy("orders", retry_policy="harm", retry_max_attempts="1")
        fails_as_fixed(failures)
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
        failures.later(59, decided=2)
        failures.only(RETRY, 1)
        failures.later(1, decided=2)
        assert failures.eventually(RETRY, 2)[1].value == b"late"
    assert "harm" in caplog.text


# -- topics that are not as they should be


def test_the_retry_topic_is_deleted_while_records_wait() -> None:
    with failing() as failures:
        failures.policy("orders", partitions=2)
        failures.put("orders", b"v", partition=1)
        assert failures.nack("billing", "orders", 0, partition=1) == 0
        failures.decided(1)
        failures.delete(RETRY)
        assert RETRY not in failures.topics()
        failures.later(60, decided=1)
        (again,) = failures.eventually(RETRY, 1, partition=1)
        assert (again.value, again.text("pykbroker-source")) == (b"v", "orders/1/0")
        assert failures.topics()[RETRY] == 2
        assert failures.nack("billing", RETRY, 0, partition=1) == 0
        failures.later(60, decided=2)
        assert failures.eventually(RETRY, 2, partition=1)[1].text("pykbroker-attempt") == "2"


def test_the_retry_topic_is_deleted_and_what_waits_survives_a_restart() -> None:
    with failing() as failures:
        failures.policy("orders")
        failures.put("orders", b"v")
        assert failures.nack("billing", "orders", 0) == 0
        failures.decided(1)
        failures.delete(RETRY)
        failures.restart()
        failures.broker.advance(60)
        failures.eventually(RETRY, 1)


def test_the_dead_letter_topic_is_deleted_then_comes_the_next() -> None:
    with failing() as failures:
        failures.policy("orders", retry_max_attempts="0")
        failures.put("orders", b"first", b"second")
        assert failures.nack("billing", "orders", 0) == 0
        failures.eventually(LETTERS, 1)
        failures.delete(LETTERS)
        assert failures.nack("billing", "orders", 1) == 0
        (letter,) = failures.eventually(LETTERS, 1)
        assert letter.value == b"second"


def test_a_record_too_large_for_its_topics_is_moved_all_the_same() -> None:
    with failing() as failures:
        failures.policy("orders", retry_max_attempts="1", retry_delay_ms="0")
        failures.put("orders", b"x" * 5000)
        assert failures.nack("billing", "orders", upto=0) == 0  # makes both topics
        for topic in (RETRY, LETTERS):
            assert failures.ask_for(topic) == 0
            assert failures.alter(topic, max_message_bytes="100").error_code == 0
        assert failures.nack("billing", "orders", 0) == 0
        assert len(failures.eventually(RETRY, 1)[0].value or b"") == 5000
        assert failures.nack("billing", RETRY, 0) == 0
        assert len(failures.eventually(LETTERS, 1)[0].value or b"") == 5000
        assert failures.put(RETRY, b"x" * 5000) == ErrorCode.MESSAGE_TOO_LARGE, "a client's own is refused"


@pytest.mark.parametrize("topic", [RETRY, LETTERS])
def test_topics_of_failed_deliveries_cannot_be_compacted(topic: str) -> None:
    with failing() as failures:
        failures.policy("orders")
        assert failures.ask_for(topic) == 0
        for value in ("compact", "compact,delete"):
            answer = failures.alter(topic, cleanup_policy=value)
            assert answer.error_code == ErrorCode.INVALID_CONFIG
        assert failures.alter(topic, retention_ms="-1").error_code == 0
        swept = failures.alter(topic, retention_ms="3600000").error_code
        assert swept == (ErrorCode.INVALID_CONFIG if topic == RETRY else 0)


def test_a_compacted_topic_cannot_be_named_for_dead_letters() -> None:
    with failing() as failures:
        assert failures.create("graveyard", {"cleanup.policy": "compact"}) == 0
        failures.policy("orders")
        answer = failures.alter("orders", pykbroker_dead_letter_topic="graveyard")
        assert answer.error_code == ErrorCode.INVALID_CONFIG


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


def test_a_dead_letter_without_key_waits_for_a_topic_that_takes_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The topic that several share is compacted because the broker's default has changed."""
    with failing() as failures:
        assert failures.create("letters") == 0
        failures.policy("orders", retry_max_attempts="0", dead_letter_topic="letters")
        failures.policy("bills", retry_max_attempts="0")
        failures.put("bills", b"bill")
        for topic in (RETRY, "bills.billing.retry"):
            assert failures.ask_for(topic) == 0
        assert failures.alter_broker(log_cleanup_policy="compact") == 0
        assert failures.put(RETRY, b"no key", key=None) == 0
        assert failures.put(RETRY, b"with key") == 0
        assert failures.nack("billing", "bills", 0) == 0
        failures.eventually("bills.billing.dlq", 1)
        wait(lambda: "topic=letters" in caplog.text, lambda: caplog.text)
        assert b"no key" not in [each.value for each in failures.letters("letters")]
        assert failures.alter_broker(log_cleanup_policy="delete") == 0
        found = failures.eventually("letters", 2)
        assert {each.value for each in found} == {b"no key", b"with key"}


@pytest.mark.parametrize(
    "target", ["orders", RETRY, "__consumer_offsets", "{topic}", "{topic}.{group}.retry"]
)
def test_a_dead_letter_topic_that_would_loop(target: str) -> None:
    """Refused at the setting, or with the nack; or the topic has no policy, and nothing is interpreted."""
    with failing() as failures:
        failures.policy("orders", retry_max_attempts="0")
        failures.put("orders", b"v")
        assert failures.ask_for(RETRY) == 0
        if failures.alter("orders", pykbroker_dead_letter_topic=target).error_code == 0:
            if failures.nack("billing", "orders", 0) == ErrorCode.INVALID_REQUEST:
                assert failures.committed("billing", "orders") == (-1, "")
            failures.only(LETTERS, 0)
        else:
            assert failures.nack("billing", "orders", 0) == 0
            failures.eventually(LETTERS, 1)
        failures.only("orders", 1)
        failures.only(RETRY, 0)


def test_dead_letters_are_routed_by_reason_where_their_topic_is_an_exchange() -> None:
    bindings = [
        {"to": "slow", "arguments": {"pykbroker-reason": "timeout"}},
        {"to": "others", "arguments": {"pykbroker-reason": "broken"}},
    ]
    exchange = {"pykbroker.exchange.type": "headers", "pykbroker.exchange.bindings": json.dumps(bindings)}
    with failing() as failures:
        for topic in ("slow", "others"):
            assert failures.create(topic) == 0
        assert failures.create("letters", exchange) == 0
        failures.policy("orders", retry_max_attempts="0", dead_letter_topic="letters")
        failures.put("orders", b"0", b"1")
        assert failures.nack("billing", "orders", 0, reason="timeout") == 0
        assert failures.nack("billing", "orders", 1, reason="broken") == 0
        assert [each.value for each in failures.eventually("slow", 1)] == [b"0"]
        assert [each.value for each in failures.eventually("others", 1)] == [b"1"]


def test_copies_of_an_exchange_wait_where_what_is_produced_waits() -> None:
    """In a topic that delays, and as a failure in a retry topic."""
    delayed = {"pykbroker.delay.enable": "true", "pykbroker.delay.ms": "60000", "retention.ms": "-1"}
    bindings = json.dumps([{"to": "later"}, {"to": RETRY}])
    exchange = {"pykbroker.exchange.type": "fanout", "pykbroker.exchange.bindings": bindings}
    with failing() as failures:
        failures.policy("orders")
        assert failures.ask_for(RETRY) == 0
        assert failures.create("later", delayed) == 0
        assert failures.create("sorting", exchange) == 0
        failures.put("sorting", b"v")
        failures.later(59, decided=2)
        failures.only("later", 0)
        failures.only(RETRY, 0)
        failures.broker.advance(1)
        assert failures.eventually("later", 1)[0].text("pykbroker-routed-from") == "sorting/0/0"
        assert failures.eventually(RETRY, 1)[0].text("pykbroker-attempt") == "1"


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


@pytest.mark.parametrize(
    "delay", [b"soon", b"", None, b"-5", b"1e3", b" 7", b"9" * 30, "\u00b2".encode(), b"\xff", b"0x10"]
)
def test_a_delay_that_is_none_counts_as_the_topics(delay: bytes | None) -> None:
    delayed = {"pykbroker.delay.enable": "true", "pykbroker.delay.ms": "60000", "retention.ms": "-1"}
    with failing() as failures:
        assert failures.create("later", delayed) == 0
        held = ("pykbroker-held", bytes(40))
        assert failures.put("later", b"odd", headers=[held, ("pykbroker-delay-ms", delay)]) == 0
        assert failures.put("later", b"next") == 0
        failures.later(55, decided=2)
        failures.only("later", 0)
        failures.broker.advance(5)
        found = failures.eventually("later", 1 if delay == b"9" * 30 else 2)
        assert found[-1].value == b"next"
