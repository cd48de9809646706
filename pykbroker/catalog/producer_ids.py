"""Producer ids, unique in the cluster: taken from the catalog in blocks, handed out one by one."""

from __future__ import annotations

import trio

from pykbroker.catalog.catalog import Catalog
from pykbroker.catalog.changes import TakeProducerIds
from pykbroker.catalog.image import Image

BLOCK = 1000
"""Ids per proposal; what is left of a block is lost at a stop, as in Kafka."""


class ProducerIds:
    """Hands out producer ids."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._next = 0
        self._end = 0
        self._lock = trio.Lock()

    async def next_id(self) -> int:
        """A producer id that nobody else has; waits for the catalog once per block.

        Raises KafkaError when the catalog cannot be written.
        """
        async with self._lock:
            if self._next == self._end:
                await self._take_block()
            self._next += 1
            return self._next - 1

    async def _take_block(self) -> None:
        first = 0

        def decide(image: Image) -> list[TakeProducerIds]:
            nonlocal first
            first = image.next_producer_id
            return [TakeProducerIds(first=first, count=BLOCK)]

        await self._catalog.update(decide)
        self._next, self._end = first, first + BLOCK
