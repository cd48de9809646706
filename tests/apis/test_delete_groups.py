"""DeleteGroups, all versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from pykbroker.errors import ErrorCode
from pykbroker.protocol.messages.delete_groups import DeleteGroupsRequest, DeleteGroupsResponse
from tests.apis.group_support import members


@pytest.mark.parametrize("version", range(3))
async def test_codes(tmp_path: Path, version: int) -> None:
    async with members(tmp_path) as clients:
        await clients.stable()
        await clients.commit(1, group="simple")
        request = DeleteGroupsRequest(groups_names=["g", "simple", "no"])
        response = await clients.home.call(request, DeleteGroupsResponse, version)
        assert [(r.group_id, r.error_code) for r in response.results] == [
            ("g", ErrorCode.NON_EMPTY_GROUP),
            ("simple", ErrorCode.NONE),
            ("no", ErrorCode.GROUP_ID_NOT_FOUND),
        ]
        again = await clients.home.call(request, DeleteGroupsResponse, version)
        assert again.results[1].error_code == ErrorCode.GROUP_ID_NOT_FOUND
