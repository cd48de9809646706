"""Requests of group members with the defaults of a usual consumer, through handlers and bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pykbroker.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from pykbroker.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from pykbroker.protocol.messages.join_group import (
    JoinGroupRequest,
    JoinGroupRequestProtocol,
    JoinGroupResponse,
)
from pykbroker.protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse, MemberIdentity
from pykbroker.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from pykbroker.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
)
from pykbroker.protocol.messages.sync_group import (
    SyncGroupRequest,
    SyncGroupRequestAssignment,
    SyncGroupResponse,
)
from pykbroker.protocol.schema import ZERO_UUID
from tests.groups.home import Home, at_home
from tests.groups.world import subscription


class Members:
    """A home with topic ``t`` and a coordinator that has been looked for."""

    def __init__(self, home: Home, topic_id: bytes) -> None:
        self.home = home
        self.topic_id = topic_id

    async def join(
        self, member_id: str = "", *, version: int = 9, group: str = "g", instance: str | None = None
    ) -> JoinGroupResponse:
        request = JoinGroupRequest(
            group_id=group,
            session_timeout_ms=6000,
            rebalance_timeout_ms=60_000,
            member_id=member_id,
            group_instance_id=instance,
            protocol_type="consumer",
            protocols=[JoinGroupRequestProtocol(name="range", metadata=subscription("t"))],
        )
        return await self.home.call(request, JoinGroupResponse, version)

    async def sync(
        self,
        member_id: str,
        generation: int,
        assignments: dict[str, bytes] | None = None,
        *,
        version: int = 5,
        group: str = "g",
        protocol: str | None = "range",
    ) -> SyncGroupResponse:
        request = SyncGroupRequest(
            group_id=group,
            generation_id=generation,
            member_id=member_id,
            protocol_type="consumer",
            protocol_name=protocol,
            assignments=[
                SyncGroupRequestAssignment(member_id=i, assignment=a) for i, a in (assignments or {}).items()
            ],
        )
        return await self.home.call(request, SyncGroupResponse, version)

    async def heartbeat(self, member_id: str, generation: int, *, version: int = 4, group: str = "g") -> int:
        request = HeartbeatRequest(group_id=group, generation_id=generation, member_id=member_id)
        return (await self.home.call(request, HeartbeatResponse, version)).error_code

    async def leave(
        self, *members: MemberIdentity | str, version: int = 5, group: str = "g"
    ) -> LeaveGroupResponse:
        request = LeaveGroupRequest(
            group_id=group,
            member_id=next((m for m in members if isinstance(m, str)), ""),
            members=[m if isinstance(m, MemberIdentity) else MemberIdentity(member_id=m) for m in members],
        )
        return await self.home.call(request, LeaveGroupResponse, version)

    async def commit(
        self,
        offset: int,
        *,
        partition: int = 0,
        topic: str = "t",
        topic_id: bytes | None = None,
        version: int = 10,
        group: str = "g",
        member_id: str = "",
        generation: int = -1,
        metadata: str | None = None,
        epoch: int = -1,
    ) -> int:
        request = OffsetCommitRequest(
            group_id=group,
            generation_id_or_member_epoch=generation,
            member_id=member_id,
            topics=[
                OffsetCommitRequestTopic(
                    name=topic,
                    topic_id=self.topic_id if topic_id is None else topic_id,
                    partitions=[
                        OffsetCommitRequestPartition(
                            partition_index=partition,
                            committed_offset=offset,
                            committed_leader_epoch=epoch,
                            committed_metadata=metadata,
                        )
                    ],
                )
            ],
        )
        response = await self.home.call(request, OffsetCommitResponse, version)
        ((only,),) = (topic.partitions for topic in response.topics)
        return only.error_code

    async def fetch(
        self,
        *,
        version: int = 10,
        group: str = "g",
        topic_id: bytes | None = None,
        partitions: tuple[int, ...] | None = (0,),
    ) -> OffsetFetchResponse:
        uid = self.topic_id if topic_id is None else topic_id
        indexes = list(partitions or ())
        old = [OffsetFetchRequestTopic(name="t", partition_indexes=indexes)]
        new = [OffsetFetchRequestTopics(name="t", topic_id=uid, partition_indexes=indexes)]
        request = OffsetFetchRequest(
            group_id=group,
            topics=None if partitions is None else old,
            groups=[OffsetFetchRequestGroup(group_id=group, topics=None if partitions is None else new)],
        )
        return await self.home.call(request, OffsetFetchResponse, version)

    async def stable(self, group: str = "g") -> str:
        """A group of one member, in its first generation."""
        joined = await self.join(version=3, group=group)
        await self.sync(joined.member_id, 1, {joined.member_id: b"all"}, group=group)
        return joined.member_id

    async def find(self, *keys: str, version: int = 6, key_type: int = 0) -> FindCoordinatorResponse:
        request = FindCoordinatorRequest(key=keys[0], key_type=key_type, coordinator_keys=list(keys))
        return await self.home.call(request, FindCoordinatorResponse, version)


@asynccontextmanager
async def members(path: Path, *sets: str) -> AsyncIterator[Members]:
    """A fresh home on ``path``."""
    async with at_home(path, None, *sets) as home:
        found = Members(home, await home.topic("t"))
        await found.find("g")
        yield found


__all__ = ["ZERO_UUID", "Members", "members"]
