"""DescribeGroups, all versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from pykbroker.errors import ErrorCode
from pykbroker.protocol.messages.describe_groups import DescribeGroupsRequest, DescribeGroupsResponse
from tests.apis.group_support import members
from tests.groups.world import subscription


@pytest.mark.parametrize("version", range(7))
async def test_states(tmp_path: Path, version: int) -> None:
    async with members(tmp_path) as clients:
        member = await clients.stable()
        assigning = (await clients.join(version=3, group="assigning")).member_id
        await clients.commit(1, group="simple")
        request = DescribeGroupsRequest(
            groups=["g", "assigning", "simple", "no"], include_authorized_operations=version >= 3
        )
        response = await clients.home.call(request, DescribeGroupsResponse, version)
        stable, other, simple, missing = response.groups

        assert (stable.group_state, stable.protocol_type, stable.protocol_data) == (
            "Stable",
            "consumer",
            "range",
        )
        (described,) = stable.members
        assert (described.member_id, described.client_id) == (member, "client")
        assert described.client_host == "/127.0.0.1"
        assert described.member_metadata == subscription("t")
        assert described.member_assignment == b"all"
        assert stable.authorized_operations == (3400 if version >= 3 else -2147483648)

        assert (other.group_state, other.protocol_data) == ("CompletingRebalance", "")
        assert [(m.member_id, m.member_metadata) for m in other.members] == [(assigning, b"")]

        assert (simple.group_state, simple.protocol_type, simple.members) == ("Empty", "", [])

        assert missing.group_state == "Dead"
        assert missing.error_code == (ErrorCode.GROUP_ID_NOT_FOUND if version >= 6 else ErrorCode.NONE)
        assert missing.error_message == ("Group no not found." if version >= 6 else None)
