"""Retry policies of pykbroker: ``immediate``, ``fixed``, ``linear``, ``exponential``.

They count on the core for the end: it makes a dead letter of a record that has used up its attempts, and
no delay is longer than ``pykbroker.retry.max.delay.ms``.
"""

from __future__ import annotations

from collections.abc import Iterable

from pykbroker import BuildContext, Component, Retry, RetryContext, RetryPolicy, hookimpl

DOUBLINGS = 62
"""More would only be cut off: the longest delay is a 64-bit number."""


class Immediate:
    """No delay."""

    def decide(self, ctx: RetryContext) -> Retry:
        """At once."""
        return Retry(0)


class Fixed:
    """The same delay each time."""

    def decide(self, ctx: RetryContext) -> Retry:
        """After ``ctx.delay_ms``."""
        return Retry(ctx.delay_ms)


class Linear:
    """A delay that grows by the same each time."""

    def decide(self, ctx: RetryContext) -> Retry:
        """After ``ctx.delay_ms`` times the number of failures."""
        return Retry(min(ctx.delay_ms * ctx.attempt, ctx.max_delay_ms))


class Exponential:
    """A delay that doubles each time, less a random part of up to half of it.

    Half of the delay is waited in any case, so that what is retried has time to recover; the random
    part spreads records that failed at the same moment.
    """

    def __init__(self, build: BuildContext) -> None:
        self._random = build.random

    def decide(self, ctx: RetryContext) -> Retry:
        """After between half of the delay and all of it, whole milliseconds."""
        delay = min(ctx.delay_ms << min(ctx.attempt - 1, DOUBLINGS), ctx.max_delay_ms)
        return Retry(self._random.randint((delay + 1) // 2, delay))


@hookimpl
def pykbroker_register_retry_policies() -> Iterable[Component[RetryPolicy]]:
    """The four policies."""
    return [
        Component("immediate", lambda build: Immediate(), doc="Retries at once."),
        Component("fixed", lambda build: Fixed(), doc="Retries after the same delay each time."),
        Component("linear", lambda build: Linear(), doc="Retries after a delay that grows evenly."),
        Component("exponential", Exponential, doc="Retries after a delay that doubles, with jitter."),
    ]
