"""SyncGroup, all versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from pykbroker.errors import ErrorCode
from tests.apis.group_support import members


@pytest.mark.parametrize("version", range(6))
async def test_an_assignment(tmp_path: Path, version: int) -> None:
    async with members(tmp_path) as clients:
        member = (await clients.join(version=3)).member_id
        synced = await clients.sync(member, 1, {member: b"all"}, version=version)
        assert (synced.error_code, synced.assignment) == (0, b"all")
        if version >= 5:
            assert (synced.protocol_type, synced.protocol_name) == ("consumer", "range")
        again = await clients.sync(member, 1, version=version)
        assert again.assignment == b"all"


@pytest.mark.parametrize("protocol", [None, "sticky"])
async def test_version_5_must_name_the_protocol(tmp_path: Path, protocol: str | None) -> None:
    async with members(tmp_path) as clients:
        member = await clients.stable()
        refused = await clients.sync(member, 1, protocol=protocol)
        assert refused.error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        assert (await clients.sync(member, 1, protocol=protocol, version=4)).error_code == 0


async def test_refusals(tmp_path: Path) -> None:
    async with members(tmp_path) as clients:
        member = await clients.stable()
        assert (await clients.sync(member, 2)).error_code == ErrorCode.ILLEGAL_GENERATION
        assert (await clients.sync("x", 1)).error_code == ErrorCode.UNKNOWN_MEMBER_ID
        assert (await clients.sync("x", 1, group="no")).error_code == ErrorCode.UNKNOWN_MEMBER_ID
        assert (await clients.sync("x", 1, group="")).error_code == ErrorCode.INVALID_GROUP_ID
