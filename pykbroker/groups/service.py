"""The group coordinator of this broker: which groups are ours, and what they are asked.

The only module of this room that waits.  Every method raises :class:`KafkaError` with the codes of a
coordinator that cannot answer now: COORDINATOR_LOAD_IN_PROGRESS (14), COORDINATOR_NOT_AVAILABLE (15),
NOT_COORDINATOR (16).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import trio

from pykbroker.groups.messages import (
    Commit,
    Committed,
    DeletedGroups,
    DeletedOffsets,
    DeleteOffsets,
    Description,
    FetchedOffset,
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
    from pykbroker.catalog.catalog import Catalog
    from pykbroker.catalog.topics import TopicAdmin
    from pykbroker.clock import Clock
    from pykbroker.config import BrokerConfig
    from pykbroker.errors import ErrorCode
    from pykbroker.partitions.manager import Partitions

OFFSETS_TOPIC = "__consumer_offsets"


class GroupCoordinator:
    """Life: construct, ``await nursery.start(run)``, and ``await shutdown()`` before the logs close."""

    def __init__(
        self,
        config: BrokerConfig,
        clock: Clock,
        catalog: Catalog,
        topics: TopicAdmin,
        partitions: Partitions,
    ) -> None:
        raise NotImplementedError

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow the catalog, load shards, keep deadlines, expire offsets, until cancelled."""
        raise NotImplementedError

    async def shutdown(self) -> None:
        """Resign everything: waiting members are told NOT_COORDINATOR."""
        raise NotImplementedError

    def partition_for(self, group_id: str) -> int:
        """The partition of the offsets topic in which a group lives."""
        raise NotImplementedError

    async def find(self, group_id: str) -> int:
        """The node id of the broker that coordinates a group; the offsets topic is made if need be."""
        raise NotImplementedError

    async def join(self, request: Join) -> Joined:
        """Answer when the next generation begins, or at once when there is nothing to wait for."""
        raise NotImplementedError

    async def sync(self, request: Sync) -> Synced:
        """Answer when the leader has assigned."""
        raise NotImplementedError

    async def heartbeat(self, request: Heartbeat) -> ErrorCode:
        """NONE, or what the member must do."""
        raise NotImplementedError

    async def leave(self, request: Leave) -> Left:
        """Remove members.  Raises UNKNOWN_MEMBER_ID for an unknown group."""
        raise NotImplementedError

    async def commit(self, request: Commit) -> Committed:
        """Keep offsets.  Raises what refuses the commit as a whole (22, 25, 27, 69, 82)."""
        raise NotImplementedError

    async def fetch(
        self, group_id: str, wanted: Sequence[tuple[str, bytes, int]] | None
    ) -> tuple[FetchedOffset, ...]:
        """The committed offsets of (topic, topic id, partition)s, in order; of everything for None."""
        raise NotImplementedError

    async def describe(self, group_id: str) -> Description | None:
        """A group, or None when there is no such group."""
        raise NotImplementedError

    async def list(self, states: Sequence[str] = (), types: Sequence[str] = ()) -> tuple[Listed, ...]:
        """All groups here whose state and type are among those given (any case; none given: all)."""
        raise NotImplementedError

    async def delete(self, group_ids: Sequence[str]) -> DeletedGroups:
        """Delete groups without members, and their offsets: a code for each."""
        raise NotImplementedError

    async def delete_offsets(self, request: DeleteOffsets) -> DeletedOffsets:
        """Forget offsets.  Raises GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP."""
        raise NotImplementedError
