"""FindCoordinator, all versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from pykbroker.errors import ErrorCode
from tests.apis.group_support import members


@pytest.mark.parametrize("version", range(4))
async def test_one_key(tmp_path: Path, version: int) -> None:
    async with members(tmp_path) as clients:
        found = await clients.find("g", version=version)
        assert (found.error_code, found.node_id, found.host, found.port) == (0, 1, "localhost", 9092)


@pytest.mark.parametrize("version", [4, 5, 6])
async def test_several_keys(tmp_path: Path, version: int) -> None:
    async with members(tmp_path) as clients:
        found = await clients.find("a", "", "c", version=version)
        assert [(c.key, c.error_code, c.node_id) for c in found.coordinators] == [
            ("a", 0, 1),
            ("", 0, 1),
            ("c", 0, 1),
        ]


@pytest.mark.parametrize("key_type", [2, 7])
async def test_other_coordinators_are_refused_with_a_reason(tmp_path: Path, key_type: int) -> None:
    async with members(tmp_path) as clients:
        (found,) = (await clients.find("x", key_type=key_type)).coordinators
        assert (found.error_code, found.node_id, found.port) == (ErrorCode.INVALID_REQUEST, -1, -1)
        assert "not supported" in (found.error_message or "")
        old = await clients.find("x", key_type=key_type, version=1)
        assert old.error_code == ErrorCode.INVALID_REQUEST
