"""The members of groups in the chaos test: they fail as the rules say, in either way, with either client."""

from __future__ import annotations

import json
import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import confluent_kafka
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import IllegalStateError, KafkaError
from kafka.structs import OffsetAndMetadata

from tests.crash.chaos_load import (
    DELAY_MS,
    LONGEST_MS,
    NACK,
    PATIENCE_S,
    PRODUCE,
    Flow,
    Got,
    Ledger,
    Rules,
    a_producer,
    now_ms,
    text,
)

T = TypeVar("T")


class Refused(Exception):
    """A commit that will be refused again."""


class Client(Protocol):
    """One member of a group."""

    def poll(self) -> list[Got]: ...
    def commit(self, topic: str, partition: int, offset: int, metadata: str) -> bool:
        """Whether it was acknowledged.  Raises :class:`Refused`."""
        ...

    def close(self) -> None: ...


class KafkaPython:
    """kafka-python 3."""

    def __init__(self, bootstrap: str, group: str, topics: Sequence[str]) -> None:
        self._consumer = KafkaConsumer(
            *topics,
            bootstrap_servers=bootstrap,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=6_000,
            heartbeat_interval_ms=200,
            request_timeout_ms=10_000,
            reconnect_backoff_ms=20,
            reconnect_backoff_max_ms=200,
            retry_backoff_ms=20,
            metadata_max_age_ms=1_000,
            max_poll_records=60,
            max_partition_fetch_bytes=4_000_000,
        )

    def poll(self) -> list[Got]:
        try:
            polled = self._consumer.poll(timeout_ms=500)
        except (KafkaError, IllegalStateError):
            return []  # from a connection that a kill has cut: it is raised now and then
        return [
            Got(r.topic, r.partition, r.offset, r.key, r.value, r.headers, r.timestamp)
            for records in polled.values()
            for r in records
        ]

    def commit(self, topic: str, partition: int, offset: int, metadata: str) -> bool:
        place = {TopicPartition(topic, partition): OffsetAndMetadata(offset, metadata, -1)}
        try:
            self._consumer.commit(place, timeout_ms=10_000)
        except KafkaError as error:
            if "InvalidRequest" in repr(error):
                raise Refused(repr(error)) from error
            return False
        except AssertionError:
            return False
        return True

    def close(self) -> None:
        self._consumer.close(autocommit=False)


class Confluent:
    """librdkafka."""

    def __init__(self, bootstrap: str, group: str, topics: Sequence[str]) -> None:
        settings: dict[str, Any] = {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 200,
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 200,
            "topic.metadata.refresh.interval.ms": 1000,
            "allow.auto.create.topics": True,
            "log_level": 0,
            "error_cb": lambda error: None,
        }
        self._consumer = confluent_kafka.Consumer(settings)
        for topic in topics:
            self._look(topic)
        self._consumer.subscribe(list(topics))

    def _look(self, topic: str) -> None:
        """Have the topic made."""
        try:
            self._consumer.list_topics(topic, timeout=5)
        except confluent_kafka.KafkaException:
            return

    def poll(self) -> list[Got]:
        try:
            messages = self._consumer.consume(60, timeout=0.3)
        except confluent_kafka.KafkaException:
            return []
        return [
            Got(*place, message.key(), message.value(), message.headers() or [], message.timestamp()[1])  # type: ignore[arg-type]
            for message in messages
            if message.error() is None
            for place in [(message.topic(), message.partition(), message.offset())]
        ]

    def commit(self, topic: str, partition: int, offset: int, metadata: str) -> bool:
        place = confluent_kafka.TopicPartition(topic, partition, offset, metadata)
        try:
            (done,) = self._consumer.commit(offsets=[place], asynchronous=False)
        except confluent_kafka.KafkaException as error:
            if error.args[0].code() == confluent_kafka.KafkaError.INVALID_REQUEST:
                raise Refused(repr(error)) from error
            return False
        return done.error is None

    def close(self) -> None:
        self._consumer.close()


