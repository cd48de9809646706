"""One connection to a broker: requests in, answers out, in the versions that both sides know.

Several tasks may use a connection at the same time: requests leave in the order of the calls, and each
task reads its own answer when it is its turn (a broker answers in order).  There is no background task.
A call that is cancelled while its answer is due closes the connection: nobody could tell what comes next.
"""

from __future__ import annotations

import os
from collections import deque
from struct import Struct as Packer
from typing import Self, TypeVar

import trio

from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.protocol.codec import reader
from pykbroker.protocol.errors import ProtocolError
from pykbroker.protocol.frames import encode_request, parse_response_header
from pykbroker.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from pykbroker.protocol.schema import Message

R = TypeVar("R", bound=Message)

SOFTWARE_NAME = "pykbroker"
MAX_ANSWER_BYTES = 128 * 1024 * 1024
"""Above what any broker sends with default settings (fetch.max.bytes is 55 MiB)."""

RECEIVE_SIZE = 64 * 1024

_LENGTH = Packer(">i")
_UNSUPPORTED_VERSION = ErrorCode.UNSUPPORTED_VERSION.to_bytes(2, "big")


class ConnectionLost(Exception):
    """The broker cannot be reached, has closed the connection, or sent what is no answer."""


async def connect(
    host: str, port: int, *, client_id: str | None = SOFTWARE_NAME, timeout_s: float = 10.0
) -> BrokerConnection:
    """Connect and negotiate versions; raises ConnectionLost."""
    try:
        with trio.fail_after(timeout_s):
            connection = BrokerConnection(await trio.open_tcp_stream(host, port), client_id)
            try:
                await connection.negotiate()
            except BaseException:
                await trio.aclose_forcefully(connection)
                raise
            return connection
    except (OSError, trio.TooSlowError) as error:
        raise ConnectionLost(f"cannot connect to {host}:{port}: {_why(error)}") from error


def _why(error: BaseException) -> str:
    """In the words of the operating system."""
    if isinstance(error, trio.TooSlowError):
        return "no answer in time"
    if isinstance(error.__cause__, OSError):
        error = error.__cause__  # one address failed
    elif isinstance(error.__cause__, BaseExceptionGroup):
        return ", ".join(dict.fromkeys(_why(each) for each in error.__cause__.exceptions))
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno) if error.errno > 0 else error.strerror or str(error)
    return str(error) or type(error).__name__


