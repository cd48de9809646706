"""What can be asked of the broker in the chaos test: topics, offsets, what waits, what is settled."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import KafkaError

from pykbroker.testing import BrokerProcess
from tests.crash.chaos_load import LATER, PATIENCE_S
from tests.crash.chaos_members import Group
from tests.crash.chaos_oracle import Archive, Log

SHARED = "shared.letters"

T = TypeVar("T")


class View:
    """A broker with its groups, as an administrator sees them."""

    def __init__(self, broker: BrokerProcess, groups: Sequence[Group], archive: Archive) -> None:
        self.done: list[str] = []
        """What was done, and what came of it."""
        self._broker, self._groups, self._archive = broker, groups, archive

    def _ends(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        consumer = KafkaConsumer(bootstrap_servers=self._broker.bootstrap)
        try:
            there = consumer.topics()
            places = [
                TopicPartition(topic, each)
                for topic in topics
                if topic in there
                for each in consumer.partitions_for_topic(topic) or ()
            ]
            return dict(patiently(lambda: consumer.end_offsets(places))) if places else {}
        finally:
            consumer.close()

    def live(self) -> dict[str, bytes]:
        """The topics that users see."""
        consumer = KafkaConsumer(bootstrap_servers=self._broker.bootstrap)
        topics = consumer.topics()
        consumer.close()
        found = {each: self._archive.topic_id(each) for each in topics if not each.startswith("__")}
        # What is gone is not there under any id.
        return {log.topic: b"" for log in self._archive.files} | found

    def settled(self) -> dict[Log, set[int]]:
        """By log of letters which are replayed or purged."""
        found: dict[Log, set[int]] = {}
        flows = {flow.dead_letters for group in self._groups for flow in group.flows}
        for topic in {*flows, SHARED} & {name for name, topic_id in self.live().items() if topic_id}:
            for partition, ranges in self._describe(topic, "pykbroker.dead.letter.settled").items():
                offsets: set[int] = set()
                for each in ranges:
                    first, last = each if isinstance(each, list) else (each, each)
                    offsets.update(range(first, last + 1))
                found[Log(topic, self._archive.topic_id(topic), int(partition))] = offsets
        return found

    def waiting(self) -> dict[str, object]:
        """What is said to wait, by topic."""
        names = {flow.retry for group in self._groups for flow in group.flows} | {LATER}
        found: dict[str, object] = {}
        for topic in names & {name for name, topic_id in self.live().items() if topic_id}:
            said = self._describe(topic, "pykbroker.delay.waiting")
            if said.get("waiting") or said.get("stuck") or said.get("indexing"):
                found[topic] = said
        return found

    def lag(self) -> dict[str, tuple[object, int]]:
        """Partitions that a group has not read to the end."""
        found: dict[str, tuple[object, int]] = {}
        for group in self._groups:
            topics = [name for flow in group.flows for name in (flow.topic, flow.retry)]
            ends = self._ends(topics)
            consumer = KafkaConsumer(bootstrap_servers=self._broker.bootstrap, group_id=group.name)
            for place, end in ends.items():
                at = consumer.committed(place)
                if (at or 0) < end:
                    found[f"{group.name}: {place.topic}/{place.partition}"] = at, end
            consumer.close(autocommit=False)
        return found

    def _describe(self, topic: str, name: str) -> Mapping[str, list[int | list[int]]]:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, {name: None})
        found = self._admin(lambda admin: admin.describe_configs([resource], config_filter="all"))
        value = found["topic"][topic].get(name, {}).get("value")
        said: Mapping[str, list[int | list[int]]] = json.loads(value) if value else {}
        return said

    def _committed(self, group: str, place: TopicPartition) -> int:
        consumer = KafkaConsumer(
            bootstrap_servers=self._broker.bootstrap, group_id=group, enable_auto_commit=False
        )
        try:
            return consumer.committed(place) or 0
        finally:
            consumer.close(autocommit=False)

    def _admin(self, do: Callable[[KafkaAdminClient], T], *allowed: type[Exception]) -> T:
        admin = KafkaAdminClient(bootstrap_servers=self._broker.bootstrap)
        try:
            return do(admin)
        except allowed as error:
            self.done.append(repr(error)[:200])
            return None  # type: ignore[return-value]
        finally:
            admin.close()


def patiently(do: Callable[[], T]) -> T:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return do()
        except KafkaError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
