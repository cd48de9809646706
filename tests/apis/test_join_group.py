"""JoinGroup, all versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from pykbroker.errors import ErrorCode
from pykbroker.protocol.messages.join_group import (
    JoinGroupRequest,
    JoinGroupRequestProtocol,
    JoinGroupResponse,
)
from tests.apis.group_support import members


@pytest.mark.parametrize("version", range(10))
async def test_a_first_member(tmp_path: Path, version: int) -> None:
    async with members(tmp_path) as clients:
        joined = await clients.join(version=version)
        if version >= 4:
            assert joined.error_code == ErrorCode.MEMBER_ID_REQUIRED
            assert joined.protocol_name == (None if version >= 7 else "")
            joined = await clients.join(joined.member_id, version=version)
        assert (joined.error_code, joined.generation_id, joined.protocol_name) == (0, 1, "range")
        assert joined.protocol_type == ("consumer" if version >= 7 else None)
        assert joined.leader == joined.member_id == joined.members[0].member_id
        assert joined.member_id.startswith("client-")


async def test_version_0_has_the_session_timeout_for_rebalances(tmp_path: Path) -> None:
    async with members(tmp_path) as clients:
        await clients.join(version=0)
        (shard,) = clients.home.services.groups._shards.values()
        (member,) = shard.machine.groups["g"].members.values()
        assert member.rebalance_timeout_ms == member.session_timeout_ms == 6000
        assert member.client_host == "/127.0.0.1"


@pytest.mark.parametrize("version", [5, 8, 9])
async def test_a_static_member_restarts(tmp_path: Path, version: int) -> None:
    async with members(tmp_path) as clients:
        first = await clients.join(version=version, instance="i")
        await clients.sync(first.member_id, 1, {first.member_id: b"all"})
        again = await clients.join(version=version, instance="i")
        assert (again.error_code, again.generation_id) == (0, 1)
        assert again.member_id != first.member_id
        if version == 9:
            assert again.skip_assignment
            assert (again.leader, len(again.members)) == (again.member_id, 1)
        else:
            assert (again.leader, again.members) == (first.member_id, [])


@pytest.mark.parametrize("version", [0, 9])
async def test_refusals_carry_the_member_id(tmp_path: Path, version: int) -> None:
    async with members(tmp_path) as clients:
        refused = await clients.join("nobody", version=version)
        assert (refused.error_code, refused.member_id) == (ErrorCode.UNKNOWN_MEMBER_ID, "nobody")
        assert (refused.generation_id, refused.leader, refused.members) == (-1, "", [])
        refused = await clients.join(version=version, group="")
        assert refused.error_code == ErrorCode.INVALID_GROUP_ID


@pytest.mark.parametrize(
    ("session_ms", "offers", "code"),
    [
        (5999, ["range"], ErrorCode.INVALID_SESSION_TIMEOUT),
        (1_800_001, ["range"], ErrorCode.INVALID_SESSION_TIMEOUT),
        (6000, [], ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
        (6000, ["sticky"], ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
    ],
)
async def test_unfit_members(tmp_path: Path, session_ms: int, offers: list[str], code: ErrorCode) -> None:
    async with members(tmp_path) as clients:
        await clients.stable()
        request = JoinGroupRequest(
            group_id="g",
            session_timeout_ms=session_ms,
            rebalance_timeout_ms=1,
            protocol_type="consumer",
            protocols=[JoinGroupRequestProtocol(name=name, metadata=b"") for name in offers],
        )
        assert (await clients.home.call(request, JoinGroupResponse, 9)).error_code == code


async def test_the_group_that_settles_dead_letters_has_no_members(tmp_path: Path) -> None:
    async with members(tmp_path) as clients:
        joined = await clients.join(group="pykbroker.dlq")
        assert joined.error_code == ErrorCode.INVALID_GROUP_ID
