"""Exchanges do what a real RabbitMQ's do: the same cases on both, contents of the queues compared.

Each case (see ``routing_cases``) is told to RabbitMQ with pika, and to pykbroker in two ways: its
routing table alone, and a whole broker with kafka-python, where exchanges and queues are topics.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from interop.conftest import Broker, give_up
from interop.routing_cases import KINDS, Case, case
from pykbroker.catalog.bindings import render
from pykbroker.catalog.exchange import Exchange, ExchangeVersion
from pykbroker.catalog.image import Image
from pykbroker.components import Binding, RoutingContext
from pykbroker.config import BrokerConfig
from pykbroker.plugins import Plugins
from pykbroker.routing import Routes, RoutingTable
from pykbroker.routing.compiled import PluginCompiler

if TYPE_CHECKING:
    from kafka import KafkaAdminClient
    from pika.adapters.blocking_connection import BlockingChannel

    from interop.rabbitmq import RabbitMQ

CASES = 3000 if os.environ.get("PYKBROKER_FULL") else 400
TOGETHER = 25
"""Cases that are on the broker at once."""

ARRIVAL_S = 60.0
"""Longest wait for copies that RabbitMQ says must come."""

STRAGGLERS_S = 0.5
"""Wait for copies that must not come, once all others are there."""

Contents = dict[str, list[bytes]]
"""Bodies by queue, in order."""


@pytest.fixture(name="rabbitmq", scope="module")
def _rabbitmq() -> Iterator[RabbitMQ]:
    try:
        from interop.rabbitmq import MissingRabbitError, RabbitMQ
    except ImportError as error:
        give_up(f"{error}; install it: pip install pika")
    try:
        server = RabbitMQ()
    except MissingRabbitError as error:
        give_up(str(error))
    with server:
        yield server


@pytest.fixture(name="expected", scope="module")
def _expected(rabbitmq: RabbitMQ) -> dict[int, Contents]:
    """What RabbitMQ does with each case."""
    connection = rabbitmq.connect()
    try:
        return {number: on_rabbitmq(connection.channel(), case(number)) for number in range(CASES)}
    finally:
        connection.close()


def on_rabbitmq(channel: BlockingChannel, told: Case) -> Contents:
    """The contents of the queues after all messages; everything is gone again afterwards."""
    import pika

    channel.confirm_delivery()
    for queue in told.queues:
        channel.queue_declare(told.named(queue))
    for name, exchange in told.exchanges.items():
        more = {} if exchange.alternate is None else {"alternate-exchange": told.named(exchange.alternate)}
        channel.exchange_declare(told.named(name), exchange.kind, arguments=more)
    for name, exchange in told.exchanges.items():
        for binding in exchange.bindings:
            bind = channel.exchange_bind if binding.to in told.exchanges else channel.queue_bind
            bind(told.named(binding.to), told.named(name), binding.key, dict(binding.arguments))
    for message in told.messages:
        properties = pika.BasicProperties(headers=dict(message.headers))
        channel.basic_publish(told.named(message.exchange), message.routing_key, message.body, properties)
    contents = {queue: list(_bodies(channel, told.named(queue))) for queue in told.queues}
    for queue in told.queues:
        channel.queue_delete(told.named(queue))
    for name in told.exchanges:
        channel.exchange_delete(told.named(name))
    channel.close()
    return contents


def _bodies(channel: BlockingChannel, queue: str) -> Iterator[bytes]:
    while True:
        found, _, body = channel.basic_get(queue, auto_ack=True)
        if found is None:
            return
        yield body


def table_of(told: Case, compiler: PluginCompiler) -> RoutingTable:
    exchanges = {
        name: Exchange(
            name=name,
            versions=(
                ExchangeVersion(number=1, kind=each.kind, bindings=each.bindings, alternate=each.alternate),
            ),
        )
        for name, each in told.exchanges.items()
    }
    return Routes(compiler, Image(cluster_id="interop", exchanges=exchanges)).current


def test_the_cases_are_worth_comparing(expected: dict[int, Contents]) -> None:
    """They have every type often, many copies, and many messages that go nowhere."""
    told = [case(number) for number in range(CASES)]
    kinds = [each.kind for one in told for each in one.exchanges.values()]
    assert all(kinds.count(kind) > CASES / 4 for kind in KINDS)
    sent = sum(len(one.messages) for one in told)
    copies = [body for contents in expected.values() for bodies in contents.values() for body in bodies]
    reached = {
        (number, body)
        for number, contents in expected.items()
        for bodies in contents.values()
        for body in bodies
    }
    assert sent > 3 * CASES
    assert sent / 4 < len(reached) < sent
    assert len(copies) > 1.3 * len(reached)


def test_the_routing_table_sends_every_message_where_rabbitmq_does(expected: dict[int, Contents]) -> None:
    plugins = Plugins.load(BrokerConfig())
    try:
        compiler = PluginCompiler(plugins)
        for number in range(CASES):
            told = case(number)
            table = table_of(told, compiler)
            found: Contents = {queue: [] for queue in told.queues}
            for message in told.messages:
                headers = [(name, value.encode()) for name, value in message.headers.items()]
                ctx = RoutingContext(
                    exchange=message.exchange, routing_key=message.routing_key, headers=headers
                )
                for target in table.route(message.exchange, ctx).targets:
                    found[target].append(message.body)
            assert found == expected[number], told.exchanges
    finally:
        plugins.close()


def test_a_whole_broker_fills_the_queues_as_rabbitmq_does(
    expected: dict[int, Contents], pykbroker_broker: Broker
) -> None:
    """Topics with one partition, so that the order in a queue is that of sending, where one exchange
    sends; what several exchanges send to one queue may arrive in any order."""
    for first in range(0, CASES, TOGETHER):
        numbers = range(first, min(first + TOGETHER, CASES))
        told = [case(number) for number in numbers]
        found = on_pykbroker(pykbroker_broker.bootstrap, told, [expected[number] for number in numbers])
        for one, contents in zip(told, found, strict=True):
            wanted = expected[one.number]
            assert {queue: sorted(bodies) for queue, bodies in contents.items()} == {
                queue: sorted(bodies) for queue, bodies in wanted.items()
            }, one.exchanges
            for entry in one.exchanges:
                own = {message.body for message in one.messages if message.exchange == entry}
                for queue in one.queues:
                    assert [b for b in contents[queue] if b in own] == [b for b in wanted[queue] if b in own]


def on_pykbroker(bootstrap: str, told: Sequence[Case], expected: Sequence[Contents]) -> list[Contents]:
    """The contents of the queues of these cases; everything is gone again afterwards."""
    from kafka import KafkaAdminClient

    with KafkaAdminClient(bootstrap_servers=bootstrap) as admin:
        _declare(admin, told)
        _send(bootstrap, told)
        count = sum(len(bodies) for contents in expected for bodies in contents.values())
        contents = _read(bootstrap, told, count)
        _remove(admin, told)
    return contents


def _declare(admin: KafkaAdminClient, told: Sequence[Case]) -> None:
    from kafka.admin import NewTopic

    plain = [NewTopic(one.named(queue), 1, 1) for one in told for queue in one.queues]
    exchanges = [
        NewTopic(one.named(name), 1, 1, topic_configs={"pykbroker.exchange.type": each.kind})
        for one in told
        for name, each in one.exchanges.items()
    ]
    admin.create_topics(plain + exchanges)
    settings: dict[str, dict[str, str]] = {}
    for one in told:
        for name, each in one.exchanges.items():
            bindings = [Binding(one.named(b.to), b.key, b.arguments) for b in each.bindings]
            settings[one.named(name)] = {"pykbroker.exchange.bindings": render(bindings)}
            if each.alternate is not None:
                settings[one.named(name)]["pykbroker.exchange.alternate"] = one.named(each.alternate)
    _alter(admin, settings)


def _alter(admin: KafkaAdminClient, settings: dict[str, dict[str, str]]) -> None:
    from kafka.admin import ConfigResource, ConfigResourceType

    admin.alter_configs(
        [ConfigResource(ConfigResourceType.TOPIC, name, configs=each) for name, each in settings.items()]
    )


def _send(bootstrap: str, told: Sequence[Case]) -> None:
    from kafka import KafkaProducer

    topics = {one.named(message.exchange) for one in told for message in one.messages}
    with KafkaProducer(bootstrap_servers=bootstrap) as producer, ThreadPoolExecutor(len(topics)) as pool:
        # kafka-python waits 0.1 s for the metadata of each topic: for all of them at once
        list(pool.map(producer.partitions_for, topics))
        sent = []
        for one in told:
            for number, message in enumerate(one.messages):
                headers = [(name, value.encode()) for name, value in message.headers.items()]
                key: bytes | None = None
                if number % 2:
                    key = message.routing_key.encode()
                else:
                    headers.append(("routing-key", message.routing_key.encode()))
                topic = one.named(message.exchange)
                sent.append(producer.send(topic, message.body, key=key, headers=headers, partition=0))
        producer.flush(30)
        for future in sent:
            future.get(30)


def _read(bootstrap: str, told: Sequence[Case], count: int) -> list[Contents]:
    """All queues, until there are ``count`` copies and a moment has passed without more."""
    from kafka import KafkaConsumer, TopicPartition

    owners = {one.named(queue): (place, queue) for place, one in enumerate(told) for queue in one.queues}
    found: list[Contents] = [{queue: [] for queue in one.queues} for one in told]
    with KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition(topic, 0) for topic in owners])
        read, deadline, quiet = 0, time.monotonic() + ARRIVAL_S, 0.0
        while time.monotonic() < deadline and (read < count or time.monotonic() < quiet):
            for partition, records in consumer.poll(timeout_ms=200).items():
                place, queue = owners[partition.topic]
                found[place][queue] += [record.value for record in records]
                read += len(records)
                quiet = time.monotonic() + STRAGGLERS_S
    return found


def _remove(admin: KafkaAdminClient, told: Sequence[Case]) -> None:
    """Unbind everything, then delete it."""
    names = [one.named(name) for one in told for name in one.exchanges]
    _alter(
        admin,
        {
            name: {"pykbroker.exchange.bindings": json.dumps([]), "pykbroker.exchange.alternate": ""}
            for name in names
        },
    )
    admin.delete_topics([*names, *(one.named(queue) for one in told for queue in one.queues)])
