"""Whole flows on real logs: what is produced to a topic that delays, or to a retry topic, and what then."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.delivery.flow_world import World, settled


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_a_record_is_read_when_its_delay_is_over(world: World) -> None:
    async with world.running() as life:
        await world.delays()
        life.produce("later", b"a", headers=[("pykbroker-delay-ms", b"500")])
        life.produce("later", b"b", headers=[("pykbroker-delay-ms", b"200")])
        life.produce("later", b"c")
        await settled()
        assert life.values("later") == [b"c"]
        await life.advance(199)
        assert life.values("later") == [b"c"]
        await life.advance(1)
        assert life.values("later") == [b"c", b"b"]
        await life.advance(10_000)
        assert life.values("later") == [b"c", b"b", b"a"]
