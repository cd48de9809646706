"""Headers of requests and responses, and the length in front of them.

A frame is an int32 length and that many bytes.  Request headers: key, version, correlation id, client
id; flexible versions of an API (header version 2) add a tagged section.  The client id keeps its
int16 length in all of them.  Response headers: the correlation id; with a tagged section (version 1)
for flexible versions, except ApiVersions, whose answer a client must be able to read before it knows
the broker's versions (KIP-511).
"""

from __future__ import annotations

from struct import Struct as Packer
from struct import error as struct_error
from typing import NamedTuple, TypeVar

from pykbroker.protocol._wire import skip_tags
from pykbroker.protocol.codec import Regions, Writer, writer
from pykbroker.protocol.errors import ProtocolError
from pykbroker.protocol.schema import Message

M = TypeVar("M", bound=Message)

API_VERSIONS = 18
LENGTH_SIZE = 4

_HEADER = Packer(">hhih")
_INT32 = Packer(">i")
_RESPONSE = Packer(">ii")
_TAGGED_RESPONSE = Packer(">iiB")


class RequestHeader(NamedTuple):
    """The header of a request; ``end`` is the position behind the client id."""

    api_key: int
    api_version: int
    correlation_id: int
    client_id: str | None
    end: int


def parse_request_header(frame: memoryview) -> RequestHeader:
    """Read key, version, correlation id and client id; raises ProtocolError.

    The tagged section of a flexible header is still in front of ``end``: which versions have one is
    known only to the API's declaration, see :func:`body_start`.
    """
    try:
        key, version, correlation, length = _HEADER.unpack_from(frame)
    except struct_error:
        raise ProtocolError("a request is shorter than its header") from None
    end = _HEADER.size
    if length < 0:
        return RequestHeader(key, version, correlation, None, end)
    end += length
    if end > len(frame):
        raise ProtocolError("the client id reaches behind the end of the request")
    client_id = str(frame[_HEADER.size : end], "utf-8", "replace")
    return RequestHeader(key, version, correlation, client_id, end)


def body_start(frame: memoryview, header: RequestHeader, request: type[Message]) -> int:
    """The position of the body of ``request``; raises ProtocolError."""
    if header.api_version < request.flexible_since:
        return header.end
    try:
        if not frame[header.end]:
            return header.end + 1
        return skip_tags(frame, header.end)
    except IndexError:
        raise ProtocolError("a request ends in its header") from None


def has_tagged_response_header(response: type[Message], version: int) -> bool:
    """Whether the answer's header is of version 1."""
    return version >= response.flexible_since and response.message_key != API_VERSIONS


def write_response(
    out: bytearray, regions: Regions, correlation_id: int, write: Writer[M], message: M, *, tagged: bool
) -> int:
    """Append one whole answer, length first; the size of the frame in bytes, FileRegions counted.

    ``tagged`` is :func:`has_tagged_response_header`.  If ``write`` raises, ``out`` and ``regions`` are
    as they were.
    """
    start, known = len(out), len(regions)
    out += _TAGGED_RESPONSE.pack(0, correlation_id, 0) if tagged else _RESPONSE.pack(0, correlation_id)
    try:
        write(message, out, regions)
    except BaseException:
        del out[start:]
        del regions[known:]
        raise
    size = len(out) - start - LENGTH_SIZE
    if len(regions) > known:
        size += sum(region.size for _, region in regions[known:])
    _INT32.pack_into(out, start, size)
    return size + LENGTH_SIZE


def encode_request(message: Message, version: int, correlation_id: int, client_id: str | None) -> bytes:
    """One whole request, length first."""
    out, regions = bytearray(LENGTH_SIZE), Regions()
    name = b"" if client_id is None else client_id.encode()
    length = -1 if client_id is None else len(name)
    out += _HEADER.pack(message.message_key, version, correlation_id, length)
    out += name
    if version >= message.flexible_since:
        out.append(0)
    writer(type(message), version)(message, out, regions)
    if regions:
        raise ValueError("a request cannot hold record bytes that stay in files")
    _INT32.pack_into(out, 0, len(out) - LENGTH_SIZE)
    return bytes(out)


def parse_response_header(frame: memoryview, response: type[Message], version: int) -> tuple[int, int]:
    """Correlation id and position of the body of an answer; raises ProtocolError."""
    try:
        (correlation_id,) = _INT32.unpack_from(frame)
        if not has_tagged_response_header(response, version):
            return correlation_id, _INT32.size
        return correlation_id, skip_tags(frame, _INT32.size)
    except (struct_error, IndexError):
        raise ProtocolError("an answer is shorter than its header") from None