class Member(threading.Thread):
    """Processes, fails as the rules say, commits: in pieces, some of them twice, with old nacks again."""

    def __init__(
        self, bootstrap: str, group: str, flows: Sequence[Flow], rules: Rules, ledger: Ledger, seed: int
    ) -> None:
        super().__init__(name=f"{group}-{seed}", daemon=True)
        self._flow_of = {flow.topic: flow for flow in flows} | {flow.retry: flow for flow in flows}
        self._address, self._group, self._rules, self._ledger = bootstrap, group, rules, ledger
        self._random = random.Random(seed)
        self._stopping = threading.Event()
        self._nacked: dict[tuple[str, int], list[int]] = defaultdict(list)

    def run(self) -> None:
        try:
            producer = self._patiently(lambda: a_producer(self._address))
            while producer is not None and not self._stopping.is_set():
                self._producer = producer
                client = self._patiently(self._client)
                while client is not None and not self._stopping.is_set():
                    if not self._work(client):
                        break  # what is not committed is read again, by whoever has the partition then
                if client is not None:
                    client.close()
            if producer is not None:
                producer.close()
        except Exception as error:
            self._ledger.problems.append(f"{self.name}: {error!r}")
            raise

    def _client(self) -> Client:
        kind = Confluent if self._group == "confluent" else KafkaPython
        return kind(self._address, self._group, list(self._flow_of))

    def _patiently(self, make: Callable[[], T]) -> T | None:
        """Try until the broker is there; None: not needed any more."""
        while not self._stopping.is_set():
            try:
                return make()
            except KafkaError:
                continue
        return None

    def _work(self, client: Client) -> bool:
        """Process what is there; False: it could not be committed."""
        places: dict[tuple[str, int], list[Got]] = defaultdict(list)
        records = client.poll()
        came = now_ms()
        for record in records:
            places[record.topic, record.partition].append(record)
        for place, got in places.items():
            for piece, reason, nacks in self._pieces(got, came):
                if not self._commit(client, place, piece[-1].offset + 1, reason, nacks):
                    return False
        return True

    def _pieces(self, records: list[Got], came: int) -> Iterator[tuple[list[Got], str, list[int]]]:
        """Pieces to commit at once, with what is nacked in them: a commit has room for one reason."""
        piece: list[Got] = []
        reason, nacks = "", list[int]()
        size = self._random.randint(1, 40)
        for record in records:
            nacked = self._fail(record, came)
            if piece and (len(piece) >= size or (nacked and reason not in ("", nacked))):
                yield piece, reason, nacks
                piece, reason, nacks = [], "", []
                size = self._random.randint(1, 40)
            piece.append(record)
            if nacked:
                reason = nacked
                nacks.append(record.offset)
        yield piece, reason, nacks

    def _fail(self, record: Got, came: int) -> str:
        """Process a record; the reason with which it is to be nacked, if it is."""
        rules, flow = self._rules, self._flow_of[record.topic]
        attempt = record.attempt if record.topic == flow.retry else 0
        self._ledger.processed += 1
        if attempt:
            self._check_time(record, came)
        if attempt >= rules.failures(record.id, self._group):
            return ""
        if rules.way(record.id, attempt, self._group) == NACK:
            return rules.reason(record.id)
        self._produce(flow, record, attempt)
        return ""

    def _check_time(self, record: Got, came: int) -> None:
        policy, failed = (text(record.headers, f"pykbroker-{name}") for name in ("policy", "last-failure-ms"))
        if came < int(failed or 0) + least_ms(policy or "", record.attempt):
            self._ledger.early.append((record.topic, record.offset, policy, failed, came))

    def _produce(self, flow: Flow, record: Got, attempt: int) -> None:
        """Each failure once, however often it is read."""
        place = (record.topic, record.partition, record.offset)
        with self._ledger.lock:
            if place in self._ledger.places:
                return
            self._ledger.places.add(place)
        key = (flow, record.id, attempt)
        reason = ("pykbroker-reason", self._rules.reason(record.id).encode())
        kept = [each for each in record.headers if each[0] != "pykbroker-reason"]
        try:
            self._producer.send(
                flow.retry, record.value, record.key, [*kept, reason], record.partition, record.timestamp
            ).get(timeout=PATIENCE_S)
            with self._ledger.lock:
                self._ledger.sent[key] += 1
        except KafkaError as error:
            with self._ledger.lock:
                self._ledger.uncertain[key] += 1
            self._ledger.refused.append(f"send to {flow.retry}: {error!r}")

    def _commit(
        self, client: Client, place: tuple[str, int], end: int, reason: str, nacks: list[int]
    ) -> bool:
        """With some nacks that were there before, and now and then once more."""
        known = self._nacked[place]
        again = self._random.sample(known, min(len(known), self._random.choice((0, 0, 3))))
        every = sorted({*nacks, *again})
        metadata = json.dumps({"nack": every, "reason": reason}) if every else "nothing"
        try:
            # Whether one without an answer was applied nobody knows: a smaller one behind it would go back.
            done = any(client.commit(*place, end, metadata) for _ in range(3))
            if done and self._random.random() < 0.2:
                client.commit(*place, end, metadata)
        except Refused as error:
            self._ledger.refused.append(f"commit on {place}: {error}")
            return False
        if done:
            known += nacks
        return done

    def ask_to_stop(self) -> None:
        self._stopping.set()

    def stop(self) -> None:
        """Leave the group; what is under way is finished."""
        self._stopping.set()
        self.join(PATIENCE_S)
        assert not self.is_alive(), f"{self.name} did not finish"


def least_ms(policy: str, attempt: int) -> int:
    """The least delay of an attempt; the jitter takes away half of it at most."""
    if policy == "fixed":
        return DELAY_MS
    if policy == "exponential":
        return min(DELAY_MS << (attempt - 1), LONGEST_MS) // 2
    if policy == "linear":
        return min(DELAY_MS * attempt, LONGEST_MS)
    return 0


class Group:
    """A group with members that come and go."""

    def __init__(self, bootstrap: str, name: str, topics: Sequence[str], rules: Rules, seed: int) -> None:
        self.name = name
        self.flows = [Flow(topic, name) for topic in topics]
        self.ledger = Ledger()
        self._address, self._rules, self._seed = bootstrap, rules, seed
        self._members: list[Member] = []

    def __len__(self) -> int:
        return len(self._members)

    @property
    def produces(self) -> bool:
        """Whether some of its failures are sent to retry topics."""
        return PRODUCE in self._rules.ways(self.name)

    def flow(self, topic: str) -> Flow:
        """That of this topic."""
        return Flow(topic, self.name)

    def join(self) -> None:
        """One more member."""
        self._seed += 1
        member = Member(self._address, self.name, self.flows, self._rules, self.ledger, self._seed)
        self._members.append(member)
        member.start()

    def leave(self) -> None:
        """One less."""
        self._members.pop(0).stop()

    def stop(self) -> None:
        """All of them leave."""
        for member in self._members:
            member.ask_to_stop()
        while self._members:
            self.leave()
