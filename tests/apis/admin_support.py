"""A request's context on a catalog in memory, for handlers that talk to the catalog only."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar, cast

from pykbroker.apis._fetch_sessions import FetchSessions
from pykbroker.apis._registry import Handler, RequestContext, Services
from pykbroker.catalog.memory import MemoryCatalog
from pykbroker.catalog.producer_ids import ProducerIds
from pykbroker.catalog.topics import TopicAdmin
from pykbroker.clock import MovableClock
from pykbroker.config import BrokerConfig
from pykbroker.groups.service import GroupCoordinator
from pykbroker.partitions.manager import Partitions
from pykbroker.protocol.codec import encode
from pykbroker.protocol.schema import Message

Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Message)


async def served(handle: Handler[Q, R], ctx: RequestContext, request: Q) -> R:
    """The answer of an async handler, which must be one that this version can carry."""
    waiting = handle(ctx, request)
    assert isinstance(waiting, Awaitable)
    answer = await waiting
    encode(answer, ctx.version)
    return answer


def context(version: int, catalog: MemoryCatalog | None = None, *sets: str) -> RequestContext:
    """Version ``version`` of a request by somebody; ``sets`` are settings of a new catalog's broker."""
    catalog = catalog or MemoryCatalog(BrokerConfig.load(sets=sets))
    services = Services(
        config=catalog.broker_config,
        clock=MovableClock(),
        catalog=catalog,
        topics=TopicAdmin(catalog),
        partitions=cast(Partitions, None),  # these handlers must do without
        groups=cast(GroupCoordinator, None),
        producer_ids=ProducerIds(catalog),
        fetch_sessions=FetchSessions(0),
    )
    return RequestContext(
        services=services,
        api_key=0,
        version=version,
        client_id="test",
        client_host="127.0.0.1",
        connection_id=1,
        now_ms=0,
        now=0.0,
    )
