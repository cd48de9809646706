"""Bindings change while records wait: each is routed by what was in force when it was appended.

Random stories on catalog and routing table together: records are appended to exchanges, bindings,
alternates and exchanges come and go, forwarders fall behind and catch up, old versions are forgotten.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence

import pytest

from pykbroker.catalog.alter import Alteration, Operation, Step, alter
from pykbroker.catalog.bindings import render
from pykbroker.catalog.exchanges import ALTERNATE, BINDINGS, TYPE
from pykbroker.catalog.growth import MorePartitions
from pykbroker.catalog.image import TOPIC
from pykbroker.catalog.memory import MemoryCatalog
from pykbroker.catalog.topics import NewTopic, TopicAdmin
from pykbroker.components import Binding
from pykbroker.errors import KafkaError
from pykbroker.routing import Routes
from tests.routing.world import compiler, record
from tests.scale import FULL

QUEUES = ("q0", "q1", "q2")
EXCHANGES = ("e0", "e1", "e2", "e3")
KEYS = ("a", "b")


class Types:
    """``direct``, unchecked."""

    def names(self) -> Iterable[str]:
        return ("direct",)

    def check(
        self, kind: str, exchange: str, settings: Mapping[str, str], bindings: Sequence[Binding]
    ) -> None:
        pass


class Story:
    """One story.  ``logs`` hold the routing key and right targets of each record, by topic id."""

    def __init__(self, routes: Routes, catalog: MemoryCatalog, seed: int) -> None:
        self.chance = random.Random(seed)
        self.catalog, self.routes = catalog, routes
        self.admin = TopicAdmin(catalog)
        self.logs: dict[bytes, list[list[tuple[str, frozenset[str]]]]] = {}
        self.done: dict[bytes, list[int]] = {}
        self.checked = 0
        self.old = 0
        rules = catalog.exchange_rules
        rules.types = Types()
        rules.boundaries = lambda: {
            topic_id: [len(log) for log in logs] for topic_id, logs in self.logs.items()
        }
        rules.passed = lambda topic_id, partition: self.done[topic_id][partition]
        catalog.subscribe(lambda delta: routes.follow(delta.after))

    async def begin(self) -> None:
        await self.admin.create([NewTopic(name=name) for name in QUEUES])
        for name in EXCHANGES:
            await self.create(name)

    def binding(self) -> Binding:
        return Binding(self.chance.choice(QUEUES + EXCHANGES), self.chance.choice(KEYS))

    async def create(self, name: str) -> None:
        if name in self.catalog.image.topics:
            return
        there = [b for b in (self.binding() for _ in range(3)) if b.to in self.catalog.image.topics]
        new = NewTopic(name=name, overrides=[(TYPE, "direct"), (BINDINGS, render(there))])
        (made,) = await self.admin.create([new])
        assert not isinstance(made, KafkaError), made
        self.logs[made.topic_id], self.done[made.topic_id] = [[]], [0]

    async def delete(self, name: str) -> None:
        """Often refused: something is bound to it."""
        topic = self.catalog.image.topics.get(name)
        if topic is not None and not isinstance((await self.admin.delete([name]))[0], KafkaError):
            del self.logs[topic.topic_id], self.done[topic.topic_id]

    async def rebind(self, name: str) -> None:
        """Refused now and then: there is no such target."""
        operation = self.chance.choice([Operation.SET, Operation.APPEND, Operation.SUBTRACT])
        step = Step(BINDINGS, operation, render(self.binding() for _ in range(self.chance.randrange(3))))
        if self.chance.random() < 0.2:
            step = Step(ALTERNATE, Operation.SET, self.chance.choice(["", *EXCHANGES]))
        if name in self.catalog.image.topics:
            await alter(self.catalog, [Alteration(resource_type=TOPIC, name=name, steps=[step])])

    async def grow(self, name: str) -> None:
        topic = self.catalog.image.topics.get(name)
        if topic is not None:
            await self.admin.create_partitions([MorePartitions(name=name, count=len(topic.partitions) + 1)])
            self.logs[topic.topic_id].append([])
            self.done[topic.topic_id].append(0)

    def append(self, name: str) -> None:
        topic = self.catalog.image.topics.get(name)
        if topic is not None:
            key = self.chance.choice(KEYS)
            right = self.routes.current.route(name, record(key)).targets
            self.chance.choice(self.logs[topic.topic_id]).append((key, right))

    def forward(self, name: str) -> None:
        """Some records of one partition, read as a forwarder does: up to the next change at most."""
        topic = self.catalog.image.topics.get(name)
        if topic is None:
            return
        partition = self.chance.randrange(len(self.logs[topic.topic_id]))
        log, done = self.logs[topic.topic_id][partition], self.done[topic.topic_id][partition]
        table, until = self.routes.at(topic.topic_id, partition, done)
        end = min(len(log), done + self.chance.randrange(8), len(log) if until is None else until)
        for key, right in log[done:end]:
            assert table.route(name, record(key)).targets == right
            self.checked += 1
            self.old += table is not self.routes.current
        self.done[topic.topic_id][partition] = max(done, end)


@pytest.mark.parametrize("seed", range(200 if FULL else 12))
async def test_what_was_in_force_decides(seed: int) -> None:
    catalog = MemoryCatalog()
    with compiler() as types:
        story = Story(Routes(types, catalog.image), catalog, seed)
        await story.begin()
        for _ in range(400):
            name = story.chance.choice(EXCHANGES)
            match story.chance.randrange(20):
                case 0:
                    await story.delete(name)
                case 1:
                    await story.create(name)
                case 2 if story.chance.random() < 0.2:
                    await story.grow(name)
                case 3 | 4 | 5:
                    await story.rebind(name)
                case 6 | 7 | 8 | 9 | 10:
                    story.forward(name)
                case _:
                    story.append(name)
    assert story.checked > 50
    assert story.old > 10
    assert all(len(each.versions) < 60 for each in catalog.image.exchanges.values())
