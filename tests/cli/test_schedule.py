"""The delays that commands show are those that the policies give."""

from __future__ import annotations

import pytest

from pykbroker import Retry, RetryPolicy
from pykbroker.cli._schedule import delays, span, told
from pykbroker.components import RETRY_POLICY
from pykbroker.config import BrokerConfig
from pykbroker.plugins import Plugins
from pykbroker.testing import retry_context


@pytest.mark.parametrize("policy", ["immediate", "fixed", "linear", "exponential"])
@pytest.mark.parametrize(("delay_ms", "max_delay_ms"), [(1000, 3_600_000), (7, 20), (0, 0), (5000, 100)])
def test_delays_are_those_of_the_policy(policy: str, delay_ms: int, max_delay_ms: int) -> None:
    found = delays(policy, 8, delay_ms, max_delay_ms)
    assert found is not None
    plugins = Plugins.load(BrokerConfig())
    decider: RetryPolicy = plugins.build(RETRY_POLICY, policy, topic="orders", group="billing", overrides={})
    for attempt, (low, high) in enumerate(found, 1):
        for _ in range(5):
            answer = decider.decide(
                retry_context(attempt=attempt, max_attempts=8, delay_ms=delay_ms, max_delay_ms=max_delay_ms)
            )
            assert isinstance(answer, Retry)
            assert low <= min(answer.delay_ms, max_delay_ms) <= high
    plugins.close()


def test_nobody_knows_what_a_plugin_will_say() -> None:
    assert delays("schedule", 3, 1, 1) is None


def test_in_words() -> None:
    assert [span(ms) for ms in (0, 1, 1500, 60_000, 90_000, 3_600_000, 86_400_000 + 1)] == [
        "0s", "1ms", "1s500ms", "1m", "1m30s", "1h", "1d",
    ]  # fmt: skip
    assert told([(1000, 1000), (2000, 2000)], 3) == "1s, 2s, ..."
    assert told([(1000, 1000), (1000, 1000)], 2) == "1s each time"
    assert told([(500, 1000)], 1) == "500ms to 1s"
