"""Event hooks and services that do harm: they hear of things, and cannot undo them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import pytest
import trio

from pykbroker import Component
from pykbroker.testing import BrokerThread
from tests.containment import plugins
from tests.containment.talk import Talk

Harmed = Callable[..., Talk]
EVENTS = (
    "pykbroker_started",
    "pykbroker_topic_changed",
    "pykbroker_connection_changed",
    "pykbroker_records_appended",
    "pykbroker_stopping",
)


def harmful(hook: str, harm: Callable[[object], object]) -> object:
    def function(event: object) -> object:
        return harm(event)

    return plugins.plugin("harmful", **{hook: function})


@pytest.mark.parametrize("hook", EVENTS)
@pytest.mark.parametrize("harm", [plugins.raising, plugins.ending])
def test_raising(hook: str, harm: Callable[[object], object], caplog: pytest.LogCaptureFixture) -> None:
    with BrokerThread(plugins=[harmful(hook, harm)]) as broker, Talk(broker.bootstrap) as talk:
        talk.create("orders")
        assert talk.produce("orders", b"v").error_code == 0
        assert talk.values("orders") == [b"v"]
    assert f"plugin=harmful in={hook}" in caplog.text


@pytest.mark.parametrize("hook", ["pykbroker_topic_changed", "pykbroker_records_appended"])
def test_waiting_where_nobody_waits(hook: str, caplog: pytest.LogCaptureFixture) -> None:
    plugin = harmful(hook, plugins.hanging)
    with BrokerThread(plugins=[plugin]) as broker, Talk(broker.bootstrap) as talk:
        talk.create("orders")
        assert talk.produce("orders", b"v").error_code == 0
    assert "this hook may not wait" in caplog.text


def test_a_broker_stops_though_a_plugin_hangs(caplog: pytest.LogCaptureFixture) -> None:
    plugin = harmful("pykbroker_stopping", plugins.hanging)
    caplog.set_level(logging.INFO)
    with BrokerThread(plugins=[plugin]) as broker, Talk(broker.bootstrap) as talk:
        talk.create("orders")
        talk.produce("orders", b"v")
    assert "plugin=harmful in=pykbroker_stopping" in caplog.text
    assert "stopped: everything is flushed" in caplog.text


def test_a_service_that_raises(harmed: Harmed, caplog: pytest.LogCaptureFixture) -> None:
    harmed(plugins.service(plugins.raising_later))
    deadline = time.monotonic() + 20
    while "a service has ended" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "plugin=harmful in=service harm" in caplog.text
    assert "is not started again: service=harm" in caplog.text


def test_a_service_that_is_not_async(harmed: Harmed, caplog: pytest.LogCaptureFixture) -> None:
    harmed(plugins.service(plugins.raising))  # type: ignore[arg-type]  # that is the point
    assert "plugin=harmful in=service harm" in caplog.text


def test_a_service_that_does_not_end_holds_up_only_the_end(caplog: pytest.LogCaptureFixture) -> None:
    async def stubborn(ctx: object) -> None:
        with trio.CancelScope(shield=True), trio.move_on_after(20):
            while "do not end" not in caplog.text:  # noqa: ASYNC110  # the log tells nobody
                await trio.sleep(0.02)

    caplog.set_level(logging.INFO)
    with BrokerThread(plugins=[plugins.service(stubborn)]) as broker, Talk(broker.bootstrap) as talk:
        talk.create("orders")
        talk.produce("orders", b"v")
    lines = [record.getMessage() for record in caplog.records]
    (complaint,) = [
        at for at, line in enumerate(lines) if "do not end when they are cancelled: services=harm" in line
    ]
    assert any("stopped: everything is flushed" in line for line in lines[complaint:])


def test_a_service_that_cannot_be_made(harmed: Harmed, caplog: pytest.LogCaptureFixture) -> None:
    component = Component("harm", plugins.raising)
    harmed(plugins.plugin("harmful", pykbroker_register_services=lambda: [component]))
    assert "a service cannot be started: service=harm" in caplog.text
