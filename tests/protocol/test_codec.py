"""The surface of the codec: versions, record bytes that stay in files, defaults."""

from __future__ import annotations

from random import Random

import pytest

from pykbroker.protocol.codec import Regions, decode, encode, reader, writer
from pykbroker.protocol.messages.consumer_offsets import GroupMetadataValue, OffsetCommitValue
from pykbroker.protocol.messages.fetch import FetchableTopicResponse, FetchResponse, PartitionData
from pykbroker.protocol.messages.heartbeat import HeartbeatRequest
from pykbroker.protocol.schema import FileRegion, Message, Records
from tests.protocol.instances import cases, random_struct


def answer(records: Records | None) -> FetchResponse:
    partition = PartitionData(partition_index=1, high_watermark=5, records=records)
    return FetchResponse(responses=[FetchableTopicResponse(topic="t", partitions=[partition])])


@pytest.mark.parametrize(("message", "version"), cases())
def test_round_trip(message: type[Message], version: int) -> None:
    """Also for the stored records, which have no oracle."""
    rng = Random(version)
    for size in range(4):
        ours = random_struct(message, version, rng, size=size)
        data = encode(ours, version)
        read, end = reader(message, version)(memoryview(b"before" + data + b"after"), 6)
        assert read == ours
        assert end == 6 + len(data)


@pytest.mark.parametrize("version", [0, 14])
def test_a_version_that_is_not_declared(version: int) -> None:
    with pytest.raises(ValueError, match="FetchResponse has versions 4 to 18"):
        reader(FetchResponse, version and 19)
    with pytest.raises(ValueError, match="has versions"):
        writer(HeartbeatRequest, 99)


@pytest.mark.parametrize("version", [4, 11, 12, 18])
def test_records_in_parts_and_in_files(version: int) -> None:
    """The answer is the bytes with the files' content put in at the stated positions."""
    plain = encode(answer(b"head" + b"F" * 300 + b"tail" + b"G" * 5), version)
    out, regions = bytearray(), Regions()
    first, second = FileRegion(3, 0, 300), FileRegion(4, 10, 5)
    writer(FetchResponse, version)(answer([b"head", first, memoryview(b"tail"), second]), out, regions)
    assert [region for _, region in regions] == [first, second]
    (one, _), (two, _) = regions
    assert bytes(out[:one]) + b"F" * 300 + bytes(out[one:two]) + b"G" * 5 + bytes(out[two:]) == plain


def test_an_empty_region_leaves_no_trace() -> None:
    out, regions = bytearray(), Regions()
    writer(FetchResponse, 12)(answer(FileRegion(3, 0, 0)), out, regions)
    assert bytes(out) == encode(answer(b""), 12)
    assert regions == []


def test_encode_refuses_regions() -> None:
    with pytest.raises(ValueError, match="in a file"):
        encode(answer(FileRegion(3, 0, 10)), 12)


def test_fields_of_other_versions_are_left_out_and_read_as_defaults() -> None:
    value = OffsetCommitValue(offset=7, leader_epoch=3, metadata="m", commit_timestamp=1)
    assert decode(OffsetCommitValue, 1, encode(value, 1)).leader_epoch == -1
    assert decode(OffsetCommitValue, 3, encode(value, 3)) == value


def test_instances_do_not_share_defaults() -> None:
    first, second = GroupMetadataValue(), GroupMetadataValue()
    first.members.append(first.fields)  # type: ignore[arg-type]  # only the list matters
    assert second.members == []


def test_unknown_names_are_refused() -> None:
    with pytest.raises(TypeError, match="grup"):
        HeartbeatRequest(grup="g")  # type: ignore[call-arg]


def test_repr_and_equality() -> None:
    assert repr(HeartbeatRequest(group_id="g")).startswith("HeartbeatRequest(group_id='g'")
    assert HeartbeatRequest(group_id="g") == HeartbeatRequest(group_id="g")
    assert HeartbeatRequest(group_id="g") != HeartbeatRequest(group_id="h")
