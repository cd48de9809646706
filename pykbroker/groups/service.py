"""The group coordinator of this broker: which groups are ours, and what they are asked.

The only module of this room that waits.  Every method raises :class:`KafkaError` with the codes of a
coordinator that cannot answer now: COORDINATOR_LOAD_IN_PROGRESS (14), COORDINATOR_NOT_AVAILABLE (15),
NOT_COORDINATOR (16).

A shard is made for each partition of the offsets topic that is on disk when the broker starts, and for
others when a group in them is first asked for, so that fifty partitions cost nothing until they are
used.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import trio

from pykbroker.coordinator.partition_log import PartitionLog
from pykbroker.coordinator.runtime import Shard, ShardState
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.groups import views
from pykbroker.groups.draft import GroupChange, GroupDecision
from pykbroker.groups.hashing import partition_of
from pykbroker.groups.limits import GroupLimits
from pykbroker.groups.machine import GroupMachine, OnApplied, OnChanged
from pykbroker.groups.messages import (
    Commit,
    Committed,
    DeletedGroups,
    DeletedOffsets,
    DeleteOffsets,
    Description,
    FetchedOffset,
    GroupAnswer,
    Heartbeat,
    Join,
    Joined,
    Leave,
    Left,
    Listed,
    Sync,
    Synced,
)

if TYPE_CHECKING:
    from pykbroker.catalog.catalog import Catalog, Delta
    from pykbroker.catalog.topics import TopicAdmin
    from pykbroker.clock import Clock
    from pykbroker.config import BrokerConfig
    from pykbroker.partitions.manager import Partitions

log = logging.getLogger(__name__)

OFFSETS_TOPIC = "__consumer_offsets"

CHUNK = 100
"""Groups that one step of expiry looks at: well under a millisecond, mostly."""

RELOAD_SECONDS = 1.0
"""A shard whose log cannot be read is tried again after this long."""

GroupShard = Shard[GroupChange, GroupAnswer, GroupMachine]
Decide = Callable[[GroupMachine, int, float, int], GroupDecision]

Upkeep = Callable[[GroupMachine, Sequence[str], int, int], GroupDecision]
"""Decides about some groups, with a token, at a time in ms."""


class GroupCoordinator:
    """Life: construct, ``await nursery.start(run)``, and ``await shutdown()`` before the logs close.

    ``on_changed`` hears of every group that goes from one state to another, ``on_applied`` of every
    committed offset; it may be set until :meth:`run` begins.
    """

    def __init__(
        self,
        config: BrokerConfig,
        clock: Clock,
        catalog: Catalog,
        topics: TopicAdmin,
        partitions: Partitions,
        on_changed: OnChanged | None = None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._catalog = catalog
        self._topics = topics
        self._partitions = partitions
        self._on_changed = on_changed
        self.on_applied: OnApplied | None = None
        self._limits = GroupLimits.of(config)
        self._shards: dict[int, GroupShard] = {}
        self._nursery: trio.Nursery | None = None
        self._stopped = False
        self._waits_until = math.inf
        self._earlier = trio.Event()

    # -- life -----------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow the catalog, load shards, keep deadlines, expire offsets, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            unsubscribe = self._catalog.subscribe(self._on_delta)
            try:
                for partition in tuple(self._partitions):
                    if partition.topic == OFFSETS_TOPIC and self._leads(partition.index):
                        self._begin(partition.index)
                task_status.started()
                nursery.start_soon(self._keep_deadlines)
                await self._keep_expiring()
            finally:
                unsubscribe()
                self._nursery = None

    async def shutdown(self) -> None:
        """Resign everything: who waits, and who comes later, is told NOT_COORDINATOR."""
        self._stopped = True
        for index in tuple(self._shards):
            self._shards.pop(index).resigned()

    def _on_delta(self, delta: Delta) -> None:
        """Resign what is no longer ours or is ours in a new epoch; forget offsets of deleted topics."""
        for index, shard in tuple(self._shards.items()):
            state = delta.after.partition(OFFSETS_TOPIC, index)
            if state is None or state.leader != self._config.node_id or state.leader_epoch != shard.epoch:
                self._shards.pop(index).resigned()
        gone = {topic.name: topic.topic_id for topic in delta.deleted}
        if gone and self._nursery is not None:
            self._nursery.start_soon(self._forget_topics, gone)

    def _leads(self, index: int) -> bool:
        state = self._catalog.image.partition(OFFSETS_TOPIC, index)
        return state is not None and state.leader == self._config.node_id

    def _begin(self, index: int) -> GroupShard:
        """A new shard for a partition that we lead; its log is loaded beside the requests."""
        state = self._catalog.image.partition(OFFSETS_TOPIC, index)
        assert state is not None
        if self._nursery is None:
            raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE)
        shard: GroupShard = Shard(
            f"{OFFSETS_TOPIC}-{index}",
            GroupMachine(
                self._limits, on_changed=self._on_changed, on_applied=self.on_applied, partition=index
            ),
            PartitionLog(self._partitions.get(OFFSETS_TOPIC, index)),
            self._clock,
            commit_timeout_s=self._config.offsets_commit_timeout_ms / 1000,
            on_deadline_moved=self._on_deadline_moved,
        )
        shard.epoch = state.leader_epoch
        self._shards[index] = shard
        if shard.log.start_offset < shard.log.end_offset:
            self._nursery.start_soon(self._load, shard)
        return shard

    async def _load(self, shard: GroupShard) -> None:
        while shard.state is ShardState.LOADING:
            try:
                await shard.elected(shard.epoch)
            except KafkaError as error:
                log.error("cannot load %s, trying again: error=%s", shard.name, error)
                await self._clock.wait_until(self._clock.monotonic() + RELOAD_SECONDS)
        await self._forget_lost(shard)

    async def _shard(self, group_id: str) -> GroupShard:
        index = self.partition_for(group_id)
        shard = self._shards.get(index)
        if shard is None:
            if self._stopped or not self._leads(index):
                raise KafkaError(ErrorCode.NOT_COORDINATOR)
            shard = self._begin(index)
        await self._load_if_empty(shard)
        return shard

    async def _load_if_empty(self, shard: GroupShard) -> None:
        """Nothing to load, so this does not wait: the first request of a partition is not refused."""
        if shard.state is ShardState.LOADING and shard.log.start_offset == shard.log.end_offset:
            await shard.elected(shard.epoch)

    # -- deadlines and expiry -------------------------------------------------------------------

    def _on_deadline_moved(self, deadline: float) -> None:
        if deadline < self._waits_until:
            self._earlier.set()

    async def _keep_deadlines(self) -> None:
        while True:
            self._earlier = trio.Event()
            self._waits_until = min((s.next_deadline() for s in self._shards.values()), default=math.inf)
            await _first_of(self._earlier.wait, lambda: self._clock.wait_until(self._waits_until))
            for shard in tuple(self._shards.values()):
                shard.on_deadline()

    async def _keep_expiring(self) -> None:
        while True:
            due = self._clock.time_ms() + self._config.offsets_retention_check_interval_ms
            await self._clock.wait_until_ms(due)
            await self._on_all_groups(lambda machine, ids, token, now_ms: machine.expire(ids, token, now_ms))

    async def _forget_topics(self, topics: dict[str, bytes]) -> None:
        await self._on_all_groups(lambda machine, ids, token, _: machine.forget_topics(ids, topics, token))

    async def _forget_lost(self, shard: GroupShard) -> None:
        """Topics may have been deleted while nobody here could take note: while loading, or in a crash."""

        def decide(machine: GroupMachine, ids: Sequence[str], token: int, _: int) -> GroupDecision:
            return machine.forget_lost(ids, lambda uid: uid in self._catalog.image.names_by_id, token)

        await self._on_groups(shard, decide)

    async def _on_all_groups(self, decide: Upkeep) -> None:
        for shard in tuple(self._shards.values()):
            await self._on_groups(shard, decide)

    async def _on_groups(self, shard: GroupShard, decide: Upkeep) -> None:
        """Decide about all groups of a shard, a few at a time, each few in one batch."""
        ids = tuple(shard.machine.groups) if shard.state is ShardState.ACTIVE else ()
        for at in range(0, len(ids), CHUNK):
            try:
                await shard.ask(partial(_upkeep, decide, shard.machine, ids[at : at + CHUNK]))
            except KafkaError as error:
                log.warning("upkeep of groups put off: shard=%s error=%s", shard.name, error)
                break
            await trio.lowlevel.checkpoint()

    # -- finding --------------------------------------------------------------------------------

    def partition_for(self, group_id: str) -> int:
        """The partition of the offsets topic in which a group lives."""
        topic = self._catalog.image.topics.get(OFFSETS_TOPIC)
        count = self._config.offsets_topic_num_partitions if topic is None else len(topic.partitions)
        return partition_of(group_id, count)

    async def find(self, group_id: str) -> int:
        """The node id of the broker that coordinates a group; the offsets topic is made if need be."""
        await self._topics.ensure_internal(OFFSETS_TOPIC)
        state = self._catalog.image.partition(OFFSETS_TOPIC, self.partition_for(group_id))
        if state is None or state.leader < 0:
            raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE)
        return state.leader

    # -- what members ask -----------------------------------------------------------------------

    async def _ask(self, group_id: str, decide: Decide) -> GroupAnswer:
        shard = await self._shard(group_id)
        return await shard.ask(lambda token, now, now_ms: decide(shard.machine, token, now, now_ms))

    async def join(self, request: Join) -> Joined:
        """Answer when the next generation begins, or at once when there is nothing to wait for."""
        answer = await self._ask(request.group_id, lambda m, t, now, ms: m.join(request, t, now, ms))
        assert isinstance(answer, Joined)
        return answer

    async def sync(self, request: Sync) -> Synced:
        """Answer when the leader has assigned."""
        answer = await self._ask(request.group_id, lambda m, t, now, ms: m.sync(request, t, now, ms))
        assert isinstance(answer, Synced)
        return answer

    async def heartbeat(self, request: Heartbeat) -> ErrorCode:
        """NONE, or what the member must do.  While the group is loading all is well, as in Kafka."""
        try:
            answer = await self._ask(request.group_id, lambda m, t, now, ms: m.heartbeat(request, t, now, ms))
        except KafkaError as error:
            if error.code is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS:
                return ErrorCode.NONE
            raise
        assert isinstance(answer, ErrorCode)
        return answer

    async def leave(self, request: Leave) -> Left:
        """Remove members.  Raises UNKNOWN_MEMBER_ID for an unknown group."""
        answer = await self._ask(request.group_id, lambda m, t, now, ms: m.leave(request, t, now, ms))
        assert isinstance(answer, Left)
        return answer

    async def commit(self, request: Commit) -> Committed:
        """Keep offsets.  Raises what refuses the commit as a whole (22, 25, 27, 69, 82)."""
        answer = await self._ask(request.group_id, lambda m, t, now, ms: m.commit(request, t, now, ms))
        assert isinstance(answer, Committed)
        return answer

    async def fetch(
        self, group_id: str, wanted: Sequence[tuple[str, bytes, int]] | None
    ) -> tuple[FetchedOffset, ...]:
        """The committed offsets of (topic, topic id, partition)s, in order; of everything for None."""
        shard = await self._shard(group_id)
        return await shard.view(lambda machine: machine.offsets.fetch(group_id, wanted))

    # -- what admins ask ------------------------------------------------------------------------

    async def describe(self, group_id: str) -> Description | None:
        """A group, or None when there is no such group."""
        shard = await self._shard(group_id)
        return await shard.view(lambda machine: views.describe(machine.groups.get(group_id)))

    async def list(self, states: Sequence[str] = (), types: Sequence[str] = ()) -> tuple[Listed, ...]:
        """All groups here whose state and type are among those given (any case; none given: all)."""
        found: tuple[Listed, ...] = ()
        for shard in tuple(self._shards.values()):
            await self._load_if_empty(shard)
            found += await shard.view(lambda machine: views.listed(machine.groups.values(), states, types))
        return found

    async def delete(self, group_ids: Sequence[str]) -> DeletedGroups:
        """Delete groups without members, and their offsets: a code for each."""
        by_partition: dict[int, list[str]] = {}
        for group_id in group_ids:
            by_partition.setdefault(self.partition_for(group_id), []).append(group_id)
        errors: dict[str, ErrorCode] = {}
        for ids in by_partition.values():
            errors |= await self._delete_in_one(ids)
        return DeletedGroups(errors=tuple(errors[group_id] for group_id in group_ids))

    async def _delete_in_one(self, ids: Sequence[str]) -> dict[str, ErrorCode]:
        try:
            answer = await self._ask(ids[0], lambda m, token, _now, _ms: m.delete_groups(ids, token))
        except KafkaError as error:
            return dict.fromkeys(ids, error.code)
        assert isinstance(answer, DeletedGroups)
        return dict(zip(ids, answer.errors, strict=True))

    async def delete_offsets(self, request: DeleteOffsets) -> DeletedOffsets:
        """Forget offsets.  Raises GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP."""
        answer = await self._ask(request.group_id, lambda m, t, _now, _ms: m.delete_offsets(request, t))
        assert isinstance(answer, DeletedOffsets)
        return answer


def _upkeep(
    decide: Upkeep, machine: GroupMachine, ids: Sequence[str], token: int, _: float, now_ms: int
) -> GroupDecision:
    return decide(machine, ids, token, now_ms)


async def _first_of(*waits: Callable[[], Awaitable[object]]) -> None:
    """Return when the first of ``waits`` does."""

    async def wait(one: Callable[[], Awaitable[object]]) -> None:
        await one()
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for one in waits:
            nursery.start_soon(wait, one)
