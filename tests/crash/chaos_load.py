"""The load of the chaos test: records that say what becomes of them, and groups that fail as they are told.

Which records fail, how often and in which of both ways follows from their id, which is a header (keys and
values may be null), and from the seed.  What the groups were promised is in a :class:`Ledger`.
"""

from __future__ import annotations

import json
import random
import threading
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import confluent_kafka
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import IllegalStateError, KafkaError
from kafka.producer.future import FutureRecordMetadata
from kafka.structs import OffsetAndMetadata

PATIENCE_S = 60.0
CODECS = (None, "gzip", "snappy", "lz4", "zstd")
LATER = "later"
STAMP_MS = 1_700_000_000_000
NEARLY_TOO_LARGE = 1_048_588 - 400
NACK, PRODUCE = "nack", "produce"
DELAY_MS, LONGEST_MS = 300, 1000


class Flow(NamedTuple):
    """The failures of one group on one topic."""

    topic: str
    group: str

    @property
    def retry(self) -> str:
        return f"{self.topic}.{self.group}.retry"

    @property
    def dead_letters(self) -> str:
        return f"{self.topic}.{self.group}.dlq"


class Id(NamedTuple):
    """What a record is: where it was sent to first, and its number."""

    topic: str
    partition: int
    number: int

    @property
    def text(self) -> str:
        return f"{self.topic}/{self.partition}/{self.number}"

    @classmethod
    def parse(cls, text: str) -> Id:
        topic, partition, number = text.split("/")
        return cls(topic, int(partition), int(number))


class Rules:
    """All that follows from the id of a record."""

    def __init__(self, seed: int, groups: dict[str, tuple[str, ...]]) -> None:
        self._seed = seed
        self._ways = groups

    def _of(self, *what: object) -> int:
        return zlib.crc32(repr((self._seed, *what)).encode())

    def ways(self, group: str) -> tuple[str, ...]:
        """In which ways the group's records fail."""
        return self._ways[group]

    def is_large(self, each: Id) -> bool:
        return each.number % 157 == 11

    def failures(self, each: Id, group: str) -> int:
        """How often processing it fails; 9: always."""
        if PRODUCE in self._ways[group] and self.is_large(each):
            return 0  # with our headers its client could not send it
        return (0, 0, 0, 0, 0, 1, 2, 9)[self._of("fails", each, group) % 8]

    def way(self, each: Id, attempt: int, group: str) -> str:
        ways = self._ways[group]
        return ways[self._of("way", each, attempt, group) % len(ways)]

    def reason(self, each: Id) -> str:
        """Letters that say ``again`` are replayed, others purged."""
        return "again" if self._of("reason", each) % 3 else "never"

    def delay_ms(self, each: Id) -> int:
        return self._of("delay", each) % 1500

    def key(self, each: Id) -> bytes | None:
        return None if self._of("key", each) % 4 == 0 else each.text.encode()

    def value(self, each: Id) -> bytes | None:
        number = self._of("value", each)
        if self.is_large(each):
            return random.Random(number).randbytes(NEARLY_TOO_LARGE)
        if number % 5 == 0:
            # Of records with neither kafka-python wants to hear nothing.
            return None if self.key(each) else b""
        return random.Random(number).randbytes(number % 400)

    def timestamp(self, each: Id) -> int:
        return STAMP_MS + each.number

    def own_headers(self, each: Id) -> list[tuple[str, bytes]]:
        """Those that must stay."""
        return [("id", each.text.encode()), ("twice", b"1"), ("twice", b"2"), ("empty", b"")]

    def headers(self, each: Id) -> list[tuple[str, bytes]]:
        """As it is sent: some have headers as the broker writes them, of somebody else."""
        found = self.own_headers(each)
        if self._of("imitates", each) % 3 == 0:
            found[1:1] = [("pykbroker-attempt", b"7"), ("pykbroker-group", b"nobody")]
            found += [("pykbroker-source", b"elsewhere/0/3"), ("__dlq.errors.topic", b"elsewhere")]
        if each.topic == LATER:
            found.append(("pykbroker-delay-ms", b"%d" % self.delay_ms(each)))
        return found


