"""Headers, against kio's and against hostile bytes."""

from __future__ import annotations

import io
import struct

import pytest

from pykbroker.protocol.codec import Regions, decode, writer
from pykbroker.protocol.errors import ProtocolError
from pykbroker.protocol.frames import (
    body_start,
    encode_request,
    has_tagged_response_header,
    parse_request_header,
    parse_response_header,
    write_response,
)
from pykbroker.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from pykbroker.protocol.messages.fetch import FetchableTopicResponse, FetchResponse, PartitionData
from pykbroker.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from pykbroker.protocol.schema import FileRegion, Message
from tests.protocol.instances import all_messages, versions

kio_index = pytest.importorskip("kio.index")
kio_serial = pytest.importorskip("kio.serial")


@pytest.mark.parametrize("client_id", [None, "", "grüße"])
@pytest.mark.parametrize("version", [0, 4])
def test_request_header(client_id: str | None, version: int) -> None:
    frame = memoryview(encode_request(HeartbeatRequest(group_id="g"), version, 77, client_id))
    assert struct.unpack_from(">i", frame) == (len(frame) - 4,)
    header = parse_request_header(frame[4:])
    assert header[:4] == (12, version, 77, client_id)
    start = body_start(frame[4:], header, HeartbeatRequest)
    assert decode(HeartbeatRequest, version, frame[4 + start :]).group_id == "g"


def test_request_headers_are_kios() -> None:
    """Which header version belongs to which message version."""
    for message in all_messages():
        if not message.__name__.endswith("Request"):
            continue
        for version in versions(message):
            theirs = kio_index.load_request_schema(message.message_key, version).__header_schema__
            buffer = io.BytesIO()
            header = theirs(
                request_api_key=message.message_key,
                request_api_version=version,
                correlation_id=5,
                client_id="c",
            )
            kio_serial.entity_writer(theirs)(buffer, header)
            ours = encode_request(message(), version, 5, "c")
            assert ours[4:].startswith(buffer.getvalue())


def test_response_headers_are_kios() -> None:
    for message in all_messages():
        if not message.__name__.endswith("Response"):
            continue
        for version in versions(message):
            theirs = kio_index.load_response_schema(message.message_key, version).__header_schema__
            assert has_tagged_response_header(message, version) == theirs.__flexible__


def test_unknown_tags_in_a_header_are_skipped() -> None:
    frame = bytearray(encode_request(HeartbeatRequest(group_id="g"), 4, 1, "c"))
    at = 4 + 8 + 2 + 1
    frame[at : at + 1] = b"\x01\x05\x02xy"
    view = memoryview(frame)[4:]
    start = body_start(view, parse_request_header(view), HeartbeatRequest)
    assert decode(HeartbeatRequest, 4, view[start:]).group_id == "g"


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 9, b"\0\x12\0\0\0\0\0\1\0\5abc", b"\0\x12\0\0\0\0\0\1\x7f\xff"]
)
def test_short_headers(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_request_header(memoryview(data))


@pytest.mark.parametrize("tags", [b"", b"\x01", b"\x01\0\x7f", b"\xff\xff\xff\xff\xff\xff"])
def test_short_tagged_sections(tags: bytes) -> None:
    frame = memoryview(b"\0\x0c\0\4\0\0\0\1\xff\xff" + tags)
    with pytest.raises(ProtocolError):
        body_start(frame, parse_request_header(frame), HeartbeatRequest)


@pytest.mark.parametrize(
    ("message", "version", "tagged"),
    [
        (HeartbeatResponse(error_code=3), 4, True),
        (HeartbeatResponse(error_code=3), 0, False),
        (ApiVersionsResponse(error_code=3), 4, False),
    ],
)
def test_response_frame(message: Message, version: int, tagged: bool) -> None:
    kind = type(message)
    assert has_tagged_response_header(kind, version) is tagged
    out = bytearray(b"earlier answer")
    size = write_response(out, Regions(), 99, writer(kind, version), message, tagged=tagged)
    frame = memoryview(out)[14:]
    assert size == len(frame)
    assert struct.unpack_from(">i", frame) == (len(frame) - 4,)
    correlation_id, start = parse_response_header(frame[4:], kind, version)
    assert correlation_id == 99
    assert decode(kind, version, frame[4 + start :]) == message


def test_response_length_counts_regions() -> None:
    partition = PartitionData(records=[b"abc", FileRegion(1, 0, 1000)])
    message = FetchResponse(responses=[FetchableTopicResponse(partitions=[partition])])
    out, regions = bytearray(), Regions()
    size = write_response(out, regions, 1, writer(FetchResponse, 12), message, tagged=True)
    assert size == len(out) + 1000
    assert struct.unpack_from(">i", out) == (size - 4,)


def test_a_writer_that_fails_leaves_nothing_behind() -> None:
    out = bytearray(b"kept")
    broken = HeartbeatResponse(error_code="no number")  # type: ignore[arg-type]  # what a bug would do
    with pytest.raises(struct.error):
        write_response(out, Regions(), 1, writer(HeartbeatResponse, 4), broken, tagged=True)
    assert out == b"kept"


def test_response_shorter_than_its_header() -> None:
    with pytest.raises(ProtocolError):
        parse_response_header(memoryview(b"\0\0\0"), HeartbeatResponse, 0)
    with pytest.raises(ProtocolError):
        parse_response_header(memoryview(b"\0\0\0\1"), HeartbeatResponse, 4)


def test_api_versions_request_in_version_3_has_a_tagged_header() -> None:
    """Only its answer is special."""
    frame = memoryview(encode_request(ApiVersionsRequest(client_software_name="x"), 3, 1, "c"))[4:]
    header = parse_request_header(frame)
    assert body_start(frame, header, ApiVersionsRequest) == header.end + 1
