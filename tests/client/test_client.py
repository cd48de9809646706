"""The client against a scripted one-broker cluster on a loopback port."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import trio

from pykbroker.apis import api_versions
from pykbroker.apis._registry import Api, NoAnswer, RequestContext, Services, registered
from pykbroker.client import Client, ConnectionLost
from pykbroker.clock import SystemClock
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.protocol.messages.fetch import (
    FetchableTopicResponse,
    FetchRequest,
    FetchResponse,
    PartitionData,
)
from pykbroker.protocol.messages.find_coordinator import (
    Coordinator,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)
from pykbroker.protocol.messages.list_offsets import (
    ListOffsetsPartitionResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)
from pykbroker.protocol.messages.metadata import (
    MetadataRequest,
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from pykbroker.protocol.messages.produce import (
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceResponse,
)
from pykbroker.protocol.schema import Message
from pykbroker.server import Server, ServerLimits

SOME_TOPIC = "numbers"


class Cluster:
    """One broker with id 7 and topic ``numbers`` of one partition."""

    def __init__(self) -> None:
        self.port = 0
        self.leader = 7
        self.controller = 7
        self.error = 0
        self.log: list[bytes] = []
        self.metadata_asked = 0
        self.versions_seen: list[tuple[str, int]] = []

    def table(self) -> dict[int, Api[Message, Message]]:
        assert api_versions.KEY == 18
        served: list[tuple[Any, Any, Any]] = [
            (ProduceRequest, ProduceResponse, self.produce),
            (FetchRequest, FetchResponse, self.fetch),
            (ListOffsetsRequest, ListOffsetsResponse, self.list_offsets),
            (MetadataRequest, MetadataResponse, self.metadata),
            (FindCoordinatorRequest, FindCoordinatorResponse, self.find_coordinator),
        ]
        apis = {
            request.message_key: Api(
                key=request.message_key,
                name=request.__name__.removesuffix("Request"),
                versions=request.message_versions,
                announced_min=request.message_versions[0],
                request=request,
                response=response,
                handle=handle,
                failed=lambda ctx, request, code: pytest.fail("not expected"),
            )
            for request, response, handle in served
        }
        return {**apis, 18: registered()[18]}

    def produce(self, ctx: RequestContext, request: ProduceRequest) -> ProduceResponse:
        self.versions_seen.append(("produce", ctx.version))
        records = request.topic_data[0].partition_data[0].records
        assert isinstance(records, memoryview)
        self.log.append(bytes(records))
        if request.acks == 0:
            raise NoAnswer
        partition = PartitionProduceResponse(error_code=self.error, base_offset=len(self.log) - 1)
        return ProduceResponse(responses=[TopicProduceResponse(partition_responses=[partition])])

    def fetch(self, ctx: RequestContext, request: FetchRequest) -> FetchResponse:
        self.versions_seen.append(("fetch", ctx.version))
        offset = request.topics[0].partitions[0].fetch_offset
        partition = PartitionData(error_code=self.error, records=b"".join(self.log[offset:]))
        return FetchResponse(responses=[FetchableTopicResponse(partitions=[partition])])

    def list_offsets(self, ctx: RequestContext, request: ListOffsetsRequest) -> ListOffsetsResponse:
        latest = request.topics[0].partitions[0].timestamp == -1
        partition = ListOffsetsPartitionResponse(error_code=self.error, offset=len(self.log) if latest else 0)
        return ListOffsetsResponse(topics=[ListOffsetsTopicResponse(partitions=[partition])])

    def metadata(self, ctx: RequestContext, request: MetadataRequest) -> MetadataResponse:
        self.metadata_asked += 1
        names = [SOME_TOPIC] if request.topics is None else [topic.name for topic in request.topics]
        return MetadataResponse(
            brokers=[MetadataResponseBroker(node_id=7, host="127.0.0.1", port=self.port)],
            controller_id=self.controller,
            topics=[
                MetadataResponseTopic(
                    name=name, partitions=[MetadataResponsePartition(leader_id=self.leader)]
                )
                if name == SOME_TOPIC
                else MetadataResponseTopic(name=name, error_code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
                for name in names
            ],
        )

    async def find_coordinator(
        self, ctx: RequestContext, request: FindCoordinatorRequest
    ) -> FindCoordinatorResponse:
        found = Coordinator(
            key=request.coordinator_keys[0],
            node_id=7,
            host="127.0.0.1",
            port=self.port,
            error_code=self.error,
            error_message="loading" if self.error else None,
        )
        return FindCoordinatorResponse(coordinators=[found])


@asynccontextmanager
async def cluster() -> AsyncIterator[tuple[Cluster, Client]]:
    scripted = Cluster()
    server = Server(cast("Services", None), scripted.table(), ServerLimits(), SystemClock())
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(server.serve, [socket.create_server(("127.0.0.1", 0))])
        scripted.port = addresses[0][1]
        async with Client(f"127.0.0.1:1,127.0.0.1:{scripted.port}") as client:
            with trio.fail_after(10):
                yield scripted, client
        nursery.cancel_scope.cancel()


async def test_produce_fetch_offsets() -> None:
    """The first bootstrap address is dead: the second is used."""
    async with cluster() as (scripted, client):
        answer = await client.produce(SOME_TOPIC, 0, b"one")
        assert answer is not None
        assert answer.base_offset == 0
        assert await client.produce(SOME_TOPIC, 0, b"two", acks=0) is None
        assert (await client.fetch(SOME_TOPIC, 0, 0)).records == b"onetwo"
        assert await client.offset(SOME_TOPIC, 0) == 2
        assert await client.offset(SOME_TOPIC, 0, -2) == 0
        assert scripted.metadata_asked == 1
        assert set(scripted.versions_seen) == {("produce", 12), ("fetch", 12)}


async def test_unknown_topic_and_partition() -> None:
    async with cluster() as (_, client):
        for topic, partition in [("missing", 0), (SOME_TOPIC, 5)]:
            with pytest.raises(KafkaError) as caught:
                await client.fetch(topic, partition, 0)
            assert caught.value.code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


async def test_no_leader_now_one_later() -> None:
    async with cluster() as (scripted, client):
        scripted.leader = -1
        with pytest.raises(KafkaError) as caught:
            await client.produce(SOME_TOPIC, 0, b"one")
        assert caught.value.code is ErrorCode.LEADER_NOT_AVAILABLE
        scripted.leader = 7
        assert await client.produce(SOME_TOPIC, 0, b"one") is not None


@pytest.mark.parametrize(
    ("code", "raised"),
    [
        (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.NOT_LEADER_OR_FOLLOWER),
        (9999, ErrorCode.UNKNOWN_SERVER_ERROR),
    ],
)
async def test_error_codes_are_raised_and_metadata_asked_again(code: int, raised: ErrorCode) -> None:
    async with cluster() as (scripted, client):
        scripted.error = code
        calls: list[Awaitable[object]] = [
            client.produce(SOME_TOPIC, 0, b"one"),
            client.fetch(SOME_TOPIC, 0, 0),
            client.offset(SOME_TOPIC, 0),
        ]
        for call in calls:
            with pytest.raises(KafkaError) as caught:
                await call
            assert caught.value.code is raised
        assert scripted.metadata_asked == 3


async def test_coordinator_and_controller() -> None:
    async with cluster() as (scripted, client):
        assert await client.coordinator("group") is await client.controller()
        scripted.error = ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        with pytest.raises(KafkaError, match="loading"):
            await client.coordinator("group")
        scripted.controller = -1
        with pytest.raises(KafkaError) as caught:
            await client.controller()
        assert caught.value.code is ErrorCode.NOT_CONTROLLER


async def test_a_closed_connection_is_replaced() -> None:
    async with cluster() as (_, client):
        await client.produce(SOME_TOPIC, 0, b"one")
        connection = await client.leader(SOME_TOPIC, 0)
        await connection.aclose()
        assert await client.produce(SOME_TOPIC, 0, b"two") is not None


async def test_all_topics() -> None:
    async with cluster() as (_, client):
        assert [topic.name for topic in (await client.metadata()).topics] == [SOME_TOPIC]


@pytest.mark.parametrize("bootstrap", ["", "host", "host:", "host:port", "a:1,"])
def test_bad_bootstrap(bootstrap: str) -> None:
    with pytest.raises(ValueError, match="allowed: HOST:PORT"):
        Client(bootstrap)


async def test_nobody_is_there() -> None:
    async with Client("127.0.0.1:1") as client:
        with pytest.raises(ConnectionLost, match=r"127\.0\.0\.1:1"):
            await client.metadata()