@dataclass(slots=True)
class Ledger:
    """What a group knows of its failures."""

    sent: Counter[tuple[Flow, Id, int]] = field(default_factory=Counter)
    """Acknowledged failures by way of the retry topic."""
    uncertain: Counter[tuple[Flow, Id, int]] = field(default_factory=Counter)
    places: set[tuple[str, int, int]] = field(default_factory=set)
    """Topic, partition and offset of what was sent to the retry topic already."""
    early: list[object] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """Commits and sends that were refused for good."""
    problems: list[str] = field(default_factory=list)
    processed: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def a_producer(bootstrap: str, codec: str | None = None) -> KafkaProducer:
    return KafkaProducer(
        bootstrap_servers=bootstrap,
        acks="all",
        linger_ms=2,
        compression_type=codec,
        max_request_size=4_000_000,
        delivery_timeout_ms=60_000,
        metadata_max_age_ms=300,
        request_timeout_ms=5_000,
        reconnect_backoff_ms=20,
        reconnect_backoff_max_ms=200,
        retry_backoff_ms=20,
    )


class Sender:
    """Sends rounds of numbered records, compressed in one way after another."""

    def __init__(self, bootstrap: str, rules: Rules, seed: int) -> None:
        self._rules = rules
        self._producers = [a_producer(bootstrap, codec) for codec in CODECS]
        self._random = random.Random(seed)
        self._number = 0
        self.failures: list[str] = []
        self.ids: dict[str, list[Id]] = defaultdict(list)

    def send(self, partitions: dict[str, int], count: int) -> None:
        """``count`` records to each partition; returns when all are acknowledged.  What fails is noted."""
        try:
            futures = [
                self._send(Id(topic, partition, self._number + 1))
                for _ in range(count)
                for topic, number in partitions.items()
                for partition in range(number)
            ]
            for producer in self._producers:
                producer.flush(timeout=PATIENCE_S)
            for future in futures:
                future.get(timeout=PATIENCE_S)
        except (KafkaError, AssertionError) as error:
            self.failures.append(repr(error))

    def _send(self, each: Id) -> FutureRecordMetadata:
        self._number = each.number
        producer, rules = self._random.choice(self._producers), self._rules
        deadline = time.monotonic() + PATIENCE_S
        while each.partition not in (producer.partitions_for(each.topic) or ()):
            # It was made just now: the producer hears of it in a moment.
            assert time.monotonic() < deadline, f"the producer never hears of partition {each}"
            time.sleep(0.02)
        self.ids[each.topic].append(each)
        time.sleep(0.001)
        sent: FutureRecordMetadata = producer.send(
            each.topic,
            rules.value(each),
            rules.key(each),
            rules.headers(each),
            each.partition,
            rules.timestamp(each),
        )
        return sent

    def close(self) -> None:
        for producer in self._producers:
            producer.close()


class Got(NamedTuple):
    """A record as a member has it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    timestamp: int

    @property
    def id(self) -> Id:
        return Id.parse(text(self.headers, "id") or "")

    @property
    def attempt(self) -> int:
        """How often it has failed, where it is in a retry topic."""
        return int(text(self.headers, "pykbroker-attempt") or 0)


def text(headers: Sequence[tuple[str, bytes | None]], name: str) -> str | None:
    """The text of the only header of that name."""
    found = [value for each, value in headers if each == name]
    assert len(found) <= 1, f"{name} twice: {headers}"
    return found[0].decode() if found and found[0] is not None else None


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
            kind = Confluent if self._group == "confluent" else KafkaPython
            self._producer = a_producer(self._address)
            while not self._stopping.is_set():
                client: Client = kind(self._address, self._group, list(self._flow_of))
                while not self._stopping.is_set():
                    if not self._work(client):
                        break  # what is not committed is read again, by whoever has the partition then
                client.close()
            self._producer.close()
        except Exception as error:
            self._ledger.problems.append(f"{self.name}: {error!r}")
            raise

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
            self._ledger.sent[key] += 1
        except KafkaError as error:
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
