"""A member of a classic consumer group: it joins, keeps its place by heartbeats, commits, and leaves.

It shares partitions with members of other clients: it knows the assignors ``range`` and ``roundrobin``,
of which each Kafka client has one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import trio

from pykbroker.cli._assigning import ASSIGNORS, assign_range, assigned, assignment, subscribed, subscription
from pykbroker.client import ConnectionLost
from pykbroker.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from pykbroker.cli._reader import Place
    from pykbroker.client import Client

SESSION_TIMEOUT_MS: Final = 10_000
"""A member that is killed is missed after this time."""
REBALANCE_TIMEOUT_MS: Final = 300_000
"""How long others wait for this one to come to a new assignment: it ends its record first."""
HEARTBEAT_S: Final = 3.0
LOOK_EVERY: Final = 10
"""Heartbeats after which the group's leader looks whether its topics have more partitions."""

_LOST: Final = (
    ErrorCode.REBALANCE_IN_PROGRESS,
    ErrorCode.ILLEGAL_GENERATION,
    ErrorCode.UNKNOWN_MEMBER_ID,
)
_PASSING: Final = (
    *_LOST,
    ErrorCode.MEMBER_ID_REQUIRED,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_COORDINATOR,
)
_TIMES: Final = 50


class Lost(Exception):
    """The partitions are somebody else's by now, or about to be: join again."""


