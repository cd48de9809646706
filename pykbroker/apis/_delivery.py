"""The seam between the APIs that make topics and :mod:`pykbroker.delivery`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from pykbroker.apis._registry import RequestContext

if TYPE_CHECKING:
    from pykbroker.delivery.topics import DeliveryTopics


def delivery_topics(ctx: RequestContext) -> DeliveryTopics | None:
    """Who makes retry and dead-letter topics; None where nothing of that is there."""
    delivery = getattr(ctx.services, "delivery", None)
    topics: DeliveryTopics | None = None if delivery is None else delivery.topics
    return topics


async def known_groups(ctx: RequestContext, names: Iterable[str]) -> Collection[str]:
    """The groups that exist, if it matters for topics of these names.  Raises :class:`KafkaError`."""
    topics = delivery_topics(ctx)
    return () if topics is None else await topics.groups_for(names)
