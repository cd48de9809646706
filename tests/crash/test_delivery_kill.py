"""kill -9 while records fail, wait, come back and become dead letters: each attempt once, none early.

Two groups read the same two topics and their retry topics.  Which records fail, and how often, follows
from their numbers.  One group nacks in its commits, repeating what was not acknowledged; the other produces
to the retry topic, each failure once with an idempotent producer.  Beside them records with delays of
their own go through a delay topic.  In the end every record of every retry and dead-letter topic is
compared with what must be there.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from pykbroker.testing import BrokerProcess
from tests.crash.test_forward_kill import a_producer
from tests.scale import scaled, seeded

ATTEMPTS = 3
LATER = "later"
PATIENCE_S = 120.0
NACKERS, PRODUCERS = "nackers", "producers"


class Policy(NamedTuple):
    """What a topic is told about failures, and the least delay of an attempt that follows from it."""

    partitions: int
    settings: dict[str, str]
    least_ms: Callable[[int], int]


POLICIES = {
    "orders": Policy(
        2,
        {"pykbroker.retry.policy": "fixed", "pykbroker.retry.delay.ms": "300"},
        lambda attempt: 300,
    ),
    "bills": Policy(
        1,
        {
            "pykbroker.retry.policy": "exponential",
            "pykbroker.retry.delay.ms": "100",
            "pykbroker.retry.max.delay.ms": "1000",
        },
        # The jitter takes away half of it at most.
        lambda attempt: 100 * 2 ** (attempt - 1) // 2,
    ),
}


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


FLOWS = [Flow(topic, group) for group in (NACKERS, PRODUCERS) for topic in POLICIES]


def failures_of(value: bytes) -> int:
    """How often processing this record fails; more than ``ATTEMPTS`` times: always."""
    number = int(value.split(b":")[2])
    return number // 3 % (ATTEMPTS + 2) if number % 3 == 0 else 0


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Sender(threading.Thread):
    """Numbered records to every partition, and some to the delay topic, until stopped."""

    def __init__(self, bootstrap: str) -> None:
        super().__init__(name="sender", daemon=True)
        self._address = bootstrap
        self._stopping = threading.Event()
        self._random = random.Random(7)
        self.failures: list[str] = []
        self.acknowledged = 0
        self.sent: dict[str, dict[bytes, int]] = {topic: {} for topic in (*POLICIES, LATER)}
        """By topic the values, each of which is acknowledged in the end, and their timestamps."""

    def run(self) -> None:
        producer = a_producer(self._address)
        futures = []
        number = 0
        while not self._stopping.is_set():
            for topic, policy in POLICIES.items():
                for partition in range(policy.partitions):
                    value = b"%s:%d:%d" % (topic.encode(), partition, number)
                    stamp = 1_700_000_000_000 + number
                    headers = [("number", b"%d" % number), ("none", b"")]
                    futures.append(
                        producer.send(topic, value, value[::-1], headers, partition, stamp).add_callback(
                            self._acknowledged
                        )
                    )
                    self.sent[topic][value] = stamp
            delay_ms = self._random.randrange(1500)
            value, stamp = b"%d:%d" % (number, delay_ms), now_ms()
            headers = [("pykbroker-delay-ms", b"%d" % delay_ms)]
            futures.append(producer.send(LATER, value, None, headers, None, stamp))
            self.sent[LATER][value] = stamp
            number += 1
            time.sleep(0.01)
        producer.flush(timeout=PATIENCE_S)
        for future in futures:
            try:
                future.get(timeout=1)
            except KafkaError as error:
                self.failures.append(repr(error))
        producer.close()

    def _acknowledged(self, _: object) -> None:
        self.acknowledged += 1

    def stop(self) -> None:
        self._stopping.set()
        self.join(180)
        assert not self.is_alive(), "sends are neither acknowledged nor refused"


class Member(threading.Thread):
    """The only member of a group on both topics and their retry topics."""

    def __init__(self, bootstrap: str, group: str) -> None:
        super().__init__(name=group, daemon=True)
        self._flows = {flow.topic: flow for flow in FLOWS if flow.group == group}
        self._retry_of = {flow.retry: flow.retry for flow in self._flows.values()}
        self._retry_of |= {flow.topic: flow.retry for flow in self._flows.values()}
        self._group, self._address = group, bootstrap
        self._stopping = threading.Event()
        self._nacks: dict[TopicPartition, set[int]] = defaultdict(set)
        self._sent: set[tuple[TopicPartition, int]] = set()
        self.seen: dict[tuple[str, bytes, int], int] = {}
        """(topic, value, attempt) and when it was read first."""
        self._refused: dict[TopicPartition, int] = {}
        """Commits that were not acknowledged, and not repeated either."""
        self.commits: dict[TopicPartition, tuple[int, str]] = {}
        """What was acknowledged."""
        self.acknowledged = 0
        self.failures: list[str] = []

    def run(self) -> None:
        consumer = KafkaConsumer(
            *self._retry_of,
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
        self._producer = a_producer(self._address)
        while not self._stopping.is_set():
            try:
                # With less time kafka-python 3 may join again and again: see tests/clients/members.
                polled = consumer.poll(timeout_ms=500)
            except KafkaError:
                continue  # from a connection that a kill has cut: it is raised now and then
            for place, records in polled.items():
                self._process(consumer, place, records)
            for place in self._refused.keys() - polled.keys():
                self._commit_again(consumer, place)
        consumer.close(autocommit=False)
        self._producer.close()

    def _process(
        self, consumer: KafkaConsumer, place: TopicPartition, records: Sequence[ConsumerRecord]
    ) -> None:
        came = now_ms()
        failed = []
        for record in records:
            attempt = attempt_of(record)
            self.seen.setdefault((place.topic, record.value, attempt), came)
            if attempt < failures_of(record.value):
                failed.append(record)
        if self._group == NACKERS:
            self._nacks[place].update(record.offset for record in failed)
        else:
            self._produce(place, failed)
        self._commit(consumer, place, records[-1].offset + 1)

    def _produce(self, place: TopicPartition, failed: Iterable[ConsumerRecord]) -> None:
        """Each failure once, however often the record is read."""
        futures = []
        for record in failed:
            if (place, record.offset) not in self._sent:
                self._sent.add((place, record.offset))
                futures.append(
                    self._producer.send(
                        self._retry_of[place.topic],
                        record.value,
                        record.key,
                        record.headers,
                        record.partition,
                        record.timestamp,
                    )
                )
        for future in futures:
            try:
                future.get(timeout=PATIENCE_S)
            except KafkaError as error:
                self.failures.append(repr(error))

    def _commit(self, consumer: KafkaConsumer, place: TopicPartition, offset: int) -> None:
        """With the nacks of all commits that are not acknowledged."""
        nacks = sorted(each for each in self._nacks[place] if each < offset)
        metadata = json.dumps({"nack": nacks, "reason": "as told"}) if nacks else "nothing"
        try:
            consumer.commit({place: OffsetAndMetadata(offset, metadata, -1)}, timeout_ms=60_000)
        except (KafkaError, AssertionError):
            self._refused[place] = offset
            return
        self._refused.pop(place, None)
        self._nacks[place].difference_update(nacks)
        self.commits[place] = (offset, metadata)
        self.acknowledged += 1

    def _commit_again(self, consumer: KafkaConsumer, place: TopicPartition) -> None:
        """Where no more records come that would lead to another commit."""
        try:
            behind = place in consumer.assignment() and consumer.position(place) == self._refused[place]
        except KafkaError:
            return
        if behind:
            self._commit(consumer, place, self._refused[place])
        else:  # it reads once more what it could not commit
            del self._refused[place]

    def stop(self) -> None:
        self._stopping.set()
        self.join(90)
        assert not self.is_alive(), "the group member did not finish"


class Watcher(threading.Thread):
    """Reads the delay topic all the time, to see when records come."""

    def __init__(self, bootstrap: str) -> None:
        super().__init__(name="watcher", daemon=True)
        self._address = bootstrap
        self._stopping = threading.Event()
        self.seen: dict[bytes, list[int]] = defaultdict(list)

    def run(self) -> None:
        consumer = KafkaConsumer(
            bootstrap_servers=self._address,
            auto_offset_reset="earliest",
            reconnect_backoff_ms=20,
            reconnect_backoff_max_ms=200,
        )
        consumer.assign([TopicPartition(LATER, index) for index in range(2)])
        while not self._stopping.is_set():
            try:
                polled = consumer.poll(timeout_ms=100)
            except KafkaError:
                continue
            for records in polled.values():
                for record in records:
                    self.seen[record.value].append(now_ms())
        consumer.close()

    def stop(self) -> None:
        self._stopping.set()
        self.join(60)
        assert not self.is_alive()


def attempt_of(record: ConsumerRecord) -> int:
    return int(header(record, "pykbroker-attempt") or 0)


def header(record: ConsumerRecord, name: str) -> str | None:
    """The text of the only header with that name."""
    values = [value.decode() for each, value in record.headers if each == name]
    assert len(values) <= 1, f"{name} twice: {record}"
    return values[0] if values else None


def create_topics(bootstrap: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    for topic, policy in POLICIES.items():
        configs = policy.settings | {"pykbroker.retry.max.attempts": str(ATTEMPTS)}
        admin.create_topics([NewTopic(topic, policy.partitions, 1, topic_configs=configs)])
    admin.create_topics([NewTopic(LATER, 2, 1, topic_configs={"pykbroker.delay.enable": "true"})])
    admin.close()


def read(bootstrap: str, topic: str) -> list[ConsumerRecord]:
    """All that is there."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", check_crcs=True)
    places = [TopicPartition(topic, index) for index in sorted(consumer.partitions_for_topic(topic))]
    consumer.assign(places)
    ends = consumer.end_offsets(places)
    found: list[ConsumerRecord] = []
    deadline = time.monotonic() + PATIENCE_S
    while any(consumer.position(place) < ends[place] for place in places):
        assert time.monotonic() < deadline
        for records in consumer.poll(timeout_ms=500).values():
            found += records
    consumer.close()
    return found