class Member:
    """One member of ``group``, which subscribes to ``topics``."""

    def __init__(self, client: Client, group: str, topics: Sequence[str]) -> None:
        self._client = client
        self._group = group
        self._topics = sorted(set(topics))
        self._id = ""
        self._generation = -1
        self._planned: Mapping[str, int] | None = None
        self.joined_once = False
        self.stale = True
        """Whether it has to join (again) before it reads on."""

    def subscribe(self, topic: str) -> None:
        """Read this topic, too, from the next assignment on."""
        if topic not in self._topics:
            self._topics = sorted([*self._topics, topic])
            self.stale = True

    async def join(self) -> dict[Place, int]:
        """Join, and wait for the assignment: the partitions, with the offset that is committed or -1.

        Raises KafkaError, for example where the group is of another kind.
        """
        for attempt in range(_TIMES):
            try:
                places = await self._join()
                committed = await self._committed(places)
            except KafkaError as error:
                if error.code not in _PASSING or attempt == _TIMES - 1:
                    raise
                if error.code == ErrorCode.UNKNOWN_MEMBER_ID:
                    self._id = ""
                if error.code not in _LOST and error.code != ErrorCode.MEMBER_ID_REQUIRED:
                    await trio.sleep(0.1)
                continue
            self.stale, self.joined_once = False, True
            return committed
        raise AssertionError("the last attempt returns or raises")

    async def heartbeats(self) -> None:
        """Send them for ever; a rebalance, and partitions that are new, make the member :attr:`stale`."""
        turn = 0
        while True:
            await trio.sleep(HEARTBEAT_S)
            if self.stale:
                continue  # it is joining, which counts as one
            turn += 1
            try:
                await self._heartbeat()
                if turn % LOOK_EVERY == 0 and self._planned is not None and not self.stale:
                    self.stale = await self._counts(list(self._planned)) != self._planned
            except ConnectionLost:
                self.stale = True  # whoever reads has lost it, too, and decides what to do

    async def _heartbeat(self) -> None:
        from pykbroker.client.client import check_code
        from pykbroker.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse

        generation = self._generation
        request = HeartbeatRequest(group_id=self._group, generation_id=generation, member_id=self._id)
        answer = await (await self._client.coordinator(self._group)).send(request, HeartbeatResponse)
        if answer.error_code in _LOST and generation == self._generation:
            self.stale = True
        elif answer.error_code not in _PASSING:
            check_code(answer.error_code)

    async def commit(self, places: Mapping[Place, tuple[int, str]]) -> None:
        """Commit offsets with metadata; raises :class:`Lost` and KafkaError."""
        from pykbroker.client.calls import COMMIT_VERSION
        from pykbroker.client.client import check_code
        from pykbroker.protocol.messages.offset_commit import (
            OffsetCommitRequest,
            OffsetCommitRequestPartition,
            OffsetCommitRequestTopic,
            OffsetCommitResponse,
        )

        topics: dict[str, list[OffsetCommitRequestPartition]] = {}
        for (topic, partition), (offset, metadata) in places.items():
            topics.setdefault(topic, []).append(
                OffsetCommitRequestPartition(
                    partition_index=partition, committed_offset=offset, committed_metadata=metadata
                )
            )
        request = OffsetCommitRequest(
            group_id=self._group,
            generation_id_or_member_epoch=self._generation,
            member_id=self._id,
            topics=[
                OffsetCommitRequestTopic(name=topic, partitions=parts) for topic, parts in topics.items()
            ],
        )
        connection = await self._client.coordinator(self._group)
        version = min(connection.version_of(OffsetCommitRequest), COMMIT_VERSION)
        answer = await connection.send(request, OffsetCommitResponse, version=version)
        for found in answer.topics:
            for part in found.partitions:
                if part.error_code in _LOST:
                    self.stale = True
                    raise Lost
                check_code(part.error_code, f"the commit of {found.name}/{part.partition_index} is refused")

    async def leave(self) -> None:
        """Let others have the partitions at once."""
        from pykbroker.protocol.messages.leave_group import (
            LeaveGroupRequest,
            LeaveGroupResponse,
            MemberIdentity,
        )

        if self._id:
            connection = await self._client.coordinator(self._group)
            mine = MemberIdentity(member_id=self._id)
            await connection.send(
                LeaveGroupRequest(group_id=self._group, member_id=self._id, members=[mine]),
                LeaveGroupResponse,
            )

    # -- inside -------------------------------------------------------------------------------------

    async def _join(self) -> list[Place]:
        from pykbroker.client.client import check_code
        from pykbroker.protocol.messages.join_group import (
            JoinGroupRequest,
            JoinGroupRequestProtocol,
            JoinGroupResponse,
        )
        from pykbroker.protocol.messages.sync_group import (
            SyncGroupRequest,
            SyncGroupRequestAssignment,
            SyncGroupResponse,
        )

        connection = await self._client.coordinator(self._group)
        offer = subscription(self._topics)
        joined = await connection.send(
            JoinGroupRequest(
                group_id=self._group,
                session_timeout_ms=SESSION_TIMEOUT_MS,
                rebalance_timeout_ms=REBALANCE_TIMEOUT_MS,
                member_id=self._id,
                protocol_type="consumer",
                protocols=[JoinGroupRequestProtocol(name=name, metadata=offer) for name in ASSIGNORS],
            ),
            JoinGroupResponse,
        )
        if joined.member_id:
            self._id = joined.member_id
        check_code(joined.error_code)
        self._generation = joined.generation_id
        plan: Mapping[str, Sequence[Place]] = {}
        self._planned = None
        if joined.leader == joined.member_id and not joined.skip_assignment:
            subscriptions = {each.member_id: subscribed(bytes(each.metadata)) for each in joined.members}
            plan = await self._plan(joined.protocol_name or "range", subscriptions)
        synced = await connection.send(
            SyncGroupRequest(
                group_id=self._group,
                generation_id=self._generation,
                member_id=self._id,
                protocol_type="consumer",
                protocol_name=joined.protocol_name,
                assignments=[
                    SyncGroupRequestAssignment(member_id=member, assignment=assignment(places))
                    for member, places in plan.items()
                ],
            ),
            SyncGroupResponse,
        )
        check_code(synced.error_code)
        return assigned(bytes(synced.assignment))

    async def _plan(
        self, assignor: str, subscriptions: Mapping[str, Sequence[str]]
    ) -> Mapping[str, Sequence[Place]]:
        topics = sorted({topic for wanted in subscriptions.values() for topic in wanted})
        self._planned = counts = await self._counts(topics)
        return ASSIGNORS.get(assignor, assign_range)(subscriptions, counts)

    async def _counts(self, topics: Sequence[str]) -> dict[str, int]:
        """The numbers of partitions; 0 for a topic that is not there and cannot be made."""
        found = (await self._client.metadata(topics, auto_create=True)).topics
        return {each.name: len(each.partitions) for each in found if each.name}

    async def _committed(self, places: Sequence[Place]) -> dict[Place, int]:
        from pykbroker.client.client import check_code
        from pykbroker.protocol.messages.offset_fetch import (
            OffsetFetchRequest,
            OffsetFetchRequestGroup,
            OffsetFetchResponse,
        )

        request = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=self._group, topics=None)])
        answer = await (await self._client.coordinator(self._group)).send(
            request, OffsetFetchResponse, version=8
        )
        check_code(answer.groups[0].error_code)
        known = {
            (topic.name, part.partition_index): part.committed_offset
            for topic in answer.groups[0].topics
            for part in topic.partitions
        }
        return {place: known.get(place, -1) for place in places}
