"""Alerts, with a real web server, and with ones that do not do what they should."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trio
import trio.testing
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic
from pykbroker_alerts import Alerts
from pykbroker_alerts.tally import OTHERS, PLACES, Counts, add
from pykbroker_alerts.webhook import shown

from pykbroker import RecordDeadLettered, ServiceContext, Settings
from pykbroker.testing import BrokerThread, check_plugin

EVENT = RecordDeadLettered(
    topic="orders",
    partition=3,
    offset=17,
    group="billing",
    attempt=6,
    reason="no stock",
    policy="exponential",
    dead_letter_topic="orders.billing.dlq",
    first_failure_ms=1000,
)


class Webhook(ThreadingHTTPServer):
    """A web server that keeps what is sent to it, and answers with ``statuses`` and then 204."""

    def __init__(self, *statuses: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.statuses = list(statuses)
        self.alerts: list[dict[str, object]] = []
        self.requests: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook?token=secret"


class Handler(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, self.headers["Content-Type"]))
        status = self.server.statuses.pop(0) if self.server.statuses else 204
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.server.alerts.append(json.loads(body))

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def webhook(*statuses: int) -> Iterator[Webhook]:
    with Webhook(*statuses) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def context(url: str, *, interval_s: float = 0.01, timeout_s: float = 5.0) -> ServiceContext:
    return ServiceContext(
        bootstrap="",
        listeners=(),
        node_id=1,
        cluster_id="c",
        data_dir=Path(),
        settings=Settings({"url": url, "interval.s": interval_s, "timeout.s": timeout_s}),
        time_ms=lambda: 5000,
    )


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    with trio.fail_after(30):
        while not holds():  # noqa: ASYNC110  # no thread sets a trio.Event
            await trio.sleep(0.005)


@contextmanager
def telling(nursery: trio.Nursery, plugin: Alerts, ctx: ServiceContext) -> Iterator[None]:
    """The plugin's service runs."""
    (component,) = plugin.pykbroker_register_services()
    nursery.start_soon(component.factory(None).run, ctx)  # type: ignore[arg-type]  # it asks for nothing
    yield
    nursery.cancel_scope.cancel()


def counts(alert: dict[str, object]) -> list[tuple[object, object]]:
    entries = alert["dead_letters"]
    assert isinstance(entries, list)
    return [(entry["topic"], entry["count"]) for entry in entries]


def test_conformance() -> None:
    check_plugin(Alerts())


async def test_the_first_is_told_at_once_and_the_rest_together(nursery: trio.Nursery) -> None:
    plugin = Alerts()
    with webhook() as server, telling(nursery, plugin, context(server.url, interval_s=0.3)):
        plugin.pykbroker_record_dead_lettered(EVENT)
        await until(lambda: len(server.alerts) == 1)
        for offset in range(100):
            plugin.pykbroker_record_dead_lettered(replace(EVENT, offset=offset, reason=f"reason {offset}"))
        plugin.pykbroker_record_dead_lettered(replace(EVENT, topic="bills", dead_letter_topic=None))
        await until(lambda: len(server.alerts) == 2)
    assert server.requests == [("/hook?token=secret", "application/json")] * 2
    assert server.alerts[0] == {
        "event": "dead-letters",
        "time_ms": 5000,
        "dead_letters": [
            {
                "topic": "orders",
                "group": "billing",
                "dead_letter_topic": "orders.billing.dlq",
                "count": 1,
                "latest": {
                    "partition": 3,
                    "offset": 17,
                    "attempt": 6,
                    "reason": "no stock",
                    "first_failure_ms": 1000,
                },
            }
        ],
    }
    assert counts(server.alerts[1]) == [("orders", 100), ("bills", 1)]
    assert "reason 99" in json.dumps(server.alerts[1])


