"""The load of the chaos test: records that say what becomes of them.

Which records fail, how often and in which of both ways follows from their id, which is a header (keys and
values may be null), and from the seed.  What the groups were promised is in a :class:`Ledger`.
"""

from __future__ import annotations

import random
import threading
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from kafka import KafkaProducer
from kafka.errors import KafkaError
from kafka.producer.future import FutureRecordMetadata

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
