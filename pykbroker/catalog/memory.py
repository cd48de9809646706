"""A catalog that nothing survives: the twin of the real one for tests of rooms above."""

from __future__ import annotations

from collections.abc import Sequence

from pykbroker.catalog.catalog import Catalog
from pykbroker.catalog.changes import Change, RegisterBroker, encode
from pykbroker.catalog.draft import Draft
from pykbroker.catalog.image import Image
from pykbroker.config import BrokerConfig, Endpoint


class MemoryCatalog(Catalog):
    """Begins with one registered broker: ``config.node_id`` at localhost:9092."""

    def __init__(self, config: BrokerConfig | None = None, *, cluster_id: str = "memory") -> None:
        config = config or BrokerConfig()
        draft = Draft(Image(cluster_id=cluster_id))
        here = Endpoint("PLAINTEXT", "localhost", 9092)
        draft.apply(RegisterBroker(node_id=config.node_id, endpoints=(here,), rack=config.broker_rack))
        super().__init__(draft.finish(), config)

    async def propose(self, changes: Sequence[Change]) -> Image:
        self.propose_nowait(changes)
        return self.image

    async def settle(self) -> None:
        """Nothing is ever on its way here."""

    def propose_nowait(self, changes: Sequence[Change]) -> None:
        """As :meth:`propose`, for tests that do not run in trio."""
        draft = Draft(self.image)
        for change in changes:
            encode(change)
            draft.apply(change)
        self._publish(draft.finish())
