"""A blocking client that sends what it is told, valid or not, and hands back what came."""

from __future__ import annotations

import socket
from struct import Struct
from types import TracebackType
from typing import Self, TypeVar

from pykbroker.protocol.codec import reader
from pykbroker.protocol.frames import encode_request, parse_response_header
from pykbroker.protocol.schema import Message

M = TypeVar("M", bound=Message)

_LENGTH = Struct(">i")


class Closed(Exception):
    """The broker closed the connection."""


class RawClient:
    """One connection; ``timeout_s`` bounds every wait (TimeoutError)."""

    def __init__(self, bootstrap: str, timeout_s: float = 30.0) -> None:
        host, _, port = bootstrap.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._correlation = 0

    def send(self, data: bytes) -> None:
        """Send these bytes as they are; raises Closed."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Closed from error

    def receive(self) -> bytes:
        """The next answer without its length; raises Closed."""
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        return self._exactly(length)

    def call(self, request: Message, response: type[M], version: int) -> M:
        """Send a request and decode its answer; raises Closed."""
        self._correlation += 1
        self.send(encode_request(request, version, self._correlation, "raw"))
        frame = memoryview(self.receive())
        correlation, start = parse_response_header(frame, response, version)
        assert correlation == self._correlation, f"answer {correlation} to request {self._correlation}"
        message, end = reader(response, version)(frame, start)
        assert end == len(frame), f"{len(frame) - end} bytes behind the answer"
        return message

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            try:
                piece = self.socket.recv(count - len(data))
            except ConnectionResetError as error:
                raise Closed from error
            if not piece:
                raise Closed
            data += piece
        return bytes(data)
