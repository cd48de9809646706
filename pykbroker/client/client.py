"""A client of a cluster: knows who leads what, and helps with the calls that everybody needs.

An error code in an answer is raised as KafkaError.  Nothing is retried, except that metadata is asked for
once more when a leader is not known: the caller knows better how long to try.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self, TypeVar

import trio

from pykbroker.client.connection import BrokerConnection, ConnectionLost, connect
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.protocol.messages.fetch import (
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    PartitionData,
)
from pykbroker.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from pykbroker.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from pykbroker.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from pykbroker.protocol.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from pykbroker.protocol.schema import Message

R = TypeVar("R", bound=Message)

LATEST, EARLIEST = -1, -2

WITH_IDS: dict[type[Message], int] = {ProduceRequest: 13, FetchRequest: 13}
"""From this version on topics are named by id; these helpers name them, and stay below."""


class Client(trio.abc.AsyncResource):
    """``Client("host:port,host:port")``, an async context manager; connections are made when needed."""

    def __init__(self, bootstrap: str, *, client_id: str = "pykbroker", timeout_s: float = 10.0) -> None:
        self._bootstrap = [_address(part) for part in bootstrap.split(",")]
        self._client_id = client_id
        self._timeout_s = timeout_s
        self._any: BrokerConnection | None = None
        self._brokers: dict[int, BrokerConnection] = {}
        self._addresses: dict[int, tuple[str, int]] = {}
        self._leaders: dict[tuple[str, int], int] = {}
        self._controller = -1
        self._connecting = trio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def aclose(self) -> None:
        """Close all connections."""
        connections = [*self._brokers.values(), *([self._any] if self._any else [])]
        self._brokers, self._any = {}, None
        for connection in connections:
            await connection.aclose()

    # -- who ----------------------------------------------------------------------------------------

    async def send(self, request: Message, response: type[R]) -> R:
        """Ask any broker; raises ConnectionLost."""
        async with self._connecting:
            if self._any is None:
                self._any = await self._connect_any()
            connection = self._any
        try:
            return await connection.send(request, response)
        except ConnectionLost:
            if self._any is connection:
                self._any = None
            raise

    async def metadata(
        self, topics: Sequence[str] | None = None, *, auto_create: bool = False
    ) -> MetadataResponse:
        """The brokers and these topics (None: all); error codes of topics stay in the answer."""
        named = None if topics is None else [MetadataRequestTopic(name=name) for name in topics]
        request = MetadataRequest(topics=named, allow_auto_topic_creation=auto_create)
        answer = await self.send(request, MetadataResponse)
        check_code(answer.error_code)
        self._addresses = {broker.node_id: (broker.host, broker.port) for broker in answer.brokers}
        self._controller = answer.controller_id
        for topic in answer.topics:
            for partition in topic.partitions:
                if topic.name is not None:
                    self._leaders[topic.name, partition.partition_index] = partition.leader_id
        return answer

    async def leader(self, topic: str, partition: int) -> BrokerConnection:
        """A connection to the partition's leader; raises KafkaError if there is none."""
        if (topic, partition) not in self._leaders:
            for found in (await self.metadata([topic])).topics:
                check_code(found.error_code)
        node = self._leaders.get((topic, partition))
        if node is None:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"{topic}-{partition}")
        if node < 0:
            del self._leaders[topic, partition]
            raise KafkaError(ErrorCode.LEADER_NOT_AVAILABLE, f"{topic}-{partition}")
        return await self._broker(node)

    async def controller(self) -> BrokerConnection:
        """A connection to the broker that takes changes of topics and configs."""
        await self.metadata([])
        if self._controller < 0:
            raise KafkaError(ErrorCode.NOT_CONTROLLER, "no controller is known")
        return await self._broker(self._controller)

    async def coordinator(self, group: str) -> BrokerConnection:
        """A connection to the group's coordinator."""
        request = FindCoordinatorRequest(key=group, coordinator_keys=[group])
        answer = await self.send(request, FindCoordinatorResponse)
        found = answer.coordinators[0] if answer.coordinators else answer
        check_code(found.error_code, found.error_message)
        self._addresses[found.node_id] = (found.host, found.port)
        return await self._broker(found.node_id)

    # -- what ---------------------------------------------------------------------------------------

    async def produce(
        self, topic: str, partition: int, batch: bytes, *, acks: int = -1, timeout_ms: int = 30_000
    ) -> PartitionProduceResponse | None:
        """Append one record batch; None for acks=0."""
        data = PartitionProduceData(index=partition, records=batch)
        request = ProduceRequest(
            acks=acks, timeout_ms=timeout_ms, topic_data=[TopicProduceData(name=topic, partition_data=[data])]
        )
        connection = await self.leader(topic, partition)
        version = _named_version(connection, ProduceRequest)
        if acks == 0:
            await connection.post(request, version=version)
            return None
        answer = await self._ask_leader(topic, partition, connection, request, ProduceResponse, version)
        found = answer.responses[0].partition_responses[0]
        self._check_leader(topic, partition, found.error_code, found.error_message)
        return found

    async def fetch(
        self,
        topic: str,
        partition: int,
        offset: int,
        *,
        max_wait_ms: int = 500,
        min_bytes: int = 1,
        max_bytes: int = 1024 * 1024,
        read_committed: bool = False,
    ) -> PartitionData:
        """Record batches from ``offset`` on, at the end of the log after up to ``max_wait_ms`` none."""
        wanted = FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=max_bytes)
        request = FetchRequest(
            max_wait_ms=max_wait_ms,
            min_bytes=min_bytes,
            max_bytes=max_bytes,
            isolation_level=int(read_committed),
            topics=[FetchTopic(topic=topic, partitions=[wanted])],
        )
        connection = await self.leader(topic, partition)
        version = _named_version(connection, FetchRequest)
        answer = await self._ask_leader(topic, partition, connection, request, FetchResponse, version)
        check_code(answer.error_code)
        found = answer.responses[0].partitions[0]
        self._check_leader(topic, partition, found.error_code)
        return found

    async def offset(self, topic: str, partition: int, timestamp: int = LATEST) -> int:
        """The first offset at ``timestamp`` (ms) or later, -1 if none; or EARLIEST, LATEST."""
        wanted = ListOffsetsPartition(partition_index=partition, timestamp=timestamp)
        request = ListOffsetsRequest(
            replica_id=-1, topics=[ListOffsetsTopic(name=topic, partitions=[wanted])], timeout_ms=30_000
        )
        connection = await self.leader(topic, partition)
        version = connection.version_of(ListOffsetsRequest)
        answer = await self._ask_leader(topic, partition, connection, request, ListOffsetsResponse, version)
        found = answer.topics[0].partitions[0]
        self._check_leader(topic, partition, found.error_code)
        return found.offset

    # -- inside -------------------------------------------------------------------------------------

    async def _ask_leader(
        self,
        topic: str,
        partition: int,
        connection: BrokerConnection,
        request: Message,
        response: type[R],
        version: int,
    ) -> R:
        try:
            return await connection.send(request, response, version=version)
        except ConnectionLost:
            node = self._leaders.pop((topic, partition), -1)
            self._brokers.pop(node, None)
            raise

    def _check_leader(self, topic: str, partition: int, code: int, message: str | None = None) -> None:
        """Raise an error; one that says the leader has moved makes the next call look for it."""
        if code:
            self._leaders.pop((topic, partition), None)
        check_code(code, message)

    async def _broker(self, node: int) -> BrokerConnection:
        async with self._connecting:
            connection = self._brokers.get(node)
            if connection is None or connection.is_closed:
                if node not in self._addresses:
                    raise ConnectionLost(f"the address of broker {node} is not known")
                connection = self._brokers[node] = await self._connect(*self._addresses[node])
            return connection

    async def _connect_any(self) -> BrokerConnection:
        last: ConnectionLost | None = None
        for host, port in [*self._bootstrap, *self._addresses.values()]:
            try:
                return await self._connect(host, port)
            except ConnectionLost as error:
                last = error
        assert last is not None
        raise last

    async def _connect(self, host: str, port: int) -> BrokerConnection:
        return await connect(host, port, client_id=self._client_id, timeout_s=self._timeout_s)


def _named_version(connection: BrokerConnection, request: type[Message]) -> int:
    return min(connection.version_of(request), WITH_IDS[request] - 1)


def check_code(code: int, message: str | None = None) -> None:
    """Raise an error code of an answer as KafkaError."""
    if not code:
        return
    try:
        known = ErrorCode(code)
    except ValueError:  # a newer broker's
        raise KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR, f"error code {code}: {message}") from None
    raise KafkaError(known, message)


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.strip().rpartition(":")
    if not colon or not port.isdigit():
        raise ValueError(f"bootstrap={text!r}, allowed: HOST:PORT, several separated by commas")
    return host.strip("[]"), int(port)
