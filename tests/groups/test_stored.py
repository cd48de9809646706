"""Records of the offsets topic: what is written, what is read, what is passed over."""

from __future__ import annotations

import struct

import pytest

from pykbroker.coordinator.shard_log import StoredRecord
from pykbroker.groups import stored
from pykbroker.groups.hashing import java_hash, partition_of
from pykbroker.groups.limits import GroupLimits
from pykbroker.groups.machine import GroupMachine
from pykbroker.groups.states import GroupState
from pykbroker.groups.stored import CommittedOffset, OffsetRecord
from pykbroker.protocol.codec import encode
from pykbroker.protocol.messages.consumer_offsets import GroupMetadataValue, MemberMetadata
from tests.groups.world import World


def version_of(data: bytes | None) -> int:
    assert data is not None
    return int(struct.unpack_from(">h", data)[0])


def test_an_offset_as_kafka_writes_it() -> None:
    value = CommittedOffset(7, 2, "m", 1000, topic_id=bytes(range(16)))
    record = stored.offset_record("g", "t", 3, value)
    # Taken from Kafka's documentation of the key: version 1, group, topic, partition.
    assert record.key == b"\x00\x01\x00\x01g\x00\x01t\x00\x00\x00\x03"
    assert version_of(record.value) == 4
    assert stored.read(StoredRecord(0, *record)) == OffsetRecord("g", "t", 3, value)


def test_an_offset_with_its_own_expiry_needs_the_old_version() -> None:
    record = stored.offset_record("g", "t", 0, CommittedOffset(7, 2, "m", 1000, expire_ms=2000))
    assert version_of(record.value) == 1
    read = stored.read(StoredRecord(0, *record))
    assert read == OffsetRecord("g", "t", 0, CommittedOffset(7, -1, "m", 1000, expire_ms=2000))


def test_a_group_is_written_in_version_3() -> None:
    world = World()
    world.stable(2)
    record = world.log[-1]
    assert record.key == b"\x00\x02\x00\x01g"
    assert version_of(record.value) == 3
    group = world.replayed().groups["g"]
    assert group.state is GroupState.STABLE
    assert group.subscribed == frozenset({"t"})
    assert [m.assignment.decode() for m in group.members.values()] == list(group.members)


def test_a_group_of_version_0_has_no_rebalance_timeout() -> None:
    member = MemberMetadata(member_id="m", session_timeout=9000, subscription=b"s", assignment=b"a")
    body = GroupMetadataValue(protocol_type="consumer", generation=4, protocol="range", members=[member])
    machine = GroupMachine(GroupLimits())
    value = struct.pack(">h", 0) + encode(body, 0)
    machine.apply(StoredRecord(0, stored.group_key("g"), value))
    assert machine.groups["g"].members["m"].rebalance_timeout_ms == 9000
    machine.loaded(100.0)
    assert machine.next_deadline() == 109.0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"", b""),
        (b"\x00\x01", None),
        (b"\x00\x02\x00\x01g", b"\x00\x63rubbish"),
        (b"\x00\x02\x00\x01g", b"\x00\x03\x00"),
    ],
)
def test_what_cannot_be_read_is_passed_over(
    key: bytes, value: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    machine = GroupMachine(GroupLimits())
    machine.apply(StoredRecord(5, key, value))
    assert machine.groups == {}
    assert "offset 5" in caplog.text


def test_other_kinds_of_records_are_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    machine = GroupMachine(GroupLimits())
    machine.apply(StoredRecord(0, b"\x00\x03\x00\x01g", b"\x00\x00\x00\x00\x00\x01"))
    assert machine.groups == {}
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", 0),
        ("my-group", -1906497762),
        ("polygenelubricants", -2147483648),
        ("\U0001f600", 1772899),
    ],
)
def test_java_hash(text: str, code: int) -> None:
    assert java_hash(text) == code


def test_the_partition_of_the_smallest_hash_is_0() -> None:
    assert partition_of("polygenelubricants", 50) == 0
    assert partition_of("my-group", 50) == 12
