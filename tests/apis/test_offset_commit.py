"""OffsetCommit, all versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from pykbroker.errors import ErrorCode
from tests.apis.group_support import members


@pytest.mark.parametrize("version", range(2, 11))
async def test_simple_consumers_and_members(tmp_path: Path, version: int) -> None:
    async with members(tmp_path) as clients:
        assert await clients.commit(5, version=version) == ErrorCode.NONE
        assert await clients.commit(5, version=version, group="") == ErrorCode.NONE
        member = await clients.stable()
        assert await clients.commit(6, version=version) == ErrorCode.UNKNOWN_MEMBER_ID
        assert await clients.commit(6, version=version, member_id=member, generation=1) == ErrorCode.NONE
        code = await clients.commit(6, version=version, member_id=member, generation=0)
        assert code == ErrorCode.ILLEGAL_GENERATION
        code = await clients.commit(6, version=version, member_id="x", generation=1)
        assert code == ErrorCode.UNKNOWN_MEMBER_ID
        unknown = await clients.commit(6, version=version, member_id="x", generation=1, group="no")
        assert unknown == (ErrorCode.GROUP_ID_NOT_FOUND if version >= 9 else ErrorCode.ILLEGAL_GENERATION)


async def test_places_that_do_not_exist(tmp_path: Path) -> None:
    async with members(tmp_path) as clients:
        missing = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert await clients.commit(1, partition=2) == missing
        assert await clients.commit(1, partition=-1) == missing
        assert await clients.commit(1, topic="no", version=9) == missing
        assert await clients.commit(1, topic_id=b"x" * 16) == ErrorCode.UNKNOWN_TOPIC_ID
        # The place is looked at before the member is.
        assert await clients.commit(1, partition=2, member_id="x", generation=1) == missing


async def test_metadata_has_a_limit(tmp_path: Path) -> None:
    async with members(tmp_path, "offset.metadata.max.bytes=10") as clients:
        assert await clients.commit(1, metadata="x" * 11) == ErrorCode.OFFSET_METADATA_TOO_LARGE
        assert await clients.commit(-7, metadata="x" * 10) == ErrorCode.NONE
