"""What plugins are told of a running broker: everything once, and exactly."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import trio

from pykbroker import (
    BrokerStarted,
    Component,
    ConnectionChanged,
    GroupChanged,
    RecordsAppended,
    ServiceContext,
    TopicChanged,
    hookimpl,
)
from pykbroker.testing import BrokerThread
from tests.containment.talk import Talk


class Ears:
    """A plugin that keeps what it hears."""

    def __init__(self, *hooks: str) -> None:
        self.heard: list[object] = []
        self.__name__ = "ears"
        for hook in hooks:
            setattr(self, hook, hookimpl(self._listener()))

    def _listener(self) -> Callable[[object], None]:
        def listen(event: object) -> None:
            self.heard.append(event)

        return listen


def test_appends() -> None:
    ears = Ears("pykbroker_records_appended")
    with BrokerThread(plugins=[ears]) as broker, Talk(broker.bootstrap) as talk:
        talk.create("orders")
        talk.produce("orders", b"a", b"b")
        for _ in range(2):  # the second one is a duplicate
            talk.produce("orders", b"c", producer_id=1, producer_epoch=0, base_sequence=0)
        talk.produce("nowhere", b"d")
        talk.join("readers")  # writes to an internal topic
        size = talk.batches("orders")[0][0].size
    assert ears.heard[0] == RecordsAppended(
        topic="orders",
        partition=0,
        base_offset=0,
        last_offset=1,
        size=size,
        timestamp_ms=1000,
        client_id="raw",
    )
    assert [event.last_offset for event in ears.heard if isinstance(event, RecordsAppended)] == [1, 2]


def test_topics() -> None:
    ears = Ears("pykbroker_topic_changed")
    with BrokerThread(plugins=[ears]) as broker, Talk(broker.bootstrap) as talk:
        talk.create("orders", {"retention.ms": "5"}, partitions=2)
        talk.alter("orders", retention_ms="6")
        talk.alter("orders", retention_ms="6")
        talk.delete("orders")
    heard = [e for e in ears.heard if isinstance(e, TopicChanged)]
    assert [(e.change, e.topic, e.partitions, dict(e.settings)) for e in heard] == [
        ("created", "orders", 2, {"retention.ms": "5"}),
        ("altered", "orders", 2, {"retention.ms": "6"}),
        ("deleted", "orders", 2, {"retention.ms": "6"}),
    ]
    assert len({event.topic_id for event in heard}) == 1


def test_connections() -> None:
    ears = Ears("pykbroker_connection_changed")
    with BrokerThread(plugins=[ears]) as broker:
        with Talk(broker.bootstrap) as talk:
            talk.create("orders")
            talk.metadata("orders")
        with Talk(broker.bootstrap):
            pass
    heard = [e for e in ears.heard if isinstance(e, ConnectionChanged)]
    assert [(e.change, e.client_id, e.requests) for e in heard if e.connection_id == 1] == [
        ("opened", None, 0),
        ("closed", "raw", 2),
    ]
    assert {e.reason for e in heard if e.change == "closed"} <= {"the client left", "the broker stopped"}
    assert {e.client_host for e in heard} == {"127.0.0.1"}


def test_groups() -> None:
    ears = Ears("pykbroker_group_changed")
    with BrokerThread(plugins=[ears]) as broker, Talk(broker.bootstrap) as talk:
        talk.join("readers")
    (first, *_) = [e for e in ears.heard if isinstance(e, GroupChanged)]
    assert (first.group, first.before) == ("readers", "Dead")


def test_a_group_that_is_replayed_is_no_news(tmp_path: object) -> None:
    ears = Ears("pykbroker_group_changed")
    with BrokerThread(plugins=[ears]) as broker:
        with Talk(broker.bootstrap) as talk:
            talk.join("readers")
        heard = len(ears.heard)
        assert heard
        broker.restart()
        with Talk(broker.bootstrap) as talk:
            talk.metadata("orders")
    assert all(isinstance(e, GroupChanged) and e.after != "Dead" for e in ears.heard[:heard])


def test_start_and_services() -> None:
    ears = Ears("pykbroker_started", "pykbroker_stopping")
    contexts: list[ServiceContext] = []
    ended: list[str] = []

    async def run(ctx: ServiceContext) -> None:
        contexts.append(ctx)
        try:
            await trio.sleep_forever()
        finally:
            ended.append("service")

    service = Component("ears", lambda build: SimpleNamespace(run=run))
    plugin = SimpleNamespace(__name__="serving", pykbroker_register_services=hookimpl(lambda: [service]))
    with BrokerThread(plugins=[ears, plugin]) as broker, Talk(broker.bootstrap) as talk:
        talk.create("orders")
        bootstrap = broker.bootstrap
    started, _ = ears.heard
    assert isinstance(started, BrokerStarted)
    assert started.bootstrap == contexts[0].bootstrap == bootstrap
    assert contexts[0].cluster_id == started.cluster_id
    assert ended == ["service"]


def test_nobody_listens_nothing_is_called() -> None:
    with BrokerThread(settings={"pykbroker.plugins": "off"}) as broker:
        services = broker.broker.services
        assert services.on_appended is None
        assert not services.admission


def test_what_is_installed_and_unused_is_not_on_the_path_of_a_produce(pykbroker: BrokerThread) -> None:
    assert pykbroker.broker.services.on_appended is None
    assert not pykbroker.broker.services.admission
