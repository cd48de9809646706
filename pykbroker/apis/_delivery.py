"""The seam between APIs and :mod:`pykbroker.delivery`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from pykbroker.apis._registry import RequestContext

if TYPE_CHECKING:
    from pykbroker.delivery.commits import CommitChecks
    from pykbroker.delivery.flows import Flows
    from pykbroker.delivery.following import Following
    from pykbroker.delivery.topics import DeliveryTopics


def delivery_topics(ctx: RequestContext) -> DeliveryTopics | None:
    """Who makes retry and dead-letter topics; None where nothing of that is there."""
    delivery = ctx.services.delivery
    return None if delivery is None else delivery.topics


def commit_checks(ctx: RequestContext) -> CommitChecks | None:
    """Who looks at what commits ask; None where nothing of that is there."""
    delivery = ctx.services.delivery
    return None if delivery is None else delivery.commits


def following(ctx: RequestContext) -> Following | None:
    """Who knows which dead letters are settled; None where nothing of that is there."""
    delivery = ctx.services.delivery
    return None if delivery is None else delivery.following


def flows(ctx: RequestContext) -> Flows | None:
    """Who knows what waits for its time; None where nothing of that is there."""
    delivery = ctx.services.delivery
    return None if delivery is None else delivery.flows


async def known_groups(ctx: RequestContext, names: Iterable[str]) -> Collection[str]:
    """The groups that exist, if it matters for topics of these names.  Raises :class:`KafkaError`."""
    topics = delivery_topics(ctx)
    return () if topics is None else await topics.groups_for(names)