class BrokerConnection(trio.abc.AsyncResource):
    """Made by :func:`connect`; also an async context manager."""

    def __init__(self, stream: trio.abc.Stream, client_id: str | None = SOFTWARE_NAME) -> None:
        self._stream = stream
        self._client_id = client_id
        self._correlation_id = 0
        self._sending = trio.Lock()
        self._turns: deque[trio.Event] = deque()
        self._received = bytearray()
        self._closed = False
        self.versions: dict[int, tuple[int, int]] = {}
        """By API key, the versions that the broker announced."""

    async def __aenter__(self) -> Self:
        return self

    @property
    def is_closed(self) -> bool:
        """Whether it can no longer be used."""
        return self._closed

    async def aclose(self) -> None:
        """Close; calls that wait raise ConnectionLost."""
        self._closed = True
        await self._stream.aclose()

    async def negotiate(self) -> None:
        """Ask for the broker's versions, in version 0 if it knows no newer one."""
        highest = ApiVersionsRequest.message_versions[1]
        request = ApiVersionsRequest(client_software_name=SOFTWARE_NAME, client_software_version="0")
        self.versions[ApiVersionsRequest.message_key] = (0, highest)
        answer = await self.send(request, ApiVersionsResponse, version=highest)
        if answer.error_code == ErrorCode.UNSUPPORTED_VERSION:
            answer = await self.send(request, ApiVersionsResponse, version=0)
        if answer.error_code:
            raise ConnectionLost(f"ApiVersions failed: {ErrorCode(answer.error_code).name}")
        self.versions = {row.api_key: (row.min_version, row.max_version) for row in answer.api_keys}

    def version_of(self, request: type[Message]) -> int:
        """The highest version that both sides know; raises KafkaError(UNSUPPORTED_VERSION)."""
        low, high = request.message_versions
        their_low, their_high = self.versions.get(request.message_key, (0, -1))
        version = min(high, their_high)
        if version < max(low, their_low):
            text = f"the broker has versions {their_low} to {their_high}, we {low} to {high}"
            raise KafkaError(ErrorCode.UNSUPPORTED_VERSION, f"{request.__name__}: {text}")
        return version

    async def send(self, request: Message, response: type[R], *, version: int | None = None) -> R:
        """Send ``request`` and wait for its answer, which is of type ``response``.

        ``version``: the highest that both sides know, if not given.  Raises ConnectionLost.
        """
        if version is None:
            version = self.version_of(type(request))
        async with self._sending:
            self._correlation_id = correlation_id = (self._correlation_id + 1) & 0x7FFFFFFF
            turn = trio.Event()
            if not self._turns:
                turn.set()
            self._turns.append(turn)
            await self._write(encode_request(request, version, correlation_id, self._client_id))
        return await self._await_answer(turn, response, version, correlation_id)

    async def post(self, request: Message, *, version: int | None = None) -> None:
        """Send a request that has no answer (Produce with acks=0)."""
        if version is None:
            version = self.version_of(type(request))
        async with self._sending:
            self._correlation_id = (self._correlation_id + 1) & 0x7FFFFFFF
            await self._write(encode_request(request, version, self._correlation_id, self._client_id))

    # -- inside -----------------------------------------------------------------------------------

    async def _write(self, data: bytes) -> None:
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            await self._give_up()
            raise ConnectionLost("the broker closed the connection") from error
        except BaseException:
            await self._give_up()
            raise

    async def _await_answer(
        self, turn: trio.Event, response: type[R], version: int, correlation_id: int
    ) -> R:
        try:
            await turn.wait()
            frame = await self._read_frame()
            found, start = parse_response_header(memoryview(frame), response, version)
            if found != correlation_id:
                raise ProtocolError(f"answer to request {found}, expected {correlation_id}")
            if response is ApiVersionsResponse and frame[start : start + 2] == _UNSUPPORTED_VERSION:
                version = 0  # a broker that does not know the version answers in the one that all know
            answer, _ = reader(response, version)(memoryview(frame), start)
        except (trio.BrokenResourceError, trio.ClosedResourceError, ProtocolError) as error:
            await self._give_up()
            raise ConnectionLost(
                f"no answer to {response.__name__.removesuffix('Response')}: {error}"
            ) from error
        except BaseException:
            await self._give_up()
            raise
        self._turns.popleft()
        if self._turns:
            self._turns[0].set()
        return answer

    async def _give_up(self) -> None:
        """Nothing on this connection can be trusted any more: whoever waits for an answer fails too."""
        self._closed = True
        for turn in self._turns:
            turn.set()
        await trio.aclose_forcefully(self._stream)

    async def _read_frame(self) -> bytes:
        if self._closed:
            raise trio.ClosedResourceError("the connection was closed")
        await self._fill(_LENGTH.size)
        (size,) = _LENGTH.unpack_from(self._received)
        if not 0 <= size <= MAX_ANSWER_BYTES:
            raise ProtocolError(f"an answer of {size} bytes")
        await self._fill(_LENGTH.size + size)
        frame = bytes(memoryview(self._received)[_LENGTH.size : _LENGTH.size + size])
        del self._received[: _LENGTH.size + size]
        return frame

    async def _fill(self, size: int) -> None:
        while len(self._received) < size:
            data = await self._stream.receive_some(RECEIVE_SIZE)
            if not data:
                raise trio.BrokenResourceError("the broker closed the connection")
            self._received += data