async def test_what_is_refused_is_sent_again_with_what_came_since(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    plugin = Alerts()
    with webhook(500, 503) as server, telling(nursery, plugin, context(server.url)):
        plugin.pykbroker_record_dead_lettered(EVENT)
        await until(lambda: len(server.alerts) == 1)
        plugin.pykbroker_record_dead_lettered(EVENT)
        await until(lambda: len(server.alerts) >= 3)
    assert counts(server.alerts[-1]) == [("orders", 2)]
    assert "the webhook answered 500" in caplog.text
    assert "secret" not in caplog.text


async def test_a_webhook_that_does_not_answer_holds_up_nobody(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    plugin = Alerts()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with telling(nursery, plugin, context(url, timeout_s=0.05)):
            plugin.pykbroker_record_dead_lettered(EVENT)
            await until(lambda: "an alert was not sent" in caplog.text)


async def test_a_webhook_that_is_not_there(nursery: trio.Nursery, caplog: pytest.LogCaptureFixture) -> None:
    plugin = Alerts()
    with socket.create_server(("127.0.0.1", 0)) as gone:
        url = f"http://127.0.0.1:{gone.getsockname()[1]}"
    with telling(nursery, plugin, context(url)):
        plugin.pykbroker_record_dead_lettered(EVENT)
        await until(lambda: caplog.text.count("an alert was not sent") > 1)


@pytest.mark.parametrize("answer", [b"nonsense\r\n\r\n", b"", b"HTTP/1.1 200 " + b"x" * 70_000])
async def test_a_webhook_that_does_not_speak_http(
    answer: bytes, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    plugin = Alerts()

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            with suppress(OSError):  # it need not read the answer to its end
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with telling(nursery, plugin, context(url, interval_s=60)):
            plugin.pykbroker_record_dead_lettered(EVENT)
            await until(lambda: "an alert was not sent" in caplog.text)
        thread.join()


async def test_without_a_webhook_the_log_says_it(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    plugin = Alerts()
    with telling(nursery, plugin, context("", interval_s=60)):
        plugin.pykbroker_record_dead_lettered(EVENT)
        await until(lambda: "count=1" in caplog.text)
        plugin.pykbroker_record_dead_lettered(replace(EVENT, dead_letter_topic=None, offset=None, reason=""))
        await trio.testing.wait_all_tasks_blocked()
        assert "discarded" not in caplog.text
    await until(lambda: "discarded" in caplog.text)  # what is counted when the broker stops is logged
    assert caplog.messages == [
        "dead letters: topic=orders group=billing dead_letter_topic=orders.billing.dlq count=1; "
        "the latest: partition=3 offset=17 attempt=6 reason=no stock",
        "failed records discarded by a policy: topic=orders group=billing count=1; "
        "the latest: partition=3 offset=- attempt=6 reason=-",
    ]


def test_a_url_that_is_none_is_told_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    with BrokerThread(settings={"pykbroker.plugin.alerts.url": "file:///etc/passwd"}) as broker:
        assert broker.bootstrap
    assert "must begin with http:// or https://" in caplog.text


def test_many_places_are_counted_as_one() -> None:
    total: Counts = {}
    for number in range(PLACES + 50):
        add(total, {(str(number), "g", "d"): (2, EVENT)})
    assert len(total) == PLACES + 1
    assert total[OTHERS][0] == 100


def test_a_log_does_not_say_what_may_be_a_secret() -> None:
    assert shown("https://user:pw@hooks.example.com:8443/T0/B0?k=1") == "https://hooks.example.com"


def test_a_webhook_hears_of_a_dead_letter_in_a_broker() -> None:
    with webhook() as server:
        settings = {
            "pykbroker.retry.policy": "fixed",
            "pykbroker.retry.max.attempts": 0,
            "pykbroker.plugin.alerts.url": server.url,
        }
        with BrokerThread(settings=settings) as broker:
            admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
            admin.create_topics([NewTopic("orders", 1, 1)])
            admin.close()
            producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
            reason = [("pykbroker-reason", b"no stock")]
            producer.send("orders.billing.retry", b"poison", headers=reason, partition=0).get(timeout=10)
            producer.close()
            deadline = time.monotonic() + 30
            while not server.alerts and time.monotonic() < deadline:
                time.sleep(0.01)
    (alert,) = server.alerts
    assert counts(alert) == [("orders", 1)]
    said = json.dumps(alert)
    for part in ('"group": "billing"', '"offset": null', '"attempt": 1', '"reason": "no stock"'):
        assert part in said
