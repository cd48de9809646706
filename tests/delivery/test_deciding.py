"""What the core makes of a policy's answers; time and policy are arguments."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykbroker import DeadLetter, Discard, Record, Retry, RetryContext, RetryDecision
from pykbroker.catalog.retrying import RetrySettings, Role, RoleKind
from pykbroker.delivery.deciding import Fate, Outcome, decide
from pykbroker.delivery.headers import Origin, history
from tests.delivery.copies import Header, source

ROLE = Role(RoleKind.RETRY, "orders", "billing")
SETTINGS = RetrySettings(
    policy="linear",
    max_attempts=3,
    delay_ms=1000,
    max_delay_ms=60_000,
    retry_topic="orders.billing.retry",
    dead_letter_topic="orders.billing.dlq",
    shared_dead_letter=False,
    overrides={},
)
NOW = 1_700_000_000_000


def failed(answer: RetryDecision | None, *headers: Header, settings: RetrySettings = SETTINGS) -> Outcome:
    """The outcome of a failure at ``NOW`` in partition 4."""
    return decide(ROLE, 4, source(headers), settings, lambda ctx: answer, NOW)


def test_a_record_returns_until_its_attempts_are_used_up() -> None:
    record, fates = source(), []
    for time in range(0, 5000, 1000):
        outcome = decide(ROLE, 4, record, SETTINGS, lambda ctx: Retry(ctx.attempt * 10), NOW + time)
        record = outcome.record
        fates.append((outcome.fate, outcome.attempt, outcome.due_ms - NOW - time, outcome.first_failure_ms))
    assert fates == [
        (Fate.RETRY, 1, 10, NOW),
        (Fate.RETRY, 2, 20, NOW),
        (Fate.RETRY, 3, 30, NOW),
        (Fate.DEAD_LETTER, 4, 0, NOW),
        (Fate.DEAD_LETTER, 5, 0, NOW),
    ]
    assert dict(record.headers)["__dlq.errors.delivery.count"] == b"5"
    assert dict(record.headers)["pykbroker-last-failure-ms"] == b"%d" % (NOW + 4000)


def test_the_policy_is_told_everything() -> None:
    asked: list[RetryContext] = []

    def ask(ctx: RetryContext) -> RetryDecision:
        asked.append(ctx)
        return Retry(0)

    came: tuple[Header, ...] = (("a", b"1"), ("pykbroker-reason", b"first"))
    record = decide(ROLE, 4, source(came, b"key", b"value", offset=9), SETTINGS, ask, NOW).record
    again = [*record.headers, ("pykbroker-reason", b"second")]
    decide(ROLE, 4, source(again), SETTINGS, ask, NOW + 5)
    known = ("pykbroker-source", b"orders/7/70"), ("pykbroker-group", b"billing")
    decide(ROLE, 4, source(known), SETTINGS, ask, NOW)
    first = RetryContext(
        topic="orders", partition=4, offset=None, group="billing", attempt=1, max_attempts=3, reason="first",
        first_failure_ms=NOW, last_failure_ms=NOW, now_ms=NOW, delay_ms=1000, max_delay_ms=60_000,
    )  # fmt: skip
    assert asked == [
        first,
        replace(first, attempt=2, reason="second", now_ms=NOW + 5),
        replace(first, reason="", partition=7, offset=70),
    ]
    assert asked[0].record == Record(9, 7, b"key", b"value", came)


@pytest.mark.parametrize(("key", "value"), [(None, None), (b"", b""), (b"k", None), (None, b"v" * 300)])
def test_the_record_in_the_context_is_whole(key: bytes | None, value: bytes | None) -> None:
    seen: list[Record] = []

    def ask(ctx: RetryContext) -> None:
        seen.append(ctx.record)

    decide(ROLE, 0, source((), key, value), SETTINGS, ask, NOW)
    assert [(record.key, record.value) for record in seen] == [(key, value)]


def test_delays_are_capped() -> None:
    assert failed(Retry(10**12)).due_ms == NOW + 60_000
    assert failed(Retry(-5)).due_ms == NOW
    forever = replace(SETTINGS, max_delay_ms=2**63 - 1)
    assert failed(Retry(2**63 - 1), settings=forever).due_ms == 2**63 - 1


def test_a_policy_that_fails_counts_as_fixed() -> None:
    outcome = failed(None)
    assert (outcome.fate, outcome.due_ms, outcome.policy) == (Fate.RETRY, NOW + 1000, "fixed")
    assert dict(outcome.record.headers)["pykbroker-policy"] == b"fixed"
    outcome = failed(None, *third())
    assert (outcome.fate, outcome.topic, outcome.attempt) == (Fate.DEAD_LETTER, "orders.billing.dlq", 4)


def third() -> list[Header]:
    """The headers of a record that has failed three times."""
    record = source()
    for _ in range(3):
        record = decide(ROLE, 4, record, SETTINGS, lambda ctx: Retry(0), NOW - 1).record
    return list(record.headers)


def test_beyond_the_last_attempt_a_policy_may_still_choose_another_end() -> None:
    assert failed(Discard(), *third()).fate is Fate.DISCARD
    assert failed(DeadLetter("morgue"), *third()).topic == "morgue"
    assert failed(Retry(5), *third()).topic == "orders.billing.dlq"


def test_a_dead_letter_before_the_last_attempt() -> None:
    outcome = failed(
        DeadLetter(headers=[("severity", b"high"), ("routing-key", b"new")]), ("routing-key", b"old")
    )
    assert (outcome.fate, outcome.topic, outcome.due_ms) == (Fate.DEAD_LETTER, "orders.billing.dlq", NOW)
    assert [value for name, value in outcome.record.headers if name == "routing-key"] == [b"new"]
    assert dict(outcome.record.headers)["__dlq.errors.delivery.count"] == b"1"


def test_a_discarded_record_is_as_it_came() -> None:
    outcome = failed(Discard(), ("a", b"1"))
    assert (outcome.fate, outcome.topic, outcome.record.headers) == (Fate.DISCARD, None, (("a", b"1"),))


def test_with_no_attempts_the_first_failure_is_the_last() -> None:
    assert failed(Retry(0), settings=replace(SETTINGS, max_attempts=0)).fate is Fate.DEAD_LETTER


def test_a_clock_set_back_leaves_the_first_failure_where_it_was() -> None:
    outcome = decide(ROLE, 4, source(third()), SETTINGS, lambda ctx: Retry(100), NOW - 3_600_000)
    assert (outcome.first_failure_ms, outcome.due_ms) == (NOW - 1, NOW - 3_600_000)
    outcome = failed(Retry(100), *failed(Retry(0)).record.headers)
    assert outcome.attempt == 2


NAMES = st.sampled_from(
    ["pykbroker-source", "pykbroker-group", "pykbroker-attempt", "pykbroker-first-failure-ms", "x", "é"]
)
VALUES = st.none() | st.binary(max_size=30) | st.sampled_from([b"orders/1/2", b"billing", b"2147483647"])
ANSWERS = (
    st.none() | st.builds(Retry, st.integers(-(2**70), 2**70)) | st.just(Discard()) | st.just(DeadLetter())
)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=8), ANSWERS, st.integers(0, 2**62))
def test_whatever_came_there_is_a_decision_that_can_be_stored(
    came: list[Header], answer: RetryDecision | None, now: int
) -> None:
    outcome = decide(ROLE, 4, source(came), SETTINGS, lambda ctx: answer, now)
    assert now <= outcome.due_ms <= min(now + 60_000, 2**63 - 1)
    assert 1 <= outcome.attempt < 2**31
    assert outcome.origin in (Origin("orders"), Origin("orders", 1, 2))
    assert (outcome.topic is None) == (outcome.fate is not Fate.DEAD_LETTER)
    if outcome.fate is Fate.RETRY:
        assert history(outcome.record, ROLE).attempt == outcome.attempt
