"""A circle of dead letters that nobody could refuse: what was in its way was deleted."""

from __future__ import annotations

import json
import logging

import pytest

from tests.containment.failures import failing, wait


def exchange(*targets: str) -> dict[str, str]:
    bindings = json.dumps([{"to": target} for target in targets])
    return {"pykbroker.exchange.type": "fanout", "pykbroker.exchange.bindings": bindings}


def test_a_circle_that_is_there_holds_letters_back(caplog: pytest.LogCaptureFixture) -> None:
    """The broker starts and says so; nothing goes round; the letter goes on when the circle is opened."""
    with failing() as failures:
        assert failures.create("orders", {"retention.ms": "-1"}) == 0
        assert failures.create("seen") == 0
        assert failures.create("back", exchange()) == 0
        dead_letters = {"pykbroker_retry_max_attempts": "0", "pykbroker_dead_letter_topic": "back"}
        assert failures.alter_group("billing", pykbroker_retry_policy="fixed", **dead_letters) == 0
        assert failures.ask_for("orders.billing.retry") == 0
        # Where dead letters lie nothing is retried, so that this is no circle yet.
        assert failures.create("other", {"pykbroker.dead.letter.topic": "orders"}) == 0
        assert failures.alter("back", **_bound("orders", "seen")).error_code == 0
        failures.delete("other")

        failures.put("orders", b"v")
        assert failures.nack("billing", "orders", 0) == 0
        wait(lambda: "records wait for a topic that cannot be had: topic=back" in caplog.text)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            failures.restart()
        assert "orders > back > orders" in caplog.text
        failures.only("orders", 1)
        failures.only("seen", 0)
        assert failures.alter("back", **_bound("seen")).error_code == 0
        failures.eventually("seen", 1)
        failures.only("orders", 1)


def _bound(*targets: str) -> dict[str, str]:
    return {"pykbroker_exchange_bindings": exchange(*targets)["pykbroker.exchange.bindings"]}
