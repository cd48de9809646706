"""Bytes that are no message: ProtocolError and nothing else, and memory in proportion to the bytes."""

from __future__ import annotations

import tracemalloc
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykbroker.protocol.codec import decode, encode, reader
from pykbroker.protocol.errors import ProtocolError
from pykbroker.protocol.messages.describe_groups import DescribeGroupsRequest
from pykbroker.protocol.messages.fetch import FetchRequest
from pykbroker.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from pykbroker.protocol.messages.offset_commit import OffsetCommitRequest
from pykbroker.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from pykbroker.protocol.schema import Message
from tests.protocol.instances import all_messages, cases, random_struct, versions


@pytest.mark.parametrize(("message", "version"), cases())
def test_truncated_at_every_byte(message: type[Message], version: int) -> None:
    whole = encode(random_struct(message, version, Random(f"{message.__name__}{version}"), size=2), version)
    for end in range(min(len(whole), 700)):
        with pytest.raises(ProtocolError):
            decode(message, version, whole[:end])


@pytest.mark.parametrize("message", all_messages())
def test_damaged_messages(message: type[Message]) -> None:
    """One to four bytes replaced, anywhere: a message or a ProtocolError."""
    rng = Random(message.__name__)
    for version in versions(message):
        whole = bytearray(encode(random_struct(message, version, rng, size=2), version))
        for _ in range(40):
            damaged = bytearray(whole)
            for _ in range(rng.randint(1, 4) if damaged else 0):
                damaged[rng.randrange(len(damaged))] = rng.choice(
                    [0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)]
                )
            try:
                decode(message, version, damaged)
            except ProtocolError:
                pass


@given(data=st.binary(max_size=200), pick=st.randoms(use_true_random=False))
def test_garbage(data: bytes, pick: Random) -> None:
    for message in all_messages():
        version = pick.choice(versions(message))
        try:
            decode(message, version, data)
        except ProtocolError:
            pass


def peak_while_refused(message: type[Message], version: int, data: bytes) -> int:
    read = reader(message, version)
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            read(memoryview(data), 0)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("message", "version", "data"),
    [
        (MetadataRequest, 1, b"\x7f\xff\xff\xff"),
        (MetadataRequest, 9, b"\xff\xff\xff\xff\x07"),
        (DescribeGroupsRequest, 0, b"\x7f\xff\xff\xff" + bytes(100)),
        (ProduceRequest, 3, b"\xff\xff\0\1\0\0\0\0\0\0\0\1\0\1t\0\0\0\1\0\0\0\0\x7f\xff\xff\xff"),
        (ProduceRequest, 9, b"\0\0\1\0\0\0\0\2\2t\2\0\0\0\0\xff\xff\xff\xff\x07"),
        (FetchRequest, 12, bytes(30) + b"\x01\xff\xff\xff\xff\x07"),
    ],
)
def test_a_length_that_lies_allocates_nothing(message: type[Message], version: int, data: bytes) -> None:
    assert peak_while_refused(message, version, data) < 20_000


def test_too_many_elements_over_nested_arrays() -> None:
    """Each array is within the frame, all together are too many."""
    topic = b"\x01\x81\x80\x04" + bytes(3) * 0  # empty name, 65,536 partitions
    one = topic + bytes(65_536 * 9)
    data = b"\x01\0\0\0\0\x01\x01" + b"\x3d" + one * 60
    with pytest.raises(ProtocolError):
        decode(OffsetCommitRequest, 8, data)


@pytest.mark.parametrize("count", [2**31 - 1, 2**24])
def test_many_empty_elements(count: int) -> None:
    """An element has at least its own length: more of them than bytes is a lie."""
    with pytest.raises(ProtocolError, match="behind the end"):
        decode(DescribeGroupsRequest, 0, count.to_bytes(4, "big") + bytes(1000))


def test_null_where_null_is_not_allowed() -> None:
    with pytest.raises(ProtocolError, match="null"):
        decode(MetadataRequest, 0, b"\xff\xff\xff\xff")
    assert decode(MetadataRequest, 1, b"\xff\xff\xff\xff").topics is None


def test_varint_that_never_ends() -> None:
    with pytest.raises(ProtocolError):
        decode(MetadataRequest, 9, b"\xff" * 64)


def test_compact_string_above_kafkas_limit() -> None:
    data = bytearray(encode(MetadataRequest(topics=[MetadataRequestTopic(name="a")]), 9))
    data[1:3] = b"\x81\x80\x02" + b"a" * 32_768
    with pytest.raises(ProtocolError, match="longer than 32767"):
        decode(MetadataRequest, 9, data)


def test_text_that_is_not_utf8_is_replaced() -> None:
    """As Java does it: a client with a Latin-1 name is served."""
    assert decode(DescribeGroupsRequest, 0, b"\0\0\0\1\0\2a\xe9").groups == ["a�"]


def test_unknown_tags_are_skipped_and_a_known_one_must_fill_its_length() -> None:
    plain = encode(FetchRequest(), 12)
    assert decode(FetchRequest, 12, plain[:-1] + b"\x01\x2a\x03abc") == FetchRequest()
    with_cluster = plain[:-1] + b"\x01\x00\x03\x02a"
    with pytest.raises(ProtocolError):
        decode(FetchRequest, 12, with_cluster + b"b")


def test_bytes_behind_the_message_are_ignored() -> None:
    assert decode(MetadataRequest, 9, encode(MetadataRequest(), 9) + b"more") == MetadataRequest()


def test_records_are_views_of_the_frame() -> None:
    """No copy, and writable: the broker patches offsets where they lie."""
    request = ProduceRequest(
        topic_data=[
            TopicProduceData(name="t", partition_data=[PartitionProduceData(index=0, records=b"batch")])
        ]
    )
    frame = bytearray(encode(request, 9))
    records = decode(ProduceRequest, 9, frame).topic_data[0].partition_data[0].records
    assert isinstance(records, memoryview)
    records[0:1] = b"B"
    assert b"Batch" in frame
