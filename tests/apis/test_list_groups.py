"""ListGroups, all versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from pykbroker.protocol.messages.list_groups import ListGroupsRequest, ListGroupsResponse
from tests.apis.group_support import members


@pytest.mark.parametrize("version", range(6))
async def test_all(tmp_path: Path, version: int) -> None:
    async with members(tmp_path) as clients:
        await clients.stable()
        await clients.commit(1, group="simple")
        response = await clients.home.call(ListGroupsRequest(), ListGroupsResponse, version)
        assert response.error_code == 0
        assert {(g.group_id, g.protocol_type) for g in response.groups} == {("g", "consumer"), ("simple", "")}
        if version >= 4:
            assert {g.group_state for g in response.groups} == {"Stable", "Empty"}
        if version >= 5:
            assert {g.group_type for g in response.groups} == {"classic"}


@pytest.mark.parametrize(
    ("states", "types", "found"),
    [
        (["Stable"], [], {"g"}),
        (["empty", "STABLE"], [], {"g", "simple"}),
        (["nonsense"], [], set()),
        ([], ["Classic"], {"g", "simple"}),
        ([], ["consumer", "share"], set()),
        (["Empty"], ["classic"], {"simple"}),
    ],
)
async def test_filters(tmp_path: Path, states: list[str], types: list[str], found: set[str]) -> None:
    async with members(tmp_path) as clients:
        await clients.stable()
        await clients.commit(1, group="simple")
        request = ListGroupsRequest(states_filter=states, types_filter=types)
        response = await clients.home.call(request, ListGroupsResponse, 5)
        assert {g.group_id for g in response.groups} == found
