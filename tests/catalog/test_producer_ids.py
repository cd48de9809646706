"""Producer ids."""

from __future__ import annotations

import trio

from pykbroker.catalog.memory import MemoryCatalog
from pykbroker.catalog.producer_ids import BLOCK, ProducerIds


async def test_ids_are_unique_and_blocks_are_taken_when_needed() -> None:
    catalog = MemoryCatalog()
    one, other = ProducerIds(catalog), ProducerIds(catalog)
    assert [await one.next_id(), await other.next_id(), await one.next_id()] == [0, BLOCK, 1]
    for _ in range(BLOCK - 2):
        await one.next_id()
    assert catalog.image.next_producer_id == 2 * BLOCK
    assert await one.next_id() == 2 * BLOCK


async def test_those_who_ask_at_once_get_different_ids() -> None:
    ids, found = ProducerIds(MemoryCatalog()), set()

    async def ask() -> None:
        found.add(await ids.next_id())

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask)
    assert found == set(range(20))