class Expected(NamedTuple):
    """Values with attempts in a retry topic, and the values of dead letters."""

    retried: Counter[tuple[bytes, int]]
    letters: Counter[bytes]


def expected(values: Iterable[bytes]) -> Expected:
    found = Expected(Counter(), Counter())
    for value in values:
        failures = failures_of(value)
        found.retried.update((value, attempt) for attempt in range(1, min(failures, ATTEMPTS) + 1))
        found.letters.update([value] * (failures > ATTEMPTS))
    return found


def wait_until_all_is_done(bootstrap: str, sent: Mapping[str, Mapping[bytes, int]]) -> None:
    """Until there are as many records everywhere as there must be, and no more come."""
    wanted = {LATER: len(sent[LATER])}
    for flow in FLOWS:
        due = expected(sent[flow.topic])
        wanted |= {flow.retry: due.retried.total(), flow.dead_letters: due.letters.total()}
    consumer = KafkaConsumer(bootstrap_servers=bootstrap)

    def counts() -> dict[str, int]:
        found = {}
        for topic in wanted:
            places = [TopicPartition(topic, each) for each in consumer.partitions_for_topic(topic) or ()]
            found[topic] = sum(consumer.end_offsets(places).values()) if places else 0
        return found

    deadline = time.monotonic() + PATIENCE_S
    while any((now := counts())[topic] < count for topic, count in wanted.items()):
        assert time.monotonic() < deadline, f"not everything came: {now}, wanted {wanted}"
        time.sleep(0.2)
    time.sleep(2)  # longer than any delay: what comes twice is there as well
    consumer.close()


