"""The four policies, by their kit and by their times."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

import pykbroker_retries
import pytest
from pykbroker_retries import Exponential, Fixed, Immediate, Linear

from pykbroker import BuildContext, Retry, RetryPolicy, Settings
from pykbroker.testing import check_plugin, check_retry_policy, retry_context


def test_conformance() -> None:
    check_plugin(pykbroker_retries)


@pytest.mark.parametrize(
    ("policy", "delays"),
    [
        (Immediate, {1: 0, 2: 0, 100: 0}),
        (Fixed, {1: 1000, 2: 1000, 100: 1000}),
        (Linear, {1: 1000, 2: 2000, 3: 3000, 59: 59_000, 60: 60_000, 100: 60_000}),
    ],
)
def test_delays(policy: Callable[[], RetryPolicy], delays: dict[int, int]) -> None:
    examples = [(retry_context(attempt=attempt), Retry(delay)) for attempt, delay in delays.items()]
    check_retry_policy(policy, decides=examples)


class Fixedly:
    """A generator that says the ends of its range."""

    def __init__(self, end: int) -> None:
        self.end = end

    def randint(self, *bounds: int) -> int:
        return bounds[self.end]


def exponential(end: int) -> Exponential:
    build = BuildContext(
        component="exponential",
        topic="orders",
        settings=Settings({}),
        time_ms=lambda: 0,
        random=Fixedly(end),  # type: ignore[arg-type]  # as much of a Random as is needed
    )
    return Exponential(build)


def test_exponential_waits_between_half_and_all_of_what_doubles() -> None:
    shortest = {1: 500, 2: 1000, 3: 2000, 6: 16_000, 7: 30_000, 2**31 - 1: 30_000}
    for end, factor in ((0, 1), (1, 2)):
        examples = [(retry_context(attempt=n), Retry(delay * factor)) for n, delay in shortest.items()]
        check_retry_policy(partial(exponential, end), decides=examples)


def test_exponential_is_spread() -> None:
    build = BuildContext(
        component="exponential", topic=None, settings=Settings({}), time_ms=lambda: 0, random=Random(1)
    )
    policy = Exponential(build)
    delays = {policy.decide(retry_context()).delay_ms for _ in range(200)}
    assert len(delays) > 100
    assert 500 <= min(delays) < 550 < 950 < max(delays) <= 1000


def test_an_odd_delay_of_one_millisecond_is_waited() -> None:
    examples = [(retry_context(delay_ms=1), Retry(1)), (retry_context(delay_ms=0), Retry(0))]
    check_retry_policy(partial(exponential, 0), decides=examples)
