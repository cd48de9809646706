"""A member of a classic group that does one request at a time and remembers nothing but who it is."""

from typing import Any

from interop.messages import Answer
from interop.raw import Connection, Pending

SESSION_MS, REBALANCE_MS = 10_000, 10_000
CONSUMER = "consumer"


class Member:
    """One would-be member on a connection of its own. Methods answer with what the broker said.

    ``member_id`` and ``generation`` follow the last JoinGroup answer that carried them.
    """

    def __init__(self, connection: Connection, group: str, *, instance: str | None = None) -> None:
        self.connection = connection
        self.group = group
        self.instance = instance
        self.member_id = ""
        self.generation = -1

    def post_join(
        self,
        *,
        version: int = 9,
        protocols: dict[str, bytes] | None = None,
        protocol_type: str = CONSUMER,
        session_ms: int = SESSION_MS,
        member_id: str | None = None,
    ) -> Pending:
        """Sends JoinGroup; by default with one protocol, "range", and empty metadata."""
        named = {"range": b""} if protocols is None else protocols
        values: dict[str, Any] = {
            "group_id": self.group,
            "session_timeout": session_ms,
            "member_id": self.member_id if member_id is None else member_id,
            "protocol_type": protocol_type,
            "protocols": [{"name": name, "metadata": metadata} for name, metadata in named.items()],
        }
        if version >= 1:
            values["rebalance_timeout"] = REBALANCE_MS
        if version >= 5:
            values["group_instance_id"] = self.instance
        return self.connection.post("join_group", version, **values)

    def collect_join(self, pending: Pending) -> Answer:
        """The answer to a posted JoinGroup."""
        answer = self.connection.collect(pending)
        if answer.member_id:
            self.member_id = answer.member_id
        if answer.error_code == 0:
            self.generation = answer.generation_id
        return answer

    def join(self, **options: Any) -> Answer:
        """One JoinGroup."""
        return self.collect_join(self.post_join(**options))

    def enter(self, **options: Any) -> Answer:
        """Joins as clients do: once to be given a member id, and again with it."""
        answer = self.join(**options)
        if answer.error_code == 79:
            answer = self.join(**options)
        return answer

    def post_enter(self, **options: Any) -> Pending:
        """Like enter, without waiting for the second answer."""
        if not self.member_id and self.instance is None:
            answer = self.join(**options)
            assert answer.error_code == 79, answer
        return self.post_join(**options)

    def sync(
        self,
        assignments: dict[str, bytes] | None = None,
        *,
        version: int = 5,
        generation: int | None = None,
        member_id: str | None = None,
        protocol_type: str | None = CONSUMER,
        protocol_name: str | None = "range",
    ) -> Answer:
        """One SyncGroup, with assignments if this is the leader."""
        return self.connection.collect(
            self.post_sync(
                assignments,
                version=version,
                generation=generation,
                member_id=member_id,
                protocol_type=protocol_type,
                protocol_name=protocol_name,
            )
        )

    def post_sync(
        self,
        assignments: dict[str, bytes] | None = None,
        *,
        version: int = 5,
        generation: int | None = None,
        member_id: str | None = None,
        protocol_type: str | None = CONSUMER,
        protocol_name: str | None = "range",
    ) -> Pending:
        """Sends SyncGroup."""
        rows = [{"member_id": member, "assignment": data} for member, data in (assignments or {}).items()]
        values = self._identity(generation, member_id, static=version >= 3)
        if version >= 5:
            values |= {"protocol_type": protocol_type, "protocol_name": protocol_name}
        return self.connection.post("sync_group", version, assignments=rows, **values)

    def heartbeat(
        self, *, version: int = 4, generation: int | None = None, member_id: str | None = None
    ) -> int:
        """One Heartbeat: the error code."""
        values = self._identity(generation, member_id, static=version >= 3)
        return int(self.connection.ask("heartbeat", version, **values).error_code)

    def commit(
        self,
        topic: str,
        offset: int = 5,
        *,
        version: int = 8,
        partition: int = 0,
        metadata: str | None = "",
        generation: int | None = None,
        member_id: str | None = None,
    ) -> int:
        """OffsetCommit of one partition: the error code."""
        values = self._identity(generation, member_id, static=version >= 7)
        values["generation_id_or_member_epoch"] = values.pop("generation_id")
        part = {"partition_index": partition, "committed_offset": offset, "committed_metadata": metadata}
        if 2 <= version <= 4:
            values["retention_time"] = -1
        answer = self.connection.ask(
            "offset_commit", version, topics=[{"name": topic, "partitions": [part]}], **values
        )
        return int(answer.topics[0].partitions[0].error_code)

    def leave(self, *, member_id: str | None = None, instance: str | None = None) -> Answer:
        """LeaveGroup for one member, this one by default."""
        who = {"member_id": self.member_id if member_id is None else member_id, "group_instance_id": instance}
        return self.connection.ask("leave_group", 4, group_id=self.group, members=[who])

    def _identity(self, generation: int | None, member_id: str | None, *, static: bool) -> dict[str, Any]:
        values: dict[str, Any] = {
            "group_id": self.group,
            "generation_id": self.generation if generation is None else generation,
            "member_id": self.member_id if member_id is None else member_id,
        }
        if static:
            values["group_instance_id"] = self.instance
        return values


def fetch_offset(
    connection: Connection, group: str, topic: str, partition: int = 0
) -> tuple[int, int, str | None]:
    """OffsetFetch of one partition: error code, offset, metadata."""
    answer = connection.ask(
        "offset_fetch", 7, group_id=group, topics=[{"name": topic, "partition_indexes": [partition]}]
    )
    part = answer.topics[0].partitions[0]
    return part.error_code, part.committed_offset, part.metadata


def state_of(connection: Connection, group: str) -> tuple[int, str]:
    """DescribeGroups: error code and state."""
    (part,) = connection.ask("describe_groups", 5, groups=[group]).groups
    return part.error_code, part.group_state
