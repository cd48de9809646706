"""``python -m bench.routing``: how fast and how soon an exchange copies, beside a RabbitMQ in the same run.

Throughput: a topic exchange with ten bindings, transient messages of 100 bytes, 160 routing keys, 1.4
copies of a message on average.  RabbitMQ is fed by pika with up to 5,000 unconfirmed messages in flight,
pykbroker by kafka-python with its default (idempotent) producer, and by librdkafka, which shows the broker
rather than the client.  Each is measured from the first message until the last copy is readable.  Rounds are
interleaved; the table gives medians and the spread.

Latency: one record every few milliseconds through a fanout to five topics, from the producer's
acknowledgement until a consumer of the last of them has the copy.

RabbitMQ is found as in interop/rabbitmq.py; without it only pykbroker is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles

import pika
from confluent_kafka import Consumer, Message, Producer
from confluent_kafka import TopicPartition as Place
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from pika.adapters.select_connection import SelectConnection
from pika.channel import Channel
from pika.frame import Method

from interop.rabbitmq import MissingRabbitError, RabbitMQ
from pykbroker.testing import BrokerProcess

BINDINGS = {
    "q0": "eu.#", "q1": "us.#", "q2": "*.order.*", "q3": "*.invoice.*", "q4": "asia.order.*",
    "q5": "#.9", "q6": "eu.order.*", "q7": "*.*.1", "q8": "us.invoice.#", "q9": "af.refund.0",
}  # fmt: skip
KEYS = [
    f"{region}.{kind}.{number}"
    for number in range(10)
    for kind in ("order", "invoice", "refund", "offer")
    for region in ("eu", "us", "asia", "af")
]
BODY = b"x" * 100
IN_FLIGHT = 5000
PATIENCE_S = 120.0


def copies_of(count: int) -> int:
    """How many copies ``count`` messages have, computed here as RabbitMQ's documentation says."""
    per_key = [
        sum(_matches(pattern.split("."), key.split(".")) for pattern in BINDINGS.values()) for key in KEYS
    ]
    return sum(per_key[number % len(KEYS)] for number in range(count))


def _matches(pattern: list[str], words: list[str]) -> bool:
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(_matches(pattern[1:], words[at:]) for at in range(len(words) + 1))
    return bool(words) and pattern[0] in ("*", words[0]) and _matches(pattern[1:], words[1:])


def _await(readable: Callable[[], int], copies: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while (now := readable()) < copies:
        assert time.monotonic() < deadline, f"{now} of {copies} copies are readable after {PATIENCE_S:.0f} s"
        time.sleep(0.002)


# -- RabbitMQ


class _Publisher:
    """An asynchronous pika publisher that keeps ``IN_FLIGHT`` messages unconfirmed."""

    def __init__(self, port: int, exchange: str, count: int) -> None:
        self._exchange, self._count = exchange, count
        self._sent = self._confirmed = self._floor = 0
        self._single: set[int] = set()  # confirmed by themselves, above the floor
        self._channel: Channel | None = None
        self._connection = SelectConnection(
            pika.ConnectionParameters("127.0.0.1", port), on_open_callback=self._opened
        )

    def run(self) -> None:
        self._connection.ioloop.start()

    def _opened(self, connection: SelectConnection) -> None:
        connection.channel(on_open_callback=self._ready)

    def _ready(self, channel: Channel) -> None:
        self._channel = channel
        channel.confirm_delivery(self._on_confirmed, callback=lambda _: self._publish())

    def _publish(self) -> None:
        assert self._channel is not None
        publish, exchange, keys = self._channel.basic_publish, self._exchange, len(KEYS)
        properties = pika.BasicProperties(delivery_mode=1)
        while self._sent < self._count and self._sent - self._confirmed < IN_FLIGHT:
            publish(exchange, KEYS[self._sent % keys], BODY, properties)
            self._sent += 1

    def _on_confirmed(self, frame: Method) -> None:
        tag: int = frame.method.delivery_tag
        if frame.method.multiple:
            self._floor = max(self._floor, tag)
            self._single = {each for each in self._single if each > self._floor}
        elif tag > self._floor:
            self._single.add(tag)
        self._confirmed = self._floor + len(self._single)
        if self._confirmed >= self._count:
            self._connection.ioloop.stop()
        elif self._sent - self._confirmed <= IN_FLIGHT - 500:
            self._publish()


def rabbit(server: RabbitMQ, count: int, number: int) -> float:
    """Messages per second through RabbitMQ."""
    connection = server.connect()
    channel = connection.channel()
    exchange = f"bench{number}"
    channel.exchange_declare(exchange, "topic")
    for queue, pattern in BINDINGS.items():
        channel.queue_declare(queue)
        channel.queue_purge(queue)
        channel.queue_bind(queue, exchange, pattern)

    def readable() -> int:
        return sum(channel.queue_declare(queue, passive=True).method.message_count for queue in BINDINGS)

    publisher = _Publisher(server.port, exchange, count)
    started = time.perf_counter()
    publisher.run()
    _await(readable, copies_of(count))
    elapsed = time.perf_counter() - started
    channel.exchange_delete(exchange)
    for queue in BINDINGS:
        channel.queue_delete(queue)
    connection.close()
    return count / elapsed


# -- pykbroker


def _exchange(bootstrap: str, number: str, kind: str, bindings: dict[str, str]) -> str:
    """A new exchange ``bench<number>`` and its queues, named after it; its name."""
    name = f"bench{number}"
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.create_topics([NewTopic(f"{name}-{queue}", 1, 1) for queue in bindings])
    configs = {
        "pykbroker.exchange.type": kind,
        "pykbroker.exchange.bindings": json.dumps(
            [{"to": f"{name}-{queue}", "key": key} for queue, key in bindings.items()]
        ),
    }
    admin.create_topics([NewTopic(name, 1, 1, topic_configs=configs)])
    admin.close()
    return name


def _await_ends(bootstrap: str, name: str, copies: int) -> None:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap)
    places = [TopicPartition(f"{name}-{queue}", 0) for queue in BINDINGS]
    _await(lambda: sum(consumer.end_offsets(places).values()), copies)
    consumer.close()


