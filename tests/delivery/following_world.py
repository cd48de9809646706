"""A partition of the offsets topic, logs and a catalog in memory, and the lane that follows it, which can be
brought down between any two steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pykbroker.catalog.image import PartitionState, Topic
from pykbroker.catalog.retrying import DLQ_GROUP, ROLE
from pykbroker.clock import MovableClock
from pykbroker.coordinator.shard_log import MemoryLog, StoredRecord
from pykbroker.delivery.commits import Meaning
from pykbroker.delivery.deciding import Fate
from pykbroker.delivery.follower import Follower, Ingress
from pykbroker.delivery.headers import Nack
from pykbroker.delivery.letters import Return, decode_return
from pykbroker.delivery.nacks import Purge, Range, Replay, may_ask
from pykbroker.delivery.places import Arrivals
from pykbroker.delivery.reports import Reports
from pykbroker.delivery.steps import Doing
from pykbroker.delivery.telling import Telling
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.forwarding.copying import Source
from pykbroker.forwarding.machine import Lane
from pykbroker.forwarding.plan import LaneValue, Place, Plan
from pykbroker.forwarding.reading import Chunk
from pykbroker.forwarding.work import Step
from pykbroker.groups.stored import CommittedOffset, OffsetRecord, offset_record, read
from pykbroker.plugins import Plugins
from pykbroker.protocol.schema import ZERO_UUID


def topic(name: str, number: int, role: str | None = None) -> Topic:
    """A topic with two partitions."""
    partitions = tuple(
        PartitionState(index=each, leader=1, leader_epoch=0, replicas=(1,), isr=(1,)) for each in (0, 1)
    )
    overrides = {} if role is None else {ROLE: role}
    return Topic(name=name, topic_id=bytes([number]) * 16, partitions=partitions, overrides=overrides)


ORDERS = topic("orders", 1)
RETRY = topic("orders.billing.retry", 2, "retry:orders:billing")
LETTERS = topic("orders.billing.dlq", 3, "dlq:orders:billing")
PLAIN = topic("plain", 4)
SHARED = topic("failed", 5)
ARRIVALS, REPLAYS = Place(b"d" * 16, 0), Place(b"r" * 16, 0)


def record(offset: int, size: int = 10, headers: tuple[tuple[str, bytes | None], ...] = ()) -> Source:
    """A record of an origin."""
    body = b"\x01" + b"v" * size
    return Source(offset, 1000, None, headers, size, body, b"", len(headers), 0)


class Logs:
    """The logs that are named; each is a dict of offsets, a start and an end."""

    def __init__(self) -> None:
        self.records: dict[Place, dict[int, Source]] = {}
        self.range: dict[Place, Range] = {}
        self.reads = 0
        self.near = False

    def fill(self, place: Place, offsets: Sequence[int], start: int, end: int, size: int = 10) -> None:
        self.records[place] = {offset: record(offset, size) for offset in offsets if start <= offset < end}
        self.range[place] = start, end

    def bounds(self, place: Place) -> Range:
        try:
            return self.range[place]
        except KeyError:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_ID) from None

    def is_near(self, place: Place, first: int) -> bool:
        return self.near

    async def take(self, place: Place, first: int, end: int, records: int, size: int) -> Chunk:
        self.reads += 1
        found: list[Source] = []
        for offset in sorted(self.records[place]):
            if first <= offset < end:
                if found and (len(found) >= records or sum(each.size for each in found) >= size):
                    return Chunk(found, offset)
                found.append(self.records[place][offset])
        return Chunk(found, end)

    async def pick(self, place: Place, offsets: Sequence[int]) -> Mapping[int, Source]:
        self.reads += 1
        if place not in self.records:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_ID)
        return {offset: self.records[place][offset] for offset in offsets if offset in self.records[place]}

    def forget(self) -> None:
        """There is nothing to let go of."""


class Places:
    """A catalog.  ``blocked``: groups whose topics cannot be made; ``nowhere``: nobody has a policy now."""

    def __init__(self) -> None:
        self.topics = {each.name: each for each in (ORDERS, RETRY, LETTERS, PLAIN, SHARED)}
        self.blocked: set[str] = set()
        self.nowhere = False

    def topic_id(self, name: str, committed_for: bytes | None) -> bytes | None:
        found = self.topics.get(name)
        if found is None or committed_for not in (None, ZERO_UUID, found.topic_id):
            return None
        return found.topic_id

    def topic(self, topic_id: bytes) -> Topic | None:
        return next((each for each in self.topics.values() if each.topic_id == topic_id), None)

    def meaning(self, topic: Topic, group: str) -> Meaning:
        if topic.name == RETRY.name:
            return Meaning.FAILURES if group == "billing" else Meaning.MISTAKES
        if topic.name == LETTERS.name:
            return Meaning.MISTAKES
        return Meaning.FAILURES if topic.name == ORDERS.name else Meaning.NOTHING

    def why_not(self, topic: Topic, asked: Replay | Purge) -> str | None:
        return None

    def why_not_to(self, topic: Topic, to: str) -> str | None:
        return None if to in self.topics and to != topic.name else f"there is no topic {to}"

    async def arrivals(self, topic: Topic, partition: int, group: str) -> Arrivals | None:
        if group in self.blocked:
            raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, "the name is too long")
        return None if self.nowhere else Arrivals(ARRIVALS, topic.name == RETRY.name)

    async def replays(self, partition: int) -> Place:
        return REPLAYS


class Heard(Telling):
    """What plugins are told."""

    def __init__(self) -> None:
        super().__init__(Plugins.none())
        self.gone: list[tuple[str, int, str, tuple[Range, ...]]] = []
        self.back: list[tuple[str, int, int, str, int]] = []

    def hears(self, fate: Fate) -> bool:
        return False

    def skipped(self, topic: str, partition: int, group: str, offsets: Sequence[tuple[int, int]]) -> None:
        self.gone.append((topic, partition, group, tuple(offsets)))

    def replayed(
        self, dead_letter_topic: str, partition: int, offset: int, destination: str, due_ms: int
    ) -> None:
        self.back.append((dead_letter_topic, partition, offset, destination, due_ms))


@dataclass(slots=True)
class Moved:
    """One record that is moved."""

    source: Place
    offset: int
    note: Nack | Return
    number: int


@dataclass(slots=True)
class World:
    """See the module.  A step that is durable counts as moved: executing plans is the runner's business."""

    commits: MemoryLog = field(default_factory=MemoryLog)
    logs: Logs = field(default_factory=Logs)
    places: Places = field(default_factory=Places)
    heard: Heard = field(default_factory=Heard)
    clock: MovableClock = field(default_factory=MovableClock)
    extras: dict[bytes, bytes] = field(default_factory=dict)
    position: int | None = None
    moved: list[Moved] = field(default_factory=list)
    follower: Follower | None = None
    resumed: bool = False
    later: list[float] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    held_logs: list[Place] = field(default_factory=list)
    reports: Reports = field(init=False)

    def __post_init__(self) -> None:
        self.reports = Reports(self.heard, lambda topic_id: topic_id.hex()[:4], self.held_logs.append)

    # what clients do

    def commit(
        self, group: str, topic: Topic, partition: int, offset: int | None, metadata: str = ""
    ) -> None:
        """A commit is applied; ``offset`` None: the committed offset is gone."""
        value = None if offset is None else CommittedOffset(offset, -1, metadata, 0, topic_id=topic.topic_id)
        new = offset_record(group, topic.name, partition, value)
        self._tell(StoredRecord(self.commits.append([new], now_ms=0), new.key, new.value))

    def _tell(self, stored: StoredRecord) -> None:
        found = read(stored)
        assert isinstance(found, OffsetRecord)
        if self.follower is not None:
            self.follower.applied(stored.offset, found)
        elif found.value is not None and may_ask(found.value.metadata):
            self._follow(stored.offset)

    # what the broker does

    def _follow(self, begin: int) -> None:
        doing = Doing(
            self.places, self.logs, self.clock.time_ms, self.reports.ignored_nack, self.reports.lost
        )
        ingress = Ingress(self.commits, lambda: 0, lambda epoch: -1)
        self.follower = Follower(
            "commits-0", ingress, begin, doing, self.places, self.clock, self.reports, self.later.append
        )
        self.resumed = False

    def crash(self) -> None:
        """Stop without a word, and start again."""
        self.follower = None
        self.reports = Reports(self.heard, lambda topic_id: topic_id.hex()[:4], self.held_logs.append)
        if self.position is not None:
            self._follow(self.position)
        else:
            for stored in tuple(self.commits.records):
                self._tell(stored)

    @property
    def needed_from(self) -> int:
        """Where compaction of the commits stops."""
        if self.follower is None:
            return self.commits.high_watermark
        if not self.resumed:
            return self.follower.begin_position() if self.position is None else self.position
        pending = self.follower.pending_from
        return self.commits.high_watermark if pending is None else pending

    def compact(self) -> None:
        """Keep of each key the last record below what is needed, and all behind that."""
        end = self.needed_from
        last = {each.key: each.offset for each in self.commits.records if each.offset < end}
        kept = [each for each in self.commits.records if each.offset >= end or last[each.key] == each.offset]
        self.commits.records[:] = kept

    async def step(self, *, dies: bool = False, compacted: bool = False) -> bool:
        """One step of the lane; False if there was none.  ``dies``: the broker goes down before the step
        is durable, and commits are ``compacted`` before that."""
        follower = self.follower
        if follower is None:
            return False
        if not self.resumed:
            self.resumed = True
            lane = None
            if self.position is None:
                self.position = follower.begin_position()
            else:
                lane = Lane(LaneValue(1, 0, self.position, 0), extras=self.extras)
            value = LaneValue(1, 0, self.position, 0)
            assert follower.end_of_decided(value) == self.position
            await follower.resumed(lane, value)
        assert self.position is not None
        step = await follower.step(self.position)
        if step is None:
            return False
        if dies:
            if compacted:
                self.compact()
            self.crash()
            return True
        assert step.next_position >= self.position
        self.position = step.next_position
        for name, changed in step.extras:
            if changed is None:
                self.extras.pop(name, None)
            else:
                self.extras[name] = changed
        for route in step.routes:
            assert route.source is not None
            note: Nack | Return | None = decode_return(route.note)
            for number, offset in enumerate(route.offsets):
                assert offset in step.records[route.source]
                decoded = note or Nack.decode(route.note)
                self.moved.append(Moved(route.source, offset, decoded, number))
        self.steps.append(step)
        await follower.planned(step, Plan(slot=0, first_offset=0, next_offset=0, moves=()))
        return True

    async def drain(self) -> None:
        """Step until there is nothing to do, whatever was stuck."""
        self.commits.release()
        if self.follower is not None:
            self.follower.changed(frozenset())
        while await self.step():
            pass

    def offsets(self, topic: Topic, group: str, partition: int = 0) -> list[int]:
        """What was nacked, in order."""
        place = Place(topic.topic_id, partition)
        return [
            each.offset
            for each in self.moved
            if each.source == place and isinstance(each.note, Nack) and each.note.group == group
        ]

    def order(self, metadata: str, letters: Topic = LETTERS, partition: int = 0) -> None:
        """A commit of the reserved group."""
        self.commit(DLQ_GROUP, letters, partition, 0, metadata)
