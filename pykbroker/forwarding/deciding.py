"""Where the next records of an ingress partition go.  Pure but for the partitioners, which keep a state.

Plugins are asked here and nowhere else about where a record goes: what comes out is planned, and
executed as planned.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from pykbroker.components import PartitionContext, RoutingContext
from pykbroker.forwarding.copying import Source
from pykbroker.forwarding.plan import Place
from pykbroker.routing import Routed, routing_key_of

Steps = Generator[None, None, None]
"""Work in steps of well under a millisecond: whoever drives it may let others have their turn between."""

STEP = 50
"""Records per step: a few hundred microseconds, less where a plugin is not asked."""


class Table(Protocol):
    """What is asked of a :class:`~pykbroker.routing.RoutingTable`."""

    def cached(self, entry: str, routing_key: str) -> Routed | None: ...

    def route(self, entry: str, ctx: RoutingContext) -> Routed: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalTarget:
    """A topic that gets copies.  ``choose`` asks its partitioner and never raises; ``keyless`` is whether
    it takes records without a key (a compacted topic does not)."""

    name: str
    topic_id: bytes
    partitions: int
    available: Sequence[int]
    keyless: bool
    choose: Callable[[PartitionContext], int]

    def place(self, record: Source, named_partition: int | None, now_ms: int) -> Place:
        """The partition for one record."""
        if self.partitions == 1:
            return Place(self.topic_id, 0)
        ctx = PartitionContext(
            topic=self.name,
            partitions=self.partitions,
            available=self.available,
            key=record.key,
            headers=record.headers,
            value_size=record.value_size,
            timestamp_ms=record.timestamp,
            named_partition=named_partition,
            now_ms=now_ms,
        )
        return Place(self.topic_id, self.choose(ctx))


class Refused(NamedTuple):
    """A copy that its target does not take, for good.  ``dead_letter``: whether it goes to the dead-letter
    topic; otherwise it is dropped."""

    offset: int
    target: str
    reason: str
    dead_letter: bool


@dataclass(slots=True)
class Decided:
    """What was decided about some records; ``offsets`` by target rise."""

    offsets: dict[Place, list[int]] = field(default_factory=dict)
    unroutable: list[tuple[int, str]] = field(default_factory=list)
    """Offset and routing key of what no binding matched."""
    refused: list[Refused] = field(default_factory=list)

    def send(self, place: Place, offset: int) -> None:
        """One copy; a second one of the same record to the same partition is none."""
        known = self.offsets.get(place)
        if known is None:
            self.offsets[place] = [offset]
        elif known[-1] != offset:
            known.append(offset)


Find = Callable[[str], FinalTarget | None]
"""The topic of a name; None where there is none that could get copies."""


class Deciding:
    """Decides for one ingress partition of ``face``: an exchange, or a topic with a partitioner."""

    def __init__(self, face: str, partition: int, find: Find) -> None:
        self._face = face
        self._partition = partition
        self._find = find

    def exchange(
        self, records: Iterable[Source], table: Table, dead_letter: str, now_ms: int, into: Decided
    ) -> Steps:
        """Follow the bindings of ``table``.  Raises KafkaError where a type is missing (see
        :meth:`~pykbroker.routing.RoutingTable.route`); nothing can be decided then."""
        face, cached = self._face, table.cached
        ready: dict[frozenset[str], list[tuple[str, FinalTarget | None]]] = {}
        send = into.send
        for number, record in enumerate(records, 1):
            if not number % STEP:
                yield
            key = routing_key_of(record.key, record.headers)
            routed = cached(face, key)
            if routed is None:
                routed = table.route(
                    face,
                    RoutingContext(exchange=face, routing_key=key, key=record.key, headers=record.headers),
                )
            names = routed.targets
            if not names:
                into.unroutable.append((record.offset, key))
                continue
            targets = ready.get(names)
            if targets is None:
                targets = ready[names] = [(name, self._find(name)) for name in sorted(names)]
            for name, target in targets:
                if target is None:
                    self.refuse(record, name, "there is no such topic", dead_letter, now_ms, into)
                elif record.key is None and not target.keyless:
                    self.refuse(
                        record, name, "it is compacted, the record has no key", dead_letter, now_ms, into
                    )
                else:
                    send(target.place(record, None, now_ms), record.offset)

    def partitioned(self, records: Iterable[Source], now_ms: int, into: Decided) -> Steps:
        """Ask the partitioner of the topic itself."""
        target = self._find(self._face)
        for number, record in enumerate(records, 1):
            if not number % STEP:
                yield
            if target is None:
                into.refused.append(Refused(record.offset, self._face, "there is no such topic", False))
            elif record.key is None and not target.keyless:
                # It had none when this was produced, or Produce would have refused it.
                reason = "it is compacted, the record has no key"
                into.refused.append(Refused(record.offset, self._face, reason, False))
            else:
                into.send(target.place(record, self._partition, now_ms), record.offset)

    def refuse(
        self, record: Source, target: str, reason: str, dead_letter: str, now_ms: int, into: Decided
    ) -> None:
        """A copy that ``target`` does not take: to the topic ``dead_letter``, if that is one and takes it."""
        topic = self._find(dead_letter) if dead_letter and dead_letter != target else None
        takes = topic is not None and (record.key is not None or topic.keyless)
        into.refused.append(Refused(record.offset, target, reason, takes))
        if topic is not None and takes:
            into.send(topic.place(record, None, now_ms), record.offset)
