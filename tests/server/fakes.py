"""APIs made for tests of the server, and a server on a loopback port."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import trio
import trio.testing

from pykbroker.apis import api_versions
from pykbroker.apis._registry import Api, NoAnswer, RequestContext, Services, registered
from pykbroker.clock import MovableClock
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.protocol.codec import decode
from pykbroker.protocol.frames import encode_request, parse_response_header
from pykbroker.protocol.messages.fetch import (
    FetchableTopicResponse,
    FetchRequest,
    FetchResponse,
    PartitionData,
)
from pykbroker.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from pykbroker.protocol.messages.join_group import JoinGroupRequest, JoinGroupResponse
from pykbroker.protocol.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
    TopicProduceResponse,
)
from pykbroker.protocol.schema import Message, Records
from pykbroker.server import Faults, Server, ServerLimits
from pykbroker.server.connection import Connection
from pykbroker.server.dispatch import Call, Dispatcher

NO_SERVICES = cast("Services", object())
"""The APIs here need none."""


class Park:
    """A parked Fetch: answers when ``ready`` and woken, or when expired."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.wake: Callable[[], None] | None = None
        self.ready: Records | None = None
        self.polls: list[bool] = []
        self.closed = 0

    def start(self, wake: Callable[[], None]) -> None:
        self.wake = wake

    def answer(self, *, expired: bool) -> FetchResponse | None:
        self.polls.append(expired)
        if self.ready is None and not expired:
            return None
        return fetched(self.ready or b"")

    def close(self) -> None:
        self.closed += 1

    def finish(self, records: Records) -> None:
        """What a party with data does."""
        self.ready = records
        assert self.wake is not None
        self.wake()


def fetched(records: Records) -> FetchResponse:
    """A Fetch answer with these records."""
    return FetchResponse(
        responses=[FetchableTopicResponse(topic="t", partitions=[PartitionData(records=records)])]
    )


class FakeApis:
    """Heartbeat, JoinGroup, Fetch, Produce and ApiVersions.

    - Heartbeat is async and does what ``on_heartbeat`` says (default: answers at once); so is
      JoinGroup, which waits for others, with ``on_join``.
    - Fetch answers ``records`` if there are any, else parks (see ``parks``) for ``max_wait_ms``.
    - Produce keeps the record bytes in ``produced`` and answers; ``fails`` makes it raise.
    """

    def __init__(self) -> None:
        self.handled: list[Message] = []
        self.contexts: list[RequestContext] = []
        self.parks: list[Park] = []
        self.records: Records | None = None
        self.produced: list[Any] = []
        self.fails: Exception | None = None
        self.on_heartbeat: Callable[[HeartbeatRequest], Awaitable[HeartbeatResponse]] | None = None
        self.on_join: Callable[[JoinGroupRequest], Awaitable[JoinGroupResponse]] | None = None

    def table(self) -> Mapping[int, Api[Message, Message]]:
        """What a server takes."""
        assert api_versions.KEY == 18
        return {
            0: _api(ProduceRequest, ProduceResponse, self.produce, produce_failed),
            1: _api(FetchRequest, FetchResponse, self.fetch, fetch_failed),
            11: _api(JoinGroupRequest, JoinGroupResponse, self.join, join_failed, waits_for_others=True),
            12: _api(HeartbeatRequest, HeartbeatResponse, self.heartbeat, heartbeat_failed),
            18: registered()[18],
        }

    def produce(self, ctx: RequestContext, request: ProduceRequest) -> ProduceResponse:
        self._seen(ctx, request)
        if self.fails is not None:
            raise self.fails
        partition = request.topic_data[0].partition_data[0]
        self.produced.append(partition.records)
        if request.acks == 0:
            raise NoAnswer
        return ProduceResponse(
            responses=[
                TopicProduceResponse(
                    name="t",
                    partition_responses=[PartitionProduceResponse(base_offset=len(self.produced) - 1)],
                )
            ]
        )

    def fetch(self, ctx: RequestContext, request: FetchRequest) -> FetchResponse | Park:
        self._seen(ctx, request)
        if self.records is not None:
            return fetched(self.records)
        self.parks.append(Park(ctx.now + request.max_wait_ms / 1000))
        return self.parks[-1]

    async def heartbeat(self, ctx: RequestContext, request: HeartbeatRequest) -> HeartbeatResponse:
        self._seen(ctx, request)
        if self.on_heartbeat is not None:
            return await self.on_heartbeat(request)
        return HeartbeatResponse(throttle_time_ms=request.generation_id)

    async def join(self, ctx: RequestContext, request: JoinGroupRequest) -> JoinGroupResponse:
        self._seen(ctx, request)
        assert self.on_join is not None
        return await self.on_join(request)

    def _seen(self, ctx: RequestContext, request: Message) -> None:
        self.handled.append(request)
        self.contexts.append(ctx)


def _api(
    request: Any, response: Any, handle: Any, failed: Any, *, waits_for_others: bool = False
) -> Api[Message, Message]:
    return Api(
        key=request.message_key,
        name=request.__name__.removesuffix("Request"),
        versions=request.message_versions,
        announced_min=request.message_versions[0],
        request=request,
        response=response,
        handle=handle,
        failed=failed,
        waits_for_others=waits_for_others,
    )


