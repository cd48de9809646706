"""A lane that is told to rest while something waits does not."""

from __future__ import annotations

from pathlib import Path

from tests.delivery.flow_world import World, settled


async def test_what_arrives_late_while_a_lane_goes_to_rest_is_released_all_the_same(tmp_path: Path) -> None:
    world = World(tmp_path / "data")
    async with world.running() as life:
        await world.delays(delay_ms=0)
        life.produce("later", b"a")
        await life.advance(1)
        assert life.values("later") == [b"a"]
        world.clock.now_ms -= 600
        life.produce("later", b"b", headers=[("pykbroker-delay-ms", b"300")])
        await settled()
        (work,) = (flow.work for flow in life.flows._flows.values() if flow.work is not None)
        work.rest(b"mark")
        await settled()
    async with world.running() as life:
        await life.advance(299)
        assert life.values("later") == [b"a"]
        await life.advance(1)
        assert life.values("later") == [b"a", b"b"]
