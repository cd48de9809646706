"""What happens to the broker, its topics and its groups in the chaos test, one thing at a time."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from pykbroker.testing import BrokerProcess
from tests.crash.chaos_load import DELAY_MS, LATER, LONGEST_MS, PATIENCE_S, Flow
from tests.crash.chaos_members import Group
from tests.crash.chaos_oracle import REPAIRED, Archive, Log, Rewind, Story
from tests.crash.chaos_view import SHARED, View, patiently

EXCHANGE = "letters.exchange"
SINKS = {"again": "sink.again", "never": "sink.never"}
POLICIES = ("immediate", "fixed", "linear", "exponential")
PARTITIONS = {"orders": 3, "bills": 2, "notes": 1}
MAY_BE_WITHOUT = "notes"
"""The topic that has no policy now and then."""


class World(View):
    """The broker and all that is on it; each public method does it one harm, or several together."""

    def __init__(
        self, broker: BrokerProcess, groups: Sequence[Group], archive: Archive, story: Story, seed: int
    ) -> None:
        self.partitions = dict(PARTITIONS)
        self.random = random.Random(seed)
        super().__init__(broker, groups, archive)
        self._story = story
        self._settings = {
            topic: {
                "pykbroker.retry.policy": self.random.choice(POLICIES),
                "pykbroker.retry.delay.ms": str(DELAY_MS),
                "pykbroker.retry.max.delay.ms": str(LONGEST_MS),
                "pykbroker.retry.max.attempts": "2",
            }
            for topic in PARTITIONS
        }
        self._commands: list[tuple[Sequence[str], subprocess.Popen[str]]] = []
        story.attempts.update({1, 2, 3})
        story.letter_topics.update({SHARED, *SINKS.values()})

    def prepare(self) -> None:
        """Make the topics."""
        bindings = [{"to": sink, "arguments": {"pykbroker-reason": reason}} for reason, sink in SINKS.items()]
        exchange = {
            "pykbroker.exchange.type": "headers",
            "pykbroker.exchange.bindings": json.dumps(bindings),
        }
        delays = {"pykbroker.delay.enable": "true"}
        new = [
            NewTopic(topic, count, 1, topic_configs=self._settings[topic])
            for topic, count in PARTITIONS.items()
        ]
        new += [NewTopic(LATER, 2, 1, topic_configs=delays), NewTopic(REPAIRED, 2, 1)]
        new += [NewTopic(sink, 2, 1) for sink in SINKS.values()]
        self._admin(lambda admin: admin.create_topics(new))
        self._admin(lambda admin: admin.create_topics([NewTopic(EXCHANGE, 2, 1, topic_configs=exchange)]))

    # -- the broker

    def kill(self) -> None:
        """kill -9, at any moment."""
        time.sleep(self.random.uniform(0.0, 0.5))
        self._broker.kill()
        self._broker.start()

    def kill_again_and_again(self) -> None:
        """While the broker still recovers from the last one."""
        for _ in range(3):
            self._broker.kill()
            self._broker.start()
            time.sleep(self.random.uniform(0.0, 0.2))

    def restart(self) -> None:
        """A clean stop."""
        self._broker.restart()

    # -- topics

    def delete_retry_topic(self) -> None:
        """While records wait to get into it."""
        group = self.random.choice(self._groups)
        flow = self.random.choice(group.flows)
        members = len(group)
        group.stop()
        self._delete(flow.retry)
        self._join(group, members)

    def delete_dead_letters(self) -> None:
        """With the letters in it."""
        flow = self._some_flow()
        self._delete(self.random.choice((flow.dead_letters, flow.dead_letters, SHARED)))

    def recreate_origin(self) -> None:
        """While records wait that came from it."""
        topic = self.random.choice(tuple(self.partitions))
        readers = [(group, len(group)) for group in self._groups if topic in (f.topic for f in group.flows)]
        for group, _ in readers:
            group.stop()
        self._delete(topic)
        if self.random.random() < 0.5:
            self._delete(self.random.choice(readers)[0].flow(topic).retry)
        if self.random.random() < 0.3:
            self.partitions[topic] = max(1, self.partitions[topic] - 1)
        new = NewTopic(topic, self.partitions[topic], 1, topic_configs=self._settings[topic])
        self._admin(lambda admin: admin.create_topics([new]))
        for group, members in readers:
            self._join(group, members)

    def add_partition(self) -> None:
        topic = self.random.choice(tuple(self.partitions))
        if self.partitions[topic] < 5:
            count = self.partitions[topic] + 1
            self._admin(lambda admin: admin.create_partitions({topic: count}))
            self.partitions[topic] = count

    def delete_records(self) -> None:
        """Of an origin, while its groups may be about to nack them; or of a retry topic."""
        flow = self._some_flow()
        topic = flow.topic if self.random.random() < 0.7 else flow.retry
        ends = self._ends([topic])
        if not ends:
            return
        place = self.random.choice(tuple(ends))
        start = max(0, ends[place] - self.random.randint(0, 20))
        log = Log(topic, self._archive.topic_id(topic), place.partition)
        self._story.starts[log] = max(self._story.starts[log], start)
        self._admin(lambda admin: admin.delete_records({place: start}), KafkaError)

    def make_too_small(self) -> None:
        """A topic takes no record from its clients, but all from the broker."""
        group = self.random.choice([group for group in self._groups if not group.produces])
        flow = self.random.choice(group.flows)
        topic = self.random.choice((flow.retry, flow.dead_letters))
        if self._ends([topic]):
            self._alter(ConfigResourceType.TOPIC, topic, "max.message.bytes", "100")

    # -- settings

    def alter_policy(self) -> None:
        self._alter_somewhere("pykbroker.retry.policy", self.random.choice(POLICIES))

    def alter_attempts(self) -> None:
        self._alter_somewhere("pykbroker.retry.max.attempts", str(self.random.randint(1, 3)))

    def no_policy(self) -> None:
        """For a while."""
        topic, name = MAY_BE_WITHOUT, "pykbroker.retry.policy"
        self._story.without_policy.add(topic)
        before = self._settings[topic][name]
        self._alter(ConfigResourceType.TOPIC, topic, name, "none")
        time.sleep(self.random.uniform(0, 0.5))
        self._alter(ConfigResourceType.TOPIC, topic, name, before)

    def alter_dead_letter_topic(self) -> None:
        """To one that is shared, to an exchange, to the flow's own."""
        choice = self.random.choice((SHARED, EXCHANGE, "{topic}.{group}.dlq"))
        self._alter_somewhere("pykbroker.dead.letter.topic", choice)

    def _alter_somewhere(self, name: str, value: str) -> None:
        if self.random.random() < 0.3:
            group = self.random.choice(self._groups).name
            self._alter(ConfigResourceType.GROUP, group, name, value if self.random.random() < 0.6 else None)
        else:
            topic = self.random.choice(tuple(self.partitions))
            self._settings[topic][name] = value
            self._alter(ConfigResourceType.TOPIC, topic, name, value)

    def _alter(self, kind: ConfigResourceType, name: str, setting: str, value: str | None) -> None:
        change = {setting: ("SET", value) if value is not None else ("DELETE", None)}
        self._admin(lambda admin: admin.alter_configs([ConfigResource(kind, name, change)]))

    # -- groups

    def join(self) -> None:
        group = self.random.choice(self._groups)
        if len(group) < 3:
            group.join()

    def leave(self) -> None:
        group = self.random.choice(self._groups)
        if len(group) > 1:
            group.leave()

    def rewind(self) -> None:
        """The group goes back by a few records: what fails again counts again."""
        group = self.random.choice(self._groups)
        members = len(group)
        group.stop()
        flow = self.random.choice(group.flows)
        topic = self.random.choice((flow.topic, flow.retry))
        consumer = KafkaConsumer(
            bootstrap_servers=self._broker.bootstrap, group_id=group.name, enable_auto_commit=False
        )
        try:
            for partition in sorted(consumer.partitions_for_topic(topic) or ()):
                place = TopicPartition(topic, partition)
                before = consumer.committed(place)
                if before:
                    to = max(0, before - self.random.randint(1, 12))
                    log = Log(topic, self._archive.topic_id(topic), partition)
                    self._story.rewinds.append(Rewind(group.name, log, to, before))
                    patiently(lambda: consumer.commit({place: OffsetAndMetadata(to, "back", -1)}))  # noqa: B023
        finally:
            consumer.close(autocommit=False)
        self._join(group, members)

    def delete_group(self) -> None:
        """It begins anew, and what fails again counts again."""
        group = self.random.choice(self._groups)
        members = len(group)
        group.stop()
        topics = [name for flow in group.flows for name in (flow.topic, flow.retry)]
        stood: dict[TopicPartition, Rewind] = {}
        for place, end in self._ends(topics).items():
            log = Log(place.topic, self._archive.topic_id(place.topic), place.partition)
            before = self._committed(group.name, place)
            if before and end:
                stood[place] = Rewind(group.name, log, 0, before)
        self._admin(lambda admin: admin.delete_groups([group.name]), KafkaError)
        # It is refused while the session of a member is not over that a kill has cut off.
        for place, rewind in stood.items():
            if not self._committed(group.name, place):
                self._story.rewinds.append(rewind)
        self._join(group, members)

    def _join(self, group: Group, members: int) -> None:
        for _ in range(members):
            group.join()

    # -- dead letters

    def replay(self) -> None:
        topic = self._letters()
        more = self.random.choice(
            ([], ["--to", REPAIRED], ["--rate", "40"], ["--to", REPAIRED, "--rate", "25"])
        )
        self._dlq("replay", topic, "--reason", "again", *more, "--yes")

    def purge(self) -> None:
        self._dlq("purge", self._letters(), "--reason", "never", "--yes")

    def purge_all(self) -> None:
        """It is DeleteRecords."""
        topic = self._letters()
        ends = self._ends([topic])
        for place, end in ends.items():
            log = Log(topic, self._archive.topic_id(topic), place.partition)
            # A little more may come before it is done.
            self._story.starts[log] = max(self._story.starts[log], end + 1000)
        if ends:
            self._dlq("purge", topic, "--all", "--yes")

    def look(self) -> None:
        """Commands that only read."""
        self._dlq("list")
        self._dlq("list", self._letters())

    def _letters(self) -> str:
        """A topic with letters that may be settled."""
        flow = self._some_flow()
        return self.random.choice((flow.dead_letters, flow.dead_letters, SHARED))

    def _dlq(self, *words: str) -> None:
        """Run a command beside everything else."""
        command = [sys.executable, "-m", "pykbroker", "dlq", *words, "-b", self._broker.bootstrap]
        started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._commands.append((words, started))

    def finish_commands(self) -> list[str]:
        """Wait for them; what those said that died in a way that commands must not."""
        said = []
        while self._commands:
            words, command = self._commands.pop()
            output, _ = command.communicate(timeout=PATIENCE_S)
            self.done.append(f"{' '.join(words)}: {output.strip()[-200:]!r}")
            if "Traceback" in output:
                said.append(output)
        return said

    # -- what there is

    def _some_flow(self) -> Flow:
        return self.random.choice(self.random.choice(self._groups).flows)

    def _delete(self, topic: str) -> None:
        """The segments are linked to before, and all the while it goes: some records come just then."""
        self._story.gone.add(topic)
        for group in self._groups:
            with group.ledger.lock:
                group.ledger.places = {place for place in group.ledger.places if place[0] != topic}
        with self._archive.busy():
            self._admin(lambda admin: admin.delete_topics([topic]), KafkaError)