def produce_failed(ctx: RequestContext, request: ProduceRequest, code: ErrorCode) -> ProduceResponse:
    partition = PartitionProduceResponse(error_code=code, base_offset=-1)
    return ProduceResponse(responses=[TopicProduceResponse(name="t", partition_responses=[partition])])


def fetch_failed(ctx: RequestContext, request: FetchRequest, code: ErrorCode) -> FetchResponse:
    return FetchResponse(error_code=code)


def heartbeat_failed(ctx: RequestContext, request: HeartbeatRequest, code: ErrorCode) -> HeartbeatResponse:
    return HeartbeatResponse(error_code=code)


def join_failed(ctx: RequestContext, request: JoinGroupRequest, code: ErrorCode) -> JoinGroupResponse:
    return JoinGroupResponse(error_code=code)


def produce_request(records: bytes = b"batch", acks: int = 1) -> ProduceRequest:
    """A Produce of one partition."""
    partition = PartitionProduceData(index=0, records=records)
    return ProduceRequest(acks=acks, topic_data=[TopicProduceData(name="t", partition_data=[partition])])


def frame(request: Message, version: int, correlation_id: int) -> bytes:
    """A whole request, length first."""
    return encode_request(request, version, correlation_id, "test")


class Answers:
    """Takes answers out of what a connection sent."""

    def __init__(self) -> None:
        self.data = bytearray()

    def take(self, response: type[Any], version: int) -> tuple[int, Any]:
        """Correlation id and body of the next answer."""
        size = int.from_bytes(self.data[:4], "big")
        body = bytes(self.data[4 : 4 + size])
        assert len(body) == size, "the answer is not complete"
        del self.data[: 4 + size]
        correlation_id, start = parse_response_header(memoryview(body), response, version)
        return correlation_id, decode(response, version, body[start:])

    def correlation_ids(self) -> list[int]:
        """Those of all whole answers, which are taken."""
        found = []
        while len(self.data) >= 8:
            size = int.from_bytes(self.data[:4], "big")
            if len(self.data) < 4 + size:
                break
            found.append(int.from_bytes(self.data[4:8], "big"))
            del self.data[: 4 + size]
        return found


def core(apis: FakeApis, limits: ServerLimits | None = None, faults: Faults | None = None) -> Connection:
    """A connection without a driver."""
    limits = limits or ServerLimits()
    dispatcher = Dispatcher(NO_SERVICES, apis.table(), limits, MovableClock(), faults)
    return Connection(dispatcher, limits, "192.0.2.1", 7)


def step(connection: Connection, *frames: bytes) -> tuple[Answers, Call | None]:
    """Feed, process once, take what was collected."""
    for data in frames:
        connection.feed(data)
    call = connection.process(1_000, 5.0)
    return collected(connection), call


def collected(connection: Connection) -> Answers:
    """The answers that a driver would send now."""
    answers = Answers()
    answers.data += connection.peer.out
    connection.peer.out.clear()
    connection.peer.regions.clear()
    return answers


class Running:
    """A server on a loopback port, with its clock and APIs."""

    def __init__(self, server: Server, address: tuple[str, int], clock: MovableClock, apis: FakeApis) -> None:
        self.server = server
        self.address = address
        self.clock = clock
        self.apis = apis
        self.clients: list[Client] = []

    async def connect(self) -> Client:
        """A new client."""
        stream = await trio.open_tcp_stream(*self.address)
        self.clients.append(Client(stream))
        return self.clients[-1]

    async def settled(self, condition: Callable[[], bool]) -> None:
        """Wait until something that other tasks do has come about."""
        with trio.fail_after(20):
            while not condition():
                await trio.testing.wait_all_tasks_blocked(0.005)


class Client:
    """The other end of a connection, as raw as a test needs it."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.answers = Answers()

    async def send(self, *frames: bytes) -> None:
        await self.stream.send_all(b"".join(frames))

    async def receive(self, response: type[Any], version: int) -> tuple[int, Any]:
        """Correlation id and body of the next answer."""
        data = self.answers.data
        with trio.fail_after(20):
            while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
                data += await self._some()
        return self.answers.take(response, version)

    async def _some(self) -> bytes:
        piece = await self.stream.receive_some(1 << 20)
        assert piece, "the server closed the connection"
        return bytes(piece)

    async def ends(self) -> bytes:
        """Wait until the server closes; what it sent before that."""
        with trio.fail_after(20):
            try:
                while piece := await self.stream.receive_some(1 << 20):
                    self.answers.data += piece
            except trio.BrokenResourceError:
                pass  # reset: it closed with bytes of ours unread
        return bytes(self.answers.data)


@asynccontextmanager
async def serving(
    limits: ServerLimits | None = None, faults: Faults | None = None, apis: FakeApis | None = None
) -> AsyncIterator[Running]:
    """A running server; stopped hard at the end."""
    clock, apis = MovableClock(), apis or FakeApis()
    server = Server(NO_SERVICES, apis.table(), limits or ServerLimits(), clock, faults)
    listener = socket.create_server(("127.0.0.1", 0))
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(server.serve, [listener])
        running = Running(server, addresses[0], clock, apis)
        try:
            yield running
        finally:
            nursery.cancel_scope.cancel()
            for client in running.clients:
                client.stream.socket.close()


def failing(code: ErrorCode) -> KafkaError:
    """An error that the client caused."""
    return KafkaError(code, "because")