def wait_until_all_is_seen(
    members: Iterable[Member], watcher: Watcher, sent: Mapping[str, Mapping[bytes, int]]
) -> None:
    """Until those who read have come as far."""

    def unseen() -> list[object]:
        found: list[object] = [value for value in sent[LATER] if value not in watcher.seen]
        for member in members:
            for flow in [flow for flow in FLOWS if flow.group == member.name]:
                due = expected(sent[flow.topic]).retried
                found += [each for each in due if (flow.retry, *each) not in member.seen]
        return found

    deadline = time.monotonic() + PATIENCE_S
    while left := unseen():
        assert time.monotonic() < deadline, f"nobody has read {left[:5]}"
        time.sleep(0.2)


def problems_of_retried(
    flow: Flow,
    found: Sequence[ConsumerRecord],
    sent: Mapping[bytes, int],
    seen: Mapping[tuple[str, bytes, int], int],
) -> dict[str, list[object]]:
    """Everything that is not as it must be in the retry topic of a flow."""
    due = expected(sent).retried
    there = Counter((record.value, attempt_of(record)) for record in found)
    least_ms = POLICIES[flow.topic].least_ms
    firsts: dict[bytes, set[str | None]] = defaultdict(set)
    problems: dict[str, list[object]] = {
        "missing": list((due - there).items()),
        "too many": list((there - due).items()),
        "changed": [],
        "early": [],
    }
    by_attempt = {(record.value, attempt_of(record)): record for record in found}
    for (value, attempt), record in by_attempt.items():
        problems["changed"] += changes(flow, record, sent)
        firsts[value].add(header(record, "pykbroker-first-failure-ms"))
        due_ms = last_failure_ms(record) + least_ms(attempt)
        came = seen.get((flow.retry, value, attempt))
        following = by_attempt.get((value, attempt + 1))
        if came is None or came < due_ms or (following and last_failure_ms(following) < due_ms):
            problems["early"].append((value, attempt, due_ms, came))
    problems["changed"] += [(value, each) for value, each in firsts.items() if len(each) != 1]
    return {name: each[:5] for name, each in problems.items() if each}