def with_kafka_python(bootstrap: str, count: int, number: int) -> float:
    """Messages per second through pykbroker, fed by kafka-python."""
    name = _exchange(bootstrap, f"p{number}", "topic", BINDINGS)
    keys = [key.encode() for key in KEYS]
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=5, batch_size=256 * 1024)
    producer.partitions_for(name)
    started = time.perf_counter()
    for at in range(count):
        producer.send(name, BODY, key=keys[at % len(keys)])
    producer.flush()
    _await_ends(bootstrap, name, copies_of(count))
    elapsed = time.perf_counter() - started
    producer.close()
    return count / elapsed


def with_librdkafka(bootstrap: str, count: int, number: int) -> float:
    """Messages per second through pykbroker, fed by librdkafka."""
    name = _exchange(bootstrap, f"c{number}", "topic", BINDINGS)
    keys = [key.encode() for key in KEYS]
    producer = Producer(
        {"bootstrap.servers": bootstrap, "linger.ms": 5, "queue.buffering.max.messages": 1_000_000}
    )
    producer.list_topics(name, timeout=30)
    started = time.perf_counter()
    for at in range(count):
        producer.produce(name, BODY, keys[at % len(keys)])
        if not at % 1000:
            producer.poll(0)
    assert not producer.flush(PATIENCE_S)
    _await_ends(bootstrap, name, copies_of(count))
    return count / (time.perf_counter() - started)


def _value(message: Message) -> bytes:
    value = message.value()
    assert value is not None
    return value


def latencies(bootstrap: str, count: int) -> list[float]:
    """Milliseconds from the acknowledgement of a record until a consumer has its last copy."""
    name = _exchange(bootstrap, "latency", "fanout", dict.fromkeys(["q0", "q1", "q2", "q3", "q4"], ""))
    acknowledged: dict[bytes, float] = {}
    arrived: dict[bytes, float] = {}
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "bench", "auto.offset.reset": "earliest"}
    )
    consumer.assign([Place(f"{name}-q4", 0, 0)])

    def consume() -> None:
        deadline = time.monotonic() + PATIENCE_S
        while len(arrived) < count and time.monotonic() < deadline:
            message = consumer.poll(0.1)
            if message is not None and not message.error():
                arrived[_value(message)] = time.perf_counter()

    def delivered(_: object, message: Message) -> None:
        acknowledged[_value(message)] = time.perf_counter()

    thread = threading.Thread(target=consume)
    thread.start()
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
    for number in range(count):
        producer.produce(name, b"%d" % number, on_delivery=delivered)
        due = time.perf_counter() + 0.005
        while time.perf_counter() < due:
            producer.poll(0.001)
    producer.flush(30)
    thread.join()
    consumer.close()
    return [(arrived[value] - at) * 1000 for value, at in acknowledged.items()]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.routing", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--records", type=int, default=2000, help="records whose latency is measured")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    options = parser.parse_args()
    rates: dict[str, list[float]] = {}
    server: RabbitMQ | None = None
    try:
        try:
            server = RabbitMQ()
            server.start()
        except MissingRabbitError as error:
            print(error)
        with BrokerProcess() as broker:
            for number in range(options.rounds + 1):  # round 0 warms everything up
                taken = {
                    "pykbroker, kafka-python": with_kafka_python(broker.bootstrap, options.messages, number),
                    "pykbroker, librdkafka": with_librdkafka(broker.bootstrap, options.messages, number),
                }
                if server is not None:
                    taken["RabbitMQ, pika"] = rabbit(server, options.messages, number)
                for name, rate in taken.items() if number else ():
                    rates.setdefault(name, []).append(rate)
        # By itself, in a broker that has done nothing else.
        with BrokerProcess() as broker:
            found = latencies(broker.bootstrap, options.records)
    finally:
        if server is not None:
            server.stop()
    print(f"| {options.messages:,} messages | messages/s, median | spread |\n|---|---:|---:|")
    for name, each in rates.items():
        print(f"| {name} | {median(each):,.0f} | {min(each):,.0f} to {max(each):,.0f} |")
    print(
        f"latency of a copy, {len(found)} records: median {median(found):.2f} ms, "
        f"99th percentile {quantiles(found, n=100)[98]:.2f} ms, worst {max(found):.2f} ms"
    )
    if options.json:
        save(options.json, options.messages, rates, found)


def save(path: Path, messages: int, rates: dict[str, list[float]], found: list[float]) -> None:
    """Write the rate of every round, and what is said of latencies."""
    kept = {
        "machine": {
            "cores": str(os.cpu_count()),
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
            **{name: version(name) for name in ("confluent-kafka", "kafka-python", "pika", "trio")},
        },
        "messages": messages,
        "rates": rates,
        "latency_ms": {
            "records": len(found),
            "median": median(found),
            "99th percentile": quantiles(found, n=100)[98],
            "worst": max(found),
        },
    }
    path.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
