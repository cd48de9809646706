"""The kit of retry policies: what is right passes, and each thing that is wrong is caught and named."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest

from pykbroker import Component, DeadLetter, Discard, Record, Retry, RetryContext, RetryPolicy, hookimpl
from pykbroker.testing import KitFailure, check_plugin, check_retry_policy, retry_context

Decide = Callable[[RetryContext], object]


def policy(decide: Decide) -> Callable[[], RetryPolicy]:
    """What makes a policy that answers this; the cast says what it is taken for."""
    return lambda: cast("RetryPolicy", SimpleNamespace(decide=decide))


def raising(ctx: object) -> object:
    raise RuntimeError("out of order")


async def waiting(ctx: object) -> object:
    return Retry(0)


def slow(ctx: object) -> object:
    time.sleep(0.15)
    return Retry(0)


@pytest.mark.parametrize(
    "decide",
    [
        lambda ctx: Retry(0),
        lambda ctx: Discard(),
        lambda ctx: DeadLetter("elsewhere", headers=[("a", b"1"), ("a", None)]),
        lambda ctx: Retry(ctx.now_ms - ctx.first_failure_ms if ctx.now_ms > ctx.first_failure_ms else 0),
        lambda ctx: Retry(len(ctx.record.value or b"")),
    ],
)
def test_good_policies(decide: Decide) -> None:
    check_retry_policy(policy(decide))


@pytest.mark.parametrize(
    ("decide", "message"),
    [
        (raising, "RuntimeError"),
        (waiting, "must not be async"),
        (slow, "everything else in a broker waits"),
        (lambda ctx: None, "none of Retry, DeadLetter, Discard"),
        (lambda ctx: Retry(ctx.delay_ms / 2), "no number of milliseconds"),
        (lambda ctx: Retry(ctx.now_ms - ctx.first_failure_ms), "no number of milliseconds"),
        (lambda ctx: DeadLetter("a topic"), "no name of a topic"),
        (lambda ctx: DeadLetter(headers=[("pykbroker-reason", b"")]), "the broker's own"),
        (lambda ctx: DeadLetter(headers=1), "headers are no list"),  # type: ignore[arg-type]  # the point
        (lambda ctx: Retry(ctx.offset), "no number"),
        (lambda ctx: Retry(len(ctx.record.key)), "TypeError"),
    ],
)
def test_bad_policies(decide: Decide, message: str) -> None:
    with pytest.raises(KitFailure, match=message):
        check_retry_policy(policy(decide))


def test_a_policy_without_its_method() -> None:
    with pytest.raises(KitFailure, match="has no decide"):
        check_retry_policy(lambda: cast("RetryPolicy", SimpleNamespace()))


def test_a_policy_against_its_examples() -> None:
    record = Record(3, 5, b"key", None)
    good = policy(lambda ctx: Retry(ctx.attempt) if ctx.record.value else DeadLetter())
    check_retry_policy(
        good,
        decides=[(retry_context(attempt=4), Retry(4)), (retry_context(record=record), DeadLetter())],
    )
    with pytest.raises(KitFailure, match=r"gave Retry\(delay_ms=4\), not Retry\(delay_ms=5\)"):
        check_retry_policy(good, decides=[(retry_context(attempt=4), Retry(5))])


def test_a_plugin_with_policies() -> None:
    plugin = SimpleNamespace(
        pykbroker_register_retry_policies=hookimpl(
            lambda: [Component("mine", lambda build: policy(lambda ctx: Retry(len(build.group or "")))())]
        )
    )
    check_plugin(plugin)
    bad = SimpleNamespace(
        pykbroker_register_retry_policies=hookimpl(
            lambda: [Component("none", lambda build: policy(raising)())]
        )
    )
    with pytest.raises(KitFailure):
        check_plugin(bad)