def problems_of_letters(
    flow: Flow, found: Sequence[ConsumerRecord], sent: Mapping[bytes, int]
) -> dict[str, list[object]]:
    """Everything that is not as it must be in the dead-letter topic of a flow."""
    due = expected(sent).letters
    there = Counter(record.value for record in found)
    problems: dict[str, list[object]] = {
        "missing": list((due - there).items()),
        "too many": list((there - due).items()),
        "changed": [],
    }
    for record in found:
        problems["changed"] += changes(flow, record, sent)
        count = header(record, "__dlq.errors.delivery.count")
        if (attempt_of(record), count) != (ATTEMPTS + 1, str(ATTEMPTS + 1)):
            problems["changed"].append((record.value, attempt_of(record), count))
    return {name: each[:5] for name, each in problems.items() if each}


def last_failure_ms(record: ConsumerRecord) -> int:
    return int(header(record, "pykbroker-last-failure-ms") or -1)


def changes(flow: Flow, record: ConsumerRecord, sent: Mapping[bytes, int]) -> list[object]:
    """What differs from the record as it was sent."""
    _, partition, number = record.value.split(b":")
    own = [each for each in record.headers if not each[0].startswith(("pykbroker-", "__dlq."))]
    is_so = (
        record.key,
        record.timestamp,
        record.partition,
        own,
        header(record, "pykbroker-group"),
        header(record, "pykbroker-reason"),
    )
    must_be = (
        record.value[::-1],
        sent.get(record.value),
        int(partition),
        [("number", number), ("none", b"")],
        flow.group,
        "as told" if flow.group == NACKERS else None,
    )
    return [] if is_so == must_be else [(is_so, must_be)]


