"""What commits are refused because of what their metadata asks for, before their group is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykbroker.errors import ErrorCode

if TYPE_CHECKING:
    from pykbroker.catalog.catalog import Catalog
    from pykbroker.catalog.image import Topic
    from pykbroker.delivery.topics import DeliveryTopics


class CommitChecks:
    """Asked by OffsetCommit for metadata of which :func:`~pykbroker.delivery.nacks.may_ask` is true."""

    def __init__(self, catalog: Catalog, topics: DeliveryTopics) -> None:
        self._catalog = catalog
        self._topics = topics

    async def check(self, group: str, topic: Topic, partition: int, offset: int, metadata: str) -> ErrorCode:
        """INVALID_REQUEST where the commit of ``offset`` asks for what cannot be, which is logged; the other
        partitions of the request are none the worse.  NONE where nothing is interpreted."""
        raise NotImplementedError
