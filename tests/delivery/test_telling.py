"""What plugins hear of failed deliveries."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pykbroker import (
    DeadLetter,
    Discard,
    NackSkipped,
    RecordDeadLettered,
    RecordReplayed,
    RecordRetried,
    Retry,
    RetryDecision,
)
from pykbroker.config import BrokerConfig
from pykbroker.delivery.deciding import Fate, Outcome, decide
from pykbroker.delivery.telling import Telling
from tests.delivery.copies import source
from tests.delivery.test_deciding import NOW, ROLE, SETTINGS
from tests.plugins.support import loaded, plugin

HOOKS = (
    "pykbroker_record_retried",
    "pykbroker_record_dead_lettered",
    "pykbroker_record_replayed",
    "pykbroker_nack_skipped",
)
CAME = [
    ("pykbroker-source", b"orders/3/17"),
    ("pykbroker-group", b"billing"),
    ("pykbroker-reason", b"no stock"),
]
LETTER = RecordDeadLettered(
    topic="orders",
    partition=3,
    offset=17,
    group="billing",
    attempt=1,
    reason="no stock",
    policy="linear",
    dead_letter_topic="orders.billing.dlq",
    first_failure_ms=NOW,
)


def outcome(answer: RetryDecision) -> Outcome:
    return decide(ROLE, 3, source(CAME), SETTINGS, lambda ctx: answer, NOW)


def test_everything_is_told() -> None:
    heard: list[object] = []

    def hear(event: object) -> None:
        heard.append(event)

    with loaded(plugin("ears", **dict.fromkeys(HOOKS, hear))) as plugins:
        telling = Telling(plugins)
        telling.decided(outcome(Retry(5)), "orders.billing.retry")
        telling.decided(outcome(DeadLetter()), "orders.billing.retry")
        telling.decided(outcome(Discard()), "orders.billing.retry")
        telling.replayed("orders.billing.dlq", 1, 2, "orders", NOW)
        telling.skipped("orders", 3, "billing", [(1, 4), (9, 9)])
        assert telling.hears(Fate.RETRY)
        assert telling.hears(Fate.DISCARD)
    assert heard == [
        RecordRetried(
            topic="orders", partition=3, offset=17, group="billing", attempt=1, reason="no stock",
            policy="linear", retry_topic="orders.billing.retry", due_ms=NOW + 5, first_failure_ms=NOW,
        ),
        LETTER,
        replace(LETTER, dead_letter_topic=None),
        RecordReplayed(
            dead_letter_topic="orders.billing.dlq", partition=1, offset=2, destination="orders", due_ms=NOW
        ),
        NackSkipped(topic="orders", partition=3, group="billing", offsets=((1, 4), (9, 9))),
    ]  # fmt: skip


def test_nobody_needs_to_listen() -> None:
    with loaded(config=BrokerConfig.from_texts({"pykbroker.plugins": "off"})) as plugins:
        telling = Telling(plugins)
        assert not any(telling.hears(fate) for fate in Fate)
        telling.decided(outcome(Retry(5)), "r")
        telling.decided(outcome(DeadLetter()), "r")
        telling.replayed("d", 1, 2, "orders", NOW)
        telling.skipped("orders", 3, "billing", [])


def test_a_listener_that_raises_is_contained(caplog: pytest.LogCaptureFixture) -> None:
    def fail(event: object) -> None:
        raise RuntimeError("out of order")

    with loaded(plugin("harmful", **dict.fromkeys(HOOKS, fail))) as plugins:
        telling = Telling(plugins)
        telling.decided(outcome(Retry(5)), "r")
        telling.decided(outcome(Discard()), "r")
        telling.replayed("d", 1, 2, "orders", NOW)
        telling.skipped("orders", 3, "billing", [])
        assert {hook for _, hook in plugins.faults()} == set(HOOKS)
    assert "plugin=harmful in=pykbroker_record_retried topic=orders" in caplog.text
