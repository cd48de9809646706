"""A load that knows what it was promised: numbered records in, commits out, everything checked after.

The writer is an idempotent kafka-python producer that gives record ``n`` of a partition the value
``n``; the group reads and commits.  What the broker acknowledged is remembered, so that after any
number of kills a reader can say what was lost, doubled, reordered, or which commit went back.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata


@dataclass(slots=True)
class Promises:
    """What the broker acknowledged so far; written by the load, read by the checks."""

    offsets: dict[int, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))
    """Partition to {record number: offset} of acknowledged records."""
    commits: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    """Partition to the highest acknowledged committed offset."""
    failures: list[str] = field(default_factory=list)


class Writer(threading.Thread):
    """Sends numbered records to every partition until stopped; a failed send is a failure."""

    def __init__(self, bootstrap: str, topic: str, partitions: int, promises: Promises) -> None:
        super().__init__(name="writer", daemon=True)
        self._address, self._topic, self._partitions = bootstrap, topic, partitions
        self._promises = promises
        self._stopping = threading.Event()
        self.sent = dict.fromkeys(range(partitions), 0)

    def run(self) -> None:
        producer = KafkaProducer(
            bootstrap_servers=self._address,
            acks="all",
            linger_ms=1,
            delivery_timeout_ms=120_000,
            request_timeout_ms=5_000,
            reconnect_backoff_ms=20,
            reconnect_backoff_max_ms=200,
            retry_backoff_ms=20,
        )
        futures = []
        while not self._stopping.is_set():
            for partition in self.sent:
                number = self.sent[partition]
                value = b"%d" % number + b"." * (number % 700)
                future = producer.send(self._topic, value, partition=partition)
                future.add_callback(self._acknowledged, partition, number)
                futures.append(future)
                self.sent[partition] += 1
            time.sleep(0.002)
        producer.flush(timeout=120)
        for future in futures:
            try:
                future.get(timeout=1)
            except KafkaError as error:
                self._promises.failures.append(f"send: {error!r}")
        producer.close()

    def _acknowledged(self, partition: int, number: int, metadata: object) -> None:
        self._promises.offsets[partition][number] = int(getattr(metadata, "offset"))  # noqa: B009

    def stop(self) -> None:
        """Stop sending, wait for every acknowledgement."""
        self._stopping.set()
        self.join(180)
        assert not self.is_alive(), "the writer did not finish: sends are neither acknowledged nor refused"


class _CountAssigned(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python is untyped here
    def __init__(self) -> None:
        self.times = 0

    def on_partitions_revoked(self, revoked: object) -> None:
        pass

    def on_partitions_assigned(self, assigned: object) -> None:
        self.times += 1


class Member(threading.Thread):
    """A group member that reads and commits every few records until stopped."""

    def __init__(self, bootstrap: str, topic: str, group: str, promises: Promises) -> None:
        super().__init__(name="member", daemon=True)
        self._address, self._topic, self._group, self._promises = bootstrap, topic, group, promises
        self._stopping = threading.Event()
        self.seen = 0

    def run(self) -> None:
        consumer = KafkaConsumer(
            bootstrap_servers=self._address,
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=6_000,
            heartbeat_interval_ms=500,
            request_timeout_ms=10_000,
            reconnect_backoff_ms=20,
            reconnect_backoff_max_ms=200,
            retry_backoff_ms=20,
            max_poll_records=200,
        )
        listener = _CountAssigned()
        consumer.subscribe([self._topic], listener=listener)
        while not self._stopping.is_set():
            before = listener.times
            for partition, records in self._poll(consumer).items():
                self.seen += len(records)
                self._commit(consumer, partition, records[-1].offset + 1)
            if listener.times != before:
                continue
        consumer.close(autocommit=False)

    @staticmethod
    def _poll(consumer: KafkaConsumer) -> dict[TopicPartition, list[ConsumerRecord]]:
        try:
            # With less kafka-python 3 may join again and again: see tests/clients/members.
            records: dict[TopicPartition, list[ConsumerRecord]] = consumer.poll(timeout_ms=500)
        except KafkaError:
            return {}  # the broker was killed just then
        return records

    def _commit(self, consumer: KafkaConsumer, partition: TopicPartition, offset: int) -> None:
        try:
            consumer.commit({partition: OffsetAndMetadata(offset, "", -1)}, timeout_ms=3_000)
        except (KafkaError, AssertionError):
            return  # not acknowledged: nothing was promised
        self._promises.commits[partition.partition] = offset

    def stop(self) -> None:
        """Leave the group."""
        self._stopping.set()
        self.join(60)
        assert not self.is_alive(), "the group member did not finish"


def read_all(bootstrap: str, topic: str, partition: int, end: int) -> list[tuple[int, int]]:
    """(offset, record number) of every record below ``end``, read by a consumer that checks CRCs."""
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", check_crcs=True, consumer_timeout_ms=20_000
    )
    where = TopicPartition(topic, partition)
    consumer.assign([where])
    consumer.seek_to_beginning(where)
    found: list[tuple[int, int]] = []
    for record in consumer if end else ():
        found.append((record.offset, int(record.value.partition(b".")[0])))
        if record.offset >= end - 1:
            break
    consumer.close()
    return found


def end_offsets(bootstrap: str, topic: str, partitions: Sequence[int]) -> dict[int, int]:
    """Log end offset of each partition."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap)
    ends = consumer.end_offsets([TopicPartition(topic, p) for p in partitions])
    consumer.close()
    return {where.partition: offset for where, offset in ends.items()}


def committed(bootstrap: str, topic: str, group: str, partitions: Sequence[int]) -> dict[int, int]:
    """Committed offset of each partition; 0 where there is none."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False)
    offsets = {p: consumer.committed(TopicPartition(topic, p)) or 0 for p in partitions}
    consumer.close()
    return offsets


def broken_promises(
    bootstrap: str, topic: str, group: str, writer: Writer, promises: Promises
) -> dict[str, list[str]]:
    """Everything that is not as it was acknowledged: lost, doubled, reordered, commits gone back."""
    partitions = list(writer.sent)
    problems: dict[str, list[str]] = {"lost": [], "doubled": [], "reordered": [], "commits": []}
    ends = end_offsets(bootstrap, topic, partitions)
    for partition in partitions:
        found = read_all(bootstrap, topic, partition, ends[partition])
        numbers = [number for _, number in found]
        at = dict(found)
        for number, offset in promises.offsets[partition].items():
            if at.get(offset) != number:
                problems["lost"].append(
                    f"{partition}: {number} acknowledged at {offset}, found {at.get(offset)}"
                )
        problems["doubled"] += [f"{partition}: {n}" for n, times in Counter(numbers).items() if times > 1]
        if numbers != sorted(numbers):
            problems["reordered"].append(f"{partition}: {numbers[:20]}...")
    now = committed(bootstrap, topic, group, partitions)
    for partition, offset in promises.commits.items():
        if now[partition] < offset:
            problems["commits"].append(f"{partition}: {offset} acknowledged, {now[partition]} found")
    return problems
