"""A broker without its network whose groups fail records both ways, and which dies between any two appends.

Everything behind the network is the real thing on real logs: checks of commits, the lanes that follow
commits, arriving and releasing lanes, plans, catalog.  Only the coordinator is missing: what it would tell
about commits is told here, from the log of commits.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple
from unittest import mock

import trio

from pykbroker.catalog.changes import Elect, SetSettings, SetTopicConfig
from pykbroker.catalog.image import GROUP
from pykbroker.catalog.topics import TopicAdmin
from pykbroker.coordinator.partition_log import PartitionLog
from pykbroker.coordinator.shard_log import StoredRecord
from pykbroker.delivery.commits import CommitChecks
from pykbroker.delivery.following import Following
from pykbroker.delivery.nacks import may_ask
from pykbroker.delivery.telling import Telling
from pykbroker.errors import ErrorCode
from pykbroker.groups.service import OFFSETS_TOPIC
from pykbroker.groups.stored import CommittedOffset, OffsetRecord, offset_record, read
from pykbroker.partitions.manager import Partitions
from pykbroker.partitions.partition import Appended, Partition
from pykbroker.plugins import Plugins
from pykbroker.records.batch import BatchHeader
from pykbroker.records.build import RecordData, encode_batch
from tests.delivery.flow_world import Life, World

ORIGIN, ELSEWHERE, SHARED = "orders", "elsewhere", "failed"
GROUPS = ("billing", "audit")
PARTITIONS = 2
_PLUGINS: dict[str, Plugins] = {}


class Crash(BaseException):
    """The broker is gone."""


class Trap:
    """What brings the broker down: it makes ``left`` appends more, and the next one is the last thing that
    it does (``after``) or the first that it does not."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.after = False
        self.is_dead = False

    def set(self, left: int | None, *, after: bool = False) -> None:
        """From now on; None: nothing does."""
        self.left, self.after, self.is_dead = left, after, False

    @contextmanager
    def spanned(self) -> Iterator[None]:
        """Have all appends of all logs come by."""
        original = Partition.append_as_leader

        def append(
            partition: Partition,
            batches: memoryview | bytearray | bytes,
            headers: Sequence[BatchHeader] | None = None,
            *,
            now_ms: int,
            internal: bool = False,
        ) -> Appended:
            last = self.left == 0
            if self.is_dead or (last and not self.after):
                self.is_dead = True
                raise Crash
            found = original(partition, batches, headers, now_ms=now_ms, internal=internal)
            if last:
                self.is_dead = True
                raise Crash
            if self.left is not None:
                self.left -= 1
            return found

        with mock.patch.object(Partition, "append_as_leader", append):
            yield


class Cut(NamedTuple):
    """What a power cut takes: of a log, all from an offset on."""

    topic: str
    partition: int
    offset: int


class WholeLife(Life):
    """One run of the broker, with the commits of its groups."""

    def begin(self) -> None:
        super().begin()
        self.checks = CommitChecks(self.catalog, self.topics)
        self.following = Following(
            self.forwarding.engine,
            self.clock,
            self.catalog,
            TopicAdmin(self.catalog),
            self.partitions,
            self.topics,
            Telling(self.plugins),
        )
        self.catalog.subscribe(self.following.on_delta)

    def loaded(self) -> Plugins:
        """Once for all: that takes longer than all the rest."""
        found = _PLUGINS.get("loaded")
        if found is None:
            found = _PLUGINS["loaded"] = super().loaded()
        return found

    @property
    def commits(self) -> PartitionLog:
        """The log of commits."""
        return PartitionLog(self.partitions.get(OFFSETS_TOPIC, 0))

    def load_commits(self) -> None:
        """What the coordinator does after a start."""
        log, at = self.commits, 0
        while at < log.end_offset:
            found = log.read(at, 1 << 20)
            for stored in found.records:
                self._tell(stored)
            at = found.next_offset
        self.following.loaded(0)

    def _tell(self, stored: StoredRecord) -> None:
        record = read(stored)
        assert isinstance(record, OffsetRecord)
        self.following.applied(0, stored.offset, record)

    async def commit(self, group: str, topic: str, partition: int, offset: int, metadata: str) -> ErrorCode:
        """As a client does."""
        known = self.catalog.image.topics[topic]
        if may_ask(metadata):
            refused = await self.checks.check(group, known, partition, offset, metadata)
            if refused:
                return refused
        now_ms = self.clock.time_ms()
        value = CommittedOffset(offset, -1, metadata, now_ms, topic_id=known.topic_id)
        new = offset_record(group, topic, partition, value)
        at = self.commits.append([new], now_ms=now_ms)
        self._tell(StoredRecord(at, new.key, new.value))
        return ErrorCode.NONE

    def put(self, topic: str, partition: int, record: RecordData) -> None:
        """A client's record, with its time."""
        face = self.partitions.get(topic, partition)
        where = self.flows.landing(face) if face.is_face else face
        batch = encode_batch([record], timestamp_ms=record.timestamp_ms or 0)
        where.append_as_leader(bytearray(batch), now_ms=self.clock.time_ms())

    def tail(self, topic: str, partition: int, share: float) -> Cut:
        """What a power cut may take of a log: that share of what is not on the disk."""
        log = self.partitions.get(topic, partition).log
        unsafe = log.log_end_offset - log.recovery_point
        return Cut(topic, partition, log.log_end_offset - round(unsafe * share))


class WholeWorld(World):
    """What outlives such a broker: a topic, groups with policies on it, and what has failed."""

    async def begin(self, *, shared: bool) -> None:
        """Make what is there before anything fails; ``shared``: all dead letters go to one topic."""
        named = {"pykbroker_dead_letter_topic": SHARED} if shared else {}
        await self.create(SHARED)
        await self.create(ELSEWHERE)
        await self.create(ORIGIN, PARTITIONS, **named)
        await TopicAdmin(self.catalog).ensure_internal(OFFSETS_TOPIC)

    @asynccontextmanager
    async def living(self) -> AsyncIterator[WholeLife]:
        """A broker's life, however it ends."""
        life = WholeLife(self)
        await life.partitions.open_all(self.catalog.image)
        subscribers = len(self.catalog._subscribers)
        life.begin()
        try:
            async with trio.open_nursery() as nursery:
                for each in (life.forwarding, life.flows, life.following):
                    await nursery.start(each.run)
                life.load_commits()
                yield life
                nursery.cancel_scope.cancel()
        finally:
            del self.catalog._subscribers[subscribers:]
            with trio.CancelScope(shield=True):
                await life.partitions.shutdown()

    async def cut(self, cuts: Sequence[Cut]) -> None:
        """Between two lives, the power goes: these logs lose their ends, and leader epochs rise."""
        partitions = Partitions(self.catalog, self.path, self.clock)
        await partitions.open_all(self.catalog.image)
        for topic, partition, offset in cuts:
            partitions.get(topic, partition).truncate_to(offset)
        await partitions.shutdown()
        await self.catalog.propose([Elect(node_id=self.config.node_id)])

    async def set_policy(self, values: dict[str, str]) -> None:
        """Of the topic, besides what is set already."""
        known = self.catalog.image.topics[ORIGIN]
        overrides = {**known.overrides, **values}
        await self.catalog.propose(
            [SetTopicConfig(name=ORIGIN, version=known.config_version, overrides=overrides)]
        )

    async def set_group_policy(self, group: str, values: dict[str, str]) -> None:
        """Of a group: that, and nothing else."""
        version = self.catalog.image.settings_of(GROUP, group).version
        await self.catalog.propose(
            [SetSettings(resource_type=GROUP, name=group, version=version, values=values)]
        )
