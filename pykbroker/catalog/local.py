"""The catalog of one broker: an internal log with fsync (surface; bodies follow)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pykbroker.catalog.catalog import Catalog
from pykbroker.catalog.changes import Change
from pykbroker.catalog.image import Image
from pykbroker.clock import Clock
from pykbroker.config import BrokerConfig

DIRECTORY = "__pykbroker_catalog-0"


class LocalCatalog(Catalog):
    """A catalog in ``<data dir>/__pykbroker_catalog-0``."""

    @classmethod
    def open(cls, data_dir: Path, config: BrokerConfig, *, cluster_id: str, clock: Clock) -> LocalCatalog:
        """Read the catalog from disk, or begin an empty one; blocks (files)."""
        raise NotImplementedError

    async def propose(self, changes: Sequence[Change]) -> Image:
        raise NotImplementedError

    def close(self) -> None:
        """Sync and close the files; no proposal may be on its way."""
        raise NotImplementedError
