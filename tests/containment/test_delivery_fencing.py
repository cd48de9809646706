"""A nack is a commit: what is not committed is not nacked, whoever sent it."""

from __future__ import annotations

import json

import pytest

from pykbroker.errors import ErrorCode
from pykbroker.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from pykbroker.protocol.messages.join_group import (
    JoinGroupRequest,
    JoinGroupRequestProtocol,
    JoinGroupResponse,
)
from pykbroker.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from pykbroker.protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
    OffsetDeleteResponse,
)
from pykbroker.protocol.messages.sync_group import (
    SyncGroupRequest,
    SyncGroupRequestAssignment,
    SyncGroupResponse,
)
from tests.containment.failures import Failures, failing

RETRY = "orders.billing.retry"
NACK = json.dumps({"nack": [0]})


def joined(failures: Failures) -> tuple[str, int]:
    """A member of billing and its generation."""
    failures.client.call(FindCoordinatorRequest(key="billing"), FindCoordinatorResponse, 3)
    protocols = [JoinGroupRequestProtocol(name="range", metadata=b"")]
    request = JoinGroupRequest(
        group_id="billing",
        session_timeout_ms=30_000,
        rebalance_timeout_ms=30_000,
        protocol_type="consumer",
        protocols=protocols,
    )
    found = failures.client.call(request, JoinGroupResponse, 3)
    assert found.error_code == 0
    assignments = [SyncGroupRequestAssignment(member_id=found.member_id, assignment=b"")]
    sync = SyncGroupRequest(
        group_id="billing",
        generation_id=found.generation_id,
        member_id=found.member_id,
        assignments=assignments,
    )
    assert failures.client.call(sync, SyncGroupResponse, 2).error_code == 0
    return found.member_id, found.generation_id


def commit(failures: Failures, member: str, generation: int, metadata: str = NACK) -> int:
    partition = OffsetCommitRequestPartition(
        partition_index=0, committed_offset=1, committed_metadata=metadata
    )
    request = OffsetCommitRequest(
        group_id="billing",
        member_id=member,
        generation_id_or_member_epoch=generation,
        topics=[OffsetCommitRequestTopic(name="orders", partitions=[partition])],
    )
    answer = failures.client.call(request, OffsetCommitResponse, 7)
    return answer.topics[0].partitions[0].error_code


@pytest.mark.parametrize("metadata", [NACK, json.dumps({"nack": [0], "reason": "x" * 5000})])
def test_commits_that_are_fenced_or_too_long_nack_nothing(metadata: str) -> None:
    with failing() as failures:
        failures.policy("orders", retry_delay_ms="0")
        failures.put("orders", b"v")
        member, generation = joined(failures)
        codes = [
            commit(failures, *who, metadata)
            for who in ((member, generation - 1), ("nobody", generation), ("", -1))
        ]
        assert codes == [
            ErrorCode.ILLEGAL_GENERATION,
            ErrorCode.UNKNOWN_MEMBER_ID,
            ErrorCode.UNKNOWN_MEMBER_ID,
        ]
        if metadata != NACK:
            code = commit(failures, member, generation, metadata)
            assert code == ErrorCode.OFFSET_METADATA_TOO_LARGE
        assert failures.committed("billing", "orders") == (-1, "")
        failures.only(RETRY, 0)
        assert failures.held() == 0
        assert commit(failures, member, generation) == 0
        assert failures.committed("billing", "orders") == (1, NACK)
        failures.eventually(RETRY, 1)


def test_offsets_that_are_deleted_let_a_record_be_nacked_again() -> None:
    """A tombstone: what counted is forgotten, as the group will begin anew."""
    with failing() as failures:
        failures.policy("orders", retry_delay_ms="0")
        failures.put("orders", b"v")
        assert failures.nack("billing", "orders", 0) == 0
        assert failures.nack("billing", "orders", 0) == 0
        failures.eventually(RETRY, 1)
        partition = OffsetDeleteRequestPartition(partition_index=0)
        request = OffsetDeleteRequest(
            group_id="billing",
            topics=[OffsetDeleteRequestTopic(name="orders", partitions=[partition])],
        )
        answer = failures.client.call(request, OffsetDeleteResponse, 0)
        assert (answer.error_code, answer.topics[0].partitions[0].error_code) == (0, 0)
        assert failures.nack("billing", "orders", 0) == 0
        failures.eventually(RETRY, 2)
