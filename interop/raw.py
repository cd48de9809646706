"""A raw client: one blocking socket, any request in any version, and bytes that no well-behaved client would
send.

Three levels, from the wire up:

* ``send_bytes``, ``send_frame``, ``receive_frame``: bytes and frames, for garbage and for pipelining;
* ``send``, ``receive``, ``request``: with Kafka's request header, bodies as bytes;
* ``post``, ``collect``, ``ask``: bodies as plain values through :mod:`interop.messages`.

Nothing here retries, reconnects or interprets error codes. Times are seconds, sizes bytes.
"""

import socket
import struct
from types import TracebackType
from typing import Any, NamedTuple, Self

from interop import messages
from interop.messages import Answer

DEFAULT_TIMEOUT = 10.0


class ClosedByBroker(ConnectionError):
    """The broker closed the connection where an answer was expected."""


class Pending(NamedTuple):
    """A request that was sent and whose answer has not been read yet."""

    api: str
    version: int
    correlation_id: int


class Connection:
    """One TCP connection to ``bootstrap`` ("host:port"), closed at the end of the ``with`` block.

    Every wait is bounded by ``timeout`` seconds and raises TimeoutError; a closed connection raises
    :class:`ClosedByBroker`.
    """

    def __init__(
        self, bootstrap: str, *, client_id: str | None = "probe", timeout: float = DEFAULT_TIMEOUT
    ) -> None:
        host, _, port = bootstrap.rpartition(":")
        self.client_id = client_id
        self._socket = socket.create_connection((host, int(port)), timeout=timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._last_correlation_id = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the socket; calling it again does nothing."""
        self._socket.close()

    # bytes and frames

    def send_bytes(self, data: bytes) -> None:
        """Sends bytes exactly as they are."""
        self._socket.sendall(data)

    def send_frame(self, payload: bytes) -> None:
        """Sends a payload behind its four-byte length."""
        self.send_bytes(struct.pack(">i", len(payload)) + payload)

    def receive_frame(self) -> bytes:
        """The payload of the next frame. Raises ClosedByBroker at the end of the stream, TimeoutError if none
        comes."""
        (size,) = struct.unpack(">i", self._receive_exactly(4))
        return self._receive_exactly(size)

    def _receive_exactly(self, size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            try:
                data = self._socket.recv(min(size - len(received), 1 << 20))
            except ConnectionResetError as error:
                raise ClosedByBroker(str(error)) from error
            if not data:
                raise ClosedByBroker(f"end of stream after {len(received)} of {size} bytes")
            received += data
        return bytes(received)

    def is_closed_by_broker(self, *, within: float = 3.0) -> bool:
        """Whether the broker closes the connection within so many seconds, saying nothing before it.

        Raises AssertionError if a frame arrives instead.
        """
        before = self._socket.gettimeout()
        self._socket.settimeout(within)
        try:
            data = self._socket.recv(65536)
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False
        finally:
            self._socket.settimeout(before)
        assert not data, f"the broker answered {data[:64]!r}"
        return True

    def is_silent(self, *, within: float) -> bool:
        """Whether nothing at all happens on the connection for so many seconds (neither bytes nor its
        end)."""
        before = self._socket.gettimeout()
        self._socket.settimeout(within)
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return True
        finally:
            self._socket.settimeout(before)
        return False

    # requests with bodies as bytes

    def send(self, api_key: int, version: int, body: bytes, *, flexible: bool | None = None) -> int:
        """Sends one request and returns its correlation id without waiting.

        ``flexible`` says whether the header ends with tagged fields; None asks kio, which must know the
        version then."""
        if flexible is None:
            flexible = messages.is_flexible(messages.api_name(api_key), version)
        self._last_correlation_id += 1
        header = struct.pack(">hhi", api_key, version, self._last_correlation_id) + _nullable_string(
            self.client_id
        )
        self.send_frame(header + (b"\0" if flexible else b"") + body)
        return self._last_correlation_id

    def receive(self, correlation_id: int, *, tagged_header: bool) -> bytes:
        """The body of the next answer. Raises AssertionError if that answer belongs to another request."""
        frame = self.receive_frame()
        (received,) = struct.unpack_from(">i", frame)
        assert received == correlation_id, f"answer {received} where {correlation_id} was due"
        if not tagged_header:
            return frame[4:]
        assert frame[4] == 0, "tagged fields in a response header: nobody sends these"
        return frame[5:]

    def request(self, api_key: int, version: int, body: bytes) -> bytes:
        """Sends one request and returns the body of its answer."""
        tagged = messages.has_tagged_response_header(messages.api_name(api_key), version)
        return self.receive(self.send(api_key, version, body), tagged_header=tagged)

    # requests with bodies as plain values

    def post(self, api: str, version: int, **values: Any) -> Pending:
        """Sends one request, given kio's snake-case name of the API, without waiting for its answer."""
        key = int(messages.message_type(api, version, "request").__api_key__)
        body = messages.encode_request(api, version, values)
        return Pending(api, version, self.send(key, version, body))

    def collect(self, pending: Pending) -> Answer:
        """The decoded answer to a posted request, which must be the next one on the connection."""
        tagged = messages.has_tagged_response_header(pending.api, pending.version)
        body = self.receive(pending.correlation_id, tagged_header=tagged)
        return messages.decode_response(pending.api, pending.version, body)

    def ask(self, api: str, version: int, **values: Any) -> Answer:
        """Sends one request and returns its decoded answer."""
        return self.collect(self.post(api, version, **values))


def _nullable_string(value: str | None) -> bytes:
    if value is None:
        return struct.pack(">h", -1)
    data = value.encode()
    return struct.pack(">h", len(data)) + data
