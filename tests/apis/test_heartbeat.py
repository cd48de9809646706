"""Heartbeat, all versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from pykbroker.errors import ErrorCode
from tests.apis.group_support import members


@pytest.mark.parametrize("version", range(5))
async def test_codes(tmp_path: Path, version: int) -> None:
    async with members(tmp_path) as clients:
        member = (await clients.join(version=3)).member_id
        assert await clients.heartbeat(member, 1, version=version) == ErrorCode.NONE
        await clients.sync(member, 1, {member: b""})
        assert await clients.heartbeat(member, 1, version=version) == ErrorCode.NONE
        assert await clients.heartbeat(member, 2, version=version) == ErrorCode.ILLEGAL_GENERATION
        assert await clients.heartbeat("x", 1, version=version) == ErrorCode.UNKNOWN_MEMBER_ID
        assert await clients.heartbeat("x", 1, group="no") == ErrorCode.UNKNOWN_MEMBER_ID
        assert await clients.heartbeat("x", 1, group="") == ErrorCode.INVALID_GROUP_ID
