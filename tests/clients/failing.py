"""The same few things done by each client: what a consumer needs whose records may fail.

kafka-python is whatever version is installed; confluent-kafka and aiokafka are left out where they are
not (the environments for older versions of kafka-python have only that).
"""

from __future__ import annotations

import asyncio
import importlib.util
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

T = TypeVar("T")

PATIENCE_S = 30.0
Headers = tuple[tuple[str, bytes | None], ...]


class Got(NamedTuple):
    """A record as the application has it, and the time when it came."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp: int
    seen_ms: int

    def header(self, name: str) -> str | None:
        """The text of the only header with that name; None: there is none."""
        values = [value for each, value in self.headers if each == name]
        assert len(values) <= 1, f"{name} is there {len(values)} times"
        return values[0].decode() if values and values[0] is not None else None

    @property
    def attempt(self) -> int:
        """How often it has failed, as the broker says."""
        return int(self.header("pykbroker-attempt") or 0)

    @property
    def own_headers(self) -> Headers:
        """Those that the broker did not write."""
        return tuple(each for each in self.headers if not each[0].startswith(("pykbroker-", "__dlq.")))


class Client(Protocol):
    """A member of a group and a producer beside it."""

    def __init__(self, bootstrap: str, group: str, topics: Sequence[str]) -> None: ...
    def poll(self) -> list[Got]:
        """What came within a moment."""
        ...

    def send(self, topic: str, record: Got) -> None:
        """Send the record, headers and all, to the same partition of a topic; wait for the answer."""
        ...

    def commit(self, topic: str, partition: int, offset: int, metadata: str) -> None:
        """Commit and wait for the answer."""
        ...

    def committed(self, topic: str, partition: int) -> tuple[int, str]:
        """The group's offset and metadata."""
        ...

    def close(self) -> None:
        """Leave the group."""
        ...


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class KafkaPython:
    """kafka-python 2.0.2, 2.3.3 or 3."""

    def __init__(self, bootstrap: str, group: str, topics: Sequence[str]) -> None:
        self._producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all")
        for topic in topics:
            # A retry topic is made when somebody names it.  A consumer does so while it joins, and where
            # the answer is late it joins again: its commits in between are refused.
            self._producer.partitions_for(topic)
        self._consumer = KafkaConsumer(
            *topics,
            bootstrap_servers=bootstrap,
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            heartbeat_interval_ms=200,
            session_timeout_ms=6000,
        )
        for topic in topics:
            self._consumer.partitions_for_topic(topic)  # known before the first join: see members.know

    def poll(self) -> list[Got]:
        polled = self._consumer.poll(timeout_ms=500)  # less is too little for 3 to join: see members
        return [
            Got(
                record.topic,
                record.partition,
                record.offset,
                record.key,
                record.value,
                tuple(record.headers),
                record.timestamp,
                now_ms(),
            )
            for records in polled.values()
            for record in records
        ]

    def send(self, topic: str, record: Got) -> None:
        headers = list(record.headers)
        self._producer.send(topic, record.value, record.key, headers, record.partition, record.timestamp).get(
            PATIENCE_S
        )

    def commit(self, topic: str, partition: int, offset: int, metadata: str) -> None:
        # 3 and 2.3 have a leader epoch in it, 2.0 does not.
        epoch = (-1,) if len(OffsetAndMetadata._fields) == 3 else ()
        self._consumer.commit({TopicPartition(topic, partition): OffsetAndMetadata(offset, metadata, *epoch)})

    def committed(self, topic: str, partition: int) -> tuple[int, str]:
        found = self._consumer.committed(TopicPartition(topic, partition), metadata=True)
        return found.offset, found.metadata

    def close(self) -> None:
        self._consumer.close(autocommit=False)
        self._producer.close()


