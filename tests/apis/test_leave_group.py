"""LeaveGroup, all versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from pykbroker.errors import ErrorCode
from pykbroker.protocol.messages.leave_group import MemberIdentity
from tests.apis.group_support import members


@pytest.mark.parametrize("version", range(3))
async def test_one_member(tmp_path: Path, version: int) -> None:
    async with members(tmp_path) as clients:
        member = await clients.stable()
        assert (await clients.leave("x", version=version)).error_code == ErrorCode.UNKNOWN_MEMBER_ID
        assert (await clients.leave(member, version=version)).error_code == ErrorCode.NONE
        assert await clients.heartbeat(member, 1) == ErrorCode.UNKNOWN_MEMBER_ID
        left = await clients.leave("x", version=version, group="no")
        assert left.error_code == ErrorCode.UNKNOWN_MEMBER_ID


@pytest.mark.parametrize("version", [3, 4, 5])
async def test_each_member_has_its_own_code(tmp_path: Path, version: int) -> None:
    async with members(tmp_path) as clients:
        static = (await clients.join(instance="i", version=9)).member_id
        left = await clients.leave(
            MemberIdentity(member_id="x"),
            MemberIdentity(member_id="", group_instance_id="i"),
            version=version,
        )
        assert left.error_code == ErrorCode.NONE
        assert [(m.member_id, m.group_instance_id, m.error_code) for m in left.members] == [
            ("x", None, ErrorCode.UNKNOWN_MEMBER_ID),
            ("", "i", ErrorCode.NONE),
        ]
        assert await clients.heartbeat(static, 1) == ErrorCode.UNKNOWN_MEMBER_ID
        unknown = await clients.leave("x", version=version, group="no")
        assert (unknown.error_code, unknown.members[0].error_code) == (0, ErrorCode.UNKNOWN_MEMBER_ID)
        assert (await clients.leave("x", version=version, group="")).error_code == ErrorCode.INVALID_GROUP_ID