def problems_of_commits(bootstrap: str, member: Member) -> list[object]:
    """Committed offsets that are not the last acknowledged ones, or later; metadata that are others."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=member.name, enable_auto_commit=False)
    problems: list[object] = []
    for place, (offset, metadata) in member.commits.items():
        found = consumer.committed(place, metadata=True)
        if found is None or found.offset < offset:
            problems.append((place, offset, found))
        elif found.offset == offset and found.metadata != metadata:
            problems.append((place, metadata, found))
    consumer.close()
    return problems


def problems_of_delays(found: Sequence[ConsumerRecord], sent: Mapping[bytes, int]) -> dict[str, list[object]]:
    """What is not as it must be in the delay topic."""
    there = Counter(record.value for record in found)
    problems: dict[str, list[object]] = {
        "missing": list(sent.keys() - there.keys()),
        "too many": [value for value, count in there.items() if count > 1 or value not in sent],
        "changed": [record for record in found if record.timestamp != sent.get(record.value)],
    }
    return {name: each[:5] for name, each in problems.items() if each}


def came_early(seen: Mapping[bytes, Sequence[int]], sent: Mapping[bytes, int]) -> list[object]:
    """Records of the delay topic that could be read before their time."""
    return [
        (value, sent[value], when)
        for value, when in seen.items()
        if min(when) < sent[value] + int(value.split(b":")[1])
    ]


def test_each_attempt_is_there_once_and_none_is_early(tmp_path: Path) -> None:
    kills = scaled(3, 20)
    random_ = seeded(11)
    with BrokerProcess(data_dir=tmp_path, settings={"log.segment.bytes": "200000"}) as broker:
        create_topics(broker.bootstrap)
        sender = Sender(broker.bootstrap)
        members = [Member(broker.bootstrap, group) for group in (NACKERS, PRODUCERS)]
        watcher = Watcher(broker.bootstrap)
        for thread in (sender, *members, watcher):
            thread.start()
        counts: dict[str, Callable[[], int]] = {
            "sent": lambda: sender.acknowledged,
            "delayed": lambda: len(watcher.seen),
            **{member.name: partial(_acknowledged, member) for member in members},
        }
        for _ in range(kills):
            wait_for_progress(broker, counts)
            time.sleep(random_.uniform(0.0, 0.9))
            broker.kill()
            broker.start()
        sender.stop()
        wait_until_all_is_done(broker.bootstrap, sender.sent)
        wait_until_all_is_seen(members, watcher, sender.sent)
        for member in members:
            member.stop()
        watcher.stop()
        problems: dict[str, object] = {}
        for flow, member in [(flow, each) for each in members for flow in FLOWS if flow.group == each.name]:
            sent = sender.sent[flow.topic]
            retried, letters = read(broker.bootstrap, flow.retry), read(broker.bootstrap, flow.dead_letters)
            problems[flow.retry] = problems_of_retried(flow, retried, sent, member.seen)
            problems[flow.dead_letters] = problems_of_letters(flow, letters, sent)
        problems |= {member.name: problems_of_commits(broker.bootstrap, member) for member in members}
        problems[LATER] = problems_of_delays(read(broker.bootstrap, LATER), sender.sent[LATER])
    problems["early"] = came_early(watcher.seen, sender.sent[LATER])[:5]
    problems["failures"] = sender.failures + [each for member in members for each in member.failures]
    print(f"{kills} kills, {sum(map(len, sender.sent.values()))} records")
    assert {name: each for name, each in problems.items() if each} == {}


def wait_for_progress(broker: BrokerProcess, counts: Mapping[str, Callable[[], int]]) -> None:
    """Until all of them have risen."""
    before = {name: count() for name, count in counts.items()}
    deadline = time.monotonic() + 90
    while stuck := [name for name, count in counts.items() if count() <= before[name]]:
        assert time.monotonic() < deadline, f"no progress: {stuck}, {before}\n{broker.output()[-3000:]}"
        time.sleep(0.02)


def _acknowledged(member: Member) -> int:
    return member.acknowledged