class Confluent:
    """confluent-kafka."""

    def __init__(self, bootstrap: str, group: str, topics: Sequence[str]) -> None:
        from confluent_kafka import Consumer, Producer

        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "heartbeat.interval.ms": 200,
                "allow.auto.create.topics": True,
            }
        )
        for topic in topics:
            # What it subscribes to is not made for it, and it looks for new topics every five minutes.
            self._consumer.list_topics(topic, timeout=PATIENCE_S)
        self._consumer.subscribe(list(topics))
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})

    def poll(self) -> list[Got]:
        message = self._consumer.poll(0.05)
        if message is None:
            return []
        error = message.error()
        assert error is None or error.retriable() or "UNKNOWN_TOPIC" in error.name(), error
        if error is not None:
            return []
        return [
            Got(
                message.topic() or "",
                message.partition() or 0,
                message.offset() or 0,
                message.key(),
                message.value(),
                _headers(message.headers()),
                message.timestamp()[1],
                now_ms(),
            )
        ]

    def send(self, topic: str, record: Got) -> None:
        errors: list[object] = []
        self._producer.produce(
            topic,
            record.value,
            record.key,
            record.partition,
            timestamp=record.timestamp,
            headers=list(record.headers),
            on_delivery=lambda error, _: errors.append(error),
        )
        assert self._producer.flush(PATIENCE_S) == 0
        assert errors == [None]

    def commit(self, topic: str, partition: int, offset: int, metadata: str) -> None:
        from confluent_kafka import TopicPartition as Place

        committed = self._consumer.commit(
            offsets=[Place(topic, partition, offset, metadata)], asynchronous=False
        )
        for each in committed or ():
            if each.error is not None:
                raise CommitRefusedError(str(each.error))

    def committed(self, topic: str, partition: int) -> tuple[int, str]:
        from confluent_kafka import TopicPartition as Place

        (found,) = self._consumer.committed([Place(topic, partition)], timeout=PATIENCE_S)
        return found.offset, found.metadata or ""

    def close(self) -> None:
        self._consumer.close()


class Aiokafka:
    """aiokafka, whose loop runs while something is asked of it."""

    def __init__(self, bootstrap: str, group: str, topics: Sequence[str]) -> None:
        self._runner = asyncio.Runner()
        self._group = group
        self._bootstrap = bootstrap
        self._run(self._start(bootstrap, group, topics))

    def _run(self, doing: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(doing)

    async def _start(self, bootstrap: str, group: str, topics: Sequence[str]) -> None:
        from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

        self._producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
        self._consumer = AIOKafkaConsumer(
            *topics,
            bootstrap_servers=bootstrap,
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            heartbeat_interval_ms=200,
        )
        await self._producer.start()
        await self._consumer.start()

    def poll(self) -> list[Got]:
        polled = self._run(self._consumer.getmany(timeout_ms=50))
        return [
            Got(
                record.topic,
                record.partition,
                record.offset,
                record.key,
                record.value,
                tuple(record.headers),
                record.timestamp,
                now_ms(),
            )
            for records in polled.values()
            for record in records
        ]

    def send(self, topic: str, record: Got) -> None:
        self._run(
            self._producer.send_and_wait(
                topic,
                record.value,
                record.key,
                record.partition,
                record.timestamp,
                list(record.headers),
            )
        )

    def commit(self, topic: str, partition: int, offset: int, metadata: str) -> None:
        from aiokafka import TopicPartition as Place

        self._run(self._consumer.commit({Place(topic, partition): (offset, metadata)}))

    def committed(self, topic: str, partition: int) -> tuple[int, str]:
        from aiokafka import TopicPartition as Place
        from aiokafka.admin import AIOKafkaAdminClient

        async def ask() -> Mapping[Any, Any]:  # the consumer itself gives the offset only
            admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
            await admin.start()
            try:
                found: Mapping[Any, Any] = await admin.list_consumer_group_offsets(self._group)
                return found
            finally:
                await admin.close()

        found = self._run(ask())[Place(topic, partition)]
        return found.offset, found.metadata

    def close(self) -> None:
        self._run(self._consumer.stop())
        self._run(self._producer.stop())
        self._runner.close()


def _headers(found: object) -> Headers:
    # It may be a dictionary, says its type; it never is.
    assert isinstance(found, list | None)
    return tuple(found or ())


class CommitRefusedError(Exception):
    """The broker says no to a commit."""


CLIENTS: dict[str, Callable[[str, str, Sequence[str]], Client]] = {"kafka-python": KafkaPython}
if importlib.util.find_spec("confluent_kafka"):
    CLIENTS["confluent-kafka"] = Confluent
if importlib.util.find_spec("aiokafka"):
    CLIENTS["aiokafka"] = Aiokafka
"""Those that are installed."""
