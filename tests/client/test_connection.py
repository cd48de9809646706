"""One connection: versions, order, and what happens when the other side misbehaves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from pykbroker.client.connection import BrokerConnection, ConnectionLost, connect
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.protocol.codec import Regions, writer
from pykbroker.protocol.frames import has_tagged_response_header, parse_request_header, write_response
from pykbroker.protocol.messages.api_versions import ApiVersion, ApiVersionsResponse
from pykbroker.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from pykbroker.protocol.messages.metadata import MetadataRequest, MetadataResponse
from pykbroker.protocol.schema import Message

HEARTBEAT_ONLY = ApiVersionsResponse(api_keys=[ApiVersion(api_key=12, min_version=0, max_version=3)])


class Broker:
    """The other end of a memory stream, answering by hand."""

    def __init__(self, stream: trio.testing.MemoryReceiveStream | trio.abc.Stream) -> None:
        self.stream = stream
        self.received = bytearray()

    async def next_request(self) -> tuple[int, int, int]:
        """Key, version, correlation id."""
        assert isinstance(self.stream, trio.abc.ReceiveStream)
        while len(self.received) < 4 or len(self.received) < 4 + int.from_bytes(self.received[:4], "big"):
            data = await self.stream.receive_some()
            assert data
            self.received += data
        size = int.from_bytes(self.received[:4], "big")
        header = parse_request_header(memoryview(bytes(self.received[4 : 4 + size])))
        del self.received[: 4 + size]
        return header.api_key, header.api_version, header.correlation_id

    async def answer(self, message: Message, version: int, correlation_id: int) -> None:
        kind = type(message)
        out = bytearray()
        tagged = has_tagged_response_header(kind, version)
        write_response(out, Regions(), correlation_id, writer(kind, version), message, tagged=tagged)
        assert isinstance(self.stream, trio.abc.SendStream)
        await self.stream.send_all(out)


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[BrokerConnection, Broker]]:
    """A negotiated connection whose broker knows Heartbeat 0 to 3."""
    ours, theirs = trio.testing.memory_stream_pair()
    connection, broker = BrokerConnection(ours), Broker(theirs)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.negotiate)
        key, version, correlation_id = await broker.next_request()
        assert (key, version) == (18, 4)
        await broker.answer(HEARTBEAT_ONLY, 4, correlation_id)
    yield connection, broker
    await connection.aclose()


async def test_versions() -> None:
    async with connected() as (connection, _):
        assert connection.version_of(HeartbeatRequest) == 3
        with pytest.raises(KafkaError, match="MetadataRequest: the broker has versions 0 to -1") as caught:
            connection.version_of(MetadataRequest)
        assert caught.value.code is ErrorCode.UNSUPPORTED_VERSION


async def test_negotiates_with_an_old_broker() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    connection, broker = BrokerConnection(ours), Broker(theirs)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.negotiate)
        _, _, first = await broker.next_request()
        await broker.answer(ApiVersionsResponse(error_code=ErrorCode.UNSUPPORTED_VERSION), 0, first)
        _, version, second = await broker.next_request()
        assert version == 0
        await broker.answer(HEARTBEAT_ONLY, 0, second)
    assert connection.versions == {12: (0, 3)}


async def test_several_tasks_get_their_own_answers() -> None:
    async with connected() as (connection, broker):
        found: dict[int, int] = {}

        async def ask(number: int) -> None:
            answer = await connection.send(HeartbeatRequest(generation_id=number), HeartbeatResponse)
            found[number] = answer.throttle_time_ms

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(ask, number)
            ids = [(await broker.next_request())[2] for _ in range(5)]
            for correlation_id in ids:
                await broker.answer(HeartbeatResponse(throttle_time_ms=correlation_id), 3, correlation_id)
        assert sorted(found) == list(range(5))
        assert sorted(found.values()) == ids


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\0",
        b"\0\0\0\x20abc",
        b"\xff\xff\xff\xff",
        b"\x7f\xff\xff\xff",
        b"\0\0\0\2ab",
        b"\0\0\0\4\0\0\0\x63",
        b"\0\0\0\6\0\0\0\2ab",
    ],
)
async def test_no_answer(data: bytes) -> None:
    """Closed, cut, a length that cannot be, another request's answer, no body: all waiting calls fail."""
    async with connected() as (connection, broker):

        async def ask() -> None:
            with pytest.raises(ConnectionLost):
                await connection.send(HeartbeatRequest(), HeartbeatResponse)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
            await broker.next_request()
            await broker.next_request()
            assert isinstance(broker.stream, trio.StapledStream)
            await broker.stream.send_all(data)
            await broker.stream.send_eof()
        assert connection.is_closed
        with pytest.raises(ConnectionLost):
            await connection.send(HeartbeatRequest(), HeartbeatResponse)


async def test_a_cancelled_call_closes() -> None:
    async with connected() as (connection, broker):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection.send, HeartbeatRequest(), HeartbeatResponse)
                await broker.next_request()
                scope.cancel()
        assert connection.is_closed


async def test_nobody_listens() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    with pytest.raises(ConnectionLost, match=f"cannot connect to 127.0.0.1:{port}"):
        await connect("127.0.0.1", port)


async def test_nobody_answers() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        with pytest.raises(ConnectionLost, match="no answer in time"):
            await connect("127.0.0.1", listener.socket.getsockname()[1], timeout_s=0.02)


async def test_an_error_in_the_negotiation() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    connection, broker = BrokerConnection(ours), Broker(theirs)

    async def negotiate() -> None:
        with pytest.raises(ConnectionLost, match="INVALID_REQUEST"):
            await connection.negotiate()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(negotiate)
        _, _, first = await broker.next_request()
        await broker.answer(ApiVersionsResponse(error_code=ErrorCode.INVALID_REQUEST), 4, first)


async def test_metadata_needs_no_negotiated_version() -> None:
    """A version can be given: replication will pin its own."""
    async with connected() as (connection, broker):

        async def ask() -> None:
            answer = await connection.send(MetadataRequest(), MetadataResponse, version=9)
            assert answer.controller_id == 5

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            key, version, correlation_id = await broker.next_request()
            assert (key, version) == (3, 9)
            await broker.answer(MetadataResponse(controller_id=5), 9, correlation_id)
