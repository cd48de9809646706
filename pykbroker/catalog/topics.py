"""What clients may do to topics, and what it is checked against (surface; bodies follow)."""

from __future__ import annotations

from pykbroker.catalog.catalog import Catalog
from pykbroker.catalog.image import Topic


class TopicAdmin:
    """Topics as administrators see them: every rule of creation, deletion, growth and settings."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def ensure_internal(self, name: str) -> Topic:
        """The internal topic ``name``, created if it is not there yet."""
        raise NotImplementedError
